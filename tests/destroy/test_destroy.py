"""Day two: a workload cluster comes and goes, whatever happens meanwhile, and the others notice nothing."""

import json
import os
import signal

import pytest
from conftest import ADD, NAME, REMOVE
from throwaway.wait import eventually

OTHERS = ("mgmt-1", "lab-default")


@pytest.fixture
def cluster(lab, run):
    """The further cluster; it is gone in the end."""
    added = run("add_workload", *ADD).ok()
    print(f"add-workload: {added.seconds:.0f} s")
    assert len(lab.nodes(NAME)) == 2
    yield NAME
    run("remove_workload", *REMOVE).ok()


@pytest.fixture(autouse=True)
def others_notice_nothing(lab):
    before = {other: lab.instances(other) for other in OTHERS}
    yield
    if lab.instances("mgmt-1"):
        assert {other: lab.instances(other) for other in OTHERS} == before
        assert {other: len(lab.nodes(other)) for other in OTHERS} == {"mgmt-1": 2, "lab-default": 2}
        assert {"mgmt-1", "lab-default"} <= set(lab.ports())


def test_it_comes_and_goes(lab, run, cluster):
    assert "lab: not in k8s_lab_workload_clusters" in run("workload").ok().output, "who is not listed is reported"
    assert lab.instances(cluster), "and left alone"
    again = run("add_workload", *ADD).ok()
    assert not again.changed, again.output

    refused = run("remove_workload", *REMOVE, yes=False).failed()
    assert "Nothing was removed" in refused.output
    assert len(lab.nodes(cluster)) == 2, "who does not say yes keeps it"
    foreseen = run("remove_workload", *REMOVE, "--check").ok()
    assert foreseen.changed
    assert len(lab.nodes(cluster)) == 2, "and so does who only looks"

    removed = run("remove_workload", *REMOVE).ok()
    print(f"remove-workload: {removed.seconds:.0f} s")
    assert lab.has_traces_of(cluster) == {}
    again = run("remove_workload", *REMOVE).ok()
    assert not again.changed, again.output


def test_a_class_that_changes_takes_its_earlier_templates_with_it(lab, run, cluster):
    before = lab.templates(cluster)
    (worker,) = [name for name in lab.instances(cluster) if "-md-0-" in name]
    change = json.dumps({"cluster_class_values": {"worker": {"postKubeadmCommands": ["true"]}}})
    run("add_workload", *ADD, "--extra-vars", change).ok()
    after = lab.templates(cluster)
    assert len(after) == len(before)
    assert {name for name in after if "md0-bootstrap" in name}.isdisjoint(before), "the old one is gone, the new one is there"
    assert worker not in lab.instances(cluster), "the worker is one of the new class"
    assert len(lab.nodes(cluster)) == 2
    again = run("add_workload", *ADD, "--extra-vars", change).ok()
    assert not again.changed, again.output


def test_its_nodes_are_gone_already(lab, run, cluster):
    for instance in lab.instances(cluster):
        lab.lxc("delete", "--force", "--project", "capi-lab", f"local:{instance}")
    run("remove_workload", *REMOVE).ok()
    assert lab.has_traces_of(cluster) == {}


def test_a_run_that_was_killed_is_taken_up(lab, run, cluster):
    total = len(lab.instances(cluster))
    running = run("remove_workload", *REMOVE)
    assert eventually(lambda: len(lab.instances(cluster)) < total, 60) is True
    os.killpg(running.process.pid, signal.SIGKILL)
    running.end()
    run("remove_workload", *REMOVE).ok()
    assert lab.has_traces_of(cluster) == {}


def test_ranges_that_meet_are_refused_with_both_named(lab, run):
    meeting = ("--extra-vars", f"name={NAME}", "--extra-vars", "vip_range=2001:db8:42:100::3f0-2001:db8:42:100::4ff")
    refused = run("add_workload", *meeting).failed()
    assert "lab-default" in refused.output and f"{NAME} (2001:db8:42:100::3f0" in refused.output
    assert lab.instances(NAME) == []


def test_everything_is_listed_and_nothing_touched(lab, run):
    before = lab.instances()
    foreseen = run("destroy", "--check").ok()
    assert foreseen.changed
    assert lab.instances() == before


def test_everything_goes(lab, run):
    removed = run("destroy").ok()
    print(f"destroy: {removed.seconds:.0f} s")
    for kind in ("projects", "networks", "storage-pools"):
        names = [path.rpartition("/")[2] for path in lab.query(f"/1.0/{kind}")]
        assert not {"capi-lab", "capi-int", "capi-fast"} & set(names)
    assert not run("destroy").ok().changed
