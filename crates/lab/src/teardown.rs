//! What goes when a lab is taken down, in which order, and what stays.
//!
//! [`Part::waits_for`] is the graph: what has to be gone before something else goes. [`plan`] walks it over what was [`Seen`]. Nothing is
//! removed on a doubt, nothing that is somebody else's is, and what stays is named with the reason.

mod graph;
mod planning;
mod seen;

use std::{collections::BTreeSet, fmt, net::IpAddr, path::PathBuf};

use converge::{Explain, Explanation};

pub use self::{
    graph::{Part, order},
    planning::plan,
    seen::{Api, Image, Instance, Of, Profile, Seen, Shared, Substrate},
};
use crate::lifecycle::Owner;

/// A cluster, by the namespace and the name of its Cluster object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterName {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// How much of a lab goes. With something goes what stands on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One workload cluster.
    Workload(ClusterName),
    /// All workload clusters.
    Workloads,
    /// The management cluster, and with it the workload clusters.
    Management,
    /// The bootstrap cluster, and with it the clusters that it still owns.
    Bootstrap,
    /// All clusters.
    Clusters,
    /// All clusters, and what they stand on.
    All,
}

/// What goes, in this order, and what stays although it is in the scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What goes.
    pub removals: Vec<Removal>,
    /// What stays.
    pub kept: Vec<Kept>,
}

/// Something that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it is, as a person names it.
    pub what: String,
    /// Why it stays.
    pub why: String,
}

/// A cluster that goes, with the instances that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its instances.
    pub instances: Vec<String>,
}

/// Something that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Clusters, side by side, by whoever has their Cluster objects.
    Clusters {
        /// Who has the objects.
        owner: Owner,
        /// The clusters.
        clusters: Vec<Doomed>,
        /// The owner goes afterwards, so that what it does not delete in time can go without it.
        owner_goes: bool,
    },
    /// Instances, by LXD.
    Instances {
        /// Whose they are.
        of: Of,
        /// Their names.
        names: Vec<String>,
    },
    /// A release that has made the Cluster, on the management cluster.
    Release {
        /// The release's namespace, which is the cluster's.
        namespace: String,
        /// The release.
        name: String,
    },
    /// The class that a release has made and Helm has kept, with its templates, on the management cluster.
    Class {
        /// The cluster that was made of it.
        cluster: ClusterName,
        /// The release.
        release: String,
        /// The objects: kind and name.
        objects: Vec<String>,
    },
    /// The ports at which an API is published.
    Ports {
        /// The cluster.
        cluster: ClusterName,
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// A file or a folder on the host.
    File(PathBuf),
    /// The project's record of how far the lab has come.
    Phase(String),
    /// A certificate that LXD trusts, by its fingerprint.
    Trust(String),
    /// An identity whose reach its groups give, by the fingerprint of its certificate.
    Identity(String),
    /// A group of such identities.
    Group(String),
    /// An image, by its fingerprint.
    Image(String),
    /// A profile.
    Profile(String),
    /// The project.
    Project(String),
    /// LXD's listener on the internal network.
    Listener(String),
    /// The internal network.
    Network(String),
    /// The storage pool.
    Pool(String),
}

/// Why nothing is removed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// Whoever may own clusters cannot be asked.
    #[error("the {} has to delete {}, and cannot be asked: {reason}", carrier(*owner), listed(clusters))]
    Silent {
        /// Who cannot be asked.
        owner: Owner,
        /// Why.
        reason: String,
        /// The clusters that are to go.
        clusters: BTreeSet<ClusterName>,
    },
    /// Cluster API's objects are on their way from one cluster to the other.
    #[error("the objects of Cluster API are on their way from one cluster to the other, so nobody can delete {}", listed(clusters))]
    PivotOpen {
        /// The clusters that are to go.
        clusters: BTreeSet<ClusterName>,
    },
    /// The cluster is no workload cluster.
    #[error("{0} is the management cluster")]
    NoWorkload(ClusterName),
}

impl Explain for Doubt {
    fn explain(&self) -> Explanation {
        match self {
            Self::Silent { owner: Owner::Management, .. } => Explanation::new("DESTROY_OWNER_SILENT")
                .hint("start the management cluster's instances, or mend its kubeconfig, and run again")
                .hint("scope: management removes it together with its workload clusters")
                .hint("force: true deletes the instances by LXD; a management cluster that comes back makes them again"),
            Self::Silent { owner: Owner::Bootstrap, .. } => Explanation::new("DESTROY_OWNER_SILENT")
                .hint("start the bootstrap instance and run again")
                .hint("scope: clusters removes it together with the clusters"),
            Self::PivotOpen { .. } => Explanation::new("DESTROY_PIVOT_OPEN")
                .hint("run the playbook pivot to its end first")
                .hint("scope: clusters removes both clusters and everything on them"),
            Self::NoWorkload(_) => {
                Explanation::new("DESTROY_NO_WORKLOAD").hint("scope: management removes it together with its workload clusters")
            }
        }
    }
}

fn listed(clusters: &BTreeSet<ClusterName>) -> String {
    clusters.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What a person calls a cluster that carries Cluster API.
fn carrier(owner: Owner) -> &'static str {
    match owner {
        Owner::Bootstrap => "bootstrap cluster",
        Owner::Management => "management cluster",
    }
}

impl ClusterName {
    /// The cluster of this namespace and name.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clusters { owner, clusters, .. } => {
                let names: Vec<_> = clusters.iter().map(|doomed| doomed.cluster.to_string()).collect();
                let noun = if names.len() == 1 { "cluster" } else { "clusters" };
                write!(f, "delete {noun} {} by the {}", names.join(", "), carrier(*owner))
            }
            Self::Instances { of, names } => {
                let noun = if names.len() == 1 { "instance" } else { "instances" };
                write!(f, "delete {noun} {}", names.join(", "))?;
                match of {
                    Of::Cluster(cluster) => write!(f, " of cluster {cluster}"),
                    Of::Bootstrap => f.write_str(" of the bootstrap cluster"),
                    Of::Somebody => Ok(()),
                }
            }
            Self::Release { namespace, name } => write!(f, "uninstall release {namespace}/{name}"),
            Self::Class { cluster, objects, .. } => write!(f, "delete {} of cluster {cluster}", objects.join(", ")),
            Self::Ports { cluster, addresses } => {
                let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                write!(f, "publish the API of {cluster} no longer at {}", addresses.join(", "))
            }
            Self::File(path) => write!(f, "remove {}", path.display()),
            Self::Phase(project) => write!(f, "forget how far the lab in project {project} has come"),
            Self::Trust(fingerprint) => write!(f, "trust certificate {} no longer", short(fingerprint)),
            Self::Identity(fingerprint) => write!(f, "trust identity {} no longer", short(fingerprint)),
            Self::Group(name) => write!(f, "delete group {name}"),
            Self::Image(fingerprint) => write!(f, "delete image {}", short(fingerprint)),
            Self::Profile(name) => write!(f, "delete profile {name}"),
            Self::Project(name) => write!(f, "delete project {name}"),
            Self::Listener(address) => write!(f, "let LXD listen on {address} no longer"),
            Self::Network(name) => write!(f, "delete network {name}"),
            Self::Pool(name) => write!(f, "delete storage pool {name}"),
        }
    }
}

/// As much of a fingerprint as LXD itself shows.
fn short(fingerprint: &str) -> &str {
    fingerprint.get(..12).unwrap_or(fingerprint)
}

#[cfg(test)]
mod tests;
