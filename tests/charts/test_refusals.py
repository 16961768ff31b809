"""What the charts refuse, and in which words."""

import pytest
from helm import SERVED, Refused, at, merged

CLASS, WORKLOAD, CONFIG = "capi-cluster-class", "capi-workload-cluster", "metallb-config"


def argument(name):
    return [{"name": name, "value": "x"}]


RESERVED = {
    "controlPlane.apiServerExtraArgs": ["bind-address", "advertise-address", "service-cluster-ip-range"],
    "controlPlane.controllerManagerExtraArgs": ["allocate-node-cidrs", "cluster-cidr", "service-cluster-ip-range"],
    "controlPlane.kubeletExtraArgs": ["feature-gates", "node-ip", "provider-id"],
    "worker.kubeletExtraArgs": ["feature-gates", "node-ip", "provider-id"],
}

GUARDS = [
    (CLASS, at("kubernetes.version", ""), "kubernetes.version is empty: name the version"),
    (CLASS, at("capn.infrastructureSecretName", ""), "capn.infrastructureSecretName is empty: name the Secret"),
    (CLASS, at("kubernetes.version", "v1.36.0"), "Cluster API v1.12.5 supports Kubernetes v1.29 to v1.35 on its clusters"),
    (CLASS, at("kubernetes.version", "v1.28.9"), "supports Kubernetes v1.29 to v1.35"),
    (CLASS, at("clusterApi.version", "v1.14.0"), "Cluster API v1.14.0 is not known to this chart, which knows 1.11, 1.12"),
    (CLASS, at("worker.featureGates", {}), "worker.featureGates: kubeadm's feature gates are the cluster's"),
    (CLASS, at("controlPlane.schedulerExtraArgs", argument("v") * 2), "controlPlane.schedulerExtraArgs: v stands there twice"),
    (CLASS, at("loadBalancer.lxc.image.name", ""), "loadBalancer.lxc.image.name is empty: without one the provider asks"),
    (CLASS, at("controlPlaneEndpoint.host", "192.0.2.1"), "a load balancer of kind lxc has an address of its own"),
    (CLASS, {"loadBalancer": {"lxc": None, "external": {}}}, "a load balancer of kind external cannot find an address itself"),
    (CLASS, at("external.prefixV6", "fd00::/130"), '"fd00::/130" is no network'),
    (CLASS, at("kubeProxy.nodePortAddresses", ["10.0.0.300/8"]), '"10.0.0.300" is no IP address'),
    (WORKLOAD, at("kubernetes.version", "v1.36.0"), "Cluster API 1.12.5 supports Kubernetes v1.29 to v1.35"),
    (WORKLOAD, at("topology.controlPlane.replicas", 2), "topology.controlPlane.replicas is 2: etcd decides by majority"),
    (WORKLOAD, at("cluster.name", "a" * 49), "has 49 characters, and at most 48 are possible: choose a shorter cluster.name"),
    (WORKLOAD, at("apiProxy.image", "alpine"), "apiProxy is gone, .* the step cluster_publish publishes it"),
    (WORKLOAD, at("clusterNetwork.pods.cidrBlocks", ["fd00::/56", "10.1.0.0/16"]), "name an IPv4 network and then an IPv6 network"),
    (WORKLOAD, at("clusterNetwork.services.cidrBlocks", ["10.244.9.0/24", "fd42:77:3::/112"]), "clusterNetwork.pods 10.244.0.0/16 and clusterNetwork.services 10.244.9.0/24 overlap"),
    (WORKLOAD, at("clusterNetwork.taken", {"nodes": "fd42:77:2:ff::/64"}), "clusterNetwork.pods fd42:77:2::/56 and clusterNetwork.taken.nodes"),
    (WORKLOAD, at("clusterNetwork.taken", {"host": "10.96.255.0/24"}), "clusterNetwork.services 10.96.0.0/16 and clusterNetwork.taken.host"),
    ("cni-flannel", at("flannel.pods.cidrBlocks", ["10.1.0.0/16", "10.2.0.0/16"]), "name an IPv4 network and then an IPv6 network"),
    ("cni-calico", at("calico.pods.cidrBlocks", ["fd00::/56", "10.2.0.0/16"]), "name an IPv4 network and then an IPv6 network"),
    (CONFIG, at("pool.rangeV6", ""), "pool.rangeV6 is empty: name the addresses"),
    (CONFIG, at("pool.rangeV6", "192.0.2.1-192.0.2.9"), "pool.rangeV6 192.0.2.1-192.0.2.9 is not IPv6"),
    (CONFIG, at("pool.rangeV6", "fd00::9-fd00::1"), '"fd00::9-fd00::1" is no range of addresses'),
    (CONFIG, at("pool.rangeV6", "fd00::1::2/64"), '"fd00::1::2" is no IP address'),
    (CONFIG, at("pool.prefixV6", "2001:db8:42:101::/64"), "is not in the external network 2001:db8:42:101::/64"),
    (CONFIG, at("pool.prefixV6", "2001:db8:42:100::/121"), "is not in the external network"),
    (CONFIG, at("pool.taken", {"mgmt-1": "2001:db8:42:100::2ff-2001:db8:42:100::3ff"}), "which is mgmt-1: choose another range"),
    (CONFIG, at("l2.interface", ""), "l2.interface is empty: addresses would be announced in every network"),
    (CONFIG, at("tests.address", "fd00::1"), "tests.address fd00::1 is not in pool.rangeV6"),
    (CONFIG, at("fullnameOverride", "a" * 60 + "b"), "fullnameOverride"),
    *[(CLASS, at(path, argument(name)), f"{path}: {name} is the chart's own") for path, names in RESERVED.items() for name in names],
]


