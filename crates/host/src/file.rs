//! Files and folders as they should be.
//!
//! A file appears whole or not at all ([`Replacement`]). Owner and mode are always set on what is open, never by a path, and a link
//! is followed only where another user has no say in where it leads.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use converge::Change;
use data_encoding::HEXLOWER;
use rustix::fs::{FileType, OFlags};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    Error, Owner, Replacement, Root,
    beneath::{Follow, Place},
    replacement::set_attributes_of,
    root::is_absent,
};

/// The form of a file's mode in options.
pub const MODE: &str = "^0[0-7]{3}$";

/// A mode from an option that matches [`MODE`].
#[must_use]
pub fn mode(text: &str) -> u32 {
    u32::from_str_radix(text, 8).unwrap_or_default()
}

/// What a path holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// It is a folder.
    Folder,
    /// It is a file with this text.
    Text(String),
}

/// A file or folder as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its path on the machine.
    pub path: PathBuf,
    /// What it holds.
    pub content: Content,
    /// Who owns it.
    pub owner: Owner,
    /// Its permissions.
    pub mode: u32,
}

/// A file or folder as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// What it holds; nothing for a file that is no text.
    pub content: Option<Content>,
    /// Who owns it.
    pub owner: Owner,
    /// Its permissions.
    pub mode: u32,
}

impl Declared {
    /// A file of the system's configuration: root's, readable by all.
    #[must_use]
    pub fn configuration(path: impl Into<PathBuf>, text: String) -> Self {
        Self { path: path.into(), content: Content::Text(text), owner: Owner::default(), mode: 0o644 }
    }

    /// A folder.
    #[must_use]
    pub fn folder(path: impl Into<PathBuf>, owner: Owner, mode: u32) -> Self {
        Self { path: path.into(), content: Content::Folder, owner, mode }
    }

    /// What is at its path. A link in the place of a file is refused.
    pub fn observe(&self, root: &Root) -> Result<Option<Live>, Error> {
        let wants_folder = self.content == Content::Folder;
        let Some((place, found)) = look(root, &self.path, wants_folder)? else { return Ok(None) };
        let content = if wants_folder {
            Some(Content::Folder)
        } else {
            let mut bytes = Vec::new();
            let read = place.open(OFlags::RDONLY, 0).and_then(|mut file| file.read_to_end(&mut bytes));
            read.map_err(|error| Error::io("read", &self.path, error))?;
            String::from_utf8(bytes).ok().map(Content::Text)
        };
        Ok(Some(Live { content, owner: found.owner, mode: found.mode }))
    }

    /// What has to change, if anything. Pure.
    #[must_use]
    pub fn compare(&self, live: Option<&Live>) -> Option<FileChange> {
        let wanted = Live { content: Some(self.content.clone()), owner: self.owner, mode: self.mode };
        (live != Some(&wanted)).then(|| FileChange { declared: self.clone(), live: live.cloned() })
    }
}

/// A file or folder that is made, rewritten, or given its owner and mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    declared: Declared,
    live: Option<Live>,
}

impl FileChange {
    /// The path that it changes.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.declared.path
    }

    /// Carries it out.
    pub fn apply(&self, root: &Root) -> Result<(), Error> {
        let Declared { path, content, owner, mode } = &self.declared;
        match content {
            Content::Text(text) => fill(Replacement::begin_in(root, path)?, path, text.as_bytes(), *owner, *mode),
            Content::Folder => {
                let folder = root.make_folder(path)?;
                set_attributes_of(&folder, *owner, *mode).map_err(|error| Error::io("set owner and mode of", path, error))
            }
        }
    }
}

impl fmt::Display for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.declared.path.display();
        match &self.live {
            None => write!(f, "create {path}"),
            Some(live) if live.content.as_ref() == Some(&self.declared.content) => write!(f, "set owner and mode of {path}"),
            Some(_) => write!(f, "write {path}"),
        }
    }
}

impl Change for FileChange {
    fn object(&self) -> String {
        self.declared.path.display().to_string()
    }

    fn before(&self) -> Value {
        self.live.as_ref().map_or(Value::Null, |live| shown(live.content.as_ref(), live.owner, live.mode))
    }

    fn after(&self) -> Value {
        shown(Some(&self.declared.content), self.declared.owner, self.declared.mode)
    }
}

