"""Every state that a move can be stopped in, between two bare API servers, where a move takes seconds. By itself one place for each
state; --all adds every place, every way to be killed and every fault, --every-write each single write. K8SLAB_PIVOT_SEEDS=1,2 repeats
random moments by the seeds that were printed."""

import base64
import contextlib
import json
import os
import random

import pytest
from bare import CORE, Refused
from bench import BEGINS, ENDS
from places import PLACES, STATES, named, stops
from proxy import Stop

SEEDS = os.environ.get("K8SLAB_PIVOT_SEEDS") or ",".join(str(random.randrange(1 << 32)) for _ in range(20))


def test_an_undisturbed_move_there_and_back(bare):
    for _ in range(2):
        direction, bare.undisturbed = bare.onward, None
        _, done = bare.record()
        print(f"{direction}: {done['seconds']:.1f} s; " + ", ".join(f"{it['name']} {it['seconds']}" for it in done["stages"]))
        assert (done["signature"], done["moved"]) == ("ready", True)
        again = bare.run(direction)
        assert (again["changed"], again["signature"]) == (False, "finished"), again


@pytest.mark.parametrize(("place", "moment"), stops(STATES))
def test_a_killed_move_is_finished_by_the_same_command(bare, place, moment):
    fault = bare.at(place, moment)
    direction, before = bare.onward, bare.state()
    bare.killed(direction, fault)
    done = bare.finish(direction, before)
    print(f"`{done['signature']}`, finished in {done['seconds']:.1f} s")
    assert done["signature"] in getattr(place, moment), done


@pytest.mark.sweep
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_a_clusterctl_that_is_killed_alone_is_continued_by_the_same_run(bare, place):
    fault = bare.at(place, "after")
    direction, before = bare.onward, bare.state()
    done = bare.killed(direction, fault, how="clusterctl")
    assert not done.get("failed"), done
    assert bare.state() == before
    bare.is_settled(direction)


@pytest.mark.sweep
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_a_clusterctl_that_outlives_its_run_is_waited_for(bare, place):
    fault = bare.at(place, "after")
    direction, before = bare.onward, bare.state()
    bare.killed(direction, fault, how="step")
    done = bare.finish(direction, before)
    print(f"`{done['signature']}`, finished in {done['seconds']:.1f} s")


@pytest.mark.sweep
@pytest.mark.parametrize("seed", [int(seed) for seed in SEEDS.split(",")])
def test_a_move_that_is_killed_at_any_moment_is_finished_by_the_same_command(bare, seed):
    seconds = bare.record()[1]["seconds"]
    moment = random.Random(seed).uniform(0, seconds)
    direction, before = bare.onward, bare.state()
    bare.killed_after(direction, moment)
    done = bare.finish(direction, before)
    print(f"seed {seed}: killed after {moment:.2f} of {seconds:.1f} s in the state `{done['signature']}`")


@pytest.mark.sweep
@pytest.mark.parametrize("effect", ["drop", "delay"])
def test_a_lost_or_late_answer_changes_nothing(bare, effect):
    direction, before = bare.onward, bare.state()
    bare.gate.arm(bare.stop(direction, r"SOURCE DELETE .*/machines/", "after", effect=effect))
    bare.finish(direction, before)


@pytest.mark.sweep
@pytest.mark.parametrize("side", ["SOURCE", "TARGET"])
def test_an_api_that_answers_503_for_half_a_minute_only_takes_time(bare, side):
    """For a run that finishes what was killed."""
    direction, before = bare.onward, bare.state()
    bare.killed(direction, bare.stop(direction, r"TARGET POST .*/machines$", "before"))
    bare.gate.refuse((BEGINS if side == "SOURCE" else ENDS)[direction], 30)
    done = bare.finish(direction, before)
    print(f"{done['seconds']:.1f} s")


@pytest.mark.sweep
@pytest.mark.parametrize("pattern", [r"SOURCE DELETE .*/machines/", r"TARGET POST .*/machines$"])
def test_an_api_that_begins_to_answer_503_stops_the_move_and_loses_nothing(bare, pattern):
    direction, before = bare.onward, bare.state()
    bare.gate.arm(bare.stop(direction, pattern, "after", effect="away", seconds=30))
    stopped = bare.run(direction)
    print(f"{stopped['seconds']:.1f} s: {stopped.get('code')} {stopped.get('msg')}")
    assert not stopped.get("failed") or stopped["hints"], stopped
    bare.finish(direction, before)


@pytest.mark.sweep
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
    bare.refused(direction, "PIVOT_COPY_LOST", "a move is open, and its copy")
    if damage == "gone":
        aside.rename(copy)
    elif damage == "cut":
        victim.write_text(content)
    else:
        (copy / "manifest.json").write_text(whole)
    bare.finish(direction, before)


