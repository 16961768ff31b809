"""Applied to the lab that `make lab` has made on this machine; it needs room for two more nodes."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml
from helm.control_plane import BUNDLE, Kubectl
from root import Root

SETTINGS = yaml.safe_load(Path("inventories/embedded/group_vars/all.yml").read_text())
CLUSTERS = Path("/opt/capi-lab/etc/clusters/capi-clusters")
NAME = "tf-lab"
PUBLISH = ".venv/bin/ansible-playbook k8slab.capi.publish --extra-vars cluster=$CLUSTER_NAME"


@pytest.fixture
def root(tmp_path):
    environment = f"cd {Path.cwd()} && unset KUBECONFIG && ANSIBLE_CONFIG=$PWD/embedded/ansible.cfg "
    root = Root(
        tmp_path,
        mgmt_kubeconfig_path=str(CLUSTERS / "mgmt-1.kubeconfig"),
        k8s_lab_bundle=str(BUNDLE),
        k8s_lab_workload_cluster_name=NAME,
        k8s_lab_workload_vip_range="2001:db8:42:100::700-2001:db8:42:100::7ff",
        k8s_lab_external_ipv6_prefix=SETTINGS["k8s_lab_external_ipv6_prefix"],
        k8s_lab_lxd_host_address=SETTINGS["k8s_lab_lxd_host_address"],
        publish_command=environment + PUBLISH,
        unpublish_command=environment + PUBLISH + " --extra-vars state=absent",
        taken_ranges={entry["name"]: entry["vip_range"] for entry in SETTINGS["k8s_lab_workload_clusters"]}
        | {"mgmt-1": SETTINGS["k8s_lab_management_vip_range"]},
    )
    yield root
    # What a failed test left.
    root.end()
    if root.resources:
        root.destroy()


def instances():
    path = f"/1.0/instances?project={SETTINGS['k8s_lab_project_name']}&recursion=1"
    environment = os.environ | {"LXD_DIR": "/var/lib/lxd"}
    said = subprocess.run(["lxc", "query", path], capture_output=True, text=True, check=True, env=environment)
    return [found["name"] for found in json.loads(said.stdout) if found["config"].get("user.cluster-name") == NAME]


def ready_nodes(kubeconfig):
    nodes = Kubectl(kubeconfig, "default").get("nodes")
    return sum(any(held["type"] == "Ready" and held["status"] == "True" for held in node["status"]["conditions"]) for node in nodes)


def test_a_cluster_is_made_planned_scaled_and_removed(root):
    management = Kubectl(CLUSTERS / "mgmt-1.kubeconfig", "capi-clusters")
    root.apply()
    with tempfile.NamedTemporaryFile("w") as kubeconfig:
        kubeconfig.write(root.output("kubeconfig"))
        kubeconfig.flush()
        assert f"https://{SETTINGS['k8s_lab_lxd_host_address']}:{root.output('api_proxy_port')}" in Path(kubeconfig.name).read_text()
        assert ready_nodes(kubeconfig.name) == 2
        root.is_done()
        root.apply(k8s_lab_workload_worker_count=2)
        assert ready_nodes(kubeconfig.name) == 3
        root.is_done()
    root.destroy()
    assert instances() == []
    for kind in ("clusters", "clusterclasses", "machines"):
        assert [found["metadata"]["name"] for found in management.get(kind) if found["metadata"]["name"].startswith(NAME)] == []
    # Nothing was done to the others.
    assert {found["metadata"]["name"] for found in management.get("clusters")} >= {"mgmt-1", "lab-default"}