fn shown(content: Option<&Content>, owner: Owner, mode: u32) -> Value {
    let mut value = json!({"owner": owner.user, "group": owner.group, "mode": format!("{mode:04o}")});
    match content {
        Some(Content::Folder) => {}
        Some(Content::Text(text)) => value["content"] = json!(text),
        None => value["content"] = json!("(not text)"),
    }
    value
}

/// Owner and mode of what is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Who owns it.
    pub owner: Owner,
    /// Its permissions.
    pub mode: u32,
}

/// Owner and mode of the file at a real path; nothing if there is none. A link, or what is no file, is refused.
pub fn attributes(path: &Path) -> Result<Option<Attributes>, Error> {
    Ok(look(&Root::default(), path, false)?.map(|(_, found)| found))
}

/// What is at a path of a machine, and where. A link to a folder is followed, one to a file is refused.
fn look(root: &Root, path: &Path, folder: bool) -> Result<Option<(Place, Attributes)>, Error> {
    let failed = |error| Error::io("look at", path, error);
    let follow = if folder { Follow::Trusted } else { Follow::TrustedFolders };
    let place = match root.place(path, follow, "look at") {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        place => place?,
    };
    let Some(found) = place.look().map_err(failed)? else { return Ok(None) };
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory if folder => {}
        FileType::RegularFile if !folder => {}
        FileType::Symlink => return Err(Error::Symlink { path: path.to_owned() }),
        _ => return Err(Error::OtherKind { path: path.to_owned(), wanted: if folder { "folder" } else { "file" } }),
    }
    let owner = Owner { user: found.st_uid, group: found.st_gid };
    Ok(Some((place, Attributes { owner, mode: found.st_mode & 0o7777 })))
}

/// Gives what is at a real path its owner and mode. A link in its place is refused.
pub fn set_attributes(path: &Path, owner: Owner, mode: u32) -> Result<(), Error> {
    const ACT: &str = "set owner and mode of";
    let open = Root::default().place(path, Follow::TrustedFolders, ACT)?.open(OFlags::RDONLY, 0);
    open.and_then(|open| set_attributes_of(&open, owner, mode)).map_err(|error| Error::io(ACT, path, error))
}

/// Waits until no other run holds the folder at a real path, and holds it until the answer is dropped.
pub fn lock(folder: &Path) -> Result<File, Error> {
    let held = File::open(folder).and_then(|file| file.lock().map(|()| file));
    held.map_err(|error| Error::io("lock", folder, error))
}

/// Holds the folder at a real path until the answer is dropped; nothing if another run holds it.
pub fn try_lock(folder: &Path) -> Result<Option<File>, Error> {
    let file = File::open(folder).map_err(|error| Error::io("lock", folder, error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", folder, error)),
    }
}

/// Writes the file at a real path.
pub fn write(path: &Path, content: &[u8], owner: Owner, mode: u32) -> Result<(), Error> {
    fill(Replacement::begin(path)?, path, content, owner, mode)
}

fn fill(mut replacement: Replacement, path: &Path, content: &[u8], owner: Owner, mode: u32) -> Result<(), Error> {
    replacement.write_all(content).map_err(|error| Error::io("write", path, error))?;
    replacement.commit(owner, mode)
}

/// Removes a file, or a folder with everything in it; no link is followed. That it is not there is as good.
pub fn remove(path: &Path) -> Result<(), Error> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    match if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) } {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, error)),
        _ => Ok(()),
    }
}

/// The SHA-256 of the file at a real path, in hexadecimal; nothing if there is none.
pub fn sha256(path: &Path) -> Result<Option<String>, Error> {
    match File::open(path) {
        Ok(file) => hash(path, file, |_| Ok(())).map(Some),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(Error::io("read", path, error)),
    }
}

/// Copies the file at one real path to another, under which it does not appear yet; also gives its SHA-256.
pub fn copy(source: &Path, destination: &Path) -> Result<(Replacement, String), Error> {
    let file = File::open(source).map_err(|error| match error {
        error if is_absent(&error) => Error::NoSuchFile { path: source.to_owned() },
        error => Error::io("read", source, error),
    })?;
    let mut replacement = Replacement::begin(destination)?;
    let take = |chunk: &[u8]| replacement.write_all(chunk).map_err(|error| Error::io("write", destination, error));
    let sha256 = hash(source, file, take)?;
    Ok((replacement, sha256))
}

