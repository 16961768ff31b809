"""What the provider makes, keeps and takes away; and what it says when it cannot."""

import itertools
import json
import time

import pytest

# A machine with other things to do takes longer than the bench's.
INITIALIZED = 120
REGISTERED = 150
BALANCER = {"lxc": {"instanceSpec": {"profiles": ["capi-base"]}}}


def condition(found, kind="Ready"):
    return next((held for held in found.get("status", {}).get("conditions", []) if held["type"] == kind), {})


def eventually(look, seconds=60):
    """What is looked for, once it is there; otherwise what was seen last."""
    deadline = time.monotonic() + seconds
    for pause in itertools.chain((0.1, 0.2, 0.5), itertools.repeat(1)):
        seen = look()
        if seen is True or time.monotonic() > deadline:
            return seen
        time.sleep(pause)


def test_a_cluster_comes_up(made, cluster):
    print(f"control plane initialised: {cluster.initialized:.1f} s, worker registered: {cluster.registered:.1f} s")
    assert cluster.initialized < INITIALIZED
    assert cluster.registered < REGISTERED
    roles = made.instances("c1")
    assert {role: len(names) for role, names in roles.items()} == {"control-plane": 1, "worker": 1, "loadbalancer": 1}
    assert roles["loadbalancer"] == ["c1-deb12-lb"]


def test_nodes_are_their_machines(made, cluster):
    nodes = {node["metadata"]["name"]: node for node in cluster.api.get("nodes")["items"]}
    machines = made.management.get("lxcmachines")["items"]
    assert {machine["metadata"]["name"] for machine in machines} == set(nodes)
    for machine in machines:
        node = nodes[machine["metadata"]["name"]]
        assert machine["spec"]["providerID"] == node["spec"]["providerID"] == f"lxc:///{machine['metadata']['name']}"
        addresses = {address["address"] for address in machine["status"]["addresses"] if address["type"] == "InternalIP"}
        # The other ones are on the external bridge, or kubelet was not told of them.
        assert {address["address"] for address in node["status"]["addresses"] if address["type"] == "InternalIP"} <= addresses
        assert len(node["spec"]["podCIDRs"]) == 2


def test_pods_reach_pods_and_services_by_both_families(made, cluster):
    cluster.api.run("--namespace=kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "ready", "namespace": "kube-system"},
        "spec": {"selector": {"k8s-app": "kube-dns"}, "ports": [{"port": 8181}], "ipFamilyPolicy": "RequireDualStack"},
    }
    cluster.api.apply(json.dumps(service))
    pods = cluster.api.get("pods", "--namespace=kube-system", "--selector=k8s-app=kube-dns")["items"]
    found = cluster.api.get("service", "ready", "--namespace=kube-system")
    targets = [address["ip"] for pod in pods for address in pod["status"]["podIPs"]] + found["spec"]["clusterIPs"]
    assert len(targets) == 2 * len(pods) + 2
    node = pods[0]["spec"]["nodeName"]
    for target in targets:
        host = f"[{target}]" if ":" in target else target
        knock = f'nsenter --target "$(pidof -s coredns)" --net curl --fail --silent --max-time 5 http://{host}:8181/ready'
        assert eventually(lambda knock=knock: made.inside(node, "sh", "-c", knock) == 0) is True, target


def test_a_worker_more_and_a_worker_less(made, cluster):
    for count in (2, 1):
        made.management.run("scale", "machinedeployment/c1-workers", f"--replicas={count}")
        assert eventually(lambda count=count: len(made.instances("c1")["worker"]) == count, 120) is True
        assert eventually(lambda count=count: len(cluster.api.get("nodes")["items"]) == count + 1, 120) is True


