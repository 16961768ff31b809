//! What this step fails with.

use std::net::{IpAddr, SocketAddr};

use converge::{Explain, Explanation};

use crate::surroundings::Holder;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("project {project} has no load balancer of cluster {cluster}{}", listed(others))]
    NoLoadBalancer { cluster: String, project: String, others: Vec<String> },
    #[error("cluster {cluster} has several load balancers: {}", instances.join(", "))]
    SeveralLoadBalancers { cluster: String, instances: Vec<String> },
    #[error("the load balancer {name} has no address of the family of {address}")]
    NoAddress { name: String, address: IpAddr },
    #[error("the cluster at {server} has no Cluster {cluster}")]
    NoCluster { cluster: String, server: String },
    #[error("the annotation of Cluster {cluster} is no port: `{text}`")]
    Annotation { cluster: String, text: String },
    #[error("LXD manages no network {name}")]
    NoNetwork { name: String },
    #[error("this server knows no network forwards")]
    NoForwards,
    #[error("the API of cluster {cluster} cannot be published at {address}: {holder} has the port")]
    PortTaken { cluster: String, address: SocketAddr, holder: Holder },
    #[error("the API cannot be published at {address} by network {network}: network {other} has a forward of this address")]
    AddressTaken { address: IpAddr, network: String, other: String },
    #[error("the forward of {address} was changed by somebody else meanwhile")]
    Overtaken { address: IpAddr },
    #[error("nothing answers at {url} as an API server does: {seen}")]
    NotAnswering { url: String, seen: String },
    #[error("another cluster answers at {url}: {reason}")]
    OtherCluster { url: String, reason: String },
}

fn listed(others: &[String]) -> String {
    if others.is_empty() { String::new() } else { format!("; it has those of {}", others.join(", ")) }
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoLoadBalancer { .. } => Explanation::new("LOAD_BALANCER_NOT_FOUND")
                .hint("wait until the Cluster's control plane is initialised; its load balancer has to be of the kind lxc")
                .prerequisite(),
            Self::SeveralLoadBalancers { .. } => Explanation::new("LOAD_BALANCER_AMBIGUOUS")
                .hint("delete the one that is left over from an earlier cluster of this name"),
            Self::NoAddress { .. } => Explanation::new("LOAD_BALANCER_NO_ADDRESS")
                .hint("leave addresses of this family out of listen_addresses, or give the internal network both"),
            Self::NoCluster { .. } => Explanation::new("CLUSTER_NOT_FOUND")
                .hint("look at name, namespace and kubeconfig_path: after the pivot Clusters are on the management cluster")
                .prerequisite(),
            Self::Annotation { .. } => Explanation::new("PORT_ANNOTATION_INVALID")
                .hint("set k8s-lab.io/api-proxy-port to a number between 1 and 65535, or take it away"),
            Self::NoNetwork { .. } => Explanation::new("NETWORK_NOT_FOUND")
                .hint("run lxd_network_int_managed first, or set internal_network_name")
                .prerequisite(),
            Self::NoForwards => Explanation::new("NETWORK_FORWARD_UNSUPPORTED")
                .hint("use a server that knows them (LXD 4.21 and later), or mode: proxy with isolation: reference"),
            Self::PortTaken { .. } => Explanation::new("PUBLISHED_PORT_TAKEN")
                .hint("give one of the two another port: apiProxy.port of the cluster's release, or the option port"),
            Self::AddressTaken { .. } => Explanation::new("PUBLISHED_ADDRESS_TAKEN")
                .hint("take the other forward away, or choose another of the host's addresses"),
            Self::Overtaken { .. } => Explanation::new("LXD_CHANGED_MEANWHILE")
                .hint("another program changes the same forward; run again when it is done")
                .conflict(),
            Self::NotAnswering { .. } => Explanation::new("PUBLISHED_API_SILENT")
                .hint("look whether the load balancer answers at its own address")
                .hint("after somebody's `nft flush ruleset` LXD has to be restarted: its rules are gone until then"),
            Self::OtherCluster { .. } => Explanation::new("PUBLISHED_API_OTHER")
                .hint("look where the forward leads, and whether a program or a rule of this host takes the port first"),
        }
    }
}
