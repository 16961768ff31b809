"""What each value does: the object, the place in it, and what is there."""

import zlib

import pytest
import yaml
from helm import at, find, look

CLASS, WORKLOAD = "capi-cluster-class", "capi-workload-cluster"
NODE = ("KubeadmControlPlaneTemplate", "template.spec.kubeadmConfigSpec"), ("KubeadmConfigTemplate", "template.spec")
BALANCER = "spec.template.spec.loadBalancer"
ENDPOINT = {"controlPlaneEndpoint": {"host": "192.0.2.1"}}


def node(objects, kind="KubeadmControlPlaneTemplate"):
    """What the machines of a role are given."""
    return look(find(objects, kind)["spec"], dict(NODE)[kind])


def file(objects, path, kind="KubeadmControlPlaneTemplate"):
    found = [item for item in node(objects, kind).get("files", []) if item["path"] == path]
    return found[0] if found else None


EFFECTS = [
    (CLASS, "clusterClass.name", "mine", "ClusterClass", "metadata.name", "mine-0-7-0"),
    (CLASS, "capn.infrastructureSecretName", "other", "LXCClusterTemplate", "spec.template.spec.secretRef.name", "other"),
    (CLASS, "loadBalancer.lxc.image.name", "hap", "LXCClusterTemplate", f"{BALANCER}.lxc.instanceSpec.image.name", "hap"),
    (CLASS, "loadBalancer.lxc.image.fingerprint", "ab", "LXCClusterTemplate", f"{BALANCER}.lxc.instanceSpec.image.fingerprint", "ab"),
    (CLASS, "loadBalancer.lxc.image.server", "", "LXCClusterTemplate", f"{BALANCER}.lxc.instanceSpec.image.server", None),
    (CLASS, "loadBalancer.lxc.flavor", "c1-m1", "LXCClusterTemplate", f"{BALANCER}.lxc.instanceSpec.flavor", "c1-m1"),
    (CLASS, "loadBalancer.lxc.target", "m1", "LXCClusterTemplate", f"{BALANCER}.lxc.instanceSpec.target", "m1"),
    (CLASS, "loadBalancer.lxc.profilesExtra", ["x"], "LXCClusterTemplate", f"{BALANCER}.lxc.instanceSpec.profiles", ["capi-base", "x"]),
    (CLASS, "loadBalancer.lxc.disableHealthzCheck", True, "LXCClusterTemplate", f"{BALANCER}.lxc.disableHealthzCheck", True),
    (CLASS, "loadBalancer.lxc.haproxyConfig", False, "LXCClusterTemplate", f"{BALANCER}.lxc.customHAProxyConfigTemplate", None),
    (CLASS, "loadBalancer", {"lxc": None, "oci": {"image": {"name": "h"}}}, "LXCClusterTemplate", f"{BALANCER}.oci.instanceSpec.image.name", "h"),
    (CLASS, "profilesExtra.worker", ["x"], "LXCMachineTemplate/md0", "spec.template.spec.profiles", ["capi-base", "capi-worker", "x"]),
    (CLASS, "profilesExtra.controlplane", ["x"], "LXCMachineTemplate/cp", "spec.template.spec.profiles", ["capi-base", "capi-controlplane", "x"]),
    (CLASS, "devicesExtra.worker", ["d,type=none"], "LXCMachineTemplate/md0", "spec.template.spec.devices", ["d,type=none"]),
    (CLASS, "images.worker.ref", "kubeadm/VERSION", "LXCMachineTemplate/md0", "spec.template.spec.image", {"name": "kubeadm/VERSION"}),
    (CLASS, "images.controlplane.server", "https://i", "LXCMachineTemplate/cp", "spec.template.spec.image.server", "https://i"),
    (CLASS, "images.controlplane.protocol", "simplestreams", "LXCMachineTemplate/cp", "spec.template.spec.image.protocol", "simplestreams"),
    (CLASS, "instances.worker", {"flavor": "c2-m4"}, "LXCMachineTemplate/md0", "spec.template.spec.flavor", "c2-m4"),
    (CLASS, "instances.worker", {"config": {"limits.cpu": "1"}}, "LXCMachineTemplate/md0", "spec.template.spec.config", {"limits.cpu": "1"}),
    (CLASS, "healthChecks.worker.enabled", False, "ClusterClass", "spec.workers.machineDeployments.0.healthCheck", None),
    (CLASS, "healthChecks.worker.nodeStartupSeconds", 60, "ClusterClass", "spec.workers.machineDeployments.0.healthCheck.checks.nodeStartupTimeoutSeconds", 60),
    (CLASS, "healthChecks.controlPlane.unhealthySeconds", 90, "ClusterClass", "spec.controlPlane.healthCheck.checks.unhealthyNodeConditions.0.timeoutSeconds", 90),
    (CLASS, "healthChecks.worker.maxUnhealthy", "40%", "ClusterClass", "spec.workers.machineDeployments.0.healthCheck.remediation.triggerIf.unhealthyLessThanOrEqualTo", "40%"),
    (WORKLOAD, "cluster.name", "mine", "Cluster", "spec.topology.classRef.name", "mine-0-7-0"),
    (WORKLOAD, "clusterClass.name", "other", "Cluster", "spec.topology.classRef.name", "other-0-7-0"),
    (WORKLOAD, "clusterClass.namespace", "classes", "Cluster", "spec.topology.classRef.namespace", "classes"),
    (WORKLOAD, "kubernetes.version", "v1.34.4", "Cluster", "spec.topology.version", "v1.34.4"),
    (WORKLOAD, "topology.controlPlane.replicas", 5, "Cluster", "spec.topology.controlPlane.replicas", 5),
    (WORKLOAD, "topology.workers.replicas", 0, "Cluster", "spec.topology.workers.machineDeployments.0.replicas", 0),
    (WORKLOAD, "loadBalancer.lxc.proxyApiPort", 7443, "Cluster", "metadata.annotations.k8s-lab~io/api-proxy-port", "7443"),
    (WORKLOAD, "clusterNetwork.pods.cidrBlocks", ["10.1.0.0/16", "fd01::/56"], "Cluster", "spec.clusterNetwork.pods.cidrBlocks", ["10.1.0.0/16", "fd01::/56"]),
    ("cni-calico", "manifest.version", "v3.31.5", "DaemonSet", "spec.template.spec.containers.0.image", "docker.io/calico/node:v3.31.5"),
    ("cni-calico", "manifest.cniBinDir", "/opt/cni/bin", "DaemonSet", "spec.template.spec.volumes.0.hostPath.path", "/opt/cni/bin"),
    ("cni-calico", "manifest.plugins", "init", "DaemonSet", "spec.template.spec.initContainers.0.image", "docker.io/calico/cni:v3.28.5"),
    ("cni-flannel", "flannel.tag", "v9", "DaemonSet", "spec.template.spec.containers.0.image", "ghcr.io/flannel-io/flannel:v9"),
    ("metallb", "metallb.controller.tolerateMaster", False, "Deployment", "spec.template.spec.tolerations", None),
    ("metallb", "metallb.speaker.tolerateMaster", False, "DaemonSet", "spec.template.spec.tolerations", None),
    ("metallb", "metallb.speaker.ignoreExcludeLB", True, "DaemonSet", "spec.template.spec.containers.0.args.2", "--ignore-exclude-lb"),
    ("metallb", "metallb.speaker.tag", "v9", "DaemonSet", "spec.template.spec.containers.0.image", "quay.io/metallb/speaker:v9"),
    ("metallb-config", "pool.rangeV6", "fd00::/120", "IPAddressPool", "spec.addresses", ["fd00::/120"]),
    ("metallb-config", "l2.interface", "eth9", "L2Advertisement", "spec.interfaces", ["eth9"]),
    ("metallb-config", "l2.controlPlanes", True, "L2Advertisement", "spec.nodeSelectors", None),
    ("metallb-config", "l2.extraNodeSelectors", {"a": "b"}, "L2Advertisement", "spec.nodeSelectors.0.matchLabels", {"a": "b"}),
    ("metallb-config", "fullnameOverride", "mine", "IPAddressPool", "metadata.name", "mine-v6"),
    ("metallb-config", "tests.clusterName", "lab-1", "Deployment", "spec.template.spec.hostname", "lab-1"),
    ("metallb-config", "tests.demoPort", 8080, "Service", "spec.ports.0.port", 8080),
    ("metallb-config", "tests.address", "2001:db8:42:100::210", "Service", "metadata.annotations.metallb~io/loadBalancerIPs", "2001:db8:42:100::210"),
]


