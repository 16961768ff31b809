use std::{
    io,
    path::{Path, PathBuf},
};

use ansible::Explain;

/// What ends a task on the bundle before it is done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Definition { path: PathBuf, source: toml::de::Error },
    #[error("{}: {problem}", path.display())]
    Inconsistent { path: PathBuf, problem: String },
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n        "))]
    Faulty(Vec<bundle::Error>),
    #[error("neither HOME nor XDG_CACHE_HOME is set")]
    NoHome,
    #[error("the bundle has no part {name}; there are {}", known.join(", "))]
    UnknownPart { name: String, known: Vec<String> },
    #[error("this would be made")]
    OutOfDate,
    /// Programs and libraries, each with the Debian packages that bring it.
    #[error("to build the bundle, this machine lacks {}", names(.0))]
    ToolsMissing(Vec<(String, &'static str)>),
    #[error("only root can make a Debian system and keep its owners and modes")]
    NotRoot,
    #[error("Go is {found}, and the bundle needs {needed} or later")]
    GoTooOld { found: String, needed: String },
    #[error("`{command}` {outcome}\n{words}")]
    Command { command: String, outcome: String, words: String },
    #[error("{0}: {1}")]
    Compilation(String, String),
    #[error("{url}: {reason}")]
    Download { url: String, reason: String },
    #[error("{url} answers with status {status}")]
    DownloadStatus { url: String, status: u16 },
    #[error("{url} has SHA-256 {actual}, and should have {expected}")]
    Digest { url: String, expected: String, actual: String },
    #[error("{url} and its metadata make an image with the fingerprint {actual}, and should make {expected}")]
    Fingerprint { url: String, expected: String, actual: String },
    #[error("{url}: {problem}")]
    Unexpected { url: String, problem: String },
    #[error("{server} has no image {image}; it has {}", one_of(published))]
    NotPublished { server: String, image: String, published: Vec<String> },
    #[error("{checksums} has no digest of {file}")]
    ChecksumMissing { checksums: String, file: String },
}

const GO: &str = "install Go 1.25 or later from go.dev/dl, or with `apt-get install -t bookworm-backports golang-go`";

fn names(missing: &[(String, &str)]) -> String {
    missing.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

fn one_of(published: &[String]) -> String {
    if published.is_empty() { "none of its kind".to_owned() } else { published.join(", ") }
}

/// How to get what is missing.
fn installation(missing: &[(String, &str)]) -> Vec<String> {
    let packages: Vec<_> = missing.iter().map(|(_, package)| *package).filter(|package| !package.is_empty()).collect();
    let mut hints = Vec::new();
    if !packages.is_empty() {
        hints.push(format!("`apt-get install {}`", packages.join(" ")));
    }
    if missing.iter().any(|(name, _)| name == "go") {
        hints.push(GO.into());
    }
    hints
}

impl Error {
    pub fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

impl Explain for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "FILE_IO",
            Self::Definition { .. } | Self::Inconsistent { .. } => "BUNDLE_DEFINITION",
            Self::Bundle(error) => error.code(),
            Self::Faulty(faults) => faults.first().map_or("BUNDLE_DIGEST", Explain::code),
            Self::NoHome => "HOME_UNKNOWN",
            Self::UnknownPart { .. } => "BUNDLE_PART_UNKNOWN",
            Self::OutOfDate => "BUNDLE_OUT_OF_DATE",
            Self::ToolsMissing(_) => "TOOL_MISSING",
            Self::NotRoot => "NOT_ROOT",
            Self::GoTooOld { .. } => "GO_TOO_OLD",
            Self::Command { .. } | Self::Compilation(..) => "COMMAND_FAILED",
            Self::Download { .. } => "DOWNLOAD_FAILED",
            Self::DownloadStatus { .. } => "DOWNLOAD_STATUS",
            Self::Digest { .. } | Self::Fingerprint { .. } => "CHECKSUM_MISMATCH",
            Self::Unexpected { .. } => "DOWNLOAD_UNEXPECTED",
            Self::NotPublished { .. } => "IMAGE_NOT_PUBLISHED",
            Self::ChecksumMissing { .. } => "CHECKSUM_ENTRY_MISSING",
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::Bundle(error) => return error.hints(),
            Self::Faulty(faults) => return faults.first().map(Explain::hints).unwrap_or_default(),
            Self::File { .. }
            | Self::Definition { .. }
            | Self::Inconsistent { .. }
            | Self::Command { .. }
            | Self::Compilation(..)
            | Self::OutOfDate
            | Self::UnknownPart { .. } => return Vec::new(),
            Self::ToolsMissing(missing) => return installation(missing),
            Self::NotRoot => "run it as root, or name with --only the parts that are no instance images",
            Self::NoHome => "name the folder with --bundle",
            Self::GoTooOld { .. } => GO,
            Self::Download { .. } => {
                "run again: what was downloaded is kept, and the rest is fetched; a proxy is taken from https_proxy"
            }
            Self::DownloadStatus { status: 401 | 403 | 429, .. } => {
                "the server lets nobody in without an account, or was asked too often: run again in a while; what was downloaded is kept"
            }
            Self::DownloadStatus { .. } => "look at version and address in bundle/upstream.toml: the file may not exist there",
            Self::Digest { .. } | Self::Fingerprint { .. } => {
                "the file was thrown away; if it is wrong again, do not use it: the release was replaced or tampered with"
            }
            Self::Unexpected { .. } => {
                "look at the address with a browser or curl: a proxy may have answered in the server's place"
            }
            Self::NotPublished { .. } => {
                "name one of these in bundle/upstream.toml; servers keep few builds of an image, so that a fingerprint does not last"
            }
            Self::ChecksumMissing { .. } => "the release lists its files by other names than bundle/upstream.toml",
        };
        vec![hint.into()]
    }
}
