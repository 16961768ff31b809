use std::{io, path::PathBuf};

use ansible::Explain;

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
    #[error("the cluster's address {server} is not https")]
    Plain { server: String },
    #[error("the cluster's address {server} is the runner's own")]
    Loopback { server: String },
    #[error("nothing was read on the host")]
    NotRead,
}

impl Explain for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Symlink { .. } => "ARTIFACTS_ROOT_SYMLINK",
            Self::Foreign { .. } => "ARTIFACTS_ROOT_FOREIGN",
            Self::Shared { .. } => "ARTIFACTS_ROOT_SHARED",
            Self::Unreadable { .. } => "ARTIFACTS_UNREADABLE",
            Self::Unwritable { .. } => "ARTIFACTS_UNWRITABLE",
            Self::Plain { .. } => "ARTIFACTS_SERVER_PLAIN",
            Self::Loopback { .. } => "ARTIFACTS_SERVER_LOOPBACK",
            Self::NotRead => "ARTIFACTS_NOT_READ",
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::Symlink { .. } => "name the folder itself",
            Self::Foreign { .. } => "name a folder of the user who runs Ansible, or give this one to that user",
            Self::Shared { .. } => "give each host a folder of its own: root: .../.artifacts/{{ inventory_hostname }}",
            Self::Unreadable { .. } | Self::Unwritable { .. } => "look at the owner and mode of the folders above it",
            Self::Plain { .. } | Self::Loopback { .. } => "set mgmt_api_server_url to an address that the runner reaches",
            Self::NotRead => "give kubeconfig what mode: read has returned",
        };
        vec![hint.into()]
    }

    fn is_prerequisite(&self) -> bool {
        matches!(self, Self::NotRead)
    }
}
