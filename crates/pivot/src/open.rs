//! The record of a move that is not verified yet. While it is there, nobody else touches the objects: no Helm on either cluster.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use host::{Owner, file};
use lab::machine::OPEN_PIVOT;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Direction, Error};

/// A move that is not verified yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Which way the objects go.
    pub direction: Direction,
    /// The namespace that is moved.
    pub namespace: String,
    /// What was begun.
    pub stage: Stage,
}

/// What was begun. Only what was begun may have paused anything for the move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The copy, for which clusterctl pauses the source.
    Copying,
    /// Nothing since the copy was complete.
    Copied,
    /// The move itself.
    Moving,
}

impl Open {
    fn path(staging: &Path) -> PathBuf {
        staging.join(OPEN_PIVOT)
    }

    /// The move that is open, if there is one.
    pub fn read(staging: &Path) -> Result<Option<Self>, Error> {
        let path = Self::path(staging);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file(&path, error)),
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|_| Error::NoObject { path }),
        }
    }

    /// Writes it down; it is on the disk when this ends.
    pub fn write(&self, staging: &Path) -> Result<(), Error> {
        Ok(file::write(&Self::path(staging), format!("{}\n", json!(self)).as_bytes(), Owner::own(), 0o600)?)
    }

    /// The move is verified.
    pub fn close(staging: &Path) -> Result<(), Error> {
        let path = Self::path(staging);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file(&path, error)),
            _ => Ok(()),
        }
    }
}
