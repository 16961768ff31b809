//! Why the objects of Cluster API are not where they should be.

use std::path::PathBuf;

use cluster::clusterctl;
use converge::{Explain, Explanation};
use pivot::{Direction, Foreign, Signature, Where};

/// Why the objects are not moved, or not yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the {place} cluster cannot be worked with")]
    Cluster { place: Where, path: PathBuf, source: cluster::Error },
    #[error("a move {direction} is open, and has to be finished first")]
    OtherDirection { direction: Direction },
    #[error("neither cluster has Cluster {namespace}/{name}")]
    NoCluster { namespace: String, name: String },
    #[error("the source is not ready to be moved from, or the target to be moved to")]
    NotReady { unmet: Vec<String> },
    #[error("{}: this move has not done it, and nobody but who has knows why", told(paused))]
    PausedByHand { paused: Vec<PausedByHand> },
    #[error("a move is open, and its copy in {} is {what}", path.display())]
    CopyLost { path: PathBuf, what: String, seen: Vec<String> },
    #[error("what is to be moved could not be copied")]
    NotCopied { source: Box<clusterctl::Error>, is_taken_back: bool },
    #[error("there is no copy of what is to be moved")]
    NoCopy,
    #[error("this is no state that a move leaves behind: {}", foreign.seen.first().map_or("", String::as_str))]
    Foreign { foreign: Foreign, namespace: String, kubeconfigs: [PathBuf; 2] },
    #[error("the move has stopped in the state {signature}")]
    Stopped { signature: Signature, seen: Vec<String>, source: Option<Box<clusterctl::Error>> },
    #[error("the target has taken over, but not everything is as before")]
    Unsettled { lines: Vec<String> },
    #[error("the target would get older providers than the source has: {}", older.join(", "))]
    Older { older: Vec<String> },
}

/// What somebody has paused, and how that is ended.
#[derive(Debug)]
pub(crate) struct PausedByHand {
    pub told: String,
    pub command: String,
}

fn told(paused: &[PausedByHand]) -> String {
    paused.iter().map(|paused| paused.told.as_str()).collect::<Vec<_>>().join(", ")
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Cluster { place, path, source } => {
                let explanation = source.explain();
                let is_missing = matches!(source, cluster::Error::NoKubeconfig { .. });
                match (place, is_missing) {
                    (Where::Target, true) => explanation.with_hint("run the role cluster_kubeconfig first, or set target_kubeconfig_path"),
                    (Where::Source, true) => explanation,
                    _ => explanation.hint(format!("it is the {place} by the kubeconfig {}", path.display())),
                }
            }
            Self::OtherDirection { direction } => Explanation::new("PIVOT_OTHER_DIRECTION")
                .hint(format!("run the role pivot_clusterctl_move with direction: {direction} to its end")),
            Self::NoCluster { .. } => Explanation::new("PIVOT_NO_CLUSTER")
                .hint("look at target_cluster_name and target_cluster_namespace, and make the management cluster first")
                .prerequisite(),
            Self::NotReady { unmet } => Explanation::new("PIVOT_NOT_READY")
                .hint("nothing was touched; mend what is listed, then run again")
                .detail(unmet.join("\n")),
            Self::PausedByHand { paused } => {
                let commands: Vec<_> = paused.iter().map(|paused| format!("`{}`", paused.command)).collect();
                let hint = format!("nothing was touched; ask who has paused it, end that with {}, and run again", commands.join(" and "));
                Explanation::new("PIVOT_PAUSED_BY_HAND").hint(hint)
            }
            Self::CopyLost { seen, .. } => Explanation::new("PIVOT_COPY_LOST")
                .hint("bring the folder back from a backup, then run again; nothing was touched")
                .detail(seen.join("\n")),
            Self::NotCopied { source, is_taken_back: true } => {
                source.explain().hint("nothing has left the source, and it reconciles; mend what clusterctl names, then run the same step again")
            }
            Self::NotCopied { source, is_taken_back: false } => source.explain().hint(
                "nothing has left the source; mend what clusterctl names, then run the same step again, which un-pauses what the copy has \
                 paused",
            ),
            Self::NoCopy => Explanation::new("PIVOT_NO_COPY")
                .hint("have the step copy: set flow_control_copy of the module, or pivot_clusterctl_move_flow_control_copy of the role, to true"),
            Self::Foreign { foreign, namespace, kubeconfigs } => {
                let look = |kubeconfig: &PathBuf| {
                    format!("kubectl --kubeconfig {} --namespace {namespace} get clusters,clusterclasses,machines", kubeconfig.display())
                };
                Explanation::new("PIVOT_FOREIGN")
                    .hint(format!("nothing was touched; look with `{}` and `{}`", look(&kubeconfigs[0]), look(&kubeconfigs[1])))
                    .detail(foreign.seen.join("\n"))
            }
            Self::Stopped { seen, source, .. } => {
                let explanation = source.as_ref().map_or_else(|| Explanation::new("PIVOT_STOPPED"), |source| source.explain());
                let explanation = explanation.with_code("PIVOT_STOPPED").hint("run the same step again: it continues from this state");
                explanation.detail(seen.join("\n")).conflict()
            }
            Self::Unsettled { lines } => Explanation::new("PIVOT_UNSETTLED")
                .hint("the move stays open until this is mended; run the same step again then")
                .detail(lines.join("\n")),
            Self::Older { .. } => {
                Explanation::new("PROVIDER_OLDER").hint("set capi_version and capn_version to the versions of the source, or newer ones")
            }
        }
    }
}
