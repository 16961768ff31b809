"""The lab of inventories/embedded, as `make lab` leaves it."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

SETTINGS = Path("inventories/embedded/group_vars/all.yml")
OPT = Path("/opt/capi-lab")


class Cluster:
    def __init__(self, name, vip_range):
        self.name = name
        self.vip_range = vip_range
        self.kubeconfig = OPT / "etc" / "clusters" / "capi-clusters" / f"{name}.kubeconfig"

    def kubectl(self, *arguments, given=None):
        command = [OPT / "bin" / "kubectl", "--kubeconfig", self.kubeconfig, "--request-timeout=20s", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *arguments):
        return json.loads(self.kubectl("get", *arguments, "--output=json"))


class Lab:
    def __init__(self):
        self.settings = yaml.safe_load(SETTINGS.read_text())
        self.management = Cluster("mgmt-1", self.settings["k8s_lab_management_vip_range"])
        self.workloads = [Cluster(entry["name"], entry["vip_range"]) for entry in self.settings["k8s_lab_workload_clusters"]]

    @property
    def clusters(self):
        return [self.management, *self.workloads]

    def lxc(self, *arguments):
        done = subprocess.run(["lxc", *arguments], capture_output=True, text=True, timeout=60, env=os.environ | {"LXD_DIR": "/var/lib/lxd"})
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def instances(self):
        return json.loads(self.lxc("query", f"/1.0/instances?project={self.settings['k8s_lab_project_name']}&recursion=1"))


@pytest.fixture(scope="session")
def lab():
    return Lab()