@pytest.mark.parametrize(("chart", "value", "to", "kind", "path", "expected"), EFFECTS, ids=[f"{row[0]}-{row[1]}" for row in EFFECTS])
def test_effect(chart, value, to, kind, path, expected, helm):
    kind, _, part = kind.partition("/")
    objects = helm.needed(chart, at(value, to))
    found = look(find(objects, kind, part), path) if "~" not in path else annotation(find(objects, kind, part), path)
    assert found == expected


def annotation(thing, path):
    return thing["metadata"]["annotations"][path.removeprefix("metadata.annotations.").replace("~", ".")]


@pytest.mark.parametrize("kind", ["ovn", "kubeVIP", "external"])
def test_a_balancer_without_an_address_of_its_own(kind, helm):
    objects = helm.needed(CLASS, {"loadBalancer": {"lxc": None, kind: {}}} | ENDPOINT)
    assert look(find(objects, "LXCClusterTemplate"), "spec.template.spec.controlPlaneEndpoint") == {"host": "192.0.2.1", "port": 6443}


ARGUMENT = [{"name": "v", "value": "4"}]


@pytest.mark.parametrize(
    ("value", "to", "path"),
    [
        ("controlPlane.featureGates", {"PublicKeysECDSA": True}, "clusterConfiguration.featureGates"),
        ("controlPlane.certSANs", ["192.0.2.1", "2001:db8::1"], "clusterConfiguration.apiServer.certSANs"),
        ("controlPlane.controllerManagerExtraArgs", ARGUMENT, "clusterConfiguration.controllerManager.extraArgs"),
        ("controlPlane.schedulerExtraArgs", ARGUMENT, "clusterConfiguration.scheduler.extraArgs"),
        ("kubernetes.imageRepository", "registry.example/k8s", "clusterConfiguration.imageRepository"),
        ("kubeadm.ignorePreflightErrors", ["Swap"], "initConfiguration.nodeRegistration.ignorePreflightErrors"),
        ("kubeadm.ignorePreflightErrors", ["Swap"], "joinConfiguration.nodeRegistration.ignorePreflightErrors"),
        ("controlPlane.postKubeadmCommands", ["true"], "postKubeadmCommands"),
        ("kubeadm.apiTimeoutSeconds", 90, "initConfiguration.timeouts.kubernetesAPICallSeconds"),
        ("kubeadm.apiTimeoutSeconds", 90, "joinConfiguration.timeouts.kubernetesAPICallSeconds"),
    ],
)
def test_a_control_plane_gets(value, to, path, helm):
    assert look(node(helm.needed(CLASS, at(value, to))), path) == to


