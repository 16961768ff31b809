//! Why Cluster API is not on the bootstrap cluster.

use converge::{Explain, Explanation};

/// Why Cluster API is not on the bootstrap cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("instance {name} has no kubeconfig: k3s has not started in it")]
    NoCluster { name: String },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoCluster { .. } => Explanation::new("K3S_NOT_STARTED").hint("run the role bootstrap_k3s first").prerequisite(),
        }
    }
}
