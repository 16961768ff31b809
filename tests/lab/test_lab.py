"""What a person gets from `make lab`: clusters that work, seen from inside, from the host and from the network outside."""

import base64
import ipaddress
import json
import socket
import stat
import subprocess

import pytest
import yaml
from throwaway.bundled import BUNDLE
from throwaway.wait import eventually

# One of it on each node, with an address that the network outside reaches; what it answers names the cluster.
DEMO = """
apiVersion: v1
kind: Namespace
metadata: {{name: lab-test}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: demo, namespace: lab-test}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: demo}}}}
  template:
    metadata: {{labels: {{app: demo}}}}
    spec:
      tolerations: [{{key: node-role.kubernetes.io/control-plane, operator: Exists}}]
      topologySpreadConstraints:
        - {{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {{matchLabels: {{app: demo}}}}}}
      containers:
        - name: demo
          image: registry.k8s.io/e2e-test-images/agnhost:2.59
          args: [netexec, --http-port=8080, --udp-port=-1]
          env: [{{name: CLUSTER, value: {cluster}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: demo, namespace: lab-test}}
spec:
  type: LoadBalancer
  ipFamilies: [IPv6]
  ipFamilyPolicy: SingleStack
  selector: {{app: demo}}
  ports: [{{port: 80, targetPort: 8080}}]
"""


def condition(found, kind):
    return next((held["status"] for held in found["status"].get("conditions", []) if held["type"] == kind), None)