def test_arguments_come_after_the_charts_own(helm):
    values = at("controlPlane.apiServerExtraArgs", ARGUMENT) | at("worker.kubeletExtraArgs", ARGUMENT)
    objects = helm.needed(CLASS, values)
    own = {"name": "bind-address", "value": "::"}
    assert node(objects)["clusterConfiguration"]["apiServer"]["extraArgs"] == [own, *ARGUMENT]
    arguments = node(objects, "KubeadmConfigTemplate")["joinConfiguration"]["nodeRegistration"]["kubeletExtraArgs"]
    assert arguments == [{"name": "provider-id", "value": "lxc:///{{ v1.local_hostname }}"}, *ARGUMENT]


@pytest.mark.parametrize(("role", "kind"), [("controlPlane", NODE[0][0]), ("worker", NODE[1][0])])
def test_kubelet_gets_fields_of_its_configuration(role, kind, helm):
    objects = helm.needed(CLASS, at(f"{role}.kubeletConfiguration", {"maxPods": 50, "featureGates": {"A": True}}))
    given = yaml.safe_load(file(objects, "/etc/kubernetes/patches/kubeletconfiguration+merge.yaml", kind)["content"])
    assert given["maxPods"] == 50 and given["failCgroupV1"] is False
    assert given["featureGates"] == {"A": True, "KubeletInUserNamespace": True}