/// The SHA-256 of a file that also goes somewhere else.
fn hash(path: &Path, mut file: File, mut take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<String, Error> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = file.read(&mut buffer).map_err(|error| Error::io("read", path, error))?;
        if length == 0 {
            return Ok(HEXLOWER.encode(&hasher.finalize()));
        }
        hasher.update(&buffer[..length]);
        take(&buffer[..length])?;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use converge::{AbsolutePath, Explain as _};

    use super::*;

    fn machine() -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::from(AbsolutePath::new(folder.path().to_str().unwrap()).unwrap());
        (folder, root)
    }

    fn me() -> Owner {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        Owner { user: user.as_raw(), group: group.as_raw() }
    }

    fn entries(root: &Root) -> Vec<String> {
        root.list("/").unwrap()
    }

    #[test]
    fn compares_content_owner_and_mode() {
        let declared = Declared::configuration("/etc/x.conf", "a = 1\n".into());
        let as_declared = Live { content: Some(declared.content.clone()), owner: Owner::default(), mode: 0o644 };
        for (case, live, expected) in [
            ("absent", None, Some("create /etc/x.conf")),
            ("as declared", Some(as_declared.clone()), None),
            ("another mode", Some(Live { mode: 0o600, ..as_declared.clone() }), Some("set owner and mode of /etc/x.conf")),
            (
                "another owner",
                Some(Live { owner: Owner { user: 1000, group: 0 }, ..as_declared.clone() }),
                Some("set owner and mode of /etc/x.conf"),
            ),
            (
                "another text",
                Some(Live { content: Some(Content::Text("a = 2\n".into())), ..as_declared.clone() }),
                Some("write /etc/x.conf"),
            ),
            ("not text", Some(Live { content: None, ..as_declared }), Some("write /etc/x.conf")),
        ] {
            assert_eq!(declared.compare(live.as_ref()).map(|change| change.to_string()).as_deref(), expected, "{case}");
        }
    }

    #[test]
    fn what_is_applied_is_what_was_declared() {
        let (_folder, root) = machine();
        let folder = Declared::folder("/opt/lab/bin", me(), 0o750);
        let file = Declared { owner: me(), mode: 0o600, ..Declared::configuration("/opt/lab/bin/x", "text\n".into()) };
        for declared in [&folder, &file] {
            declared.compare(declared.observe(&root).unwrap().as_ref()).unwrap().apply(&root).unwrap();
            assert_eq!(declared.compare(declared.observe(&root).unwrap().as_ref()), None, "{declared:?}");
        }
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_refused() {
        let (_folder, root) = machine();
        fs::write(root.at("/target"), "kept").unwrap();
        symlink("target", root.at("/link")).unwrap();
        let declared = Declared::configuration("/link", "other".into());
        assert_eq!(declared.observe(&root).unwrap_err().code(), "FILE_SYMLINK");
        assert_eq!(write(&root.at("/link"), b"other", me(), 0o644).unwrap_err().code(), "FILE_SYMLINK");
        assert_eq!(fs::read_to_string(root.at("/target")).unwrap(), "kept");
        assert_eq!(entries(&root), ["link", "target"]);
    }

    #[test]
    fn a_folder_in_the_place_of_a_file_is_refused() {
        let (_folder, root) = machine();
        fs::create_dir(root.at("/x")).unwrap();
        assert_eq!(write(&root.at("/x"), b"text", me(), 0o644).unwrap_err().code(), "FILE_OTHER_KIND");
    }

    #[test]
    fn what_lies_in_an_image_does_not_lead_out_of_it() {
        let (outside, root) = machine();
        let (image, host) = (outside.path().join("image"), outside.path().join("host"));
        fs::create_dir_all(&image).unwrap();
        fs::create_dir_all(&host).unwrap();
        symlink(&host, image.join("etc")).unwrap();
        let image_root = Root::from(AbsolutePath::new(image.to_str().unwrap()).unwrap());
        let file = Declared { owner: me(), ..Declared::configuration("/etc/x.conf", "a = 1\n".into()) };
        assert!(file.observe(&image_root).unwrap().is_none());
        assert!(file.compare(None).unwrap().apply(&image_root).is_err());
        assert_eq!(root.list("/host").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_link_gets_no_owner_and_mode() {
        let (_folder, root) = machine();
        fs::write(root.at("/target"), "kept").unwrap();
        fs::set_permissions(root.at("/target"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("target", root.at("/link")).unwrap();
        assert!(set_attributes(&root.at("/link"), me(), 0o644).is_err());
        assert_eq!(root.at("/target").metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    }
}
