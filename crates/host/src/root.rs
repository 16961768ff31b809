use std::{
    ffi::OsStr,
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use converge::AbsolutePath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Command, Error};

/// The folder that stands for the machine's root. Every path is taken below it, those below `/proc` and `/sys` included, and every
/// command is run with it as its root.
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
        match std::fs::read(self.at(path)) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(Error::io("read", path, error)),
        }
    }

    /// Whether anything is at a path.
    #[must_use]
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }

    /// Gives a value to a file of the kernel's. It must exist: where the kernel has no such value, none is made up.
    pub(crate) fn set(&self, path: impl AsRef<Path>, value: &str) -> io::Result<()> {
        OpenOptions::new().write(true).truncate(true).open(self.at(path))?.write_all(value.as_bytes())
    }

    /// The names in a folder, sorted; none if it does not exist.
    pub fn list(&self, folder: impl AsRef<Path>) -> Result<Vec<String>, Error> {
        let folder = folder.as_ref();
        let failed = |error| Error::io("list", folder, error);
        let entries = match std::fs::read_dir(self.at(folder)) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let name = |entry: io::Result<std::fs::DirEntry>| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        let mut names = entries.map(name).collect::<Result<Vec<_>, _>>()?;
        names.sort();
        Ok(names)
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
