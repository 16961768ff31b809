"""What the charts ask of the cluster while they are rendered."""

import copy
import re

import pytest
from api import serving
from helm import CHARTS, NEEDED, at, merged

CLASS, WORKLOAD = "capi-cluster-class", "capi-workload-cluster"
RUNNING = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}}
CONTROL_PLANE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "cp", "labels": {"node-role.kubernetes.io/control-plane": ""}}}
WORKER = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "w", "labels": {"kubernetes.io/os": "linux"}}}


def provider(version):
    metadata = {"name": "cluster-api", "namespace": "capi-system"}
    kind = {"apiVersion": "clusterctl.cluster.x-k8s.io/v1alpha3", "kind": "Provider"}
    return kind | {"metadata": metadata, "providerName": "cluster-api", "version": version}


def cluster(name, class_name, namespace="somewhere"):
    topology = {"classRef": {"name": class_name}}
    kind = {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster"}
    return kind | {"metadata": {"name": name, "namespace": namespace}, "spec": {"topology": topology}}


def definition(fields):
    """The provider's, as far as a chart reads it."""
    schema = {"type": "object", "properties": fields}
    for name in reversed(["spec", "template", "spec", "loadBalancer", "lxc"]):
        schema = {"type": "object", "properties": {name: schema}}
    metadata = {"name": "lxcclustertemplates.infrastructure.cluster.x-k8s.io"}
    kind = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    return kind | {"metadata": metadata, "spec": {"versions": [{"name": "v1alpha2", "schema": {"openAPIV3Schema": schema}}]}}


KNOWN = {"customHAProxyConfigTemplate": {"type": "string"}, "disableHealthzCheck": {"type": "boolean"}}
OLD = at("kubernetes.version", "v1.34.4")
NO_HEALTHZ = at("loadBalancer.lxc.disableHealthzCheck", True)
TESTS_OFF = {WORKLOAD: at("tests.enabled", False), "metallb-config": at("tests.enabled", False)}


def without(field):
    return {name: value for name, value in KNOWN.items() if name != field}


CASES = [
    (CLASS, {}, [provider("v1.12.7")], None),
    (CLASS, {}, [provider("v1.11.2")], "Cluster API v1.11.2 supports Kubernetes v1.28 to v1.34 on its clusters"),
    (CLASS, OLD, [provider("v1.11.2"), RUNNING], "this cluster runs Kubernetes v1.35.0: Cluster API v1.11.2 supports v1.30 to v1.34 under itself"),
    (WORKLOAD, {}, [provider("v1.11.2")], "Cluster API v1.11.2 supports Kubernetes v1.28 to v1.34 on its clusters"),
    (CLASS, {}, [definition(KNOWN)], None),
    (CLASS, {}, [definition(without("customHAProxyConfigTemplate"))], "does not take loadBalancer.lxc.customHAProxyConfigTemplate as a text"),
    (CLASS, {}, [definition(KNOWN | {"customHAProxyConfigTemplate": {"type": "object"}})], "set loadBalancer.lxc.haproxyConfig to false"),
    (CLASS, at("loadBalancer.lxc.haproxyConfig", False), [definition({})], None),
    (CLASS, NO_HEALTHZ, [definition(without("disableHealthzCheck"))], "does not know loadBalancer.lxc.disableHealthzCheck"),
    (WORKLOAD, at("cluster.name", "b"), [cluster("a", "b-0-7-0")], "the class b-0-7-0 belongs to the cluster a: choose another clusterClass.name"),
    (WORKLOAD, merged(at("cluster.name", "b"), at("clusterClass.shared", True)), [cluster("a", "b-0-7-0")], None),
    (WORKLOAD, at("cluster.name", "b"), [cluster("b", "b-0-7-0")], None),
    (WORKLOAD, at("cluster.name", "b"), [cluster("a", "b-0-7-0", namespace="elsewhere")], None),
    (WORKLOAD, at("clusterClass.namespace", "elsewhere"), [cluster("a", "lab-default-0-7-0", namespace="elsewhere")], "belongs to the cluster a"),
    ("metallb-config", {}, [CONTROL_PLANE, WORKER], None),
    ("metallb-config", {}, [CONTROL_PLANE], "the cluster has no workers, .*: set l2.controlPlanes here and metallb.speaker.ignoreExcludeLB"),
    ("metallb-config", at("l2.controlPlanes", True), [CONTROL_PLANE], None),
]


@pytest.mark.parametrize(("chart", "values", "objects", "words"), CASES, ids=[f"{row[0]}-{(row[3] or 'fine')[:40]}-{index}" for index, row in enumerate(CASES)])
def test_asked(chart, values, objects, words, helm, tmp_path):
    with serving(copy.deepcopy(objects), tmp_path) as kubeconfig:
        asks = ["--dry-run=server", "--disable-openapi-validation", f"--kubeconfig={kubeconfig}"]
        # Of the test's objects nobody asks anything.
        given = merged(merged(NEEDED.get(chart, {}), values), TESTS_OFF.get(chart, {}))
        done = helm.run("install", "lab", CHARTS / chart, "--namespace=somewhere", *asks, values=given)
    if words is None:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode != 0
    assert re.search(words, done.stderr), done.stderr
