//! The bundle: one folder that holds everything a lab downloads, and the manifest that lists it.
//!
//! `cargo xtask bundle build` fills it; steps take files out of it.

mod error;
mod image;
mod location;
mod manifest;

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

pub use error::Error;
pub use image::{InstanceImage, architecture};
pub use location::Location;
pub use manifest::{Entry, Manifest, Role, SCHEMA, Source};

/// The manifest's name in the bundle's folder.
pub const MANIFEST: &str = "bundle.json";

/// A folder with a manifest that this version reads.
#[derive(Clone, Debug)]
pub struct Bundle {
    folder: PathBuf,
    manifest: Manifest,
}

impl Bundle {
    /// Reads the manifest; the files it lists are not looked at.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing { folder: folder.to_owned() },
            _ => Error::Unreadable { path: path.clone(), source },
        })?;
        Ok(Self { folder: folder.to_owned(), manifest: Manifest::parse(&text, &path)? })
    }

    /// What the bundle holds.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where a listed file is.
    #[must_use]
    pub fn path(&self, entry: &Entry) -> PathBuf {
        self.folder.join(&entry.path)
    }

    /// The one file of this role and name that runs on this architecture.
    pub fn file(&self, role: Role, name: &str, architecture: &str) -> Result<&Entry, Error> {
        self.files(role, architecture).find(|entry| entry.name == name).ok_or_else(|| Error::NotListed {
            folder: self.folder.clone(),
            role,
            name: name.to_owned(),
            architecture: architecture.to_owned(),
        })
    }

    /// All files of this role that suit this architecture.
    pub fn files(&self, role: Role, architecture: &str) -> impl Iterator<Item = &Entry> {
        self.manifest.files.iter().filter(move |entry| entry.role == role && entry.runs_on(architecture))
    }

    /// Fails if a listed file is not there, or not as it was listed.
    pub fn verify(&self, entry: &Entry) -> Result<(), Error> {
        let path = self.path(entry);
        let actual = digest(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::FileMissing { path: path.clone() },
            _ => Error::Unreadable { path: path.clone(), source },
        })?;
        if actual == entry.sha256 { Ok(()) } else { Err(Error::Digest { path, listed: entry.sha256.clone(), actual }) }
    }

    /// Everything that is wrong with the listed files.
    pub fn faults(&self) -> impl Iterator<Item = Error> {
        self.manifest.files.iter().filter_map(|entry| self.verify(entry).err())
    }
}

/// The SHA-256 of a file, in hexadecimal.
pub fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(HEXLOWER.encode(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use converge::Explain as _;
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn entry(path: &str, content: &[u8]) -> Entry {
        Entry {
            path: path.into(),
            role: Role::Executable,
            name: "kubectl".into(),
            version: "v1.35.0".into(),
            architecture: Some("amd64".into()),
            origin: "k8s.io/kubernetes@v1.35.0".into(),
            sha256: HEXLOWER.encode(&Sha256::digest(content)),
            standin: false,
            differs: None,
            images: Vec::new(),
            fingerprint: None,
        }
    }

    fn bundle_of(files: Vec<Entry>) -> (tempfile::TempDir, Bundle) {
        let folder = tempfile::tempdir().unwrap();
        let manifest = Manifest::new(Source::Modules, files);
        fs::write(folder.path().join(MANIFEST), manifest.to_json()).unwrap();
        let bundle = Bundle::open(folder.path()).unwrap();
        (folder, bundle)
    }

    #[test]
    fn a_bundle_as_it_was_built_has_no_faults() {
        let (folder, bundle) = bundle_of(vec![entry("kubectl", b"content")]);
        fs::write(folder.path().join("kubectl"), "content").unwrap();
        assert_eq!(bundle.faults().count(), 0);
    }

    #[test]
    fn each_fault_names_its_file() {
        let (folder, bundle) =
            bundle_of(vec![entry("whole", b"content"), entry("changed", b"content"), entry("absent", b"content")]);
        fs::write(folder.path().join("whole"), "content").unwrap();
        fs::write(folder.path().join("changed"), "CONTENT").unwrap();
        let faults: Vec<_> = bundle.faults().map(|fault| (fault.code(), fault.to_string())).collect();
        assert_eq!(faults.iter().map(|(code, _)| *code).collect::<Vec<_>>(), ["BUNDLE_FILE_MISSING", "BUNDLE_DIGEST"]);
        assert!(faults[0].1.contains(folder.path().join("absent").to_str().unwrap()), "{faults:?}");
        assert!(faults[1].1.contains(folder.path().join("changed").to_str().unwrap()), "{faults:?}");
    }

    #[test]
    fn a_folder_without_a_manifest_is_no_bundle() {
        let folder = tempfile::tempdir().unwrap();
        let error = Bundle::open(folder.path()).unwrap_err();
        assert_eq!(error.code(), "BUNDLE_MISSING");
        assert!(error.hints()[0].contains("cargo xtask bundle build"));
    }

    #[test]
    fn instance_images_come_in_one_file_or_in_two() {
        let part = |role, name: &str, path: &str| Entry {
            role,
            name: name.into(),
            architecture: Some(architecture().into()),
            fingerprint: (role == Role::InstanceImage).then(|| "c0ffee".into()),
            ..entry(path, b"")
        };
        let (folder, bundle) = bundle_of(vec![
            part(Role::InstanceImage, "debian", "rootfs"),
            part(Role::InstanceMetadata, "debian", "metadata"),
            part(Role::InstanceImage, "haproxy", "image"),
        ]);
        for (alias, metadata, rootfs) in [("debian", Some("metadata"), "rootfs"), ("haproxy", None, "image")] {
            let image = bundle.instance_image(alias).unwrap();
            assert_eq!(image.metadata, metadata.map(|name| folder.path().join(name)), "{alias}");
            assert_eq!((image.rootfs, image.fingerprint.as_str()), (folder.path().join(rootfs), "c0ffee"), "{alias}");
        }
        assert_eq!(bundle.instance_image("kubeadm").unwrap_err().code(), "BUNDLE_NOT_LISTED");
    }

    #[test]
    fn files_are_found_by_role_name_and_architecture() {
        let metadata = Entry { role: Role::Metadata, architecture: None, ..entry("metadata.yaml", b"") };
        let (_folder, bundle) = bundle_of(vec![entry("kubectl", b""), metadata]);
        for (role, name, architecture, found) in [
            (Role::Executable, "kubectl", "amd64", Some("kubectl")),
            (Role::Executable, "kubectl", "arm64", None),
            (Role::Executable, "helm", "amd64", None),
            (Role::Metadata, "kubectl", "arm64", Some("metadata.yaml")),
        ] {
            match (bundle.file(role, name, architecture), found) {
                (Ok(entry), Some(path)) => assert_eq!(entry.path, path),
                (Err(error), None) => assert_eq!(error.code(), "BUNDLE_NOT_LISTED"),
                (outcome, _) => panic!("{role} {name} {architecture}: {outcome:?}"),
            }
        }
    }
}