def test_an_instance_that_is_gone_is_told(made, cluster):
    (worker,) = made.instances("c1")["worker"]
    made.lab.lxd.put(f"instances/{worker}/state", {"action": "stop", "force": True}, project=made.lab.project)
    told = lambda reason: condition(made.management.get("lxcmachine", worker)).get("reason") == reason  # noqa: E731
    assert eventually(lambda: told("InstanceNotRunning")) is True
    made.lab.lxd.delete(f"instances/{worker}", project=made.lab.project)
    assert eventually(lambda: told("InstanceDeleted")) is True
    machine = made.management.get("machine", worker)
    assert eventually(lambda: condition(made.management.get("machine", worker), "InfrastructureReady")["status"] == "False") is True, machine
    made.management.run("delete", "machine", worker, "--timeout=120s")
    assert eventually(lambda: len(made.instances("c1").get("worker", [])) == 1, 120) is True


def test_a_manager_that_is_killed_goes_on(made, cluster):
    """A cluster whose name begins with that of another one, so that neither touches the other's."""
    before = made.instances("c1")
    made.create("c1-b", workers=0)
    for _ in range(8):
        made.management.run("--namespace=capn-system", "delete", "pod", "--all", "--force", "--grace-period=0", "--wait=false")
        made.management.run("--namespace=capn-system", "rollout", "status", "deployment/capn-controller-manager", "--timeout=60s")
    made.management.wait("condition=ControlPlaneInitialized", "cluster/c1-b", seconds=300)
    assert {role: len(names) for role, names in made.instances("c1-b").items()} == {"control-plane": 1, "loadbalancer": 1}
    made.management.run("delete", "cluster", "c1-b", "--timeout=180s")
    assert made.instances("c1-b") == {}
    assert made.instances("c1") == before


@pytest.mark.parametrize(
    ("reason", "spec"),
    [
        ("IdentityMissing", {"secretRef": {"name": "nobody"}}),
        ("ImageNotFound", {"loadBalancer": {"lxc": {"instanceSpec": {"profiles": ["capi-base"], "image": {"name": "nothing"}}}}}),
        ("ProfileNotFound", {"loadBalancer": {"lxc": {"instanceSpec": {"profiles": ["nothing"]}}}}),
        ("NoRootDisk", {"loadBalancer": {"lxc": {}}}),
        ("TemplateInvalid", {"loadBalancer": {"lxc": {**BALANCER["lxc"], "customHAProxyConfigTemplate": "{{ .Nothing }}"}}}),
        ("LoadBalancerConfigurationRefused", {"loadBalancer": {"lxc": {**BALANCER["lxc"], "customHAProxyConfigTemplate": "nonsense"}}}),
        ("EndpointMissing", {"loadBalancer": {"external": {}}}),
        ("LoadBalancerUnsupported", {"loadBalancer": {"ovn": {"networkName": "x"}}}),
    ],
)
def test_what_cannot_be_is_told(made, reason, spec):
    name = reason.lower()
    reference = {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "LXCCluster", "name": name}
    common = {"secretRef": {"name": "incus-identity"}, "loadBalancer": BALANCER, "skipDefaultKubeadmProfile": True}
    for kind, group, body in (
        ("Cluster", "cluster.x-k8s.io/v1beta2", {"infrastructureRef": reference}),
        ("LXCCluster", "infrastructure.cluster.x-k8s.io/v1alpha2", common | spec),
    ):
        made.management.apply(json.dumps({"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": body}))
    seen = eventually(lambda: (held := condition(made.management.get("lxccluster", name))).get("reason") == reason or held)
    assert seen is True, seen
    told = condition(made.management.get("lxccluster", name))
    assert told["status"] == "False" and len(told["message"].split()) > 3, told
    # Whatever is wrong with an identity that is not there, there is nothing of the cluster's to delete either.
    if reason == "IdentityMissing":
        made.management.run("patch", "lxccluster", name, "--type=merge", "--patch", json.dumps({"spec": {"secretRef": common["secretRef"]}}))
    made.management.run("delete", "cluster", name, "--timeout=120s")
    assert made.instances(name) == {}


def test_a_cluster_goes_and_leaves_nothing(made, cluster):
    made.management.run("delete", "cluster", "c1", "--timeout=240s")
    assert made.instances("c1") == {}
