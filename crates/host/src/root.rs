//! The machine's root, which may be a folder.

use std::{
    ffi::OsStr,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use converge::AbsolutePath;
use rustix::fs::{Dir, OFlags};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Command, Error,
    beneath::{Follow, Lost, Place},
};

/// The folder that stands for the machine's root. Every path is taken below it, those below `/proc` and `/sys` included, and every
/// command is run with it as its root. Links lead where they lead on that machine, so nothing leads out of an image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Root(AbsolutePath);

impl Default for Root {
    fn default() -> Self {
        Self("/".into())
    }
}

impl From<AbsolutePath> for Root {
    fn from(path: AbsolutePath) -> Self {
        Self(path)
    }
}

impl Root {
    /// Where a path of the machine is.
    #[must_use]
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A program of the machine.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        if *self.0 == *Path::new("/") { Command::new(program) } else { Command::new("chroot").arg(&*self.0).arg(program) }
    }

    /// A file as text; nothing if it does not exist.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Option<String>, Error> {
        let path = path.as_ref();
        let read = self.place(path, Follow::Any, "read").and_then(|place| {
            let mut bytes = Vec::new();
            let open = place.open(OFlags::RDONLY, 0).and_then(|mut file| file.read_to_end(&mut bytes));
            open.map(|_| bytes).map_err(|error| Error::io("read", path, error))
        });
        match read {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(Error::Io { source, .. }) if is_absent(&source) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether anything is at a path.
    #[must_use]
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        let place = Place::find(&self.0, path.as_ref(), Follow::TrustedFolders);
        place.is_ok_and(|place| place.look().is_ok_and(|found| found.is_some()))
    }

    /// Gives a value to a file of the kernel's. It must exist: where the kernel has no such value, none is made up.
    pub(crate) fn set(&self, path: impl AsRef<Path>, value: &str) -> io::Result<()> {
        let place = Place::find(&self.0, path.as_ref(), Follow::Any).map_err(|lost| match lost {
            Lost::Io(error) => error,
            Lost::Link => io::ErrorKind::PermissionDenied.into(),
        })?;
        place.open(OFlags::WRONLY | OFlags::TRUNC, 0)?.write_all(value.as_bytes())
    }

    /// The names in a folder, sorted; none if it does not exist.
    pub fn list(&self, folder: impl AsRef<Path>) -> Result<Vec<String>, Error> {
        let folder = folder.as_ref();
        let failed = |error: io::Error| Error::io("list", folder, error);
        let open = self
            .place(folder, Follow::Any, "list")
            .and_then(|place| place.open(OFlags::RDONLY | OFlags::DIRECTORY, 0).map_err(failed));
        let open = match open {
            Ok(open) => open,
            Err(Error::Io { source, .. }) if is_absent(&source) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(&open).map_err(|error| failed(error.into()))? {
            let entry = entry.map_err(|error| failed(error.into()))?;
            let name = entry.file_name().to_string_lossy();
            if name != "." && name != ".." {
                names.push(name.into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The place of a path, for what is done there.
    pub(crate) fn place(&self, path: &Path, follow: Follow, act: &'static str) -> Result<Place, Error> {
        Place::find(&self.0, path, follow).map_err(|lost| Error::lost(lost, act, path))
    }

    /// The open folder at a path, made with those above it where it is not there yet.
    pub(crate) fn make_folder(&self, path: &Path) -> Result<std::fs::File, Error> {
        Place::make_folder(&self.0, path).map_err(|lost| Error::lost(lost, "create", path))
    }
}

/// Nothing is there: no such file, or what should be a folder on the way is none.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;

    /// A machine with these files and no others.
    pub(crate) fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::from(AbsolutePath::new(folder.path().to_str().unwrap()).unwrap());
        for (path, content) in files {
            fs::create_dir_all(root.at(path).parent().unwrap()).unwrap();
            fs::write(root.at(path), content).unwrap();
        }
        (folder, root)
    }

    #[test]
    fn paths_are_taken_below_the_root() {
        let image = Root::from(AbsolutePath::from("/srv/image"));
        assert_eq!(image.at("/etc/os-release"), Path::new("/srv/image/etc/os-release"));
        assert_eq!(Root::default().at("/etc/os-release"), Path::new("/etc/os-release"));
        assert_eq!(image.command("modprobe").arg("overlay").to_string(), "chroot /srv/image modprobe overlay");
        assert_eq!(Root::default().command("modprobe").arg("overlay").to_string(), "modprobe overlay");
    }
}
