"""What a person has paused stays paused, whatever a killed or a refused move has left behind; what the move has paused goes on."""

import contextlib
import json

import pytest
from bare import CORE, NAMESPACE
from bench import BEGINS, ENDS, PAUSED
from places import named

# How a person pauses each, and ends that.
HEADS = {
    "cluster": ("mgmt-1", {"spec": {"paused": True}}, {"spec": {"paused": None}}),
    "clusterclass": ("lab", {"metadata": {"annotations": {PAUSED: ""}}}, {"metadata": {"annotations": {PAUSED: None}}}),
}
NAMES = {"cluster": "Cluster capi-clusters/mgmt-1", "clusterclass": "ClusterClass capi-clusters/lab"}
MERGE = "application/merge-patch+json"


@contextlib.contextmanager
def paused_by_hand(bare, side, kind):
    name, pause, end = HEADS[kind]
    bare.clusters[side].patch(kind, name, pause)
    try:
        yield
    finally:
        bare.clusters[side].patch(kind, name, end)


def is_refused(bare, direction, kind, place):
    side = (BEGINS if place == "source" else ENDS)[direction]
    with paused_by_hand(bare, side, kind):
        bare.refused(direction, "PIVOT_PAUSED_BY_HAND", f"{NAMES[kind]} on the {place} is paused by kubectl-patch")


@pytest.mark.parametrize("kind", HEADS)
def test_what_a_person_has_paused_is_not_moved(bare, kind):
    direction, before = bare.onward, bare.state()
    is_refused(bare, direction, kind, "source")
    assert bare.state() == before
    assert not (bare.staging / "open").exists()


def test_a_copy_that_clusterctl_refuses_leaves_no_move_open(bare):
    direction, before = bare.onward, bare.state()
    path = f"/apis/{CORE}/namespaces/{NAMESPACE}/clusters/mgmt-1/status"
    tell = lambda is_there: {"status": {"initialization": {"infrastructureProvisioned": is_there}}}  # noqa: E731
    bare.apis[BEGINS[direction]].ask("PATCH", path, tell(False), MERGE)
    try:
        stopped = bare.run(direction)
    finally:
        bare.apis[BEGINS[direction]].ask("PATCH", path, tell(True), MERGE)
    assert stopped["code"] == "CLUSTERCTL_FAILED" and "provisioning the infrastructure" in json.dumps(stopped), stopped
    assert any("nothing has left the source, and it reconciles" in hint for hint in stopped["hints"]), stopped
    assert not (bare.staging / "open").exists()
    is_refused(bare, direction, "cluster", "source")
    bare.finish(direction, before)


def test_a_clusterctl_that_is_killed_in_the_copy_leaves_nothing_paused(bare):
    direction, before = bare.onward, bare.state()
    stopped = bare.killed(direction, bare.stop(direction, "SOURCE PATCH .*/clusterclasses/", "after"), how="clusterctl")
    assert stopped.get("failed") and any("it reconciles" in hint for hint in stopped["hints"]), stopped
    assert not (bare.staging / "open").exists()
    for found in bare.objects(BEGINS[direction], "Cluster", "ClusterClass"):
        assert not found["spec"].get("paused") and PAUSED not in found["metadata"]["annotations"], found
    bare.finish(direction, before)


def test_what_a_person_has_paused_after_a_killed_copy_stays_paused(bare):
    direction, before = bare.onward, bare.state()
    bare.killed(direction, bare.stop(direction, "SOURCE PATCH .*/clusters/", "after"))
    is_refused(bare, direction, "clusterclass", "source")
    bare.finish(direction, before)


@pytest.mark.parametrize(("name", "moment", "place"), [
    ("its class is paused", "before", "source"), ("the target's class goes on", "after", "target"),
])  # fmt: skip
def test_what_a_person_has_paused_in_the_middle_of_a_move_stays_paused(bare, name, moment, place):
    fault = bare.at(named(name), moment)
    direction, before = bare.onward, bare.state()
    bare.killed(direction, fault)
    is_refused(bare, direction, "clusterclass", place)
    bare.finish(direction, before)
