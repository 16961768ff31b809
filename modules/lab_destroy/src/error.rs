//! What this step fails with.

use converge::{Explain, Explanation, WaitError};
use lab::teardown::ClusterName;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("Cluster API did not delete {}: {source}", listed(clusters))]
    NotDeleted { clusters: Vec<ClusterName>, source: cluster::Error },
    #[error("instance {name} is another's than it was when it was looked at")]
    Exchanged { name: String },
    #[error("the forward of {address} was changed by somebody else meanwhile")]
    Overtaken { address: std::net::IpAddr },
    #[error(transparent)]
    Lxd(#[from] lxd::Error),
    #[error(transparent)]
    Wait(#[from] WaitError),
}

fn listed(clusters: &[ClusterName]) -> String {
    clusters.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotDeleted { source, .. } => source
                .explain()
                .with_code("CLUSTER_NOT_DELETED")
                .hint("look at the Cluster's and the Machines' conditions; one that is paused is not deleted")
                .hint("run again: the deletion goes on meanwhile"),
            Self::Exchanged { .. } => Explanation::new("INSTANCE_EXCHANGED").hint("run again").conflict(),
            Self::Overtaken { .. } => Explanation::new("LXD_CHANGED_MEANWHILE")
                .hint("another program changes the same forward; run again when it is done")
                .conflict(),
            Self::Lxd(error) => error.explain(),
            Self::Wait(error) => error.explain(),
        }
    }
}
