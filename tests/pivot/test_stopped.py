"""Moves of a real management cluster's objects that are killed; the same command again finishes each. Every place is in
test_every_row.py, where it takes seconds."""

import pytest
from places import stops

REPRESENTATIVE = {"the Cluster is created": "after", "a machine is deleted": "after", "the class is marked": "after",
                  "the target's Cluster goes on": "before"}  # fmt: skip


@pytest.mark.parametrize(("place", "moment"), stops(REPRESENTATIVE))
def test_a_killed_move_is_finished_by_the_same_command(bench, place, moment):
    fault = bench.at(place, moment)
    direction, before = bench.onward, bench.state()
    bench.killed(direction, fault)
    done = bench.finish(direction, before)
    print(f"{moment} {place.name}: finished in {done['seconds']:.1f} s from `{done['signature']}`: {done['changes'][:4]}")
    assert done["signature"] in getattr(place, moment), done
