//! The images of instances that a bundle has.

use std::path::PathBuf;

use lab::names;

use crate::{Bundle, Error, Role};

/// An LXD image of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceImage {
    /// The alias under which the lab knows it.
    pub alias: String,
    /// The version of what it carries.
    pub version: String,
    /// How LXD calls it.
    pub fingerprint: String,
    /// What LXD has to know of it, packed, unless the root filesystem has that with it.
    pub metadata: Option<PathBuf>,
    /// Its root filesystem.
    pub rootfs: PathBuf,
}

impl Bundle {
    /// The aliases of the images that run on this machine.
    pub fn instance_aliases(&self) -> impl Iterator<Item = &str> {
        self.files(Role::InstanceImage, architecture()).map(|entry| entry.name.as_str())
    }

    /// The image of the bootstrap instance.
    pub fn bootstrap_image(&self) -> Result<InstanceImage, Error> {
        let alias = self.instance_aliases().find(|alias| alias.starts_with(names::BOOTSTRAP_IMAGES));
        self.instance_image(alias.unwrap_or(names::BOOTSTRAP_IMAGES))
    }

    /// The image of an alias that runs on this machine.
    pub fn instance_image(&self, alias: &str) -> Result<InstanceImage, Error> {
        let rootfs = self.file(Role::InstanceImage, alias, architecture())?;
        let metadata = self.file(Role::InstanceMetadata, alias, architecture()).ok().map(|metadata| self.path(metadata));
        let fingerprint = rootfs.fingerprint.clone().ok_or_else(|| Error::NoFingerprint { path: self.path(rootfs) })?;
        let (alias, version) = (rootfs.name.clone(), rootfs.version.clone());
        Ok(InstanceImage { alias, version, fingerprint, metadata, rootfs: self.path(rootfs) })
    }
}

/// Go's name of this machine's CPU, which is what manifests use.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
