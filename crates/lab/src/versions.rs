//! What the lab is pinned to.

/// The channel of LXD's snap.
pub const LXD_CHANNEL: &str = "6/stable";
/// Kubernetes on the lab's nodes: a version that the infrastructure provider has images of.
pub const KUBERNETES: &str = "v1.35.0";
/// kubectl, for the runner and the host.
pub const KUBECTL: &str = "v1.35.3";
/// clusterctl, which is Cluster API's version too.
pub const CLUSTERCTL: &str = "v1.12.5";
/// Helm, which installs what clusters run on.
pub const HELM: &str = "v4.3.1";
/// cert-manager, which Cluster API's webhooks have their certificates from.
pub const CERT_MANAGER: &str = "v1.20.1";
/// The infrastructure provider.
pub const CAPN: &str = "v0.8.5";
/// k3s, which carries the bootstrap cluster.
pub const K3S: &str = "v1.35.3+k3s1";

/// SHA-256 of clusterctl, which is released without one: version, architecture, digest.
pub const CLUSTERCTL_SHA256: [(&str, &str, &str); 1] =
    [("v1.12.5", "amd64", "b20044c66b62e273d6fe101ea82a00dc2329c28e2bca1e9b6274b744474429ba")];
