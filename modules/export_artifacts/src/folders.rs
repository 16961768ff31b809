//! The folders of the artifacts, and whose they are.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use converge::{Failure, Section};
use host::{
    Owner, Root,
    file::{self, Declared, FileChange},
};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::{ExportArtifacts, error::Error};

pub(crate) struct Folders<'a>(pub &'a ExportArtifacts);

#[derive(Default)]
pub(crate) struct Live {
    root: Option<file::Live>,
    clusters: Option<file::Live>,
    /// The host that the artifacts are of.
    host: Option<String>,
}

pub(crate) enum Change {
    Folder(FileChange),
    /// Writes down whose artifacts they are.
    Claim {
        path: PathBuf,
        host: String,
    },
}

impl Folders<'_> {
    fn declare(&self) -> [Declared; 2] {
        [self.0.root.to_path_buf(), self.0.clusters_dir()].map(|path| Declared::folder(path, Owner::own(), 0o700))
    }

    fn claim(&self) -> PathBuf {
        self.0.root.join(".k8slab-host")
    }
}

impl Section for Folders<'_> {
    const NAME: &'static str = "folders";
    type Live = Live;
    type Change = Change;

    async fn observe(&self) -> Result<Live, Failure> {
        let [root, clusters] = self.declare();
        check(&root.path)?;
        check(&clusters.path)?;
        let machine = Root::default();
        let host = machine.read(self.claim())?.map(|text| text.trim_end().to_owned());
        Ok(Live { root: root.observe(&machine)?, clusters: clusters.observe(&machine)?, host })
    }

    fn plan(&self, live: &Live) -> Result<Vec<Change>, Failure> {
        let claim = match &live.host {
            Some(other) if *other != self.0.host => {
                return Err(
                    Error::Shared { path: self.0.root.to_path_buf(), other: other.clone(), host: self.0.host.clone() }.into()
                );
            }
            Some(_) => None,
            None => Some(Change::Claim { path: self.claim(), host: self.0.host.clone() }),
        };
        let [root, clusters] = self.declare();
        let root = root.compare(live.root.as_ref()).map(Change::Folder);
        let clusters = clusters.compare(live.clusters.as_ref()).map(Change::Folder);
        Ok(root.into_iter().chain(claim).chain(clusters).collect())
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        match change {
            Change::Folder(change) => Ok(change.apply(&Root::default())?),
            Change::Claim { path, host } => Ok(claim(path, host)?),
        }
    }
}

/// Fails unless a folder is the runner's own, or is not there.
fn check(path: &Path) -> Result<(), Error> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::Unreadable { path: path.to_owned(), source }),
    };
    if found.is_symlink() {
        return Err(Error::Symlink { path: path.to_owned() });
    }
    let (owner, runner) = (found.uid(), Owner::own().user);
    if owner == runner { Ok(()) } else { Err(Error::Foreign { path: path.to_owned(), owner, runner }) }
}

/// Of two hosts at the same time one comes first; the other sees so when it looks again.
fn claim(path: &Path, host: &str) -> Result<(), Error> {
    let unwritable = |source| Error::Unwritable { path: path.to_owned(), source };
    let mut file = NamedTempFile::with_prefix_in(".k8slab-", path.parent().unwrap_or(path)).map_err(unwritable)?;
    writeln!(file, "{host}").map_err(unwritable)?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(unwritable(error.error)),
        _ => Ok(()),
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(change) => change.fmt(f),
            Self::Claim { path, .. } => write!(f, "create {}", path.display()),
        }
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        match self {
            Self::Folder(change) => change.object(),
            Self::Claim { path, .. } => path.display().to_string(),
        }
    }

    fn before(&self) -> Value {
        match self {
            Self::Folder(change) => change.before(),
            Self::Claim { .. } => Value::Null,
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Folder(change) => change.after(),
            Self::Claim { host, .. } => json!({"content": host}),
        }
    }
}
