//! Why Cluster API and its providers are not on a cluster as they should be.

use std::path::PathBuf;

use cluster::{clusterctl, providers::Provider};
use converge::{Explain, Explanation};

/// Why Cluster API is not on a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The whole may take less time than its parts.
    #[error("option `init_timeout`: clusterctl itself waits up to {budget} s, for cert-manager and {providers} providers")]
    Impatient {
        /// What clusterctl waits for at most, in seconds.
        budget: u64,
        /// How many providers there are.
        providers: usize,
    },
    /// An addition names a provider of the lab's.
    #[error("option `extra_providers` may add, not override: `{}` is set by the lab to `{}`", own.label(), own.version)]
    OwnProvider {
        /// The lab's own.
        own: Provider,
    },
    /// An addition says what is said already.
    #[error("option `extra_init_flags` may add, not override: `{flag}` is set by the step")]
    OwnFlag {
        /// The flag.
        flag: String,
    },
    /// There is no such program.
    #[error("there is no clusterctl at {}", path.display())]
    NoClusterctl {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is something else in its place.
    #[error("{} is no program that can be run", path.display())]
    NotExecutable {
        /// Where it is.
        path: PathBuf,
    },
    /// Providers have other versions than the wanted ones.
    #[error("another version is there than wanted: {}", drifted.join(", "))]
    Drift {
        /// Each with both versions.
        drifted: Vec<String>,
    },
    /// The inventory is ambiguous.
    #[error("clusterctl's inventory has {label} more than once")]
    Twice {
        /// The provider.
        label: String,
    },
    /// The bundle has another version, or none.
    #[error("the bundle has no {wanted}; it has {}", if has.is_empty() { "none".into() } else { has.join(", ") })]
    NotInBundle {
        /// What was asked for.
        wanted: Provider,
        /// The versions that it has.
        has: Vec<String>,
    },
    /// A namespace goes away and does not come to its end.
    #[error("nothing can be installed into a namespace that is being deleted")]
    Terminating(#[source] cluster::Error),
    /// clusterctl could not.
    #[error("Cluster API could not be installed")]
    Init {
        /// Its words.
        source: Box<clusterctl::Error>,
        /// What does not hold on the cluster, a line each.
        unmet: Vec<String>,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Impatient { .. } => Explanation::new("OPTION_INVALID").hint("raise init_timeout"),
            Self::OwnProvider { .. } => {
                Explanation::new("OPTION_COLLISION").hint("set capi_version or capn_version for the lab's own providers")
            }
            Self::OwnFlag { .. } => Explanation::new("OPTION_COLLISION").hint("leave the flag out"),
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
