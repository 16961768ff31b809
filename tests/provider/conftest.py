"""A throw-away lab with its bootstrap cluster, and a cluster that the provider has made."""

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from throwaway.lab import IMAGE_ALIAS, Lab
from throwaway.lxd import Lxd
from throwaway.playbook import Ansible

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
BUNDLE = CACHE / "k8slab" / "bundle"
NAMESPACE = "capi-clusters"
MANIFEST = Path(__file__).with_name("cluster.yaml")
# The machine itself belongs to whoever runs the tests.
NOT_THE_MACHINE = {"base_system_enabled": False, "lxd_host_enabled": False}


def pytest_addoption(parser):
    parser.addoption("--tarball", type=Path, required=True, help="the built collection")


def pytest_unconfigure(config):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    count = {outcome: len(reports) for outcome, reports in reporter.stats.items()}
    # A check that was not carried out is one that did not pass.
    failed = sum(count.get(outcome, 0) for outcome in ("failed", "error", "skipped", "xfailed", "xpassed"))
    print(f"{count.get('passed', 0)} passed, {failed} failed")


class Kubernetes:
    """A cluster's API, by kubectl."""

    def __init__(self, kubectl, kubeconfig, namespace):
        self._command = [kubectl, "--kubeconfig", kubeconfig, "--namespace", namespace]

    def run(self, *arguments, text=None):
        done = subprocess.run([*self._command, *arguments], input=text, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(map(str, arguments))}: {done.stderr}"
        return done.stdout

    def get(self, *arguments):
        return json.loads(self.run("get", *arguments, "--output=json"))

    def apply(self, text):
        self.run("apply", "--filename=-", text=text)

    def wait(self, condition, *what, seconds):
        self.run("wait", f"--for={condition}", *what, f"--timeout={seconds}s")


@dataclass
class Made:
    lab: Lab
    management: Kubernetes
    folder: Path

    @property
    def kubectl(self):
        return self.folder / "opt" / "bin" / "kubectl"

    def instances(self, cluster):
        """The instances of a cluster, by what they are for."""
        found = {}
        for instance in self.lab.lxd.get("instances", recursion=1, project=self.lab.project):
            if instance["config"].get("user.cluster-name") == cluster:
                found.setdefault(instance["config"]["user.cluster-role"], []).append(instance["name"])
        return found

    def create(self, name, control_planes=1, workers=1):
        text = MANIFEST.read_text()
        for word, value in (("NAME", name), ("CONTROL_PLANES", control_planes), ("WORKERS", workers)):
            text = text.replace(word, str(value))
        self.management.apply(text)

    def workload(self, name):
        """The API of a cluster that the provider made."""
        secret = self.management.get("secret", f"{name}-kubeconfig")
        kubeconfig = self.folder / f"{name}.kubeconfig"
        kubeconfig.touch(mode=0o600)
        script = f"base64 --decode > {kubeconfig}"
        subprocess.run(["sh", "-c", script], input=secret["data"]["value"], text=True, check=True)
        return Kubernetes(self.kubectl, kubeconfig, "default")

    def inside(self, instance, *command):
        """The exit code of a command in an instance."""
        body = {"command": command, "wait-for-websocket": False, "interactive": False}
        return self.lab.lxd.post(f"instances/{instance}/exec", body, project=self.lab.project)["return"]


@pytest.fixture(scope="session")
def made(request, tmp_path_factory):
    ansible = Ansible(request.config.getoption("--tarball").resolve(), tmp_path_factory.mktemp("ansible"))
    folder = tmp_path_factory.mktemp("lab")
    lxd = Lxd()
    lab = Lab.throw_away(lxd, prefix="k8slab-pr")
    pool = {"name": lab.pool, "driver": "btrfs", "config": {"source": str(lab.loop_file), "size": "24GiB"}}
    variables = lab.variables | NOT_THE_MACHINE | {
        "k8s_lab_bundle": str(BUNDLE),
        "k8s_lab_opt_root": str(folder / "opt"),
        "lxd_storage_pools_pools": [pool],
        "lxd_images_aliases": [IMAGE_ALIAS, "haproxy", "kubeadm/v1.35.0"],
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
        made = Made(lab, None, folder)
        made.management = Kubernetes(made.kubectl, folder / "artifacts" / "mgmt.kubeconfig", NAMESPACE)
        yield made
    finally:
        for entry in lxd.get("certificates", recursion=1):
            if entry["name"] == lab.name:
                lxd.delete(f"certificates/{entry['fingerprint']}")
        lxd.patch("", {"config": {"core.https_address": listened}})
        lab.destroy()


@dataclass
class Cluster:
    name: str
    api: Kubernetes
    initialized: float
    registered: float


@pytest.fixture(scope="session")
def cluster(made):
    """One control plane and one worker, with their network."""
    started = time.monotonic()
    made.create("c1")
    made.management.wait("condition=ControlPlaneInitialized", "cluster/c1", seconds=300)
    initialized = time.monotonic() - started
    api = made.workload("c1")
    api.run("wait", "--for=create", f"node/{made.management.get('machine', '-l', 'cluster.x-k8s.io/deployment-name=c1-workers')['items'][0]['metadata']['name']}", "--timeout=300s")
    registered = time.monotonic() - started
    (manifest,) = (BUNDLE / "manifests" / "flannel").glob("*/flannel.yaml")
    api.apply(manifest.read_text())
    api.wait("condition=Ready", "nodes", "--all", seconds=180)
    return Cluster("c1", api, initialized, registered)
