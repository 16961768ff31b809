"""k3s and what it leads to, for real: one node, started, broken, repaired, and its kubeconfig brought here."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from throwaway.lab import Lab

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
BUNDLE = CACHE / "k8slab" / "bundle"
TOKEN = "a-token-of-this-test"

# From a running instance to a Ready node, on a machine that does nothing else, in seconds; the machine may be busy.
START_SECONDS = 90


def role(name, **variables):
    return {"role": f"k8slab.capi.{name}"} | variables


@pytest.fixture(scope="module")
def running(ansible, lxd, tmp_path_factory):
    """An instance in strict isolation, and k3s in it for the first time."""
    assert (BUNDLE / "bin" / "k3s").is_file(), f"{BUNDLE} holds no k3s; build it with `cargo xtask bundle build`"
    lab = Lab.throw_away(lxd)
    k3s = {
        "bootstrap_k3s_host_bin_dir": str(BUNDLE / "bin"),
        "bootstrap_k3s_token": TOKEN,
        # Nothing is pulled: one node without pods is enough.
        "bootstrap_k3s_required_names": [],
    }
    try:
        ansible.substrate(lab)
        start = time.monotonic()
        first = ansible.play(roles=[role("bootstrap_k3s")], variables=lab.variables | k3s)
        yield lab, lab.variables | k3s, first, time.monotonic() - start
    finally:
        lab.destroy()


def within(lab, *command):
    done = subprocess.run(
        ["lxc", "exec", "--project", lab.project, f"local:{lab.instance}", "--", *command],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"LXD_DIR": str(lab.lxd.folder)},
    )
    return done.stdout


def test_the_node_is_ready_in_time(running):
    lab, _variables, _first, seconds = running
    node = json.loads(within(lab, "k3s", "kubectl", "get", "nodes", "--output", "json"))["items"][0]
    ready = next(condition for condition in node["status"]["conditions"] if condition["type"] == "Ready")
    assert ready["status"] == "True"
    families = {":" in address["address"] for address in node["status"]["addresses"] if address["type"] == "InternalIP"}
    assert families == {True, False}, "an address of each family"
    assert seconds < START_SECONDS


def test_the_token_is_in_one_file_alone(running):
    lab, _variables, first, _seconds = running
    # k3s keeps it with its own data.
    found = within(lab, "sh", "-c", f"grep --recursive --files-with-matches {TOKEN} /etc /usr/local").split()
    assert found == ["/etc/rancher/k3s/token"]
    assert within(lab, "stat", "--format=%a %U", "/etc/rancher/k3s/token").strip() == "600 root"
    arguments = within(lab, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'").replace(f"grep {TOKEN}", "")
    assert TOKEN not in arguments
    assert TOKEN not in first.stdout + first.stderr
    assert within(lab, "stat", "--format=%a", "/etc/rancher/k3s/k3s.yaml").strip() == "600"


def test_nothing_is_to_do_again(ansible, running):
    _lab, variables, _first, _seconds = running
    again = ansible.play(roles=[role("bootstrap_k3s")], variables=variables)
    assert again.recap["changed"] == 0
    assert ansible.play(roles=[role("bootstrap_k3s")], variables=variables, options=["--check", "--diff"]).recap["changed"] == 0


def test_a_crash_loop_is_told_from_a_slow_start_and_mended(ansible, running):
    lab, variables, _first, _seconds = running
    broken = variables | {"bootstrap_k3s_extra_args": ["--no-such-flag"], "bootstrap_k3s_token": ""}
    start = time.monotonic()
    failed = ansible.play(roles=[role("bootstrap_k3s")], variables=broken, expect=2)
    result = failed.tasks[-1]["result"]
    assert result["code"] == "K3S_FLAG_UNKNOWN"
    assert "no-such-flag" in result["detail"], "the last lines of the journal"
    assert time.monotonic() - start < 60, "long before the node's own deadline"
    mended = ansible.play(roles=[role("bootstrap_k3s")], variables=variables | {"bootstrap_k3s_token": ""})
    assert mended.recap["changed"] == 1
    assert "True" in within(lab, "k3s", "kubectl", "get", "nodes", "--output", "jsonpath={.items[0].status.conditions[?(@.type=='Ready')].status}")


def test_the_artifacts_reach_the_runner(ansible, running, tmp_path):
    lab, variables, _first, _seconds = running
    text = within(lab, "cat", "/etc/rancher/k3s/k3s.yaml")
    address = next(address for address in lab.instance_addresses() if ":" not in address)
    source = tmp_path / "bootstrap.kubeconfig"
    source.write_text(text.replace("127.0.0.1", address))
    root = tmp_path / "artifacts"
    variables = variables | {
        "export_artifacts_root": str(root),
        "export_artifacts_mgmt_kubeconfig_source": str(source),
        "k8s_lab_management_worker_count": 1,
        "export_artifacts_tfvars_extra": {"zone": {"count": 3}},
    }
    assert ansible.play(roles=[role("export_artifacts")], variables=variables, options=["--check"]).recap["changed"] == 1
    assert not root.exists()
    made = ansible.play(roles=[role("export_artifacts")], variables=variables)
    assert made.recap["changed"] == 1
    assert ansible.play(roles=[role("export_artifacts")], variables=variables).recap["changed"] == 0
    assert {path.name: path.stat().st_mode & 0o777 for path in root.iterdir()} == {
        ".k8slab-host": 0o600,
        "clusters": 0o700,
        "mgmt.auto.tfvars.json": 0o600,
        "mgmt.kubeconfig": 0o600,
    }
    assert root.stat().st_mode & 0o777 == 0o700
    tfvars = json.loads((root / "mgmt.auto.tfvars.json").read_text())
    assert tfvars["k8s_lab_management_worker_count"] == 1
    assert tfvars["k8s_lab_cluster_topology_enabled"] is True
    assert tfvars["k8s_lab_mgmt_api_server_url"] == f"https://{address}:6443"
    assert tfvars["zone"] == {"count": 3}
    kubectl = [BUNDLE / "bin" / "kubectl", "--kubeconfig", root / "mgmt.kubeconfig", "get", "nodes", "--output", "name"]
    nodes = subprocess.run(kubectl, capture_output=True, text=True, check=True).stdout
    assert nodes.strip() == f"node/{lab.instance}", "it answers from here"
    key = next(line.split()[1] for line in text.splitlines() if "client-key-data" in line)
    assert key not in made.stdout + made.stderr
    shutil.rmtree(root)
