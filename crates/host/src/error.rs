//! What can go wrong between a step and its machine.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use converge::{Explain, Explanation, WaitError};

use crate::beneath::Lost;

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
    /// A program is not installed.
    #[error("the program {program} is not there")]
    CommandMissing {
        /// Its name.
        program: String,
    },
    /// A program is for another kind of machine.
    #[error("{program} cannot run on this kind of machine")]
    CommandFormat {
        /// Its path.
        program: String,
    },
    /// A process could not be started.
    #[error("`{command}` cannot be started")]
    CommandNotStarted {
        /// The command line.
        command: String,
        /// The system's words.
        source: io::Error,
    },
    /// A process ended badly.
    #[error("`{command}` ended with {status}")]
    CommandFailed {
        /// The command line.
        command: String,
        /// Its exit status or signal.
        status: String,
        /// Its last words.
        tail: String,
    },
    /// A process took too long and was ended.
    #[error("`{command}` did not end within {} s", deadline.as_secs())]
    CommandTimeout {
        /// The command line.
        command: String,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// Another run does not end.
    #[error(transparent)]
    Locked(#[from] WaitError),
    /// Another package manager is at work.
    #[error(transparent)]
    AptLocked(WaitError),
    /// APT knows no such package.
    #[error("APT knows no package {}", packages.join(", "))]
    PackageUnknown {
        /// The packages.
        packages: Vec<String>,
    },
    /// The running kernel has no such module.
    #[error("the running kernel has no module {module}")]
    ModuleMissing {
        /// The module.
        module: String,
    },
    /// The running kernel has no such parameter.
    #[error("the running kernel has no parameter {key}")]
    SysctlUnknown {
        /// The parameter.
        key: String,
    },
    /// The kernel does not take the value.
    #[error("the kernel does not take {key} = {value}")]
    SysctlRefused {
        /// The parameter.
        key: String,
        /// The value.
        value: String,
        /// The system's words.
        source: io::Error,
    },
    /// A download did not succeed, however often it was tried.
    #[cfg(feature = "download")]
    #[error("{url} cannot be downloaded: {reason}")]
    Download {
        /// The address.
        url: String,
        /// The library's words, or the server's status.
        reason: String,
    },
    /// The server said no.
    #[cfg(feature = "download")]
    #[error("{url} answers with status {status}")]
    DownloadStatus {
        /// The address.
        url: String,
        /// The status code.
        status: u16,
    },
    /// There is more than there should be.
    #[cfg(feature = "download")]
    #[error("{url} has more than {} MiB", limit >> 20)]
    DownloadSize {
        /// The address.
        url: String,
        /// How many bytes are taken.
        limit: u64,
    },
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
            Self::NoSuchFile { .. } => Explanation::new("FILE_MISSING").hint("look at the path"),
            Self::Symlink { .. } => {
                Explanation::new("FILE_SYMLINK").hint("remove the link, or put the file that it leads to in its place")
            }
            Self::ForeignLink { .. } => Explanation::new("FILE_SYMLINK").hint("name the folder itself, or give the link to root"),
            Self::OtherKind { .. } => Explanation::new("FILE_OTHER_KIND").hint("move it away"),
            Self::AccountUnknown { .. } => {
                Explanation::new("ACCOUNT_UNKNOWN").hint("create the account first, or name another owner and group")
            }
            Self::CommandMissing { .. } => Explanation::new("COMMAND_MISSING").hint("install the package that brings it"),
            Self::CommandFormat { .. } => {
                Explanation::new("EXEC_FORMAT").hint("the file is for another CPU architecture, or damaged; look at it with `file`")
            }
            Self::CommandNotStarted { .. } => Explanation::new("COMMAND_FAILED"),
            Self::CommandFailed { tail, .. } => Explanation::new("COMMAND_FAILED").detail(tail.as_str()),
            Self::CommandTimeout { .. } => {
                Explanation::new("COMMAND_TIMEOUT").hint("run the command by hand to see what it waits for")
            }
            Self::Locked(error) => error.explain().with_hint("look what the other run waits for, then run again"),
            Self::AptLocked(error) => {
                error.explain().with_code("APT_LOCKED").with_hint("unattended-upgrades may be at work; run again when it is done")
            }
            Self::PackageUnknown { .. } => Explanation::new("PACKAGE_NOT_FOUND")
                .hint("look for it with `apt-cache policy`; its repository may not be configured"),
            Self::ModuleMissing { .. } => Explanation::new("MODULE_NOT_FOUND")
                .hint("the kernel was upgraded without a reboot, or its package of extra modules is not installed"),
            Self::SysctlUnknown { .. } => {
                Explanation::new("SYSCTL_NOT_FOUND").hint("the module that brings it is not loaded; add it to extra_kernel_modules")
            }
            Self::SysctlRefused { .. } => {
                Explanation::new("SYSCTL_REFUSED").hint("in a container, the parameters of the whole machine are set on its host")
            }
            #[cfg(feature = "download")]
            Self::Download { .. } => Explanation::new("DOWNLOAD_FAILED")
                .hint("the machine may need a proxy (https_proxy, by the task's environment), or take the file from a folder"),
            #[cfg(feature = "download")]
            Self::DownloadStatus { .. } => {
                Explanation::new("DOWNLOAD_STATUS").hint("look at version and URL: the file may not exist there")
            }
            #[cfg(feature = "download")]
            Self::DownloadSize { .. } => {
                Explanation::new("DOWNLOAD_TOO_LARGE").hint("the URL may lead to something else than the tool")
            }
        }
    }
}
