"""Undisturbed moves, there and back, and what is refused before anything is touched."""

import os

import pytest
from bench import ENDS


def test_check_mode_plans_the_move_and_touches_nothing(bench):
    before = bench.state()
    planned = bench.run("to_management", check=True)
    assert not planned.get("failed"), planned
    assert "run clusterctl init" in " ".join(planned["changes"])
    assert not bench.staging.exists()
    assert bench.state() == before


@pytest.mark.parametrize("direction", ["to_management", "to_bootstrap"])
def test_an_undisturbed_move(bench, direction):
    before = bench.state()
    done = bench.run(direction)
    assert not done.get("failed"), done
    print(f"{direction}: {done['seconds']:.1f} s; " + ", ".join(f"{it['name']} {it['seconds']}" for it in done["stages"]))
    assert (done["signature"], done["moved"]) == ("ready", True), done
    assert bench.state() == before
    bench.is_settled(direction)
    copy = bench.staging / direction
    assert copy.stat().st_mode & 0o777 == 0o700 and len(os.listdir(copy / "objects")) == sum(done["inventory"].values())

    again = bench.run(direction)
    print(f"again: {again['seconds']:.2f} s")
    assert (again["changed"], again["signature"]) == (False, "finished"), again


def test_a_cluster_that_a_person_has_paused_is_not_moved(bench):
    holder = bench.clusters[bench.holder]
    for kind, name, pause, end in [
        ("cluster", "mgmt-1", {"spec": {"paused": True}}, {"spec": {"paused": None}}),
        (
            "clusterclass",
            "lab",
            {"metadata": {"annotations": {"cluster.x-k8s.io/paused": ""}}},
            {"metadata": {"annotations": {"cluster.x-k8s.io/paused": None}}},
        ),
    ]:
        holder.patch(kind, name, pause)
        try:
            refused = bench.run(bench.onward)
            assert refused["code"] == "PIVOT_PAUSED_BY_HAND", refused
            assert refused["hints"], refused
            assert not (bench.staging / "open").exists()
        finally:
            holder.patch(kind, name, end)
    assert bench.onward in ENDS
