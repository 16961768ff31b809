"""Every state that a move can be stopped in, between two bare API servers, where a move takes seconds."""

import json
import os

import pytest
from bench import BEGINS, ENDS, ROWS
from proxy import Stop


def ids(row):
    signature, pattern, moment, nth = row
    return f"{signature}, {moment} {nth} {pattern}"


def test_an_undisturbed_move_there_and_back(bare):
    for _ in range(2):
        direction, before = bare.onward, bare.state()
        done = bare.finish(direction, before)
        print(f"{direction}: {done['seconds']:.1f} s; " + ", ".join(f"{it['name']} {it['seconds']}" for it in done["stages"]))
        assert (done["signature"], done["moved"]) == ("ready", True)
        again = bare.run(direction)
        assert (again["changed"], again["signature"]) == (False, "finished"), again


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_a_killed_move_is_finished_by_the_same_command(bare, row):
    signature, *fault = row
    direction, before = bare.onward, bare.state()
    bare.killed(direction, bare.stop(direction, *fault))
    done = bare.finish(direction, before)
    assert done["signature"] == signature, done


@pytest.mark.parametrize("row", [row for row in ROWS if row[0] in ("begun", "emptying", "clusters-gone")][:4], ids=ids)
def test_a_clusterctl_that_is_killed_alone_is_continued_by_the_same_run(bare, row):
    direction, before = bare.onward, bare.state()
    done = bare.killed(direction, bare.stop(direction, *row[1:]), how="clusterctl")
    assert not done.get("failed"), done
    assert bare.state() == before
    bare.is_settled(direction)


def test_a_clusterctl_that_outlives_its_run_is_waited_for(bare):
    direction, before = bare.onward, bare.state()
    bare.killed(direction, bare.stop(direction, r"TARGET POST .*/machinesets$", "after"), how="step")
    done = bare.finish(direction, before)
    assert done["signature"] != "ready", done


@pytest.mark.parametrize("effect", ["drop", "delay"])
def test_a_lost_or_late_answer_changes_nothing(bare, effect):
    direction, before = bare.onward, bare.state()
    bare.gate.arm(bare.stop(direction, r"SOURCE DELETE .*/machines/", "after", effect=effect))
    bare.finish(direction, before)


def test_an_api_that_is_not_there_for_a_while_only_takes_time(bare):
    direction, before = bare.onward, bare.state()
    bare.killed(direction, bare.stop(direction, r"TARGET POST .*/machines$", "before"))
    bare.gate.refuse(5)
    done = bare.run(direction)
    if done.get("failed"):
        assert done["code"] in ("CLUSTER_NOT_SERVING", "PIVOT_STOPPED"), done
        assert done["hints"], done
    bare.finish(direction, before)


@pytest.mark.parametrize("damage", ["gone", "cut", "another's"])
def test_a_move_without_its_copy_touches_nothing_and_says_so(bare, damage):
    direction, before = bare.onward, bare.state()
    bare.killed(direction, bare.stop(direction, r"SOURCE DELETE .*/machines/", "after"))
    copy, aside = bare.staging / direction, bare.staging / "aside"
    if damage == "gone":
        copy.rename(aside)
    elif damage == "cut":
        victim = next((copy / "objects").glob("Machine_*"))
        content = victim.read_text()
        victim.write_text(content[: len(content) // 2])
    else:
        manifest = json.loads((copy / "manifest.json").read_text())
        whole = (copy / "manifest.json").read_text()
        (copy / "manifest.json").write_text(json.dumps(manifest | {"source": "another cluster"}))
    bare.gate.arm(Stop("^never$"))
    refused = bare.run(direction)
    assert refused["code"] == "PIVOT_COPY_LOST" and refused["hints"] and refused["detail"], refused
    assert bare.gate.journal == []
    if damage == "gone":
        aside.rename(copy)
    elif damage == "cut":
        victim.write_text(content)
    else:
        (copy / "manifest.json").write_text(whole)
    bare.finish(direction, before)


def test_what_no_move_leaves_behind_is_left_alone(bare):
    direction, before = bare.onward, bare.state()
    bare.killed(direction, bare.stop(direction, r"SOURCE DELETE .*/machines/", "after"))
    source = bare.clusters[BEGINS[direction]]
    # A person thinks that the rest of the source should go on.
    bare.reconciler.expect_trouble()
    source.patch("cluster", "mgmt-1", {"spec": {"paused": None}})
    bare.gate.arm(Stop("^never$"))
    refused = bare.run(direction)
    assert refused["code"] == "PIVOT_FOREIGN", refused
    assert "the source reconciles although it has lost objects" in refused["msg"], refused
    assert bare.gate.journal == []
    source.patch("cluster", "mgmt-1", {"spec": {"paused": True}})
    bare.reconciler.forget_trouble()
    bare.finish(direction, before)


def test_an_object_that_is_added_after_the_copy_is_moved_too(bare):
    direction = bare.onward
    bare.killed(direction, bare.stop(direction, r"SOURCE PATCH .*/clusters/", "before", 3))
    labels = {"clusterctl.cluster.x-k8s.io/move": "true"}
    added = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "added", "labels": labels}, "data": {"value": "eA=="}}
    bare.clusters[BEGINS[direction]].apply(added)
    done = bare.finish(direction, bare.state())
    assert any(change.startswith("copy ") for change in done["changes"]), done
    bare.clusters[ENDS[direction]].run("delete", "secret", "added")


def test_two_runs_at_once_do_it_once(bare):
    direction, before = bare.onward, bare.state()
    runs = [bare.start(direction), bare.start(direction)]
    results = [run.result() for run in runs]
    assert [bool(result.get("failed")) for result in results] == [False, False], results
    assert sorted(result["moved"] for result in results) == [False, True], results
    assert bare.state() == before
    bare.is_settled(direction)


def test_a_cluster_that_a_person_has_paused_is_not_moved(bare):
    direction, before = bare.onward, bare.state()
    source = bare.clusters[BEGINS[direction]]
    source.patch("cluster", "mgmt-1", {"spec": {"paused": True}})
    refused = bare.run(direction)
    assert refused["code"] == "PIVOT_PAUSED_BY_HAND" and refused["hints"], refused
    source.patch("cluster", "mgmt-1", {"spec": {"paused": None}})
    assert bare.state() == before


if os.environ.get("K8SLAB_PIVOT_SWEEP"):

    def test_every_write_of_a_move_can_be_the_last(bare):
        """First how many there are, then each of them, before and after it reached the API server."""
        direction = bare.onward
        bare.gate.arm(Stop("^never$"))
        assert not bare.run(direction).get("failed")
        count = len(bare.gate.journal)
        for nth in range(1, count + 1):
            for moment in ("before", "after"):
                direction, before = bare.onward, bare.state()
                bare.killed(direction, Stop("", moment, nth))
                done = bare.finish(direction, before)
                print(f"{moment} write {nth} of {count}: {done['signature']}")
