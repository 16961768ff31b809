//! What those who make the parts of a bundle share.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bundle::{Entry, Role};
use serde::Serialize;

use crate::{
    Error,
    definition::{self, Modules},
    part::{Inputs, Notes},
};

/// What is to be made, and where that is said.
pub struct Definition {
    path: PathBuf,
    pub modules: Modules,
}

impl Definition {
    pub fn read(root: &Path) -> Result<Self, Error> {
        let path = root.join("bundle/modules.toml");
        Ok(Self { modules: definition::read(&path)?, path })
    }
}

/// What makes the parts.
pub struct Builder<'a> {
    pub go: String,
    pub architecture: &'static str,
    pub root: PathBuf,
    /// `bundle/` of the work tree.
    pub source: PathBuf,
    definition: &'a Path,
    /// Where programs are that serve the build alone, or lie in the bundle inside other files.
    pub work: PathBuf,
    pub bundle: PathBuf,
    pub notes: Notes,
    pub modules: &'a Modules,
    /// What was looked at in this run.
    built: Mutex<BTreeMap<String, Arc<Built>>>,
}

/// A program that is built.
pub struct Built {
    pub path: PathBuf,
    pub inputs: Inputs,
    pub version: String,
    pub origin: String,
}

impl<'a> Builder<'a> {
    pub fn new(root: &Path, work: &Path, bundle: &Path, definition: &'a Definition, go: String, notes: Notes) -> Self {
        Self {
            go,
            architecture: crate::workspace::native().name,
            root: root.to_owned(),
            source: root.join("bundle"),
            definition: &definition.path,
            work: work.to_owned(),
            bundle: bundle.to_owned(),
            notes,
            modules: &definition.modules,
            built: Mutex::default(),
        }
    }

    pub fn built(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Built>>> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn entry(&self, path: String, role: Role, name: &str, version: &str) -> Entry {
        Entry {
            path,
            role,
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: Some(self.architecture.to_owned()),
            origin: String::new(),
            sha256: String::new(),
            standin: false,
            differs: None,
            images: Vec::new(),
            fingerprint: None,
        }
    }

    /// What a part is made of.
    pub fn inputs(&self, definition: &impl Serialize, files: &[PathBuf], parts: &[&Inputs]) -> Result<Inputs, Error> {
        Inputs::of(&self.root, definition, files, parts)
    }

    /// Makes the one file of an entry, unless it is there and made of the same.
    pub fn make_file(&self, entry: Entry, inputs: &Inputs, make: impl FnOnce(&Path) -> Result<(), Error>) -> Result<Entry, Error> {
        let file = self.notes.make(&[&self.bundle.join(&entry.path)], inputs, |unfinished| make(&unfinished[0]))?;
        Ok(Entry { sha256: file.whole, ..entry })
    }

    pub fn inconsistent(&self, problem: String) -> Error {
        Error::Inconsistent { path: self.definition.to_owned(), problem }
    }
}

/// What these programs were made of, each named once.
pub fn origins<'a>(programs: impl IntoIterator<Item = &'a Arc<Built>>) -> String {
    let mut origins: Vec<_> = programs.into_iter().map(|built| built.origin.as_str()).collect();
    origins.dedup();
    origins.join(" ")
}
