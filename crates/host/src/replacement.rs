//! A file that appears whole or not at all.
//!
//! It is written under another name in the folder that it will be in. That folder is opened once, and everything is done by the
//! open folder and the open file: owner and mode are set on the file that was written, and the name is given in the folder that was
//! looked at, whatever another user puts in the place of either in the meantime.

use std::{
    ffi::OsString,
    fs::{File, Permissions},
    hash::{BuildHasher as _, RandomState},
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{PermissionsExt as _, fchown},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, renameat, unlinkat};

use crate::{
    Error, Owner, Root,
    beneath::{Follow, Place},
};

/// A file that is being written and does not have its name yet. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Replacement {
    file: File,
    pending: Pending,
}

/// A file that is complete and does not have its name yet. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Sealed {
    pending: Pending,
    until_then: PathBuf,
}

/// A name that is taken back unless the file gets its own.
#[derive(Debug)]
struct Pending {
    place: Place,
    name: OsString,
    path: PathBuf,
    is_published: bool,
}

impl Replacement {
    /// Begins a file that will be at this real path. What is there may be a file, but no link.
    pub fn begin(path: &Path) -> Result<Self, Error> {
        Self::begin_in(&Root::default(), path)
    }

    /// Begins a file that will be at this path of a machine.
    pub(crate) fn begin_in(root: &Root, path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::io("write", path, error);
        let place = root.place(path, Follow::TrustedFolders, "write")?;
        match place.look().map_err(failed)?.map(|found| FileType::from_raw_mode(found.st_mode)) {
            None | Some(FileType::RegularFile) => {}
            Some(FileType::Symlink) => return Err(Error::Symlink { path: path.to_owned() }),
            Some(_) => return Err(Error::OtherKind { path: path.to_owned(), wanted: "file" }),
        }
        let name = OsString::from(format!(".k8slab-{:016x}", RandomState::new().hash_one(path)));
        let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(place.folder(), &name, how, Mode::RUSR | Mode::WUSR).map_err(|error| failed(error.into()))?;
        let pending = Pending { place, name, path: path.to_owned(), is_published: false };
        Ok(Self { file: file.into(), pending })
    }

    /// Gives the file its owner, mode and name, once its content is on the disk.
    pub fn commit(self, owner: Owner, mode: u32) -> Result<(), Error> {
        self.seal(owner, mode)?.publish()
    }

    /// Puts the content on the disk and gives the file its owner and mode, but not its name: time to try a program out.
    pub fn seal(self, owner: Owner, mode: u32) -> Result<Sealed, Error> {
        let Self { file, pending } = self;
        set_attributes_of(&file, owner, mode).map_err(|error| Error::io("set owner and mode of", &pending.path, error))?;
        file.sync_all().map_err(|error| Error::io("write", &pending.path, error))?;
        let until_then = pending.path.with_file_name(&pending.name);
        Ok(Sealed { pending, until_then })
    }
}

impl Write for Replacement {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sealed {
    /// Where it is until then.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.until_then
    }

    /// Gives the file its name.
    pub fn publish(self) -> Result<(), Error> {
        let mut pending = self.pending;
        let failed = |error: io::Error| Error::io("write", &pending.path, error);
        let folder: &OwnedFd = pending.place.folder();
        renameat(folder, &pending.name, folder, pending.place.name()).map_err(|error| failed(error.into()))?;
        let on_disk = openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        on_disk.map_err(io::Error::from).and_then(|folder| File::from(folder).sync_all()).map_err(failed)?;
        pending.is_published = true;
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.is_published {
            // It may be gone already, and there is nobody to tell.
            let _ = unlinkat(self.place.folder(), &self.name, AtFlags::empty());
        }
    }
}

/// Gives an open file or folder its owner and mode. Changing the owner clears set-id bits, so the mode comes last.
pub(crate) fn set_attributes_of(file: &File, owner: Owner, mode: u32) -> io::Result<()> {
    fchown(file, Some(owner.user), Some(owner.group))?;
    file.set_permissions(Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, symlink},
    };

    use super::*;

    fn me() -> Owner {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        Owner { user: user.as_raw(), group: group.as_raw() }
    }

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    fn begun(path: &Path) -> Replacement {
        let mut replacement = Replacement::begin(path).unwrap();
        replacement.write_all(b"new").unwrap();
        replacement
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, "old").unwrap();
        drop(begun(&path));
        drop(begun(&path).seal(me(), 0o644).unwrap());
        assert_eq!((names(folder.path()), fs::read_to_string(&path).unwrap()), (vec!["x".into()], "old".into()));
        begun(&path).commit(me(), 0o640).unwrap();
        assert_eq!((names(folder.path()), fs::read_to_string(&path).unwrap()), (vec!["x".into()], "new".into()));
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o640);
    }

    #[test]
    fn a_link_put_in_the_place_of_the_file_gets_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        fs::write(&secret, "kept").unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        let replacement = begun(&folder.path().join("x"));
        // What the owner of the folder may do at any time.
        let name = names(folder.path()).into_iter().find(|name| name.to_string_lossy().starts_with(".k8slab-")).unwrap();
        fs::remove_file(folder.path().join(&name)).unwrap();
        symlink(&secret, folder.path().join(&name)).unwrap();
        let _ = replacement.commit(me(), 0o644);
        assert_eq!((secret.metadata().unwrap().mode() & 0o7777, fs::read_to_string(&secret).unwrap()), (0o600, "kept".into()));
    }

    #[test]
    fn a_link_put_in_the_place_of_the_folder_leads_nowhere() {
        let place = tempfile::tempdir().unwrap();
        let (folder, other) = (place.path().join("folder"), place.path().join("other"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&other).unwrap();
        let replacement = begun(&folder.join("x"));
        fs::rename(&folder, place.path().join("moved")).unwrap();
        symlink(&other, &folder).unwrap();
        replacement.commit(me(), 0o644).unwrap();
        assert!(names(&other).is_empty(), "the folder that the link leads to has nothing");
        assert_eq!(fs::read_to_string(place.path().join("moved/x")).unwrap(), "new");
    }
}
