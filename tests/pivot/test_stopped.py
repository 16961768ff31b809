"""Moves of a real management cluster's objects that are killed; the same command again finishes each. Every row is in test_every_row.py,
where it takes seconds."""

import os

import pytest
from bench import ROWS

REPRESENTATIVE = ("split", "emptying", "clusters-gone", "resuming")


def rows():
    seen = set()
    for signature, *fault in ROWS:
        if os.environ.get("K8SLAB_PIVOT_SWEEP") or (signature in REPRESENTATIVE and signature not in seen):
            seen.add(signature)
            yield pytest.param(signature, *fault, id=f"{signature}, {fault[1]} {fault[0]}")


@pytest.mark.parametrize(("signature", "pattern", "moment", "nth"), rows())
def test_a_killed_move_is_finished_by_the_same_command(bench, signature, pattern, moment, nth):
    direction, before = bench.onward, bench.state()
    bench.killed(direction, bench.stop(direction, pattern, moment, nth))
    done = bench.finish(direction, before)
    print(f"{signature}: finished in {done['seconds']:.1f} s from `{done['signature']}`: {done['changes'][:4]}")
    assert done["signature"] == signature, done
