"""What needs no cluster: the tables, the form, and what a plan refuses."""

import subprocess
from pathlib import Path

import pytest
from root import TOFU

MODULE = Path("terraform/modules/workload_cluster")


def tofu(*arguments, folder):
    done = subprocess.run([TOFU, f"-chdir={folder}", *arguments, "-no-color"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(path.name for path in (MODULE / "modules").iterdir()))
def test_tables(name, tmp_path):
    copy = tmp_path / name
    subprocess.run(["cp", "--recursive", MODULE / "modules" / name, copy], check=True)
    tofu("init", folder=copy)
    said = tofu("test", folder=copy)
    assert "1 passed, 0 failed" in said, said


@pytest.mark.parametrize("folder", ["terraform", "tests/terraform", "docs/consumer"])
def test_form(folder):
    tofu("fmt", "-check", "-recursive", "-diff", folder=folder)


def test_root_is_valid(root):
    assert "The configuration is valid" in root("validate")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"k8s_lab_workload_controlplane_count": 2}, "controlplane_count has to be odd"),
        ({"k8s_lab_workload_worker_count": 0}, "worker_count has to be 1 or more"),
        ({"k8s_lab_kubernetes_version": "1.35"}, "kubernetes_version is not of the form"),
        ({"k8s_lab_workload_cluster_name": "Lab"}, "cluster_name Lab: at most 48 small letters"),
        ({"k8s_lab_lxd_host_address": ""}, "lxd_host_address is empty"),
        ({"k8s_lab_workload_pod_cidrs": ["10.244.0.0/16"]}, "pod_cidrs has to be an IPv4 network and an IPv6 network"),
        ({"k8s_lab_workload_pod_cidrs": ["fd42:77:2::/56", "10.244.0.0/16"]}, "pod_cidrs[0] fd42:77:2::/56 is not IPv4"),
        ({"k8s_lab_workload_service_cidrs": ["10.244.7.0/24", "fd42:77:3::/112"]}, "10.244.0.0/16 and service_cidrs[0] 10.244.7.0/24 overlap"),
        ({"k8s_lab_workload_vip_range": "2001:db8:43::1-2001:db8:43::9"}, "is not within external_prefix_v6 2001:db8:42:100::/64"),
        ({"k8s_lab_workload_vip_range": "2001:db8:42:100::9-2001:db8:42:100::1"}, "ends before it begins"),
        ({"taken_ranges": {"lab-default": "2001:db8:42:100::5f0-2001:db8:42:100::6ff"}}, "taken_ranges.lab-default"),
    ],
)
def test_plan_refuses(root, changed, said):
    assert said in root.refused(**changed)
