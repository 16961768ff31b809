"""What earlier revisions of a class's release leave, and what of it may go; the kinds are Cluster API's in name alone."""

import json

import pytest
import yaml
from control_plane import Step, written

GROUPS = {"ClusterClass": "cluster.x-k8s.io/v1beta2", "Cluster": "cluster.x-k8s.io/v1beta2", "DemoTemplate": "demo.cluster.x-k8s.io/v1"}

TEMPLATES = """
apiVersion: cluster.x-k8s.io/v1beta2
kind: ClusterClass
metadata: {name: demo-{{ .Values.class }}, annotations: {helm.sh/resource-policy: keep}}
spec:
  infrastructure:
    templateRef: {apiVersion: demo.cluster.x-k8s.io/v1, kind: DemoTemplate, name: demo-{{ .Values.template }}}
---
apiVersion: demo.cluster.x-k8s.io/v1
kind: DemoTemplate
metadata: {name: demo-{{ .Values.template }}, annotations: {helm.sh/resource-policy: keep}}
"""


def definition(kind, api):
    group, version = api.split("/")
    plural = kind.lower() + ("es" if kind.endswith("s") else "s")
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


@pytest.fixture
def kinds(kubectl):
    kubectl("apply", "--filename=-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [definition(*it) for it in GROUPS.items()]}))
    kubectl("wait", "--for=condition=Established", *(f"crd/{definition(*it)['metadata']['name']}" for it in GROUPS.items()))


@pytest.fixture
def chart(tmp_path):
    files = {"Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\n", "templates/all.yaml": TEMPLATES}
    return written(tmp_path / "demo", files)


@pytest.fixture
def prune(tmp_path, kubeconfig, namespace):
    options = {"release": "demo", "namespace": namespace, "kubeconfig_path": str(kubeconfig), "opt_root": str(tmp_path / "opt")}
    return Step(tmp_path, step="cluster_class_prune", **options)


@pytest.fixture
def left(kubectl):
    def left():
        return {name.split("/")[-1] for name in kubectl("get", "clusterclasses,demotemplates", "--output=name").split()}

    return left


def use(kubectl, name):
    spec = {"topology": {"classRef": {"name": name}}}
    cluster = {"apiVersion": GROUPS["Cluster"], "kind": "Cluster", "metadata": {"name": "c"}, "spec": spec}
    kubectl("apply", "--filename=-", input=yaml.safe_dump(cluster))


def test_what_nothing_needs_any_more_goes(kinds, step, prune, kubectl, left, tmp_path):
    assert prune()["changed"] is False
    step(values={"class": "v1", "template": "a"})
    use(kubectl, "demo-v1")
    step(values={"class": "v1", "template": "b"})
    step(values={"class": "v2", "template": "c"})
    everything = {"demo-v1", "demo-v2", "demo-a", "demo-b", "demo-c"}
    assert left() == everything

    # The Cluster is still made of the first class.
    expected = ["delete DemoTemplate demo-a, which nothing needs any more"]
    assert prune(check=True)["changes"] == expected
    assert left() == everything
    assert prune()["changes"] == expected
    assert left() == everything - {"demo-a"}

    use(kubectl, "demo-v2")
    opened = tmp_path / "opt" / "etc" / "pivot_clusterctl_move" / "open"
    opened.parent.mkdir(parents=True)
    opened.touch()
    assert prune()["code"] == "PIVOT_OPEN"
    opened.unlink()
    result = prune()
    assert result["pruned"] == ["ClusterClass demo-v1", "DemoTemplate demo-b"]
    assert left() == {"demo-v2", "demo-c"}
    assert prune()["changed"] is False


def test_without_its_release_everything_is_left(kinds, step, prune, kubectl, left):
    step(values={"class": "v1", "template": "a"})
    use(kubectl, "demo-v1")
    # A template of nobody's that looks like one of the release.
    own = {"apiVersion": GROUPS["DemoTemplate"], "kind": "DemoTemplate", "metadata": {"name": "demo-mine"}}
    kubectl("apply", "--filename=-", input=json.dumps(own))
    step(state="absent")
    assert prune()["changed"] is False
    kubectl("delete", "cluster", "c")
    assert prune()["pruned"] == ["ClusterClass demo-v1", "DemoTemplate demo-a"]
    assert left() == {"demo-mine"}
