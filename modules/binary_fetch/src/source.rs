//! Where a tool comes from: the bundle, a folder, or a server.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use host::{
    download::{Downloaded, Downloads},
    file,
};

/// The form of an option that says where something is.
pub(crate) const PATTERN: &str = "^(https://|file:///|/).";

/// More than any of the tools has.
const LARGEST_TOOL: u64 = 512 << 20;
/// More than any list of checksums has.
const LARGEST_LIST: u64 = 1 << 20;

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Https(String),
    File(PathBuf),
}

impl Source {
    /// By an option that matches [`PATTERN`].
    pub(crate) fn of(url: &str) -> Self {
        match url.strip_prefix("file://").or_else(|| url.starts_with('/').then_some(url)) {
            Some(path) => Self::File(path.into()),
            None => Self::Https(url.to_owned()),
        }
    }

    /// What the file is called there, which has this name in a folder.
    pub(crate) fn of_asset<'a>(&'a self, name: &'a str) -> &'a str {
        match self {
            Self::Https(url) => url,
            Self::File(path) if path.is_dir() => name,
            Self::File(path) => path.to_str().unwrap_or(name),
        }
    }

    /// It is a file of this machine that does not exist.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::File(path) if !path.exists())
    }

    /// Its text.
    pub(crate) async fn text(&self, silence: Duration) -> Result<String, host::Error> {
        match self {
            Self::Https(url) => Downloads::new(silence)?.text(url, LARGEST_LIST).await,
            Self::File(path) => {
                let text = host::Root::default().read(path)?;
                text.ok_or_else(|| host::Error::NoSuchFile { path: path.clone() })
            }
        }
    }

    /// A copy that is to be at `destination`. In a folder it has the name `name`.
    pub(crate) async fn copy(&self, name: &str, destination: &Path, silence: Duration) -> Result<Downloaded, host::Error> {
        match self {
            Self::Https(url) => Downloads::new(silence)?.file(url, destination, LARGEST_TOOL).await,
            Self::File(path) => {
                let path = if path.is_dir() { &path.join(name) } else { path };
                let (file, sha256) = file::copy(path, destination)?;
                Ok(Downloaded { file, sha256 })
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Https(url) => f.write_str(url),
            Self::File(path) => path.display().fmt(f),
        }
    }
}
