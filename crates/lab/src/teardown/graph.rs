//! The graph: what has to be gone before something else goes.

use std::collections::BTreeSet;

/// A part of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Workload clusters that Cluster API can delete.
    Workloads,
    /// The management cluster.
    Management,
    /// The bootstrap cluster.
    Bootstrap,
    /// What clusters leave: instances that nobody manages any more, releases, published ports, kubeconfigs, records.
    Remains,
    /// The provider's certificate.
    Trust,
    /// Images.
    Images,
    /// Profiles.
    Profiles,
    /// The project.
    Project,
    /// LXD's listener on the internal network.
    Listener,
    /// The internal network.
    Network,
    /// The storage pool.
    Pool,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 11] = [
        Self::Workloads,
        Self::Management,
        Self::Bootstrap,
        Self::Remains,
        Self::Trust,
        Self::Images,
        Self::Profiles,
        Self::Project,
        Self::Listener,
        Self::Network,
        Self::Pool,
    ];

    /// What has to be gone before, where it goes at all.
    #[must_use]
    pub fn waits_for(self) -> &'static [Self] {
        match self {
            Self::Workloads => &[],
            // Its controllers delete them.
            Self::Management => &[Self::Workloads],
            // Its controllers delete clusters that have not moved, or make again what has gone without them.
            Self::Bootstrap => &[Self::Workloads, Self::Management],
            // Whoever could make the instances again has to be gone.
            Self::Remains => &[Self::Workloads, Self::Management, Self::Bootstrap],
            // By the certificate, controllers reach LXD; of the others, instances are made.
            Self::Trust | Self::Images | Self::Profiles => &[Self::Remains],
            Self::Project => &[Self::Trust, Self::Images, Self::Profiles],
            Self::Listener => &[Self::Trust],
            Self::Network => &[Self::Project, Self::Listener],
            Self::Pool => &[Self::Project],
        }
    }
}

/// The parts in an order in which they can go.
#[must_use]
pub fn order(parts: &BTreeSet<Part>) -> Vec<Part> {
    fn visit(part: Part, ordered: &mut Vec<Part>) {
        if ordered.contains(&part) {
            return;
        }
        for before in part.waits_for() {
            visit(*before, ordered);
        }
        ordered.push(part);
    }
    let mut ordered = Vec::new();
    for part in parts {
        visit(*part, &mut ordered);
    }
    // What is not to go orders the others all the same.
    ordered.retain(|part| parts.contains(part));
    ordered
}
