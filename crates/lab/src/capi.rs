//! Cluster API, as the lab's management clusters carry it.

/// The name of the infrastructure provider, which clusterctl does not know by itself.
pub const INFRASTRUCTURE: &str = "incus";
/// Where the infrastructure provider's releases are.
pub const INFRASTRUCTURE_RELEASES: &str = "https://github.com/lxc/cluster-api-provider-incus/releases";

/// The namespace of the infrastructure provider.
pub const INFRASTRUCTURE_NAMESPACE: &str = "capn-system";
/// The Deployment of Cluster API's own controllers: namespace and name.
pub const CORE_DEPLOYMENT: (&str, &str) = ("capi-system", "capi-controller-manager");
/// The Deployments that a management cluster stands on: namespace and name.
pub const DEPLOYMENTS: [(&str, &str); 7] = [
    ("cert-manager", "cert-manager"),
    ("cert-manager", "cert-manager-cainjector"),
    ("cert-manager", "cert-manager-webhook"),
    ("capi-system", "capi-controller-manager"),
    ("capi-kubeadm-bootstrap-system", "capi-kubeadm-bootstrap-controller-manager"),
    ("capi-kubeadm-control-plane-system", "capi-kubeadm-control-plane-controller-manager"),
    ("capn-system", "capn-controller-manager"),
];

/// The port of an API server inside its instance.
pub const API_PORT: u16 = 6443;
/// The kubeconfig that k3s writes for its administrator, inside its instance.
pub const K3S_KUBECONFIG: &str = "/etc/rancher/k3s/k3s.yaml";
