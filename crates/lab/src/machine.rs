//! What the lab needs of the machine that carries it.

use std::path::{Path, PathBuf};

/// Where the lab's programs and settings are.
pub const OPT_ROOT: &str = "/opt/capi-lab";
/// The bootstrap cluster's kubeconfig, in that folder.
pub const BOOTSTRAP_KUBECONFIG: &str = "etc/bootstrap_clusterctl/bootstrap.kubeconfig";

/// Helm, in that folder.
pub const HELM: &str = "bin/helm";
/// Where runs of one host meet that work on the same release, in that folder.
pub const HELM_LOCKS: &str = "etc/helm_release";

/// What the step writes down that moves Cluster API's objects from one cluster to the other, in that folder.
pub const PIVOT: &str = "etc/pivot_clusterctl_move";
/// There while such a move is open, in the folder [`PIVOT`]: until it is verified, Helm must not run on either cluster.
pub const OPEN_PIVOT: &str = "open";

/// The same, below the folder of the lab's programs and settings.
#[must_use]
pub fn open_pivot(opt_root: &Path) -> PathBuf {
    opt_root.join(PIVOT).join(OPEN_PIVOT)
}

/// Certificate and key of the infrastructure provider, in that folder.
pub const PROVIDER_KEYS: &str = "etc/bootstrap_capn_secret";
/// The kubeconfigs of clusters that Cluster API made, in that folder: a folder for each namespace.
pub const CLUSTERS: &str = "etc/clusters";
const KUBECONFIG: &str = ".kubeconfig";
const EXTERNAL_KUBECONFIG: &str = ".external.kubeconfig";

/// The cluster that a file in the folder of its namespace is a kubeconfig of.
#[must_use]
pub fn cluster_of_kubeconfig(file: &str) -> Option<&str> {
    file.strip_suffix(EXTERNAL_KUBECONFIG).or_else(|| file.strip_suffix(KUBECONFIG)).filter(|name| !name.is_empty())
}

/// The kubeconfig of a cluster that Cluster API made, below the folder of the lab's programs and settings.
#[must_use]
pub fn cluster_kubeconfig(opt_root: &Path, namespace: &str, name: &str) -> PathBuf {
    opt_root.join(CLUSTERS).join(namespace).join(format!("{name}{KUBECONFIG}"))
}

/// The same for those who reach the cluster from outside the host.
#[must_use]
pub fn external_kubeconfig(opt_root: &Path, namespace: &str, name: &str) -> PathBuf {
    opt_root.join(CLUSTERS).join(namespace).join(format!("{name}{EXTERNAL_KUBECONFIG}"))
}

/// Packages that the lab and the playbooks around it use.
pub const PACKAGES: [&str; 7] = ["python3", "python3-apt", "ca-certificates", "curl", "tar", "gzip", "xz-utils"];
/// What LXD's snap needs.
pub const SNAPD: &str = "snapd";
/// What a btrfs pool needs.
pub const BTRFS: &str = "btrfs-progs";
/// What must be there before the distribution's LXD starts: without these it makes its networks without NAT, and does not say so.
pub const BEFORE_LXD: [&str; 2] = ["iptables", "nftables"];

/// A module of the kernel, and a function that only it brings: the one trace that it leaves in a kernel built without modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelModule {
    /// Its name.
    pub name: &'static str,
    /// The function.
    pub symbol: &'static str,
}

const fn module(name: &'static str, symbol: &'static str) -> KernelModule {
    KernelModule { name, symbol }
}

/// Modules that are loaded on the host, because nothing in an unprivileged container can.
///
/// Without `nf_conntrack`, kube-proxy in a node tries to set the table's size and is refused.
pub const MODULES: [KernelModule; 3] =
    [module("overlay", "ovl_fill_super"), module("br_netfilter", "br_nf_pre_routing"), module("nf_conntrack", "nf_conntrack_in")];

/// Modules that Kubernetes nodes use when they can be had.
pub const NODE_MODULES: [KernelModule; 3] =
    [module("ip_vs", "register_ip_vs_scheduler"), module("nf_tables", "nft_do_chain"), module("vxlan", "vxlan_xmit")];

/// A parameter of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub key: &'static str,
    /// What it has to be.
    pub value: &'static str,
    /// It bounds something that others use too: it is only ever raised.
    pub is_limit: bool,
}

const fn limit(key: &'static str, value: &'static str) -> Parameter {
    Parameter { key, value, is_limit: true }
}

const fn switch(key: &'static str, value: &'static str) -> Parameter {
    Parameter { key, value, is_limit: false }
}

/// Kernel parameters; many containers share the kernel's tables.
pub const SYSCTLS: [Parameter; 5] = [
    limit("fs.file-max", "2097152"),
    limit("fs.inotify.max_user_instances", "1024"),
    limit("fs.inotify.max_user_watches", "1048576"),
    switch("net.ipv4.ip_forward", "1"),
    switch("net.ipv6.conf.all.forwarding", "1"),
];
/// Where they are kept.
pub const SYSCTL_FILE: &str = "/etc/sysctl.d/60-k8slab-base-system.conf";

/// The memory that a whole lab fits in, in MiB.
pub const MEMORY_MIB: u32 = 12 * 1024;

/// Extensions of LXD's API that the lab uses where they are.
pub const API_EXTENSIONS: [&str; 6] = [
    "access_management_tls",
    "network_forward",
    "projects_networks_restricted_access",
    "projects_networks_zones",
    "projects_restricted_intercept",
    "storage_buckets",
];
