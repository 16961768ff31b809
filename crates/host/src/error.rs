use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use converge::{Explain, Explanation, WaitError};

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
    /// snapd does not answer.
    #[cfg(feature = "snapd")]
    #[error("snapd at {} cannot be reached: {reason}", socket.display())]
    SnapdUnreachable {
        /// Its socket.
        socket: PathBuf,
        /// The system's words.
        reason: String,
        /// There is no socket: snapd is not installed yet.
        absent: bool,
    },
    /// snapd answered with an error.
    #[cfg(feature = "snapd")]
    #[error("snapd refused {request}: {message}")]
    SnapdRefused {
        /// Method and path.
        request: String,
        /// snapd's name of the error, where it has one.
        kind: String,
        /// snapd's own words.
        message: String,
    },
    /// snapd began a change and could not finish it.
    #[cfg(feature = "snapd")]
    #[error("snapd could not finish: {summary}: {message}")]
    SnapdFailed {
        /// What the change was to do.
        summary: String,
        /// snapd's own words.
        message: String,
    },
    /// snapd did not finish a change in time.
    #[cfg(feature = "snapd")]
    #[error(transparent)]
    SnapdSlow(WaitError),
    /// snapd's first start did not end in time.
    #[cfg(feature = "snapd")]
    #[error(transparent)]
    SnapSeed(WaitError),
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
            #[cfg(feature = "snapd")]
            Self::SnapdUnreachable { absent: true, .. } => {
                Explanation::new("SNAPD_UNREACHABLE").hint("run the role base_system first; it installs snapd").prerequisite()
            }
            #[cfg(feature = "snapd")]
            Self::SnapdUnreachable { .. } => Explanation::new("SNAPD_UNREACHABLE").hint("look at `systemctl status snapd.socket`"),
            #[cfg(feature = "snapd")]
            Self::SnapdRefused { message, .. } if names_the_store(message) => Explanation::new("SNAP_STORE_UNREACHABLE")
                .hint("the snap store must be reachable, by a proxy if need be: `snap set system proxy.https=…`"),
            #[cfg(feature = "snapd")]
            Self::SnapdRefused { kind, .. } => match kind.as_str() {
                "snap-channel-not-available" | "snap-revision-not-available" => {
                    Explanation::new("SNAP_CHANNEL_UNKNOWN").hint("`snap info` lists a snap's channels")
                }
                "snap-not-found" => Explanation::new("SNAP_NOT_FOUND").hint("`snap find` looks for snaps by name"),
                "snap-change-conflict" => Explanation::new("SNAP_CHANGE_CONFLICT")
                    .hint("another change of this snap is under way; `snap changes` lists it"),
                _ => Explanation::new("SNAPD_REFUSED").hint("`snap changes` lists what snapd does"),
            },
            #[cfg(feature = "snapd")]
            Self::SnapdFailed { .. } => Explanation::new("SNAP_CHANGE_FAILED")
                .hint("`snap change --last=install` has the tasks; the store must be reachable"),
            #[cfg(feature = "snapd")]
            Self::SnapdSlow(error) => {
                error.explain().with_code("SNAP_CHANGE_TIMEOUT").with_hint("`snap changes` lists what snapd still does")
            }
            #[cfg(feature = "snapd")]
            Self::SnapSeed(error) => error
                .explain()
                .with_code("SNAP_SEED_TIMEOUT")
                .with_hint("fresh images can hang in seeding; `snap changes` lists the pending changes"),
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

/// snapd has no name for this error; its words carry the address that it asked.
#[cfg(feature = "snapd")]
fn names_the_store(message: &str) -> bool {
    message.contains("snapcraft.io") || message.contains("network error")
}
