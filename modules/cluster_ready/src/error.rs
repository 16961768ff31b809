//! Why a cluster is not ready.

use converge::{Explain, Explanation};

/// Why a cluster is not ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no Cluster {cluster}")]
    NoCluster { cluster: String },
    #[error("Cluster {cluster} does not say how many machines it is to have")]
    NoCounts { cluster: String },
    #[error("{source}")]
    Failed { source: cluster::Error, machines: Vec<String> },
    #[error("{source}")]
    NotInTime { source: cluster::Error, machines: Vec<String> },
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoCluster { .. } => Explanation::new("CLUSTER_OBJECT_NOT_FOUND")
                .hint("make it first, by the role helm_release with the chart capi-workload-cluster")
                .prerequisite(),
            Self::NoCounts { .. } => Explanation::new("CLUSTER_COUNTS_UNKNOWN").hint("set control_plane_count and worker_count"),
            Self::Failed { source, machines } => source
                .explain()
                .with_code("MACHINE_FAILED")
                .with_hint("mend what the provider names, then delete the Machine; Cluster API makes another one")
                .detail(machines.join("\n")),
            Self::NotInTime { source, machines } => source.explain().with_code("CLUSTER_NOT_READY").detail(machines.join("\n")),
            Self::Cluster(error) => error.explain(),
        }
    }
}