def test_every_control_plane_is_reached_at_an_address_of_its_own(helm):
    given = node(helm.needed(CLASS))
    expected = {"advertiseAddress": "0.0.0.0", "bindPort": 6443}
    assert given["initConfiguration"]["localAPIEndpoint"] == expected
    assert given["joinConfiguration"]["controlPlane"]["localAPIEndpoint"] == expected


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        ([], None),
        (["2001:db8:42:100::/64"], ["2001:db8:42:100::/64", "192.0.2.255/32"]),
        (["10.0.0.0/8"], ["10.0.0.0/8", "100::/128"]),
        (["10.0.0.0/8", "fd00::/8"], ["10.0.0.0/8", "fd00::/8"]),
    ],
)
def test_node_ports_answer_where_they_should(networks, expected, helm):
    proxy = yaml.safe_load(file(helm.needed(CLASS, at("kubeProxy.nodePortAddresses", networks)), "/etc/k8slab/kube-proxy.yaml")["content"])
    assert proxy["mode"] == "nftables" and proxy["conntrack"] == {"maxPerCore": 0, "min": 0}
    assert proxy.get("nodePortAddresses") == expected


@pytest.mark.parametrize(
    ("content", "encoded"), [("plain", False), ("{ braces }", False), ("{{ jinja }}", True), ("{% raw %}", True), ("a {# b", True)]
)
def test_files_that_look_like_templates_are_encoded(content, encoded, helm):
    objects = helm.needed(CLASS, {"files": [{"path": "/a", "content": content, "permissions": "0600"}]})
    for kind, _ in NODE:
        given = file(objects, "/a", kind)
        assert given["permissions"] == "0600" and (given.get("encoding") == "base64") == encoded
        assert encoded or given["content"] == content


def test_files_by_role_and_from_secrets(helm):
    source = {"secret": {"name": "s", "key": "k"}}
    objects = helm.needed(CLASS, at("worker.files", [{"path": "/w", "contentFrom": source}]))
    assert file(objects, "/w") is None
    assert file(objects, "/w", "KubeadmConfigTemplate")["contentFrom"] == source


def test_registry_mirrors(helm):
    certificate = "-----BEGIN CERTIFICATE-----\nx\n"
    endpoint = {"url": "https://mirror:5000", "ca": certificate, "skipVerify": True, "headers": {"Authorization": ["Basic x"]}}
    objects = helm.needed(CLASS, {"registryMirrors": [{"registry": "docker.io", "server": "https://d", "endpoints": [endpoint]}]})
    hosts = file(objects, "/etc/containerd/certs.d/docker.io/hosts.toml", "KubeadmConfigTemplate")["content"]
    for line in [
        'server = "https://d"',
        '[host."https://mirror:5000"]',
        '  capabilities = ["pull","resolve"]',
        '  ca = "/etc/containerd/certs.d/docker.io/0.crt"',
        "  skip_verify = true",
        '    "Authorization" = ["Basic x"]',
    ]:
        assert line in hosts.splitlines(), hosts
    assert file(objects, "/etc/containerd/certs.d/docker.io/0.crt")["content"] == certificate


@pytest.mark.parametrize(
    ("external", "network", "commands"),
    [
        ({"enabled": False}, None, 0),
        ({"prefixV6": ""}, "UseGateway=no", 1),
        ({"prefixV6": "2001:db8::/64", "interface": "eth7"}, "From=2001:db8::/64", 1),
        ({"prefixV6": "2001:db8::/64", "waitSeconds": 0}, "RouteTable=100", 0),
    ],
)
def test_the_external_interface(external, network, commands, helm):
    objects = helm.needed(CLASS, {"external": external})
    for kind, _ in NODE:
        given = file(objects, "/etc/systemd/network/30-k8slab-external.network", kind)
        assert network in given["content"] if network else given is None
        assert (file(objects, "/etc/k8slab/external.nft", kind) is not None) == bool(external.get("prefixV6"))
        waits = [line for line in node(objects, kind)["preKubeadmCommands"] if "no router announces" in line]
        assert len(waits) == commands
        if "interface" in external:
            assert f"Name={external['interface']}" in given["content"]


