use std::path::PathBuf;

use cluster::{clusterctl, providers::Provider};
use converge::{Explain, Explanation};

/// Why Cluster API is not on the bootstrap cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("instance {name} has no kubeconfig: k3s has not started in it")]
    NoCluster { name: String },
    #[error("there is no clusterctl at {}", path.display())]
    NoClusterctl { path: PathBuf },
    #[error("{} is no program that can be run", path.display())]
    NotExecutable { path: PathBuf },
    #[error("another version is there than wanted: {}", drifted.join(", "))]
    Drift { drifted: Vec<String> },
    #[error("clusterctl's inventory has {label} more than once")]
    Twice { label: String },
    #[error("the bundle has no {wanted}; it has {}", if has.is_empty() { "none".into() } else { has.join(", ") })]
    NotInBundle { wanted: Provider, has: Vec<String> },
    #[error("nothing can be installed into a namespace that is being deleted")]
    Terminating(#[source] cluster::Error),
    #[error("Cluster API could not be installed")]
    Init { source: Box<clusterctl::Error>, unmet: Vec<String> },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoCluster { .. } => Explanation::new("K3S_NOT_STARTED").hint("run the role bootstrap_k3s first").prerequisite(),
            Self::NoClusterctl { .. } => Explanation::new("CLUSTERCTL_MISSING")
                .hint("run the role binary_fetch first, or set clusterctl_path")
                .prerequisite(),
            Self::NotExecutable { .. } => {
                Explanation::new("CLUSTERCTL_NOT_EXECUTABLE").hint("run the role binary_fetch again, or look at the file's mode")
            }
            Self::Drift { .. } => Explanation::new("PROVIDER_VERSION_DRIFT")
                .hint("set the versions that are there, or upgrade with `clusterctl upgrade`"),
            Self::Twice { .. } => Explanation::new("PROVIDER_TWICE")
                .hint("remove one with `clusterctl delete`; a management cluster has each provider once"),
            Self::NotInBundle { .. } => {
                Explanation::new("BUNDLE_NOT_LISTED").hint("set the version that the bundle has, or build the bundle anew")
            }
            Self::Terminating(source) => {
                let explanation = source.explain();
                let still_there = matches!(source, cluster::Error::Unmet { .. });
                let code = if still_there { "NAMESPACE_TERMINATING" } else { explanation.code };
                explanation
                    .with_code(code)
                    .with_hint("wait until it is gone, then run again; `kubectl describe namespace` shows what it waits for")
            }
            Self::Init { source, unmet } => source.explain().detail(unmet.join("\n")),
        }
    }
}
