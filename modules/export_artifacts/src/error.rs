//! Why nothing is brought to the runner.

use std::{io, path::PathBuf};

use converge::{Explain, Explanation};

/// Why nothing is brought to the runner.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{} leads somewhere else: it is a link", path.display())]
    Symlink { path: PathBuf },
    #[error("{} belongs to user {owner}, and this is user {runner}", path.display())]
    Foreign { path: PathBuf, owner: u32, runner: u32 },
    #[error("{} holds the artifacts of {other}, and these are of {host}", path.display())]
    Shared { path: PathBuf, other: String, host: String },
    #[error("{} cannot be looked at", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} cannot be written", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("the cluster's address {server} is no URL: {reason}")]
    Malformed { server: String, reason: String },
    #[error("the cluster's address {server} is not https")]
    Plain { server: String },
    #[error("the cluster's address {server} is the runner's own")]
    Loopback { server: String },
    #[error("nothing was read on the host")]
    NotRead,
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        const FOLDERS: &str = "look at the owner and mode of the folders above it";
        const SERVER: &str = "set mgmt_api_server_url to an address that the runner reaches";
        match self {
            Self::Symlink { .. } => Explanation::new("ARTIFACTS_ROOT_SYMLINK").hint("name the folder itself"),
            Self::Foreign { .. } => Explanation::new("ARTIFACTS_ROOT_FOREIGN")
                .hint("name a folder of the user who runs Ansible, or give this one to that user"),
            Self::Shared { .. } => Explanation::new("ARTIFACTS_ROOT_SHARED")
                .hint("give each host a folder of its own: root: .../.artifacts/{{ inventory_hostname }}"),
            Self::Unreadable { .. } => Explanation::new("ARTIFACTS_UNREADABLE").hint(FOLDERS),
            Self::Unwritable { .. } => Explanation::new("ARTIFACTS_UNWRITABLE").hint(FOLDERS),
            Self::Malformed { .. } => Explanation::new("ARTIFACTS_SERVER_MALFORMED")
                .hint("give https, a host and a port; an IPv6 address stands in brackets: https://[2001:db8::5]:6443"),
            Self::Plain { .. } => Explanation::new("ARTIFACTS_SERVER_PLAIN").hint(SERVER),
            Self::Loopback { .. } => Explanation::new("ARTIFACTS_SERVER_LOOPBACK").hint(SERVER),
            Self::NotRead => {
                Explanation::new("ARTIFACTS_NOT_READ").hint("give kubeconfig what mode: read has returned").prerequisite()
            }
        }
    }
}
