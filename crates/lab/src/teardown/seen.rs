//! What was seen of a lab, as far as taking it down depends on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
};

use super::ClusterName;
use crate::{
    lifecycle::{Owner, Phase},
    names::{BOOTSTRAP_ROLE, OWNER_KEY},
    publication::{CLUSTER_KEY, NAMESPACE_KEY},
};

/// What was seen of a lab.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The instances of the project.
    pub instances: Vec<Instance>,
    /// The bootstrap cluster's API.
    pub bootstrap: Api,
    /// The management cluster's API.
    pub management: Api,
    /// Cluster objects, and who has them.
    pub objects: Vec<(ClusterName, Owner)>,
    /// Releases on the management cluster, by the cluster that they have made.
    pub releases: Vec<(ClusterName, String)>,
    /// What these clusters leave of their classes on the management cluster: the release that has made it, and kind and name of each.
    pub classes: Vec<(ClusterName, String, Vec<String>)>,
    /// The addresses at which APIs are published.
    pub ports: Vec<(ClusterName, IpAddr)>,
    /// The clusters' kubeconfigs on the host.
    pub kubeconfigs: Vec<(ClusterName, PathBuf)>,
    /// What the host has of the bootstrap cluster.
    pub bootstrap_files: Vec<PathBuf>,
    /// What the host has of the move to the management cluster.
    pub pivot_files: Vec<PathBuf>,
    /// Such a move is open.
    pub is_pivot_open: bool,
    /// What the project has recorded of how far the lab has come.
    pub phase: Option<String>,
    /// What the clusters stand on.
    pub substrate: Substrate,
}

/// Whether the API of a cluster that carries Cluster API can be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Api {
    /// There is no instance of it.
    #[default]
    Gone,
    /// It answers.
    Answers,
    /// There are instances of it, and it does not answer, for this reason.
    Silent(String),
}

/// An instance of the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub of: Of,
}

/// Whose an instance is, by the keys that are on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// A cluster's that Cluster API made.
    Cluster(ClusterName),
    /// The bootstrap cluster's.
    Bootstrap,
    /// Not the lab's.
    Somebody,
}

/// What the clusters stand on.
#[derive(Clone, Debug, Default)]
pub struct Substrate {
    /// The project.
    pub project: Option<Shared>,
    /// Its images.
    pub images: Vec<Image>,
    /// Its profiles.
    pub profiles: Vec<Profile>,
    /// Fingerprints of certificates that reach the project and nothing else.
    pub trust: Vec<String>,
    /// Fingerprints of identities that have no other reach than such a group gives.
    pub identities: Vec<String>,
    /// Groups of identities that reach the project and nothing else.
    pub groups: Vec<String>,
    /// Files with the key of such a certificate.
    pub keys: Vec<PathBuf>,
    /// Where LXD listens on the internal network.
    pub listener: Option<String>,
    /// The internal network.
    pub network: Option<Shared>,
    /// What its forwards take of the host and is not the lab's.
    pub foreign_forwards: Vec<String>,
    /// The storage pool.
    pub pool: Option<Shared>,
}

/// Something that others may use, too.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Its name.
    pub name: String,
    /// It carries the lab's mark.
    pub is_ours: bool,
    /// The paths of what uses it.
    pub users: Vec<String>,
}

/// An image of the project.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its fingerprint.
    pub fingerprint: String,
    /// It was brought by the lab, or can be had again.
    pub is_ours: bool,
}

/// A profile of the project.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// It is one of the lab's.
    pub is_ours: bool,
}

impl Of {
    /// Whose an instance is, by its own keys. What a profile says of it is no mark: a person's instance may have that, too.
    #[must_use]
    pub fn by_keys(config: &BTreeMap<String, String>) -> Self {
        let key = |key: &str| config.get(key).map(String::as_str);
        match (key(NAMESPACE_KEY), key(CLUSTER_KEY), key(OWNER_KEY)) {
            (Some(namespace), Some(cluster), _) => Self::Cluster(ClusterName::new(namespace, cluster)),
            (_, _, Some(BOOTSTRAP_ROLE)) => Self::Bootstrap,
            _ => Self::Somebody,
        }
    }
}

impl Seen {
    /// Every cluster that there is a trace of.
    #[must_use]
    pub fn clusters(&self) -> BTreeSet<&ClusterName> {
        let instances = self.instances.iter().filter_map(|instance| match &instance.of {
            Of::Cluster(cluster) => Some(cluster),
            _ => None,
        });
        let objects = self.objects.iter().map(|(cluster, _)| cluster);
        let ports = self.ports.iter().map(|(cluster, _)| cluster);
        let kubeconfigs = self.kubeconfigs.iter().map(|(cluster, _)| cluster);
        let releases = self.releases.iter().map(|(cluster, _)| cluster);
        instances.chain(releases).chain(objects).chain(ports).chain(kubeconfigs).collect()
    }

    /// The names of the instances that are somebody's.
    #[must_use]
    pub fn instances_of(&self, whose: &Of) -> Vec<String> {
        let own = self.instances.iter().filter(|instance| instance.of == *whose);
        own.map(|instance| instance.name.clone()).collect()
    }

    pub(super) fn api(&self, owner: Owner) -> &Api {
        match owner {
            Owner::Bootstrap => &self.bootstrap,
            Owner::Management => &self.management,
        }
    }

    /// The project has recorded that the management cluster has taken over.
    pub(super) fn is_over(&self) -> bool {
        self.phase.as_deref().and_then(Phase::recorded).is_some_and(Phase::is_over)
    }
}
