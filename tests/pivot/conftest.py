"""Two bootstrap clusters in one throw-away lab, a Cluster of a class, and a proxy in front of either API."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from bare import Bare, Reconciler, a_class, a_cluster, definitions
from bench import NAMESPACE, Bench
from proxy import Gate, Proxy
from throwaway.bundled import BUNDLE, bundled
from throwaway.lxd import Lxd

sys.path.append(str(Path(__file__).parents[1] / "provider"))
from management import RELEASES, Kubernetes, Management, room_for_instances  # noqa: E402

CLASS = Path(__file__).with_name("class.yaml")
ROLES = [f"k8slab.capi.{role}" for role in ("lxd_bootstrap_instance", "bootstrap_k3s", "bootstrap_clusterctl")]


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="every place of a move and every fault, not one for each state")
    parser.addoption("--every-write", action="store_true", help="every single write of a move")
    parser.addoption("--lab", action="store_true", help="between two bootstrap clusters of a throw-away lab, too")


def pytest_configure(config):
    config.addinivalue_line("markers", "sweep: one of many like it; only with --all")
    config.addinivalue_line("markers", "every_write: takes hours; only with --every-write")


def pytest_collection_modifyitems(config, items):
    def is_asked_for(item):
        asked = config.getoption
        if "bench" in item.fixturenames and not asked("--lab"):
            return False
        if item.get_closest_marker("every_write"):
            return asked("--every-write")
        return asked("--all") or item.get_closest_marker("sweep") is None

    config.hook.pytest_deselected(items=[item for item in items if not is_asked_for(item)])
    items[:] = [item for item in items if is_asked_for(item)]


@pytest.fixture(scope="session")
def bench(ansible, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    release = RELEASES[-1]
    aliases = ["haproxy", f"kubeadm/{release}"]
    with room_for_instances(), bundled(Lxd(), folder, "k8slab-pv", "16GiB", aliases) as (lab, variables):
        subprocess.run(["ip", "link", "add", lab.bridge, "up", "type", "bridge"], check=True)
        since = _clock()
        ansible.start("k8slab.capi.substrate", variables, []).end()
        ansible.start("k8slab.capi.bootstrap", variables, []).end()
        print(f"source: {since():.0f} s")
        made = Management(lab, folder)
        made.kubernetes.apply(*_manifests(release))
        target = {
            "k8s_lab_bootstrap_instance_name": f"{lab.instance}-t",
            "bootstrap_clusterctl_staging_dir": str(folder / "opt" / "etc" / "target"),
            "bootstrap_clusterctl_flow_control_init": False,
        }
        ansible.play(roles=ROLES, variables=variables | target)
        print(f"target: {since():.0f} s")
        made.kubernetes.wait("condition=ControlPlaneInitialized", "cluster/mgmt-1", seconds=300)
        workload = made.workload("mgmt-1")
        made.connect(workload)
        made.kubernetes.wait("condition=Available", "cluster/mgmt-1", seconds=300)
        print(f"Cluster available: {since():.0f} s")
        kubeconfigs = {
            "bootstrap": folder / "opt" / "etc" / "bootstrap_clusterctl" / "bootstrap.kubeconfig",
            "management": folder / "opt" / "etc" / "target" / "bootstrap.kubeconfig",
        }
        clusters = {side: Kubernetes(made.kubectl, kubeconfig, NAMESPACE) for side, kubeconfig in kubeconfigs.items()}
        gate = Gate()
        proxies = {side: Proxy(side, kubeconfig, folder, gate) for side, kubeconfig in kubeconfigs.items()}
        try:
            yield Bench(lab, folder, variables, clusters, proxies, gate)
        finally:
            for proxy in proxies.values():
                proxy.close()


def _clock():
    started = time.monotonic()
    return lambda: time.monotonic() - started


def _manifests(release):
    text = CLASS.read_text().replace("RELEASE", release)
    return list(yaml.safe_load_all(text))


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """Two bare API servers, one of which has a Cluster, and a project for the lab's phase."""
    folder, lxd = tmp_path_factory.mktemp("bare"), Lxd()
    project = f"k8slab-pv-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        sides = {}
        for side in ("bootstrap", "management"):
            sides[side] = Bare(side, folder)
            stack.callback(sides[side].close)
        kinds = definitions()
        for side in sides.values():
            side.install(kinds)
        sides["bootstrap"].populate([*a_class(), *a_cluster("mgmt-1")])
        lxd.post("projects", {"name": project, "config": {}})
        stack.callback(lxd.delete, f"projects/{project}")
        gate, clusters, proxies = Gate(), {}, {}
        for side, cluster in sides.items():
            clusters[side] = Kubernetes(BUNDLE / "bin" / "kubectl", cluster.kubeconfig, NAMESPACE)
            proxies[side] = Proxy(side, cluster.kubeconfig, folder, gate)
            stack.callback(proxies[side].close)
        (folder / "opt" / "bin").mkdir(parents=True)
        (folder / "opt" / "bin" / "clusterctl").symlink_to(BUNDLE / "bin" / "clusterctl")
        lab = SimpleNamespace(lxd=lxd, project=project)
        bench = Bench(lab, folder, {}, clusters, proxies, gate)
        bench.bare = sides
        bench.apis = {side: bare.api for side, bare in sides.items()}
        bench.reconciler = Reconciler(sides)
        bench.reconciler.start()
        stack.callback(bench.reconciler.close)
        yield bench


@pytest.fixture
def bare(servers):
    """They, with nothing held or open; and nothing that would have made a machine twice was done."""
    record = servers.staging / "open"
    if record.exists():
        # A test before this one has failed.
        servers.run(json.loads(record.read_text())["direction"])
    yield servers
    servers.gate.disarm()
    made_twice = servers.reconciler.made_twice.copy()
    servers.reconciler.made_twice.clear()
    assert made_twice == []


@pytest.fixture(autouse=True)
def undisturbed(request):
    """Whatever a test has held is let go."""
    yield
    if "bench" in request.fixturenames:
        request.getfixturevalue("bench").gate.disarm()
