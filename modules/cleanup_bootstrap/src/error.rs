//! Why the bootstrap instance may not go yet.

use std::{io, path::PathBuf};

use converge::{Explain, Explanation};

/// Why the bootstrap cluster stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("it is not proved that the management cluster has taken over: {}", against.first().map_or("", String::as_str))]
    NotTakenOver { against: Vec<String> },
    #[error("instance {name} is not one that the lab made")]
    Foreign { name: String },
    #[error("instance {name} was not gone in {seconds} s")]
    Slow { name: String, seconds: u64 },
    #[error("{} cannot be removed", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} is not removed: {reason}", path.display())]
    NoArtifacts { path: PathBuf, reason: String },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotTakenOver { against } => Explanation::new("CLEANUP_NOT_PROVED")
                .hint("nothing was touched; mend what is listed and run again, or lose it with force: true")
                .detail(against.join("\n")),
            Self::Foreign { .. } => Explanation::new("INSTANCE_FOREIGN").hint("look at instance_name; it may name somebody else's"),
            Self::Slow { .. } => Explanation::new("INSTANCE_TIMEOUT").hint("raise delete_timeout, or look at LXD's operations"),
            Self::File { .. } => Explanation::new("FILE_NOT_REMOVED").hint("run the task with become: true, or look at the disk"),
            Self::NoArtifacts { .. } => {
                Explanation::new("ARTIFACTS_REFUSED").hint("look at artifacts_root; remove the folder by hand if it is right")
            }
        }
    }
}
