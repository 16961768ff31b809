"""The bootstrap cluster: what is there after its phase, and that a second run and a look ahead change nothing."""

import base64
import contextlib
import json
import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import yaml
from throwaway.wait import eventually

DEPLOYMENTS = {
    ("cert-manager", "cert-manager"),
    ("cert-manager", "cert-manager-cainjector"),
    ("cert-manager", "cert-manager-webhook"),
    ("capi-system", "capi-controller-manager"),
    ("capi-kubeadm-bootstrap-system", "capi-kubeadm-bootstrap-controller-manager"),
    ("capi-kubeadm-control-plane-system", "capi-kubeadm-control-plane-controller-manager"),
    ("capn-system", "capn-controller-manager"),
}
PROVIDERS = {
    ("CoreProvider", "cluster-api", "v1.12.5"),
    ("BootstrapProvider", "kubeadm", "v1.12.5"),
    ("ControlPlaneProvider", "kubeadm", "v1.12.5"),
    ("InfrastructureProvider", "incus", "v0.8.5"),
}
STEPS = {"bootstrap_k3s", "bootstrap_clusterctl", "bootstrap_capn_secret", "export_artifacts"}


def kubectl(made, *arguments):
    command = [*made.kubectl, "--request-timeout=10s", *arguments, "--output=json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def inside(made, *command):
    body = {"command": command, "wait-for-websocket": False, "interactive": False}
    return made.lab.lxd.post(f"instances/{made.lab.instance}/exec", body, project=made.lab.project)["return"]


def condition(found, kind):
    return next((held["status"] for held in found["status"].get("conditions", []) if held["type"] == kind), None)


def test_check_mode_plans_the_whole_lab_on_a_bare_lxd(made):
    assert STEPS <= set(made.plan.changes)
    deferred = made.plan.steps["bootstrap_k3s"]["deferred"]
    assert deferred and made.lab.project in " ".join(deferred)


def test_the_node_is_ready_and_has_both_families(made):
    (node,) = kubectl(made, "get", "nodes")["items"]
    assert condition(node, "Ready") == "True"
    addresses = [address["address"] for address in node["status"]["addresses"] if address["type"] == "InternalIP"]
    assert sorted(addresses) == sorted(made.lab.instance_addresses())


def test_every_controller_is_available(made):
    found = kubectl(made, "get", "deployments", "--all-namespaces")["items"]
    available = {
        (found["metadata"]["namespace"], found["metadata"]["name"]) for found in found if condition(found, "Available") == "True"
    }
    assert DEPLOYMENTS <= available


def test_every_provider_has_its_pinned_version(made):
    found = kubectl(made, "get", "providers.clusterctl.cluster.x-k8s.io", "--all-namespaces")["items"]
    assert {(provider["type"], provider["providerName"], provider["version"]) for provider in found} == PROVIDERS


def test_the_identity_is_in_place_and_confined(made):
    secret = kubectl(made, "get", "secret", "incus-identity", "--namespace", "capi-clusters")
    content = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    assert set(content) == {"server", "server-crt", "client-crt", "client-key", "project"}
    assert content["project"] == made.lab.project
    assert content["server"] == f"https://{made.lab.lent_listener or f'{made.lab.ipv4[1]}:8443'}"
    assert secret["metadata"]["labels"]["clusterctl.cluster.x-k8s.io/move"] == "true"
    assert "kubectl.kubernetes.io/last-applied-configuration" not in secret["metadata"].get("annotations", {})

    (trusted,) = [entry for entry in made.lab.lxd.get("certificates", recursion=1) if entry["name"] == made.lab.name]
    assert (trusted["restricted"], trusted["projects"]) == (True, [made.lab.project])
    assert content["client-key"] not in made.run.stdout + made.run.stderr


def test_the_runner_holds_the_kubeconfig_and_the_settings(made):
    folder = made.kubeconfig.parent
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.iterdir()]}
    assert modes == {
        folder.name: 0o700,
        ".k8slab-host": 0o600,
        "clusters": 0o700,
        "mgmt.auto.tfvars.json": 0o600,
        "mgmt.kubeconfig": 0o600,
    }
    server = yaml.safe_load(made.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    settings = json.loads((folder / "mgmt.auto.tfvars.json").read_text())
    assert settings["k8s_lab_mgmt_api_server_url"] == server
    assert settings["k8s_lab_cluster_topology_enabled"] is True
    assert settings["k8s_lab_management_controlplane_count"] == 1
    keys = [line.split()[1] for line in made.kubeconfig.read_text().splitlines() if "client-key-data" in line]
    assert keys and not [key for key in keys if key in made.run.stdout + made.run.stderr]


def test_the_lab_says_how_far_it_is(made):
    # The phase asks before it begins, and the next one after it has ended.
    assert made.run.steps["lab_facts"]["lab"]["phase"] == "substrate"
    lab = made.bootstrap("--tags", "lab_facts").steps["lab_facts"]["lab"]
    assert (lab["phase"], lab["missing"]) == ("bootstrapped", [])


def test_stand_ins_are_named(made):
    assert "k3s" in made.substrate.steps["binary_fetch"]["standins"]
    assert "infrastructure-incus" in made.run.steps["bootstrap_clusterctl"]["standins"]


def test_a_second_run_changes_nothing(made):
    for options in ([], ["--check", "--diff"]):
        started = time.monotonic()
        again = made.bootstrap(*options)
        print(f"{options or 'again'}: {time.monotonic() - started:.1f} s")
        assert again.changes == {}
        assert again.recap["changed"] == 0


def test_a_unit_that_was_edited_is_foreseen_and_put_right(made):
    assert inside(made, "sed", "-i", "s/^RestartSec=.*/RestartSec=99s/", "/etc/systemd/system/k3s.service") == 0
    foreseen = made.bootstrap("--check", "--diff").changes
    assert set(foreseen) == {"bootstrap_k3s"}
    assert made.bootstrap().changes == foreseen
    assert made.bootstrap().changes == {}


def test_a_crash_loop_is_told_from_a_slow_start_and_mended(made):
    started = time.monotonic()
    result = made.bootstrap(expect=2, bootstrap_k3s_extra_args=["--no-such-flag"]).tasks[-1]["result"]
    assert result["code"] == "K3S_FLAG_UNKNOWN"
    assert "no-such-flag" in result["detail"], "the last lines of the journal"
    assert time.monotonic() - started < 60, "long before the node's own deadline"
    assert set(made.bootstrap("--tags", "bootstrap_k3s").changes) == {"bootstrap_k3s"}
    (node,) = kubectl(made, "get", "nodes")["items"]
    assert condition(node, "Ready") == "True"


def clusterctl(made):
    """The process id of the clusterctl that installs into this lab."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = command.read_bytes().split(b"\0")
            if b"init" in words and str(made.folder / "opt").encode() in words[0]:
                return int(command.parent.name)
    return None


def parent(process):
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def await_providers(made, count):
    """Returns as soon as clusterctl's inventory has so many."""
    watching = ["get", "providers.clusterctl.cluster.x-k8s.io", "--all-namespaces", "--watch", "--output=name"]
    seen = set()
    with subprocess.Popen([*made.kubectl, "--request-timeout=120s", *watching], stdout=subprocess.PIPE, text=True) as watch:
        while len(seen) < count and (name := watch.stdout.readline()):
            seen.add(name)
        watch.terminate()
    assert len(seen) == count, seen


def test_an_installation_that_is_killed_after_any_provider_is_gone_on_with(made):
    subprocess.run(
        [*made.cut.command, made.folder / "opt" / "bin" / "clusterctl", "delete", "--all", "--include-namespace"]
        + ["--config", made.clusterctl_config, "--kubeconfig", made.kubeconfig],
        env={"CLUSTERCTL_DISABLE_VERSIONCHECK": "true", "HOME": str(made.folder), "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
    )
    # What is still being deleted is told of by a watch, too.
    gone = lambda: kubectl(made, "get", "providers.clusterctl.cluster.x-k8s.io", "--all-namespaces")["items"] == []  # noqa: E731
    assert eventually(gone) is True
    for count in range(1, len(PROVIDERS)):
        running = made.start_bootstrap("--tags", "bootstrap_clusterctl")
        assert eventually(lambda: clusterctl(made) is not None, 120) is True
        installer = clusterctl(made)
        await_providers(made, count)
        for process in (parent(installer), installer):
            os.kill(process, signal.SIGKILL)
        assert running.end(2).tasks[-1]["result"]["code"] == "JOB_LOST"
    made.bootstrap()
    test_every_controller_is_available(made)
    test_every_provider_has_its_pinned_version(made)
    assert made.bootstrap().changes == {}


def test_nothing_went_further_than_the_lab(made):
    assert made.cut.attempts() == {"steps": 0, "instances": 0, "name server": 0}

    knock = ["bash", "-c", "echo > /dev/tcp/192.0.2.1/80"]
    assert subprocess.run([*made.cut.command, *knock], capture_output=True).returncode != 0
    assert inside(made, *knock) != 0
    attempts = made.cut.attempts()
    assert attempts["steps"] >= 1 and attempts["instances"] >= 1, "the count would have told"
