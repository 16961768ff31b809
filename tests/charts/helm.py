"""Charts as Helm renders them, without a cluster."""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml
from throwaway.bundled import BUNDLE

CHARTS = Path("charts")
NAMES = sorted(chart.parent.name for chart in CHARTS.glob("*/Chart.yaml") if chart.parent.name != "common")
# What a cluster serves that has everything which the charts ask for.
SERVED = [
    "bootstrap.cluster.x-k8s.io/v1beta2/KubeadmConfigTemplate",
    "cluster.x-k8s.io/v1beta2/Cluster",
    "cluster.x-k8s.io/v1beta2/ClusterClass",
    "controlplane.cluster.x-k8s.io/v1beta2/KubeadmControlPlaneTemplate",
    "crd.projectcalico.org/v1/IPPool",
    "infrastructure.cluster.x-k8s.io/v1alpha2/LXCClusterTemplate",
    "metallb.io/v1beta1/IPAddressPool",
    "operator.tigera.io/v1/Installation",
]
CLASS = {"kubernetes": {"version": "v1.35.0"}, "capn": {"infrastructureSecretName": "incus-identity"}}
POOL = {"pool": {"rangeV6": "2001:db8:42:100::200-2001:db8:42:100::2ff"}}
# The least that a chart has to be told.
NEEDED = {"capi-cluster-class": CLASS, "metallb-config": POOL, "cni-calico": {"installer": "manifest"}}


class Refused(Exception):
    """What Helm says instead of rendering."""


@dataclass
class Helm:
    program: Path

    def run(self, *arguments, values=None):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(values or {}, file)
            file.flush()
            command = [self.program, *arguments, "--values", file.name]
            return subprocess.run(command, capture_output=True, text=True)

    def render(self, chart, values=None, release="lab", namespace="somewhere", served=SERVED, kubernetes="1.35.0"):
        """The objects of a chart, Helm's hooks among them."""
        declared = [f"--api-versions={kind}" for kind in served]
        folder = chart if isinstance(chart, Path) else CHARTS / chart
        arguments = ["template", release, folder, "--namespace", namespace, "--kube-version", kubernetes, *declared]
        done = self.run(*arguments, values=values)
        if done.returncode != 0:
            raise Refused(done.stderr)
        return [found for found in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if found]

    def needed(self, chart, values=None, **how):
        """The same, with the least that the chart has to be told underneath."""
        return self.render(chart, merged(NEEDED.get(chart, {}), values or {}), **how)

    def lint(self, chart, values):
        return self.run("lint", CHARTS / chart, "--strict", "--kube-version", "1.35.0", values=values)


def merged(under, over):
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    return under | {key: merged(under.get(key), value) for key, value in over.items()}


def at(path, value):
    """Values with one of them set: `a.b.c`."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def find(objects, kind, part=""):
    """The one object of a kind whose name has this part."""
    found = [item for item in objects if item["kind"] == kind and part in item["metadata"]["name"]]
    assert len(found) == 1, [item["metadata"]["name"] for item in objects if item["kind"] == kind]
    return found[0]


def look(tree, path):
    """What is at `a.0.b`, or None."""
    for key in path.split("."):
        if tree is None:
            return None
        if isinstance(tree, list):
            tree = tree[int(key)] if int(key) < len(tree) else None
        else:
            tree = tree.get(key)
    return tree


def examples(chart):
    """The values of a chart's folder ci/."""
    return {file.name: yaml.safe_load(file.read_text()) for file in sorted((CHARTS / chart / "ci").glob("*.yaml"))}


def chart_yaml(chart):
    return yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())


def bundled(name):
    """The path of a file of the bundle, by its name there."""
    files = json.loads((BUNDLE / "bundle.json").read_text())["files"]
    found = [file["path"] for file in files if file["name"] == name]
    assert found, f"the bundle has no {name}"
    return [BUNDLE / path for path in found]
