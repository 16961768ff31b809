//! What `bundle/modules.toml` and `bundle/upstream.toml` say.

use std::{collections::BTreeMap, fs, path::Path};

use bundle::Role;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Error;

/// What is made of Go modules.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modules {
    pub programs: BTreeMap<String, Program>,
    pub executables: Vec<Executable>,
    pub k3s: K3s,
    pub providers: Vec<Provider>,
    pub cert_manager: CertManager,
    pub archives: Vec<Archive>,
}

/// A program that Go builds.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The folder with its `go.mod`, below `bundle/`.
    pub folder: String,
    pub package: String,
    /// The module whose version it has.
    pub module: String,
    /// It has C in it, and is linked statically.
    #[serde(default)]
    pub cgo: bool,
    #[serde(default)]
    pub tags: Vec<String>,
    /// C libraries, by pkg-config's names.
    #[serde(default)]
    pub libraries: Vec<String>,
    /// Variables that carry the version, by their full names.
    #[serde(default)]
    pub stamp: BTreeMap<String, String>,
}

/// A program that lies in the bundle under its own name.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Executable {
    pub name: String,
    pub program: String,
    pub differs: Option<String>,
}

/// The stand-in for k3s.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct K3s {
    pub version: String,
    pub launcher: String,
    pub pack: String,
    pub carries: Vec<String>,
    pub differs: String,
}

/// A Cluster API provider, rendered from its own module.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// As clusterctl labels it.
    pub name: String,
    pub folder: String,
    pub module: String,
    /// The kustomization in the module.
    pub tree: String,
    pub components: String,
    /// The image that the tree names, and the one that a release names instead.
    pub image: String,
    pub released_image: String,
}

/// cert-manager's objects, rendered from its chart.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CertManager {
    pub folder: String,
    pub module: String,
    pub chart: String,
    pub differs: String,
}

/// Container images in one file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    pub name: String,
    pub folder: String,
    pub module: String,
    pub differs: Option<String>,
    /// What images without files of their own hold: programs and links by their paths.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    pub images: Vec<Image>,
}

/// One container image.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    pub reference: String,
    pub entrypoint: String,
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// What is downloaded.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    pub files: Vec<Release>,
}

/// A file of a release. Its digest is pinned, or published beside it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    pub path: String,
    pub role: Role,
    pub name: String,
    pub version: String,
    pub architecture: Option<String>,
    pub url: String,
    #[serde(flatten)]
    pub digest: Digest,
}

/// Where the digest of a download is known from.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Digest {
    /// It stands in the definition.
    Sha256(String),
    /// A file of the release holds it, alone or in a list.
    Checksums(String),
}

/// Reads a definition.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read_to_string(path).map_err(Error::at(path))?;
    toml::from_str(&text).map_err(|source| Error::Definition { path: path.to_owned(), source })
}
