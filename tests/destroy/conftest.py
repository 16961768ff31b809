"""The lab of inventories/embedded, and the playbooks that change which clusters it has."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

SETTINGS = yaml.safe_load(Path("inventories/embedded/group_vars/all.yml").read_text())
PROJECT = SETTINGS["k8s_lab_project_name"]
NETWORK = SETTINGS["k8s_lab_internal_network_name"]
OPT = Path("/opt/capi-lab")
NAMESPACE = "capi-clusters"
# The cluster that is added. The lab's own is lab-default, of which this name is the beginning.
NAME = "lab"
RANGE = "2001:db8:42:100::400-2001:db8:42:100::4ff"
ADD = ("--extra-vars", f"name={NAME}", "--extra-vars", f"vip_range={RANGE}")
REMOVE = ("--extra-vars", f"name={NAME}")
TEMPLATES = "clusterclasses,kubeadmcontrolplanetemplates,kubeadmconfigtemplates,lxcclustertemplates,lxcmachinetemplates"


def pytest_addoption(parser):
    parser.addoption("--everything", action="store_true", help="remove the lab in the end")


def pytest_collection_modifyitems(config, items):
    last = [item for item in items if item.name == "test_everything_goes"]
    others = [item for item in items if item not in last]
    items[:] = others + (last if config.getoption("--everything") else [])


class Run:
    """A run of a playbook: what it printed, how it ended, and how long it took."""

    def __init__(self, playbook, *arguments, yes=True):
        self.command = [".venv/bin/ansible-playbook", f"k8slab.capi.{playbook}", *arguments]
        if yes:
            self.command += ["--extra-vars", "k8s_lab_assume_yes=true"]
        environment = os.environ | {"ANSIBLE_CONFIG": "embedded/ansible.cfg", "ANSIBLE_NOCOLOR": "1"}
        self.start = time.monotonic()
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
        )
        self.output = ""

    def end(self, seconds=900):
        self.output, _ = self.process.communicate(timeout=seconds)
        self.seconds = time.monotonic() - self.start
        return self

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
            self.end(seconds=60)

    def ok(self):
        self.end()
        assert self.process.returncode == 0, self.output
        return self

    def failed(self):
        self.end()
        assert self.process.returncode != 0, self.output
        return self

    @property
    def changed(self):
        return "changed=0" not in self.output


class Lab:
    def lxc(self, *arguments):
        done = subprocess.run(["lxc", *arguments], capture_output=True, text=True, timeout=120, env=os.environ | {"LXD_DIR": "/var/lib/lxd"})
        assert done.returncode == 0, done.stderr
        return done.stdout

    def query(self, path):
        return json.loads(self.lxc("query", path))

    def instances(self, cluster=None):
        found = self.query(f"/1.0/instances?project={PROJECT}&recursion=1")
        return [instance["name"] for instance in found if cluster in (None, instance["config"].get("user.cluster-name"))]

    def ports(self):
        forwards = self.query(f"/1.0/networks/{NETWORK}/forwards?recursion=1")
        return [port["description"].rpartition("/")[2] for forward in forwards for port in forward["ports"]]

    def kubeconfig(self, cluster):
        return OPT / "etc" / "clusters" / NAMESPACE / f"{cluster}.kubeconfig"

    def kubectl(self, cluster, *arguments, given=None):
        done = self.try_kubectl(cluster, *arguments, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def try_kubectl(self, cluster, *arguments, given=None):
        command = [OPT / "bin" / "kubectl", "--kubeconfig", self.kubeconfig(cluster), "--request-timeout=20s", *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120)

    def releases(self):
        """Helm's releases on the management cluster."""
        found = json.loads(self.kubectl("mgmt-1", "get", "secrets", "-n", NAMESPACE, "-l", "owner=helm", "-o", "json"))
        return {secret["metadata"]["labels"]["name"] for secret in found["items"]}

    def templates(self, cluster):
        """The class of a cluster and its templates, without those that Cluster API has copied."""
        found = self.kubectl("mgmt-1", "get", TEMPLATES, "-n", NAMESPACE, "-l", "!cluster.x-k8s.io/cluster-name", "-o", "name").split()
        return {name for name in found if name.partition("/")[2].startswith(f"{cluster}-0-")}

    def nodes(self, cluster):
        return json.loads(self.kubectl(cluster, "get", "nodes", "-o", "json"))["items"]

    def has_traces_of(self, cluster):
        """Everything that is left of a cluster, by where it is."""
        traces = {
            "instances": self.instances(cluster),
            "ports": [port for port in self.ports() if port == cluster],
            "kubeconfigs": [str(path) for path in self.kubeconfig(cluster).parent.glob(f"{cluster}.*kubeconfig")],
            "releases": [name for name in self.releases() if name in (cluster, f"{cluster}-class")],
            "objects": self.kubectl("mgmt-1", "get", "clusters", "-n", NAMESPACE, "-o", "name").split(),
        }
        traces["objects"] = [name for name in traces["objects"] if name.endswith(f"/{cluster}")]
        return {place: found for place, found in traces.items() if found}


@pytest.fixture(scope="session")
def lab():
    return Lab()


@pytest.fixture
def run():
    """Starts a playbook. One that a failed test has left running is stopped."""
    started = []

    def start(*arguments, **more):
        started.append(Run(*arguments, **more))
        return started[-1]

    yield start
    for each in started:
        each.stop()
