//! Why there is no kubeconfig of a cluster.

use std::{io, path::PathBuf};

use converge::{Explain, Explanation, WaitError};

/// Why there is no kubeconfig.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no Cluster {cluster}")]
    NoCluster { cluster: String },
    #[error("the Secret {secret} holds no kubeconfig: {reason}")]
    Odd { secret: String, reason: String },
    #[error("Cluster {cluster} has no annotation {annotation}, and external_port is not set")]
    NoPort { cluster: String, annotation: &'static str },
    #[error("the kubeconfig of Cluster {cluster} is not there: {source}")]
    NotInTime { cluster: String, source: WaitError },
    #[error("cannot remove {}", path.display())]
    NotRemoved { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoCluster { .. } => Explanation::new("CLUSTER_OBJECT_NOT_FOUND")
                .hint("make it first, by the role helm_release with the chart capi-workload-cluster")
                .prerequisite(),
            Self::Odd { .. } => Explanation::new("KUBECONFIG_SECRET_ODD").hint("delete the Secret; Cluster API makes it anew"),
            Self::NoPort { .. } => Explanation::new("CLUSTER_PORT_UNKNOWN").hint("set external_port"),
            Self::NotInTime { source, .. } => source
                .explain()
                .with_code("KUBECONFIG_SECRET_TIMEOUT")
                .with_hint("the Cluster's conditions say what its control plane waits for"),
            Self::NotRemoved { .. } => Explanation::new("FILE_IO"),
            Self::Cluster(error) => error.explain(),
        }
    }
}
