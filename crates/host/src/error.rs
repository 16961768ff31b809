//! What can go wrong between a step and its machine.

use std::{
    io,
    path::{Path, PathBuf},
};

use converge::{Explain, Explanation, WaitError};

#[cfg(feature = "download")]
use crate::download::DownloadError;
use crate::{beneath::Lost, execute::CommandError, kernel::KernelError, package::PackageError};

/// What can go wrong between a step and its machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The distribution, or its version, is not one of those that the lab supports.
    #[error("{found} is not supported")]
    UnsupportedOs {
        /// What the machine runs.
        found: String,
    },
    /// A file could not be read, written or changed.
    #[error("cannot {act} {}", path.display())]
    Io {
        /// What was tried: `write`.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A file that must be there is not.
    #[error("there is no file {}", path.display())]
    NoSuchFile {
        /// Its path.
        path: PathBuf,
    },
    /// A symbolic link is where a file should be.
    #[error("{} is a symbolic link; it is not followed", path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// Another user decides where a path leads.
    #[error("the path {} leads over a symbolic link of another user; it is not followed", path.display())]
    ForeignLink {
        /// The path.
        path: PathBuf,
    },
    /// Something else is where a file or folder should be.
    #[error("{} exists, but is no {wanted}", path.display())]
    OtherKind {
        /// The place.
        path: PathBuf,
        /// What should be there.
        wanted: &'static str,
    },
    /// No account has this name.
    #[error("there is no {} {name}", if *database == "passwd" { "user" } else { "group" })]
    AccountUnknown {
        /// Where it was looked for.
        database: &'static str,
        /// The name.
        name: String,
    },
    /// A program could not be run to a good end.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Another run does not end.
    #[error(transparent)]
    Locked(#[from] WaitError),
    /// A package could not be installed.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The running kernel lacks something, or refuses it.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A download did not succeed.
    #[cfg(feature = "download")]
    #[error(transparent)]
    Download(#[from] DownloadError),
}

impl Error {
    pub(crate) fn lost(lost: Lost, act: &'static str, path: &Path) -> Self {
        match lost {
            Lost::Io(source) => Self::io(act, path, source),
            Lost::Link => Self::ForeignLink { path: path.to_owned() },
        }
    }

    pub(crate) fn io(act: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { act, path: path.to_owned(), source }
    }
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::UnsupportedOs { .. } => {
                Explanation::new("OS_UNSUPPORTED").hint("use Debian 12 or later, or Ubuntu 22.04 or later")
            }
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Explanation::new("DISK_FULL").hint("free some space, then run again: nothing was half-written")
                }
                io::ErrorKind::PermissionDenied => Explanation::new("FILE_DENIED").hint("run the task with become: true"),
                io::ErrorKind::ReadOnlyFilesystem => Explanation::new("FILE_DENIED").hint("the filesystem is mounted read-only"),
                _ => Explanation::new("FILE_IO"),
            },
            Self::NoSuchFile { .. } => Explanation::new("FILE_MISSING").hint("look whether the path is right"),
            Self::Symlink { .. } => {
                Explanation::new("FILE_SYMLINK").hint("remove the link, or put the file that it leads to in its place")
            }
            Self::ForeignLink { .. } => Explanation::new("FILE_SYMLINK").hint("name the folder itself, or give the link to root"),
            Self::OtherKind { .. } => Explanation::new("FILE_OTHER_KIND").hint("move it out of the way, then run again"),
            Self::AccountUnknown { .. } => {
                Explanation::new("ACCOUNT_UNKNOWN").hint("create the account first, or name another owner and group")
            }
            Self::Command(error) => error.explain(),
            Self::Locked(error) => error.explain().with_hint("look what the other run waits for, then run again"),
            Self::Package(error) => error.explain(),
            Self::Kernel(error) => error.explain(),
            #[cfg(feature = "download")]
            Self::Download(error) => error.explain(),
        }
    }
}
