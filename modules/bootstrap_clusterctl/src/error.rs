use std::path::PathBuf;

use ansible::Explain;
use cluster::{clusterctl, providers::Provider};

/// Why Cluster API is not on the bootstrap cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no instance {name}")]
    NoInstance { name: String },
    #[error("instance {name} is {status}")]
    NotRunning { name: String, status: String },
    #[error("instance {name} has no IPv4 address that it can be reached by: {seen}")]
    NoAddress { name: String, seen: String },
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
    fn code(&self) -> &'static str {
        match self {
            Self::NoInstance { .. } => "INSTANCE_NOT_FOUND",
            Self::NotRunning { .. } => "INSTANCE_NOT_RUNNING",
            Self::NoAddress { .. } => "INSTANCE_NO_ADDRESS",
            Self::NoCluster { .. } => "K3S_NOT_STARTED",
            Self::NoClusterctl { .. } => "CLUSTERCTL_MISSING",
            Self::NotExecutable { .. } => "CLUSTERCTL_NOT_EXECUTABLE",
            Self::Drift { .. } => "PROVIDER_VERSION_DRIFT",
            Self::Twice { .. } => "PROVIDER_TWICE",
            Self::NotInBundle { .. } => "BUNDLE_NOT_LISTED",
            Self::Terminating(cluster::Error::Unmet { .. }) => "NAMESPACE_TERMINATING",
            Self::Terminating(source) => source.code(),
            Self::Init { source, .. } => source.code(),
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::NoInstance { .. } | Self::NotRunning { .. } => "run the role lxd_bootstrap_instance first",
            Self::NoAddress { .. } => "look at container_ifname, and whether the network gives addresses out",
            Self::NoCluster { .. } => "run the role bootstrap_k3s first",
            Self::NoClusterctl { .. } => "run the role binary_fetch first, or set clusterctl_path",
            Self::NotExecutable { .. } => "run the role binary_fetch again, or look at the file's mode",
            Self::Drift { .. } => "set the versions that are there, or upgrade with `clusterctl upgrade`",
            Self::Twice { .. } => "remove one with `clusterctl delete`; a management cluster has each provider once",
            Self::NotInBundle { .. } => "set the version that the bundle has, or build the bundle anew",
            Self::Terminating(_) => "wait until it is gone, then run again; `kubectl describe namespace` shows what it waits for",
            Self::Init { source, .. } => return source.hints(),
        };
        vec![hint.into()]
    }

    fn detail(&self) -> Option<String> {
        let Self::Init { source, unmet } = self else { return None };
        let lines = source.detail().into_iter().chain(unmet.iter().cloned());
        Some(lines.collect::<Vec<_>>().join("\n"))
    }

    fn is_prerequisite(&self) -> bool {
        matches!(self, Self::NoInstance { .. } | Self::NotRunning { .. } | Self::NoCluster { .. } | Self::NoClusterctl { .. })
    }
}
