"""Moves that are killed at a chosen write, before or after it reached the API server; the same command again finishes each."""

import os
import signal

import pytest
from proxy import Stop

SOURCE = {"to_management": "bootstrap", "to_bootstrap": "management"}
TARGET = {"to_management": "management", "to_bootstrap": "bootstrap"}

# What the move looks like then, and the write. The first pause belongs to the copy, the second to the move.
ROWS = [
    ("source-paused", r"SOURCE PATCH .*/clusters/", "after", 3),
    ("source-paused", r"SOURCE PATCH .*/clusterclasses/", "before", 3),
    ("begun", r"TARGET POST .*/clusterclasses", "after", 1),
    ("split", r"TARGET POST .*/clusters$", "after", 1),
    ("created", r"SOURCE PATCH .*", "before", 5),
    ("emptying", r"SOURCE DELETE .*", "after", 1),
    ("emptying", r"SOURCE DELETE .*/machines/", "before", 1),
    ("clusters-gone", r"SOURCE DELETE .*/clusterclasses/", "before", 1),
    ("target-paused", r"TARGET PATCH .*/clusterclasses/", "before", 1),
    ("resuming", r"TARGET PATCH .*/clusters/", "before", 1),
]
REPRESENTATIVE = {"source-paused", "split", "emptying", "clusters-gone", "resuming"}


def stop(direction, pattern, moment, nth):
    pattern = pattern.replace("SOURCE", SOURCE[direction]).replace("TARGET", TARGET[direction])
    return Stop(pattern, moment, nth)


def killed(bench, direction, fault, how="group"):
    """Starts a move and kills it there."""
    bench.gate.arm(fault)
    step = bench.start(direction)
    reached = bench.gate.stopped.wait(180)
    if not reached:
        print(step.result(), *bench.gate.journal, sep="\n")
    assert reached, f"the move never came to {fault}"
    if how == "clusterctl":
        for child in step.clusterctl():
            os.kill(child, signal.SIGKILL)
        bench.gate.disarm()
        return step.result()
    step.kill()
    bench.gate.disarm()
    return None


def finish(bench, direction, before):
    done = bench.run(direction)
    assert not done.get("failed"), done
    assert bench.state() == before
    bench.is_settled(direction)
    return done


def rows():
    seen = set()
    for signature, *fault in ROWS:
        if os.environ.get("K8SLAB_PIVOT_SWEEP") or (signature in REPRESENTATIVE and signature not in seen):
            seen.add(signature)
            yield pytest.param(signature, *fault, id=f"{signature}, {fault[1]} {fault[0]}")


@pytest.mark.parametrize(("signature", "pattern", "moment", "nth"), rows())
def test_a_killed_move_is_finished_by_the_same_command(bench, signature, pattern, moment, nth):
    direction, before = bench.onward, bench.state()
    killed(bench, direction, stop(direction, pattern, moment, nth))
    done = finish(bench, direction, before)
    print(f"{signature}: finished in {done['seconds']:.1f} s from `{done['signature']}`: {done['changes'][:4]}")
    assert done["signature"] == signature, done


def test_a_clusterctl_that_is_killed_alone_is_continued_by_the_same_run(bench):
    direction, before = bench.onward, bench.state()
    done = killed(bench, direction, stop(direction, r"SOURCE DELETE .*/kubeadmcontrolplanes/", "after", 1), how="clusterctl")
    assert not done.get("failed"), done
    assert bench.state() == before
    bench.is_settled(direction)


if os.environ.get("K8SLAB_PIVOT_SWEEP"):

    def test_every_write_of_a_move_can_be_the_last(bench):
        """First how many there are, then each of them, before and after it reached the API server."""
        direction = bench.onward
        bench.gate.arm(Stop("^never$"))
        assert not bench.run(direction).get("failed")
        count = len(bench.gate.journal)
        for nth in range(1, count + 1):
            for moment in ("before", "after"):
                direction, before = bench.onward, bench.state()
                killed(bench, direction, Stop("", moment, nth))
                done = finish(bench, direction, before)
                print(f"{moment} write {nth} of {count}: {done['signature']}")
