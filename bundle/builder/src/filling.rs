//! A bundle's folder while it is filled.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use bundle::{Bundle, Entry, MANIFEST, Manifest, Source};

use crate::Error;
use crate::lock;

/// A bundle that is being filled: after each part, its manifest lists what is there.
pub struct Filling {
    folder: PathBuf,
    source: Source,
    earlier: Vec<Entry>,
    made: Vec<Entry>,
    /// Two builds at once would write the same files.
    _lock: File,
}

impl Filling {
    pub fn begin(folder: &Path, source: Source) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::at(folder))?;
        let lock = folder.join(".lock");
        let lock = lock::hold(&lock).map_err(Error::at(&lock))?;
        let earlier = Bundle::open(folder).map(|earlier| earlier.manifest().clone());
        // What came from elsewhere is of other versions.
        let earlier = earlier.ok().filter(|earlier| earlier.source == source).map(|earlier| earlier.files);
        Ok(Self { folder: folder.to_owned(), source, earlier: earlier.unwrap_or_default(), made: Vec::new(), _lock: lock })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What an earlier build has listed there.
    pub fn earlier(&self, path: &str) -> Option<&Entry> {
        self.earlier.iter().find(|earlier| earlier.path == path)
    }

    /// Lists what a part has brought, in place of what it brought earlier.
    pub fn add(&mut self, entries: impl IntoIterator<Item = Entry>) -> Result<(), Error> {
        for entry in entries {
            self.earlier.retain(|earlier| earlier.path != entry.path);
            self.made.retain(|made| made.path != entry.path);
            self.made.push(entry);
        }
        let manifest = Manifest::new(self.source, self.earlier.iter().chain(&self.made).cloned().collect());
        let path = self.folder.join(MANIFEST);
        let unfinished = self.folder.join(format!(".{MANIFEST}"));
        fs::write(&unfinished, manifest.to_json()).map_err(Error::at(&unfinished))?;
        fs::rename(&unfinished, &path).map_err(Error::at(&path))
    }

    /// There are no parts but those that were added: what only an earlier manifest listed goes.
    pub fn finish(mut self) -> Result<(), Error> {
        let earlier = std::mem::take(&mut self.earlier);
        self.add([])?;
        for path in earlier.iter().map(|entry| self.folder.join(&entry.path)).filter(|path| path.exists()) {
            fs::remove_file(&path).map_err(Error::at(&path))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bundle::Role;

    use super::*;

    fn entry(path: &str) -> Entry {
        crate::tests::entry(path, Role::Executable)
    }

    fn listed(folder: &Path) -> Vec<String> {
        Bundle::open(folder).unwrap().manifest().files.iter().map(|entry| entry.path.clone()).collect()
    }

    #[test]
    fn what_is_no_longer_made_is_removed_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let left = |file: &str| folder.path().join(file).exists();
        for file in ["kept", "dropped", "foreign"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let mut first = Filling::begin(folder.path(), Source::Modules).unwrap();
        first.add([entry("kept"), entry("dropped")]).unwrap();
        first.finish().unwrap();

        let mut second = Filling::begin(folder.path(), Source::Modules).unwrap();
        second.add([entry("kept")]).unwrap();
        assert_eq!(listed(folder.path()), ["dropped", "kept"]);
        assert!(left("dropped"));
        second.finish().unwrap();
        assert_eq!(listed(folder.path()), ["kept"]);
        assert_eq!([left("kept"), left("dropped"), left("foreign")], [true, false, true]);
    }

    #[test]
    fn what_a_later_part_makes_anew_is_listed_as_it_is_then() {
        let folder = tempfile::tempdir().unwrap();
        let mut bundle = Filling::begin(folder.path(), Source::Modules).unwrap();
        bundle.add([entry("images"), entry("tool")]).unwrap();
        bundle.add([Entry { sha256: "11".into(), ..entry("images") }]).unwrap();
        bundle.finish().unwrap();
        let listed = Bundle::open(folder.path()).unwrap();
        let digests: Vec<_> = listed.manifest().files.iter().map(|entry| (entry.path.as_str(), entry.sha256.as_str())).collect();
        assert_eq!(digests, [("images", "11"), ("tool", "00")]);
    }

    #[test]
    fn a_bundle_of_another_origin_is_not_mixed_in() {
        let folder = tempfile::tempdir().unwrap();
        Filling::begin(folder.path(), Source::Upstream).unwrap().add([entry("downloaded")]).unwrap();
        Filling::begin(folder.path(), Source::Modules).unwrap().add([entry("built")]).unwrap();
        assert_eq!(listed(folder.path()), ["built"]);
    }
}
