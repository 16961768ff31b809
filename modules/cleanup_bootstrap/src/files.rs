//! What of the bootstrap cluster is on the host: its kubeconfig, and the content of the copy.

use std::{fmt, path::PathBuf};

use converge::{Failure, Section};
use host::{Owner, file};
use pivot::Found;
use serde_json::{Value, json};

use crate::CleanupBootstrap;

/// The section: no secret of what is gone is left.
pub(crate) struct Files<'a>(pub &'a CleanupBootstrap);

#[derive(Default)]
pub(crate) struct Live {
    /// There is a kubeconfig of the bootstrap cluster.
    kubeconfig: bool,
    /// There is a copy, whole or not.
    copy: bool,
    /// What stays of it.
    inventory: Option<Value>,
}

pub(crate) enum Change {
    /// Writes down what was moved, without secrets.
    Keep(PathBuf, Value),
    Remove(PathBuf),
}

impl Files<'_> {
    pub(crate) const NAME: &'static str = "files";

    fn inventory(&self) -> PathBuf {
        self.0.staging_dir().join("inventory.json")
    }
}

impl Section for Files<'_> {
    const NAME: &'static str = "files";
    type Live = Live;
    type Change = Change;

    async fn observe(&self) -> Result<Live, Failure> {
        let folder = self.0.folder();
        let inventory = match folder.read()? {
            Found::Whole(copy) => Some(copy.inventory()),
            _ => None,
        };
        Ok(Live { kubeconfig: self.0.bootstrap_kubeconfig().exists(), copy: folder.path().exists(), inventory })
    }

    fn plan(&self, live: &Live) -> Result<Vec<Change>, Failure> {
        let keep = live.inventory.as_ref().map(|inventory| Change::Keep(self.inventory(), inventory.clone()));
        let copy = live.copy.then(|| Change::Remove(self.0.folder().path().to_owned()));
        let kubeconfig = live.kubeconfig.then(|| Change::Remove(self.0.bootstrap_kubeconfig()));
        Ok(keep.into_iter().chain(copy).chain(kubeconfig).collect())
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        match change {
            Change::Keep(path, inventory) => Ok(file::write(path, format!("{inventory:#}\n").as_bytes(), Owner::own(), 0o600)?),
            Change::Remove(path) => Ok(file::remove(path)?),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep(path, _) => write!(f, "write {}", path.display()),
            Self::Remove(path) => write!(f, "remove {}", path.display()),
        }
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        let (Self::Keep(path, _) | Self::Remove(path)) = self;
        path.display().to_string()
    }

    fn before(&self) -> Value {
        match self {
            Self::Keep(..) => Value::Null,
            Self::Remove(_) => json!("(there)"),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Keep(_, inventory) => inventory.clone(),
            Self::Remove(_) => Value::Null,
        }
    }
}