@pytest.mark.parametrize(("required", "then"), [(False, "true; }"), (True, "exit 1; }")])
def test_a_node_without_an_external_address(required, then, helm):
    commands = node(helm.needed(CLASS, at("external.required", required)))["preKubeadmCommands"]
    assert [line for line in commands if "no router announces" in line][0].endswith(then)


@pytest.mark.parametrize("name", ["mgmt-1", "lab-default", "data-pipeline", "prod-a", "prod-b", "lab"])
def test_the_port_follows_the_name(name, helm):
    port = annotation(find(helm.needed(WORKLOAD, at("cluster.name", name)), "Cluster"), "metadata.annotations.k8s-lab~io/api-proxy-port")
    assert port == str(20000 + zlib.adler32(name.encode()) % 10000)


@pytest.mark.parametrize("name", ["mgmt-1", "a" * 40, "b" * 31 + "-" + "c" * 15])
def test_a_cluster_finds_the_class_of_its_own_release(name, helm):
    made = find(helm.needed(CLASS, release=f"{name}-class"), "ClusterClass")["metadata"]["name"]
    assert find(helm.needed(WORKLOAD, at("cluster.name", name), release=name), "Cluster")["spec"]["topology"]["classRef"]["name"] == made


def test_other_values_make_other_templates(helm):
    def names(values):
        return {item["kind"] + item["metadata"]["name"] for item in helm.needed(CLASS, values)}

    changed = names({}) ^ names(at("controlPlane.certSANs", ["192.0.2.1"]))
    assert len(changed) == 2 and all(name.startswith("KubeadmControlPlaneTemplate") for name in changed)


@pytest.mark.parametrize(("version", "setting"), [("v3.28.5", "FELIX_IPTABLESBACKEND"), ("v3.31.5", "FELIX_NFTABLESMODE")])
def test_calico_follows_kube_proxy(version, setting, helm):
    agent = find(helm.needed("cni-calico", at("manifest.version", version)), "DaemonSet")["spec"]["template"]["spec"]["containers"][0]
    names = {variable["name"] for variable in agent["env"]}
    assert names & {"FELIX_IPTABLESBACKEND", "FELIX_NFTABLESMODE"} == {setting}


def test_definitions_of_a_text_become_objects_that_stay(helm):
    text = "---\nkind: Namespace\n---\nkind: CustomResourceDefinition\nmetadata: {name: a, annotations: {b: c}}\nstatus: {}\n"
    for chart, value in [("cni-calico", "manifest.crds"), ("metallb", "metallb.crds.manifest")]:
        made = find(helm.needed(chart, at(value, text), served=[]), "CustomResourceDefinition")
        assert made["metadata"]["annotations"] == {"b": "c", "helm.sh/resource-policy": "keep"} and "status" not in made


def test_the_demo_has_the_last_address_of_the_range(helm):
    for span, address in [("fd00::10-fd00::1f", "fd00:0:0:0:0:0:0:1f"), ("2001:db8:0:1::/121", "2001:db8:0:1:0:0:0:7f")]:
        service = find(helm.needed("metallb-config", at("pool.rangeV6", span)), "Service")
        assert service["metadata"]["annotations"]["metallb.io/loadBalancerIPs"] == address


@pytest.mark.parametrize("namespace", ["somewhere", "kube-system"])
@pytest.mark.parametrize(("chart", "agent"), [("cni-calico", "calico-node"), ("cni-flannel", "kube-flannel")])
def test_a_network_s_gate_may_restart_what_it_restarts(chart, agent, namespace, helm):
    roles = [item for item in helm.needed(chart, namespace=namespace) if item["kind"] == "Role"]
    rules = [rule for role in roles for rule in role["rules"] if "patch" in rule["verbs"]]
    assert {name for rule in rules for name in rule["resourceNames"]} == {"kube-proxy", agent}
    (of_proxy,) = [role["metadata"]["namespace"] for role in roles for rule in role["rules"] if "kube-proxy" in rule.get("resourceNames", [])]
    assert of_proxy == "kube-system"
