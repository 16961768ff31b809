"""A throw-away lab with its bootstrap cluster, and a cluster that the provider has made."""

import contextlib
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from management import BUNDLE, RELEASES, Kubernetes, Management
from throwaway.lab import IMAGE_ALIAS, Lab
from throwaway.lxd import Lxd
from throwaway.playbook import Ansible

# The machine itself belongs to whoever runs the tests.
NOT_THE_MACHINE = {"base_system_enabled": False, "lxd_host_enabled": False}


def pytest_addoption(parser):
    parser.addoption("--tarball", type=Path, required=True, help="the built collection")
    parser.addoption("--all", action="store_true", help="run the tests that take minutes, too")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes, and is run by --all only")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--all"):
        left = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=left)


def pytest_unconfigure(config):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    count = {outcome: len(reports) for outcome, reports in reporter.stats.items()}
    # A check that was not carried out is one that did not pass.
    failed = sum(count.get(outcome, 0) for outcome in ("failed", "error", "skipped", "xfailed", "xpassed"))
    print(f"{count.get('passed', 0)} passed, {failed} failed")


@contextlib.contextmanager
def bring_up(ansible, folder, aliases):
    """A lab with a bootstrap cluster, for as long as it is needed."""
    lxd = Lxd()
    lab = Lab.throw_away(lxd, prefix="k8slab-pr")
    pool = {"name": lab.pool, "driver": "btrfs", "config": {"source": str(lab.loop_file), "size": "16GiB"}}
    variables = lab.variables | NOT_THE_MACHINE | {
        "k8s_lab_bundle": str(BUNDLE),
        "k8s_lab_opt_root": str(folder / "opt"),
        "lxd_storage_pools_pools": [pool],
        "lxd_images_aliases": [IMAGE_ALIAS, "haproxy", *aliases],
        "bootstrap_clusterctl_config_path": str(folder / "clusterctl.yaml"),
        "bootstrap_capn_secret_client_cert_cn": lab.name,
        "bootstrap_capn_secret_trust_name": lab.name,
        # Another lab of this machine may have set it.
        "bootstrap_capn_secret_force_https_address": True,
        "export_artifacts_root": str(folder / "artifacts"),
    }
    listened = lxd.get("")["config"].get("core.https_address", "")
    try:
        subprocess.run(["ip", "link", "add", lab.bridge, "up", "type", "bridge"], check=True)
        ansible.start("k8slab.capi.substrate", variables, []).end()
        ansible.start("k8slab.capi.bootstrap", variables, []).end()
        yield lab
    finally:
        for entry in lxd.get("certificates", recursion=1):
            if entry["name"] == lab.name:
                lxd.delete(f"certificates/{entry['fingerprint']}")
        lab.destroy()
        lxd.patch("", {"config": {"core.https_address": listened}})


@pytest.fixture(scope="session")
def made(request, tmp_path_factory):
    ansible = Ansible(request.config.getoption("--tarball").resolve(), tmp_path_factory.mktemp("ansible"))
    folder = tmp_path_factory.mktemp("lab")
    aliases = [f"kubeadm/{release}" for release in (RELEASES if request.config.getoption("--all") else RELEASES[-1:])]
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