@pytest.mark.parametrize(("chart", "values", "words"), GUARDS, ids=[f"{chart}-{words[:50]}" for chart, _, words in GUARDS])
def test_guard(chart, values, words, helm):
    with pytest.raises(Refused, match=words):
        helm.needed(chart, values)


@pytest.mark.parametrize(
    ("chart", "kind", "values", "words"),
    [
        (CLASS, "ClusterClass", {}, "clusterctl init install Cluster API 1.11 or later"),
        (CLASS, "LXCClusterTemplate", {}, "clusterctl init install the infrastructure provider incus, 0.8 or later"),
        (CLASS, "KubeadmControlPlaneTemplate", {}, "the control plane provider kubeadm"),
        (CLASS, "KubeadmConfigTemplate", {}, "the bootstrap provider kubeadm"),
        (WORKLOAD, "Cluster", {}, "clusterctl init install Cluster API"),
        ("cni-calico", "IPPool", {}, "apply the CRDs of Calico v3.28.5 first, or put their text into manifest.crds"),
        ("cni-calico", "Installation", {"installer": "operator"}, "put upstream's chart tigera-operator v3.31.5 into the folder charts/"),
        ("metallb", "IPAddressPool", {}, "apply the CRDs of MetalLB v0.15.3 first"),
    ],
)
def test_a_kind_that_the_cluster_does_not_serve(chart, kind, values, words, helm):
    served = [name for name in SERVED if not name.endswith(f"/{kind}")]
    with pytest.raises(Refused, match=words):
        helm.needed(chart, values, served=served)


WAIVED = [
    (CLASS, merged(at("kubernetes.version", "v1.36.0"), at("kubernetes.skipVersionCheck", True)), SERVED),
    (WORKLOAD, merged(at("kubernetes.version", "v1.36.0"), at("kubernetes.skipVersionCheck", True)), SERVED),
    ("metallb", at("metallb.crds.enabled", False), []),
    (WORKLOAD, at("cluster.name", "a" * 48), SERVED),
    (WORKLOAD, at("clusterNetwork.taken", {"near": "fd42:77:2:100::/56", "far": "10.243.255.0/24"}), SERVED),
    (CONFIG, at("pool.taken", {"below": "2001:db8:42:100::100-2001:db8:42:100::1ff", "above": "2001:db8:42:100::300/120"}), SERVED),
    (CONFIG, at("pool.prefixV6", "2001:db8:42:100::/118"), SERVED),
]


@pytest.mark.parametrize(("chart", "values", "served"), WAIVED)
def test_what_is_close_to_a_refusal_is_none(chart, values, served, helm):
    assert helm.needed(chart, values, served=served)


SCHEMA = [
    (CLASS, "clusterClass.name", "Upper"),
    (CLASS, "clusterClass.name", "a" * 41),
    (CLASS, "kubernetes.version", "1.35.0"),
    (CLASS, "loadBalancer.ovn", {}),
    (CLASS, "loadBalancer.lxc.images", {}),
    (CLASS, "worker.apiServerExtraArgs", []),
    (CLASS, "worker.kubeletExtraArgs", [{"name": "v"}]),
    (CLASS, "devicesExtra.worker", ["eth1"]),
    (CLASS, "files", [{"path": "relative", "content": "x"}]),
    (CLASS, "files", [{"path": "/neither"}]),
    (CLASS, "files", [{"path": "/both", "content": "x", "contentFrom": {"secret": {"name": "s", "key": "k"}}}]),
    (CLASS, "registryMirrors", [{"registry": "docker.io", "endpoints": []}]),
    (CLASS, "registryMirrors", [{"registry": "../etc", "endpoints": [{"url": "https://m"}]}]),
    (CLASS, "external.waitSeconds", -1),
    (CLASS, "healthChecks.worker.maxUnhealthy", "some"),
    (CLASS, "unknown", True),
    (WORKLOAD, "cluster.name", "1st"),
    (WORKLOAD, "topology.controlPlane.replicas", 0),
    (WORKLOAD, "topology.workers.replicas", "2"),
    (WORKLOAD, "clusterNetwork.pods.cidrBlocks", ["10.1.0.0/16"]),
    (WORKLOAD, "loadBalancer.lxc.proxyApiPort", 65536),
    (WORKLOAD, "tests.image", "alpine"),
    ("cni-calico", "installer", "helm"),
    ("cni-calico", "manifest.plugins", "both"),
    ("cni-calico", "tigera-operator.installation.enabled", True),
    ("cni-calico", "calico.mtu.ipv6", 1000),
    ("cni-flannel", "tests.egress.ipv6", "fd00::1:53"),
    ("metallb", "metallb.frrk8s.enabled", True),
    ("metallb", "metallb.speaker.frr.enabled", True),
    ("metallb", "metallb.prometheus", {}),
    (CONFIG, "pool.rangeV6", "everything"),
    (CONFIG, "tests.demoName", "Demo"),
    (CONFIG, "tests.demoImage", "nginx"),
]


@pytest.mark.parametrize(("chart", "path", "value"), SCHEMA)
def test_schema_refuses_and_names_the_place(chart, path, value, helm, helm3):
    for program in (helm, helm3):
        with pytest.raises(Refused) as refused:
            program.needed(chart, at(path, value))
        assert "don't meet the specifications of the schema" in str(refused.value)
        parts = path.split(".")
        assert any(part in str(refused.value) for part in parts[-2:]), refused.value
