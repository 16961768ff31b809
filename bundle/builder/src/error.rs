//! Why a bundle could not be built, downloaded or verified.

use std::{
    io,
    path::{Path, PathBuf},
};

use converge::{Explain, Explanation};

/// What ends a task on the bundle before it is done.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each message says what it is")]
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
    #[error("{package}: {outcome}")]
    Compilation { package: String, outcome: String },
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

const GO: &str = "install Go 1.26 or later from go.dev/dl";

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
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::File { .. } => Explanation::new("FILE_IO"),
            Self::Definition { .. } | Self::Inconsistent { .. } => Explanation::new("BUNDLE_DEFINITION"),
            Self::Bundle(error) => error.explain(),
            Self::Faulty(faults) => {
                faults.first().map_or_else(|| Explanation::new("BUNDLE_DIGEST"), Explain::explain)
            }
            Self::NoHome => Explanation::new("HOME_UNKNOWN").hint("name the folder with --bundle"),
            Self::UnknownPart { .. } => Explanation::new("BUNDLE_PART_UNKNOWN"),
            Self::OutOfDate => Explanation::new("BUNDLE_OUT_OF_DATE"),
            Self::ToolsMissing(missing) => {
                installation(missing).into_iter().fold(Explanation::new("TOOL_MISSING"), Explanation::hint)
            }
            Self::NotRoot => Explanation::new("NOT_ROOT")
                .hint("run it as root, or name with --only the parts that are no instance images"),
            Self::GoTooOld { .. } => Explanation::new("GO_TOO_OLD").hint(GO),
            Self::Command { .. } | Self::Compilation { .. } => Explanation::new("COMMAND_FAILED"),
            Self::Download { .. } => Explanation::new("DOWNLOAD_FAILED").hint(
                "run again: what was downloaded is kept, and the rest is fetched; a proxy is taken from https_proxy",
            ),
            Self::DownloadStatus { status: 401 | 403 | 429, .. } => Explanation::new("DOWNLOAD_STATUS").hint(
                "the server lets nobody in without an account, or was asked too often: run again in a while; what was downloaded is kept",
            ),
            Self::DownloadStatus { .. } => Explanation::new("DOWNLOAD_STATUS")
                .hint("look at version and address in bundle/upstream.toml: the file may not exist there"),
            Self::Digest { .. } | Self::Fingerprint { .. } => Explanation::new("CHECKSUM_MISMATCH").hint(
                "the file was thrown away; if it is wrong again, do not use it: the release was replaced or tampered with",
            ),
            Self::Unexpected { .. } => Explanation::new("DOWNLOAD_UNEXPECTED")
                .hint("look at the address with a browser or curl: a proxy may have answered in the server's place"),
            Self::NotPublished { .. } => Explanation::new("IMAGE_NOT_PUBLISHED").hint(
                "name one of these in bundle/upstream.toml; servers keep few builds of an image, so that a fingerprint does not last",
            ),
            Self::ChecksumMissing { .. } => Explanation::new("CHECKSUM_ENTRY_MISSING")
                .hint("the release lists its files by other names than bundle/upstream.toml"),
        }
    }
}
