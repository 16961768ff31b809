"""What goes wrong on a lab that stands: policies that deny, a machine that cannot come, an LXD that goes away in the middle."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ADD, NAME, PROJECT, RANGE, REMOVE, SETTINGS
from throwaway.wait import eventually

CLUSTER = "lab-default"
NAMESPACE = "faults"
IMAGE = "registry.k8s.io/e2e-test-images/agnhost:2.59"
# A server behind a Service with an address outside, and a Pod that is no more than a client.
OBJECTS = f"""
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: web, image: {IMAGE}, args: [netexec, --http-port=8080]}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client}}
spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: client, image: {IMAGE}, args: [pause]}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{type: LoadBalancer, ipFamilies: [IPv6], selector: {{app: web}}, ports: [{{port: 8080}}]}}
"""
DENY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
"""


@pytest.fixture
def kubectl(lab):
    lab.kubectl(CLUSTER, "create", "namespace", NAMESPACE)
    yield lambda *arguments, **more: lab.kubectl(CLUSTER, "--namespace", NAMESPACE, *arguments, **more)
    lab.kubectl(CLUSTER, "delete", "namespace", NAMESPACE, "--timeout=90s")


def test_a_policy_denies_by_every_way(lab, kubectl):
    kubectl("create", "--filename=-", given=OBJECTS)
    kubectl("wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s")
    kubectl("wait", "--for=jsonpath={.status.loadBalancer.ingress[0].ip}", "service/web", "--timeout=60s")
    pod = json.loads(kubectl("get", "pod", "web", "--output=json"))["status"]
    service = json.loads(kubectl("get", "service", "web", "--output=json"))
    inside = [address["ip"] for address in pod["podIPs"]] + service["spec"]["clusterIPs"]
    (outside,) = [ingress["ip"] for ingress in service["status"]["loadBalancer"]["ingress"]]

    def is_let_in(address):
        to = f"[{address}]:8080" if ":" in address else f"{address}:8080"
        connect = ("exec", "client", "--", "/agnhost", "connect", "--timeout=2s", to)
        return lab.try_kubectl(CLUSTER, "--namespace", NAMESPACE, *connect).returncode == 0

    def is_let_in_from_outside():
        get = ["ip", "netns", "exec", "k8slab-client", "curl", "--silent", "--max-time", "2", f"http://[{outside}]:8080/hostname"]
        return subprocess.run(get, capture_output=True, timeout=30).returncode == 0

    def ways():
        return [is_let_in(address) for address in inside] + [is_let_in_from_outside()]

    every = len(inside) + 1
    assert every == 4, "a Pod with both families, its Service, and its address outside"
    assert eventually(lambda: ways() == [True] * every) is True, ways()
    kubectl("create", "--filename=-", given=DENY)
    assert eventually(lambda: ways() == [False] * every) is True, ways()
    kubectl("delete", "networkpolicy", "deny")
    assert eventually(lambda: ways() == [True] * every) is True, ways()


@pytest.fixture
def nothing_of_it_stays(lab, run):
    yield
    run("remove_workload", *REMOVE).ok()
    assert lab.has_traces_of(NAME) == {}


def test_a_machine_that_cannot_come_is_named_with_what_it_waits_for(lab, run, nothing_of_it_stays):
    key = "limits.containers"
    before = lab.lxc("project", "get", f"local:{PROJECT}", key).strip()
    # Room for the load balancer and the control plane, and none for the worker.
    lab.lxc("project", "set", f"local:{PROJECT}", key, str(len(lab.instances()) + 2))
    try:
        refused = run("add_workload", *ADD, "--extra-vars", "cluster_timeout=150").failed()
    finally:
        lab.lxc("project", "set", f"local:{PROJECT}", key, before)
    assert "CLUSTER_NOT_READY" in refused.output or "MACHINE_FAILED" in refused.output, refused.output
    assert f"machine {NAME}-md-0-" in refused.output
    assert "InfrastructureReady: NotReady" in refused.output
    run("add_workload", *ADD).ok()
    assert len(lab.nodes(NAME)) == 2


def test_an_lxd_that_is_restarted_in_the_middle_only_takes_time(lab, run, nothing_of_it_stays):
    running = run("add_workload", *ADD)
    # Before there is a machine: one that boots while LXD is away is not told what to do, and is replaced after ten minutes.
    assert eventually(lambda: len(lab.instances(NAME)) == 1, 120) is True, "the load balancer"
    daemon = lab.query("/1.0")["environment"]["server_pid"]
    os.kill(daemon, signal.SIGTERM)
    assert eventually(lambda: not Path(f"/proc/{daemon}").exists(), 60) is True
    subprocess.run(["embedded/host"], check=True, stdin=subprocess.DEVNULL)
    running.ok()
    assert len(lab.nodes(NAME)) == 2


def test_an_api_that_is_away_for_a_minute_only_takes_time(lab, run, nothing_of_it_stays):
    running = run("add_workload", *ADD)
    assert eventually(lambda: len(lab.instances(NAME)) >= 1, 120) is True, "Cluster API has begun"
    found = lab.query(f"/1.0/instances?project={PROJECT}&recursion=1")
    (balancer,) = [
        instance["name"]
        for instance in found
        if (instance["config"].get("user.cluster-name"), instance["config"].get("user.cluster-role")) == ("mgmt-1", "loadbalancer")
    ]
    # Its provider starts one again that was stopped.
    lab.lxc("pause", "--project", PROJECT, f"local:{balancer}")
    time.sleep(60)
    lab.lxc("start", "--project", PROJECT, f"local:{balancer}")
    running.ok()
    assert len(lab.nodes(NAME)) == 2


def test_one_that_does_not_come_does_not_hold_up_the_others(lab, run, nothing_of_it_stays):
    lost = {"name": "lost", "class_values": {"images": {"controlplane": {"ref": "kubeadm/nowhere"}}}}
    clusters = [*SETTINGS["k8s_lab_workload_clusters"], lost, {"name": NAME, "vip_range": RANGE}]
    try:
        failed = run("workload", "--extra-vars", json.dumps({"k8s_lab_workload_clusters": clusters, "cluster_timeout": 150})).failed()
        assert "lost did not come up" in failed.output
        assert "kubeadm/nowhere" in failed.output, "the message has the reason"
        assert len(lab.nodes(NAME)) == 2
    finally:
        run("remove_workload", "--extra-vars", "name=lost").ok()


def test_six_workers_come_at_once(lab, run, nothing_of_it_stays):
    many = run("add_workload", *ADD, "--extra-vars", "worker_count=6").ok()
    print(f"add-workload with six workers: {many.seconds:.0f} s")
    assert len(lab.nodes(NAME)) == 7
    assert len({machine for machine in lab.instances(NAME) if "-md-0-" in machine}) == 6