@pytest.mark.sweep
def test_what_no_move_leaves_behind_is_left_alone(bare):
    direction, before = bare.onward, bare.state()
    bare.killed(direction, bare.stop(direction, r"SOURCE DELETE .*/machines/", "after"))
    source = bare.clusters[BEGINS[direction]]
    # A person thinks that the rest of the source should go on.
    bare.reconciler.expect_trouble()
    source.patch("cluster", "mgmt-1", {"spec": {"paused": None}})
    bare.refused(direction, "PIVOT_FOREIGN", "the source reconciles although it has lost objects")
    source.patch("cluster", "mgmt-1", {"spec": {"paused": True}})
    bare.reconciler.forget_trouble()
    bare.finish(direction, before)


@pytest.mark.sweep
def test_an_object_that_is_added_after_the_copy_is_moved_too(bare):
    direction = bare.onward
    bare.killed(direction, bare.stop(direction, r"SOURCE PATCH .*/clusters/", "before", 3))
    labels = {"clusterctl.cluster.x-k8s.io/move": "true"}
    added = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "added", "labels": labels}, "data": {"value": "eA=="}}
    bare.clusters[BEGINS[direction]].apply(added)
    done = bare.finish(direction, bare.state())
    assert any(change.startswith("copy ") for change in done["changes"]), done
    bare.clusters[ENDS[direction]].run("delete", "secret", "added")


def identity(bare, side, value):
    """Changes what an object says."""
    bare.clusters[side].patch("secret", "incus-identity", {"data": {"value": base64.b64encode(value.encode()).decode()}})


@pytest.mark.sweep
def test_an_object_that_is_changed_after_the_copy_travels_as_it_is_now(bare):
    fault = bare.at(named("the first object is marked"), "before")
    direction = bare.onward
    bare.killed(direction, fault)
    identity(bare, BEGINS[direction], f"changed on the way {direction}")
    done = bare.finish(direction, bare.state(BEGINS[direction]))
    assert any(change.startswith("copy ") for change in done["changes"]), done


@pytest.mark.sweep
def test_a_change_that_would_be_lost_is_told(bare):
    direction, before = bare.onward, bare.state()
    bare.killed(direction, bare.stop(direction, r"SOURCE DELETE .*/machines/", "after"))
    source = bare.clusters[BEGINS[direction]]
    value = base64.b64decode(source.get("secret", "incus-identity")["data"]["value"]).decode()
    identity(bare, BEGINS[direction], "changed too late")
    refused = bare.refused(direction, "PIVOT_FOREIGN", "changed since the copy was made: Secret capi-clusters/incus-identity")
    assert "were changed after they were copied" in refused["msg"], refused
    identity(bare, BEGINS[direction], value)
    bare.finish(direction, before)


@contextlib.contextmanager
def elsewhere(bare, side):
    """A Cluster of another namespace."""
    api = bare.apis[side]
    with contextlib.suppress(Refused):
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}})
    cluster = {"apiVersion": CORE, "kind": "Cluster", "metadata": {"name": "mgmt-1", "namespace": "elsewhere"}}
    made = api.create(cluster | {"spec": {"controlPlaneEndpoint": {"host": "192.0.2.1", "port": 6443}}})
    yield f"{api.collection(made)}/mgmt-1"
    api.ask("DELETE", f"{api.collection(made)}/mgmt-1")


@pytest.mark.sweep
def test_another_namespaces_clusters_are_left_alone(bare):
    direction, before = bare.onward, bare.state()
    side = BEGINS[direction]
    with elsewhere(bare, side) as path:
        found = bare.apis[side].ask("GET", path)
        bare.finish(direction, before)
        assert bare.apis[side].ask("GET", path) == found


@pytest.mark.sweep
def test_two_runs_at_once_do_it_once(bare):
    direction, before = bare.onward, bare.state()
    runs = [bare.start(direction), bare.start(direction)]
    results = [run.result() for run in runs]
    assert [bool(result.get("failed")) for result in results] == [False, False], results
    assert sorted(result["moved"] for result in results) == [False, True], results
    assert bare.state() == before
    bare.is_settled(direction)


@pytest.mark.sweep
def test_another_run_that_knows_nothing_of_the_move_leaves_it_alone(bare):
    """From another host there is no record of it, and no lock to wait for: neither of this folder, nor of this step."""
    direction, before = bare.onward, bare.state()
    another = {"opt_root": str(bare.folder / "elsewhere"), "host_bin_dir": str(bare.folder / "opt" / "bin")}
    for pattern, code in [(r"SOURCE PATCH .*/clusters/", "PIVOT_PAUSED_BY_HAND"), (r"TARGET POST .*/machines$", "PIVOT_COPY_LOST")]:
        bare.gate.arm(bare.stop(direction, pattern, "after"))
        first = bare.start(direction)
        assert bare.gate.stopped.wait(180)
        written = len(bare.gate.journal)
        refused = bare.run(direction, **another)
        assert refused.get("code") == code and refused["hints"], refused
        assert len(bare.gate.journal) == written
        first.kill()
        bare.gate.disarm()
    bare.finish(direction, before)


@pytest.mark.every_write
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
