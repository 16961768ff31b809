//! The copy of what is moved: the inventory by which a stopped move is understood, and the last resort.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use cluster::DynamicObject;
use host::{Owner, file};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Direction, Error,
    object::{Key, Object},
    side::Side,
};

/// Nobody else may look into it: it holds every key of every cluster.
const MODE: u32 = 0o700;

/// Where a copy is kept. Its objects lie in a folder of their own, since clusterctl reads everything that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

/// What is known of a copy beside its objects. Written when the copy is complete, so that a half-made one has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Which way the objects go.
    pub direction: Direction,
    /// The namespace that is moved.
    pub namespace: String,
    /// The uid of the cluster that they leave.
    pub source: String,
    /// The uid of the cluster that they go to.
    pub target: String,
    /// The instances of the Clusters by name, with their uuids.
    pub instances: BTreeMap<String, String>,
    /// The SHA-256 of each file.
    pub files: BTreeMap<String, String>,
}

/// A complete copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// What is known of it.
    pub manifest: Manifest,
    /// What was moved, as it was before.
    pub objects: BTreeMap<Key, Object>,
}

/// What is in the place of the copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or one that was not finished.
    #[default]
    Nothing,
    /// A complete one.
    Whole(Box<Copy>),
    /// One that is not as it was made, and why.
    Damaged(String),
}

impl Folder {
    /// The place of the copy for one direction.
    #[must_use]
    pub fn of(staging: &Path, direction: Direction) -> Self {
        Self(staging.join(direction.to_string()))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The objects' own folder.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        self.0.join("objects")
    }

    fn manifest(&self) -> PathBuf {
        self.0.join("manifest.json")
    }

    /// Reads the copy, and looks whether it is as it was made.
    pub fn read(&self) -> Result<Found, Error> {
        let text = match fs::read(self.manifest()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            text => text.map_err(|error| Error::file(&self.manifest(), error))?,
        };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&text) else {
            return Ok(Found::Damaged(format!("{} cannot be read", self.manifest().display())));
        };
        let files = self.files()?;
        let differs = |name: &&String| files.get(*name) != manifest.files.get(*name);
        let names: BTreeSet<_> = files.keys().chain(manifest.files.keys()).collect();
        if let Some(name) = names.into_iter().find(differs) {
            return Ok(Found::Damaged(format!("{} is not as it was copied", self.objects().join(name).display())));
        }
        let objects = self.parse(manifest.files.keys())?;
        Ok(Found::Whole(Box::new(Copy { manifest, objects })))
    }

    /// Makes an empty place, whatever was there before.
    pub fn begin(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::file(&self.0, error)),
            _ => {}
        }
        let made = fs::DirBuilder::new().recursive(true).mode(MODE).create(self.objects());
        made.map_err(|error| Error::file(&self.objects(), error))
    }

    /// Counts what was copied, since clusterctl does not, and says that the copy is complete.
    pub fn complete(&self, source: &Side, manifest: Manifest) -> Result<(), Error> {
        let files = self.files()?;
        let objects = self.parse(files.keys())?;
        let lacking: Vec<_> = source.moved.iter().filter(|key| !objects.contains_key(*key)).map(ToString::to_string).collect();
        let beyond: Vec<_> = objects.keys().filter(|key| !source.moved.contains(*key)).map(ToString::to_string).collect();
        if !lacking.is_empty() || !beyond.is_empty() {
            return Err(Error::Incomplete { copied: objects.len(), wanted: source.moved.len(), lacking, beyond });
        }
        let manifest = json!(Manifest { files, ..manifest });
        Ok(file::write(&self.manifest(), format!("{manifest:#}\n").as_bytes(), Owner::own(), 0o600)?)
    }

    fn files(&self) -> Result<BTreeMap<String, String>, Error> {
        let failed = |error| Error::file(&self.objects(), error);
        let entries = match fs::read_dir(self.objects()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            entries => entries.map_err(failed)?,
        };
        let mut files = BTreeMap::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            files.insert(name.clone(), file::sha256(&self.objects().join(name))?.unwrap_or_default());
        }
        Ok(files)
    }

    fn parse<'a>(&self, names: impl Iterator<Item = &'a String>) -> Result<BTreeMap<Key, Object>, Error> {
        let mut objects = BTreeMap::new();
        for name in names {
            let path = self.objects().join(name);
            let text = fs::read(&path).map_err(|error| Error::file(&path, error))?;
            // The parser's own words may quote a key.
            let object: DynamicObject = serde_json::from_slice(&text).map_err(|_| Error::NoObject { path })?;
            objects.extend(Object::of(&object).map(|object| (object.key.clone(), object)));
        }
        Ok(objects)
    }
}

impl Copy {
    /// Whether the cluster still says what was copied, and no more.
    #[must_use]
    pub fn is_of(&self, source: &Side) -> bool {
        let same = |copied: &Object| {
            source.objects.get(&copied.key).is_some_and(|live| live.uid == copied.uid && live.says_the_same(copied))
        };
        self.manifest.source == source.uid && source.beyond(&self.objects).is_empty() && self.objects.values().all(same)
    }

    /// How many objects of each kind there are.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.objects.keys().fold(BTreeMap::new(), |mut counts, key| {
            *counts.entry(key.kind.clone()).or_default() += 1;
            counts
        })
    }

    /// What may be kept of it when it is needed no more: no object's content.
    #[must_use]
    pub fn inventory(&self) -> Value {
        let object = |object: &Object| {
            let mut told = json!({"kind": object.key.kind, "name": object.key.name, "namespace": object.key.namespace});
            if let Some(provider_id) = &object.provider_id {
                told["providerID"] = json!(provider_id);
            }
            if object.key.is_secret() {
                told["sha256"] = json!(object.digest);
            }
            told
        };
        json!({
            "direction": self.manifest.direction,
            "namespace": self.manifest.namespace,
            "source": self.manifest.source,
            "target": self.manifest.target,
            "instances": self.manifest.instances,
            "objects": self.objects.values().map(object).collect::<Vec<_>>(),
        })
    }
}