def fetched(namespace, address):
    """What the address answers to somebody in a network namespace; nothing if nobody answers."""
    command = ["ip", "netns", "exec", namespace, "curl", "--silent", "--max-time", "3", f"http://[{address}]/hostname"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout


@pytest.fixture(scope="module")
def demos(lab):
    """The address and the Pods of the demo in each cluster."""
    found = {}
    try:
        for cluster in lab.clusters:
            cluster.kubectl("apply", "--filename=-", given=DEMO.format(cluster=cluster.name))
        for cluster in lab.clusters:

            def ingress(cluster=cluster):
                return cluster.get("service", "demo", "--namespace=lab-test")["status"]["loadBalancer"].get("ingress", [])

            cluster.kubectl("rollout", "status", "deployment/demo", "--namespace=lab-test", "--timeout=90s", "--request-timeout=0")
            assert eventually(lambda: bool(ingress()), 60) is True
            pods = cluster.get("pods", "--namespace=lab-test", "--selector=app=demo")["items"]
            found[cluster.name] = (ingress()[0]["ip"], pods)
        yield found
    finally:
        for cluster in lab.clusters:
            cluster.kubectl("delete", "namespace", "lab-test", "--ignore-not-found", "--wait=false")


def test_every_cluster_is_available_and_its_nodes_are_ready(lab):
    found = {entry["metadata"]["name"]: entry for entry in lab.management.get("clusters", "--namespace=capi-clusters")["items"]}
    assert set(found) == {cluster.name for cluster in lab.clusters}
    for cluster in lab.clusters:
        assert condition(found[cluster.name], "Available") == "True", found[cluster.name]["status"]["conditions"]
        assert not found[cluster.name]["spec"].get("paused")
        nodes = cluster.get("nodes")["items"]
        assert [condition(node, "Ready") for node in nodes] == ["True"] * 2


def test_the_management_cluster_owns_itself_and_the_bootstrap_instance_is_gone(lab):
    names = {instance["name"] for instance in lab.instances}
    assert lab.settings["k8s_lab_bootstrap_instance_name"] not in names
    machines = lab.management.get("machines", "--namespace=capi-clusters")["items"]
    assert {machine["metadata"]["name"] for machine in machines} <= names
    for machine in machines:
        assert machine["status"].get("nodeRef", {}).get("name"), machine["metadata"]["name"]
    assert not (lab.management.kubeconfig.parents[2] / "bootstrap_clusterctl" / "bootstrap.kubeconfig").exists()


def test_the_providers_are_those_of_the_bundle(lab):
    files = json.loads((BUNDLE / "bundle.json").read_text())["files"]
    expected = {file["name"]: file["version"] for file in files if file["role"] == "components"}
    found = lab.management.get("providers.clusterctl.cluster.x-k8s.io", "--all-namespaces")["items"]
    assert {provider["metadata"]["name"]: provider["version"] for provider in found} == expected


def test_nothing_answers_where_the_bootstrap_cluster_did(lab):
    for address in ("127.0.0.1", lab.settings["k8s_lab_lxd_host_address"]):
        with socket.socket() as one:
            one.settimeout(5)
            assert one.connect_ex((address, 16443)) != 0, address
    network = lab.settings["k8s_lab_internal_network_name"]
    forwards = json.loads(lab.lxc("query", f"/1.0/networks/{network}/forwards?recursion=1"))
    published = {port["listen_port"] for forward in forwards for port in forward["ports"]}
    clusters = lab.management.get("clusters", "--namespace=capi-clusters")["items"]
    assert published == {cluster["metadata"]["annotations"]["k8s-lab.io/api-proxy-port"] for cluster in clusters}


def test_every_instance_is_a_machine_of_a_cluster_or_its_load_balancer(lab):
    known = {cluster.name for cluster in lab.clusters}
    for instance in lab.instances:
        assert instance["config"].get("user.cluster-name") in known, instance["name"]


def test_helm_knows_the_releases_of_the_management_cluster_where_it_is_kept_now(lab):
    secrets = lab.management.get("secrets", "--namespace=capi-clusters", "--selector=owner=helm,status=deployed")["items"]
    names = {secret["metadata"]["labels"]["name"] for secret in secrets}
    assert names >= {f"{cluster.name}{suffix}" for cluster in lab.clusters for suffix in ("", "-class")}


def test_kubeconfigs_are_for_root_alone_and_each_leads_to_its_own_cluster(lab):
    authorities = set()
    for cluster in lab.clusters:
        assert stat.S_IMODE(cluster.kubeconfig.stat().st_mode) == 0o600
        assert stat.S_IMODE(cluster.kubeconfig.parent.stat().st_mode) == 0o700
        document = yaml.safe_load(cluster.kubeconfig.read_text())
        (held,) = document["clusters"]
        authorities.add(base64.b64decode(held["cluster"]["certificate-authority-data"]))
    assert len(authorities) == len(lab.clusters)


def test_each_api_answers_at_the_address_of_the_host(lab):
    ports = set()
    for cluster in lab.clusters:
        found = lab.management.get("cluster", cluster.name, "--namespace=capi-clusters")
        port = found["metadata"]["annotations"]["k8s-lab.io/api-proxy-port"]
        ports.add(port)
        server = f"https://{lab.settings['k8s_lab_lxd_host_address']}:{port}"
        assert cluster.kubectl("get", "--raw=/readyz", f"--server={server}") == "ok"
    assert len(ports) == len(lab.clusters)


def test_two_replicas_are_on_two_nodes(demos):
    for cluster, (_, pods) in demos.items():
        assert len({pod["spec"]["nodeName"] for pod in pods}) == 2, cluster


@pytest.mark.parametrize("place", ["embedded_router_namespace", "embedded_client_namespace"])
def test_the_network_outside_reaches_each_cluster_by_an_address_of_its_own(lab, demos, place):
    for cluster in lab.clusters:
        address, pods = demos[cluster.name]
        first, last = cluster.vip_range.split("-")
        assert ipaddress.ip_address(first) <= ipaddress.ip_address(address) <= ipaddress.ip_address(last)
        names = {pod["metadata"]["name"] for pod in pods}
        namespace = lab.settings[place]
        assert eventually(lambda: fetched(namespace, address) in names or fetched(namespace, address), 30) is True
