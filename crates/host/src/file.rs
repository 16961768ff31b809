//! Files and folders as they should be.
//!
//! A file appears whole or not at all: it is written under another name in the same folder, with its final owner and mode, and
//! takes its name only when it is on the disk.

use std::{
    fmt,
    fs::{self, File, Permissions, TryLockError},
    io::{self, Read as _, Write},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use converge::Change;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::{NamedTempFile, TempPath};

use crate::{Error, Owner, Root, root::is_absent};

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
        let path = root.at(&self.path);
        let Some(found) = look(&path, self.content == Content::Folder)? else { return Ok(None) };
        let content = match &self.content {
            Content::Folder => Some(Content::Folder),
            Content::Text(_) => {
                let bytes = fs::read(&path).map_err(|error| Error::io("read", &path, error))?;
                String::from_utf8(bytes).ok().map(Content::Text)
            }
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
        let path = root.at(path);
        match content {
            Content::Text(text) => write(&path, text.as_bytes(), *owner, *mode),
            Content::Folder => {
                fs::create_dir_all(&path).map_err(|error| Error::io("create", &path, error))?;
                set_attributes(&path, *owner, *mode)
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
    look(path, false)
}

fn look(path: &Path, folder: bool) -> Result<Option<Attributes>, Error> {
    let metadata = if folder { path.metadata() } else { path.symlink_metadata() };
    let metadata = match metadata {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("look at", path, error)),
    };
    match (metadata.is_symlink(), metadata.is_dir() == folder && (folder || metadata.is_file())) {
        (true, _) => Err(Error::Symlink { path: path.to_owned() }),
        (_, false) => Err(Error::OtherKind { path: path.to_owned(), wanted: if folder { "folder" } else { "file" } }),
        _ => Ok(Some(Attributes {
            owner: Owner { user: metadata.uid(), group: metadata.gid() },
            mode: metadata.permissions().mode() & 0o7777,
        })),
    }
}

/// Gives what is at a real path its owner and mode.
pub fn set_attributes(path: &Path, owner: Owner, mode: u32) -> Result<(), Error> {
    let failed = |error| Error::io("set owner and mode of", path, error);
    // Changing the owner clears set-id bits, so the mode comes last.
    std::os::unix::fs::chown(path, Some(owner.user), Some(owner.group)).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)
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
    let mut replacement = Replacement::begin(path)?;
    replacement.write_all(content).map_err(|error| Error::io("write", path, error))?;
    replacement.commit(owner, mode)
}

/// A file that is being written and does not have its name yet. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Replacement {
    file: NamedTempFile,
    path: PathBuf,
}

impl Replacement {
    /// Begins a file that will be at this real path.
    pub fn begin(path: &Path) -> Result<Self, Error> {
        look(path, false)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let file = NamedTempFile::with_prefix_in(".k8slab-", folder).map_err(|error| Error::io("write", path, error))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Gives the file its owner, mode and name, once its content is on the disk.
    pub fn commit(self, owner: Owner, mode: u32) -> Result<(), Error> {
        self.seal(owner, mode)?.publish()
    }

    /// Puts the content on the disk and gives the file its owner and mode, but not its name: time to try a program out.
    pub fn seal(self, owner: Owner, mode: u32) -> Result<Sealed, Error> {
        let Self { file, path } = self;
        set_attributes(file.path(), owner, mode)?;
        file.as_file().sync_all().map_err(|error| Error::io("write", &path, error))?;
        Ok(Sealed { file: file.into_temp_path(), path })
    }
}

/// A file that is complete and does not have its name yet. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Sealed {
    file: TempPath,
    path: PathBuf,
}

impl Sealed {
    /// Where it is until then.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// Gives the file its name.
    pub fn publish(self) -> Result<(), Error> {
        let Self { file, path } = self;
        let failed = |error| Error::io("write", &path, error);
        file.persist(&path).map_err(|error| failed(error.error))?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
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
            return Ok(hexadecimal(&hasher.finalize()));
        }
        hasher.update(&buffer[..length]);
        take(&buffer[..length])?;
    }
}

/// Bytes as digests are written.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
        text
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

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
    fn a_file_that_is_given_up_leaves_nothing() {
        let (_folder, root) = machine();
        fs::write(root.at("/x"), "old").unwrap();
        let mut replacement = Replacement::begin(&root.at("/x")).unwrap();
        replacement.write_all(b"half").unwrap();
        drop(replacement);
        assert_eq!(entries(&root), ["x"]);
        assert_eq!(fs::read_to_string(root.at("/x")).unwrap(), "old");
    }
}
