"""A throw-away lab with its bootstrap cluster, and a cluster that the provider has made."""

import contextlib
import subprocess
import time
from dataclasses import dataclass

import pytest
from management import RELEASES, Kubernetes, Management, room_for_instances
from throwaway.bundled import bundled
from throwaway.lxd import Lxd


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run the tests that take minutes, too")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes, and is run by --all only")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--all"):
        left = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=left)


@contextlib.contextmanager
def bring_up(ansible, folder, aliases):
    """A lab with a bootstrap cluster, for as long as it is needed."""
    with room_for_instances(), bundled(Lxd(), folder, "k8slab-pr", "16GiB", ["haproxy", *aliases]) as (lab, variables):
        variables["bootstrap_clusterctl_config_path"] = str(folder / "clusterctl.yaml")
        subprocess.run(["ip", "link", "add", lab.bridge, "up", "type", "bridge"], check=True)
        ansible.start("k8slab.capi.substrate", variables, []).end()
        ansible.start("k8slab.capi.bootstrap", variables, []).end()
        yield lab


@pytest.fixture(scope="session")
def made(request, ansible, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    aliases = [f"kubeadm/{release}" for release in (RELEASES if request.config.getoption("--all") else RELEASES[-1:])]
    # The bundle has the older ones only when somebody asks for them.
    for alias in aliases[:-1]:
        subprocess.run(["cargo", "xtask", "bundle", "build", "--only", alias], check=True)
    started = time.monotonic()
    with bring_up(ansible, folder, aliases) as lab:
        print(f"the management cluster: {time.monotonic() - started:.1f} s")
        yield Management(lab, folder)


@dataclass
class Cluster:
    name: str
    api: Kubernetes
    initialized: float
    registered: float
    ready: float


@pytest.fixture(scope="session")
def cluster(made):
    """One control plane and one worker, with their network."""
    started = time.monotonic()
    since = lambda: time.monotonic() - started  # noqa: E731
    made.create("c1")
    made.kubernetes.wait("condition=ControlPlaneInitialized", "cluster/c1", seconds=300)
    initialized = since()
    api = made.workload("c1")
    (worker,) = made.kubernetes.get("machines", "--selector=cluster.x-k8s.io/deployment-name=c1-workers")["items"]
    api.wait("create", f"node/{worker['metadata']['name']}", seconds=300)
    registered = since()
    made.connect(api)
    api.wait("condition=Ready", "nodes", "--all", seconds=180)
    return Cluster("c1", api, initialized, registered, since())
