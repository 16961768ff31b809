"""A control plane for all tests, with the kinds of Cluster API."""

import base64
import threading

import pytest
import yaml
from helm.control_plane import BUNDLE, Kubectl, running
from root import Root

KINDS = {"Cluster", "ClusterClass", "KubeadmControlPlaneTemplate", "KubeadmConfigTemplate", "LXCClusterTemplate", "LXCMachineTemplate"}
NAMESPACE = "capi-clusters"


def pytest_addoption(parser):
    parser.addoption("--lab", action="store_true", help="apply to the lab of this machine, too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--lab"):
        items[:] = [item for item in items if "lab" not in item.path.stem]


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory):
    with running(tmp_path_factory.mktemp("control-plane")) as kubeconfig:
        kubectl = Kubectl(kubeconfig, "default")
        kubectl("create", "namespace", NAMESPACE)
        kubectl("apply", "--server-side", "--filename=-", input=yaml.safe_dump_all(definitions()))
        kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield kubeconfig


def definitions():
    """Without the conversion that a controller would do: objects are read in the version that they are kept in."""
    for path in BUNDLE.glob("providers/*/*/*components.yaml"):
        for found in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader):
            if found and found["kind"] == "CustomResourceDefinition" and found["spec"]["names"]["kind"] in KINDS:
                found["spec"].pop("conversion", None)
                yield found


@pytest.fixture
def kubectl(kubeconfig):
    return Kubectl(kubeconfig, NAMESPACE)


@pytest.fixture
def root(tmp_path, kubeconfig, request):
    """For a cluster of the test's own name, whose add-ons nobody waits for, since nothing runs here."""
    name = f"tf-{abs(hash(request.node.name)) % 10**6}"
    root = Root(
        tmp_path,
        mgmt_kubeconfig_path=str(kubeconfig),
        k8s_lab_bundle=str(BUNDLE),
        k8s_lab_workload_cluster_name=name,
        k8s_lab_workload_vip_range="2001:db8:42:100::500-2001:db8:42:100::5ff",
        k8s_lab_external_ipv6_prefix="2001:db8:42:100::/64",
        wait=False,
        control_plane_timeout=120,
    )
    yield root
    root.end()
    kubectl = Kubectl(kubeconfig, NAMESPACE)
    kubectl("delete", "namespace", "calico-system", "metallb-system", "--ignore-not-found", "--timeout=60s")


class ClusterApi(threading.Thread):
    """Does what Cluster API's controllers do for a Cluster, as far as the module sees it: its control plane comes up, and there is a
    Secret, which leads to this very API server."""

    def __init__(self, kubeconfig, name):
        super().__init__(daemon=True)
        self.kubectl, self.name, self.text = Kubectl(kubeconfig, NAMESPACE), name, kubeconfig.read_text()

    def run(self):
        self.kubectl("wait", "cluster", self.name, "--for=create", "--timeout=120s")
        config = yaml.safe_load(self.text)
        config["clusters"][0]["name"] = config["contexts"][0]["context"]["cluster"] = self.name
        secret = {
            "apiVersion": "v1", "kind": "Secret", "type": "cluster.x-k8s.io/secret",
            "metadata": {"name": f"{self.name}-kubeconfig", "labels": {"cluster.x-k8s.io/cluster-name": self.name}},
            "data": {"value": base64.b64encode(yaml.safe_dump(config).encode()).decode()},
        }
        self.kubectl("apply", "--server-side", "--filename=-", input=yaml.safe_dump(secret))
        condition = ('{"status": {"conditions": [{"type": "ControlPlaneInitialized", "status": "True", "reason": "Initialized",'
                     ' "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}')
        self.kubectl("patch", "cluster", self.name, "--subresource=status", "--type=merge", f"--patch={condition}")


@pytest.fixture
def cluster_api(kubeconfig, root):
    """Starts it for the test's cluster."""
    peers = []

    def start():
        peers.append(ClusterApi(kubeconfig, root.variables["k8s_lab_workload_cluster_name"]))
        peers[-1].start()

    yield start
    for peer in peers:
        peer.join(timeout=150)
