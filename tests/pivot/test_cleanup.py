"""Removing the bootstrap cluster before, in the middle of, and after the move, between two bare API servers."""

import json

import pytest
from bare import CORE
from test_every_row import elsewhere

INSTANCE = "capi-bootstrap-0"


@pytest.fixture
def instance(bare):
    """An instance that says that it carries the bootstrap cluster, and everything on that."""
    if bare.onward == "to_bootstrap":
        bare.finish("to_bootstrap", bare.state())
    lxd, project = bare.lab.lxd, bare.lab.project
    lxd.post("storage-pools", {"name": project, "driver": "dir"})
    root = {"root": {"type": "disk", "path": "/", "pool": project}}
    made = {"name": INSTANCE, "source": {"type": "none"}, "config": {"user.k8slab.role": "bootstrap"}, "devices": root}
    lxd.post("instances", made, project=project)
    yield lambda: lxd.get(f"instances/{INSTANCE}", project=project)
    if lxd.get(f"instances/{INSTANCE}", project=project):
        lxd.delete(f"instances/{INSTANCE}", project=project)
    lxd.delete(f"storage-pools/{project}")


def refuses(bare, instance, words, code="CLEANUP_NOT_PROVED"):
    refused = bare.clean(INSTANCE)
    assert refused["code"] == code and refused["hints"], refused
    assert words in json.dumps(refused), refused
    assert instance() is not None


def test_only_what_nothing_needs_any_more_goes(bare, instance):
    refuses(bare, instance, "there is no copy that says what was moved" if not (bare.staging / "to_management").exists() else "has no Cluster")
    before = bare.state()
    bare.killed("to_management", bare.stop("to_management", r"SOURCE DELETE .*/machines/", "after"))
    refuses(bare, instance, "a move is open")
    bare.finish("to_management", before)
    with elsewhere(bare, "bootstrap"):
        refuses(bare, instance, "the bootstrap cluster has Cluster elsewhere/mgmt-1")
    management = bare.clusters["management"]
    management.patch("cluster", "mgmt-1", {"spec": {"paused": True}})
    refuses(bare, instance, "Cluster capi-clusters/mgmt-1 is paused")
    management.patch("cluster", "mgmt-1", {"spec": {"paused": None}})
    management.wait("condition=Available", "cluster/mgmt-1", seconds=60)

    server = bare.bare["management"]
    server.end("kube-apiserver")
    try:
        # The proxy is there still.
        refuses(bare, instance, "does not serve yet", code="CLUSTER_NOT_SERVING")
    finally:
        server.begin("kube-apiserver")
        server.await_ready()
    management.wait("condition=Available", "cluster/mgmt-1", seconds=60)

    # Somebody has scaled down meanwhile.
    bare.reconciler.expect_trouble()
    worker = management.get("machine", "mgmt-1-md-0")
    management.run("patch", "machine", "mgmt-1-md-0", "--type=merge", "--patch", json.dumps({"metadata": {"finalizers": []}}))
    management.run("delete", "machine", "mgmt-1-md-0")
    done = bare.clean(INSTANCE)
    assert not done.get("failed"), done
    assert done["instance"] == {"existed": True, "deleted": True} and instance() is None
    assert not (bare.staging / "to_management").exists()
    inventory = (bare.staging / "inventory.json").read_text()
    assert "lxc:///mgmt-1-md-0" in inventory and "dmFsdWU" not in inventory
    again = bare.clean(INSTANCE)
    assert (again.get("failed"), [change for change in again["changes"] if "kubeconfig" not in change]) == (None, []), again

    metadata = {field: worker["metadata"][field] for field in ("name", "namespace", "labels", "annotations", "ownerReferences", "finalizers")}
    made = bare.apis["management"].create({"apiVersion": CORE, "kind": "Machine", "metadata": metadata, "spec": worker["spec"]})
    bare.apis["management"].status(made, {"nodeRef": worker["status"]["nodeRef"], "conditions": worker["status"]["conditions"]})
    # Nobody collects what has lost its owner here; it gets it back.
    owners = [{"apiVersion": CORE, "kind": "Machine", "name": "mgmt-1-md-0", "uid": made["metadata"]["uid"], "controller": True}]
    for kind in ("kubeadmconfig", "lxcmachine"):
        management.patch(kind, "mgmt-1-md-0", {"metadata": {"ownerReferences": owners}})
    bare.reconciler.forget_trouble()
