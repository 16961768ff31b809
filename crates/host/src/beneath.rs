//! Paths that are walked folder by folder, so that what was checked is what is used.
//!
//! A path of a machine is resolved below its [`Root`](crate::Root): each part by the open folder before it, never by its text. Links
//! lead where they lead on that machine: an absolute one begins at its root again, and `..` does not climb above it. So nothing that
//! lies in an image or a prefix leads out of it.
//!
//! Who writes follows only links of root's or of their own. Another user may change where a link leads between a look and a write.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStringExt as _},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, mkdirat, open, openat, readlinkat, statat},
    io::Errno,
    process::geteuid,
};

/// How many links a path may lead over, as in the kernel.
const LINKS: usize = 40;

/// A folder that is only a place to go on from.
const PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Which links are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    /// All, the last part's too.
    Any,
    /// Those of root and of this user; the last part's, too.
    Trusted,
    /// Those of root and of this user on the way, and none at its end.
    TrustedFolders,
}

/// An open folder, and a name in it that may or may not be taken.
#[derive(Debug)]
pub(crate) struct Place {
    folder: OwnedFd,
    name: OsString,
}

/// Why a path leads nowhere.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The system's words.
    Io(io::Error),
    /// A link that is not followed.
    Link,
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Lost {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

impl Place {
    /// Walks to a path below the folder `root`.
    pub(crate) fn find(root: &Path, path: &Path, follow: Follow) -> Result<Self, Lost> {
        let mut folders = vec![open(root, PLACE.difference(OFlags::NOFOLLOW).union(OFlags::DIRECTORY), Mode::empty())?];
        let mut parts = parts(path);
        let mut links = 0;
        while let Some(part) = parts.pop() {
            let Some(folder) = folders.last() else { break };
            if part == ".." {
                if folders.len() > 1 {
                    folders.pop();
                }
                continue;
            }
            let is_last = parts.is_empty();
            let found = match openat(folder, &part, PLACE, Mode::empty()) {
                Ok(found) => found,
                Err(Errno::NOENT) if is_last => return Ok(Self { folder: last(folders)?, name: part }),
                Err(error) => return Err(error.into()),
            };
            let what = fstat(&found)?;
            match FileType::from_raw_mode(what.st_mode) {
                FileType::Symlink if is_last && follow == Follow::TrustedFolders => {
                    return Ok(Self { folder: last(folders)?, name: part });
                }
                FileType::Symlink => {
                    links += 1;
                    if links > LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    if follow != Follow::Any && !is_trusted(what.st_uid) {
                        return Err(Lost::Link);
                    }
                    let target = PathBuf::from(OsString::from_vec(readlinkat(&found, "", Vec::new())?.into_bytes()));
                    if target.is_absolute() {
                        folders.truncate(1);
                    }
                    parts.extend(self::parts(&target));
                }
                _ if is_last => return Ok(Self { folder: last(folders)?, name: part }),
                FileType::Directory => folders.push(found),
                _ => return Err(Errno::NOTDIR.into()),
            }
        }
        Ok(Self { folder: last(folders)?, name: ".".into() })
    }

    /// The folder at a path, made with those above it where it is not there yet.
    pub(crate) fn make_folder(root: &Path, path: &Path) -> Result<File, Lost> {
        let place = match Self::find(root, path, Follow::Trusted) {
            Err(Lost::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Lost::Io(error)) };
                Self { folder: Self::make_folder(root, parent)?.into(), name: name.to_owned() }
            }
            place => place?,
        };
        match mkdirat(&place.folder, &place.name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(place.open(OFlags::RDONLY | OFlags::DIRECTORY, 0)?)
    }

    /// The name.
    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// What has the name, a link itself; nothing if it is free.
    pub(crate) fn look(&self) -> io::Result<Option<Stat>> {
        match statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens what has the name, unless it is a link. Does not wait for the other end of a pipe.
    pub(crate) fn open(&self, how: OFlags, mode: u32) -> io::Result<File> {
        let how = how | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(openat(&self.folder, &self.name, how, Mode::from_raw_mode(mode))?.into())
    }
}

/// The parts of a path, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let part = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(part).collect()
}

fn last(mut folders: Vec<OwnedFd>) -> Result<OwnedFd, Lost> {
    folders.pop().ok_or_else(|| Errno::NOENT.into())
}

fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// Reads a file by a path below a folder.
    fn read(root: &Path, path: &str, follow: Follow) -> Result<String, Lost> {
        let file = Place::find(root, Path::new(path), follow)?.open(OFlags::RDONLY, 0).map_err(Lost::Io)?;
        io::read_to_string(file).map_err(Lost::Io)
    }

    #[test]
    fn links_lead_where_they_lead_on_the_machine() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("image");
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("usr/lib/os-release"), "inside").unwrap();
        fs::write(outside.path().join("secret"), "outside").unwrap();
        for (name, target) in [
            ("relative", "../usr/lib/os-release".to_owned()),
            ("absolute", "/usr/lib/os-release".to_owned()),
            ("climbing", "../../../usr/lib/os-release".to_owned()),
            ("out", outside.path().join("secret").display().to_string()),
            ("round", "round".to_owned()),
        ] {
            symlink(target, root.join("etc").join(name)).unwrap();
        }
        symlink("/usr/lib", root.join("lib")).unwrap();
        for path in [
            "/etc/relative",
            "/etc/absolute",
            "/etc/climbing",
            "/lib/os-release",
            "/lib/../lib/os-release",
            "/../usr/lib/os-release",
        ] {
            assert_eq!(read(&root, path, Follow::Any).unwrap(), "inside", "{path}");
        }
        assert!(read(&root, "/etc/out", Follow::Any).is_err(), "it leads to a path that the image does not have");
        assert!(read(&root, "/etc/round", Follow::Any).is_err());
    }

    #[test]
    fn a_folder_is_made_inside_the_image_wherever_links_point() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("image");
        fs::create_dir_all(&root).unwrap();
        symlink("/srv", root.join("opt")).unwrap();
        fs::create_dir(root.join("srv")).unwrap();
        Place::make_folder(&root, Path::new("/opt/a/b")).unwrap();
        assert!(root.join("srv/a/b").is_dir());
        let elsewhere = outside.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, root.join("etc")).unwrap();
        assert!(Place::make_folder(&root, Path::new("/etc/conf.d")).is_err(), "the image has no such folder");
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }

    #[test]
    fn whose_links_are_followed() {
        let me = geteuid().as_raw();
        for (owner, trusted) in [(0, true), (me, true), (me + 4711, false)] {
            assert_eq!(is_trusted(owner), trusted, "{owner}");
        }
    }
}
