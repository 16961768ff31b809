//! What `bundle/modules.toml` and `bundle/upstream.toml` say.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use bundle::Role;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Error,
    reference::{ContentDigest, Reference},
};

/// What is made of package registries.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modules {
    pub programs: BTreeMap<String, Program>,
    pub crates: BTreeMap<String, Crate>,
    pub executables: Vec<Executable>,
    pub k3s: K3s,
    pub providers: Vec<Provider>,
    pub infrastructure: Infrastructure,
    pub cert_manager: CertManager,
    pub manifests: Vec<Manifest>,
    pub archives: Vec<Archive>,
    pub instances: Vec<Instance>,
}

/// A program that Go builds.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The folder with its `go.mod`, below `bundle/`.
    pub folder: String,
    /// The file there that takes the place of `go.mod`.
    pub modfile: Option<String>,
    pub package: String,
    /// The module whose version it has.
    pub module: String,
    /// The version that this is released as, where the module's own is that of something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
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

/// A program of this workspace, which cargo builds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crate {
    pub version: String,
    /// Where it is in the work tree.
    pub folder: String,
}

/// A program that lies in the bundle under its own name.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Executable {
    pub name: String,
    pub program: String,
    pub differs: Option<String>,
    /// Made when it is asked for by name, and kept as it should be from then on.
    #[serde(default, skip_serializing)]
    pub on_request: bool,
    /// Whether it stands in for a program that no registry carries.
    #[serde(default)]
    pub standin: bool,
}

impl Executable {
    /// Where it is in a bundle.
    pub fn path(&self) -> String {
        format!("bin/{}", self.name)
    }
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
    /// The program whose module it is.
    pub of: String,
    /// The kustomization in the module.
    pub tree: String,
    pub components: String,
    /// The image that the tree names, and the one that a release names instead.
    pub image: String,
    pub released_image: String,
}

/// The stand-in for the infrastructure provider, which prints its own objects.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Infrastructure {
    pub name: String,
    pub of: String,
    pub components: String,
    pub image: String,
    pub differs: String,
}

/// cert-manager's objects, rendered from its chart.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CertManager {
    pub of: String,
    pub chart: String,
    pub differs: String,
}

/// Objects that lie ready in a file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub name: String,
    pub of: String,
    #[serde(flatten)]
    pub source: Source,
    pub differs: Option<String>,
}

/// Where such a file is.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Below `bundle/`; `{version}` in it is the program's.
    Ours(String),
    /// In the program's module.
    Module(String),
}

/// Container images in one file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    pub name: String,
    /// The program whose version it has.
    pub of: String,
    #[serde(default)]
    pub standin: bool,
    pub differs: Option<String>,
    /// It goes into instance images alone.
    #[serde(default)]
    pub inside: bool,
    /// What images without files of their own hold: programs and links by their paths,
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// and files of Debian, by patterns of their paths, from a system of this recipe.
    #[serde(default)]
    pub debian: Vec<String>,
    pub debian_recipe: Option<String>,
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

/// An LXD image of a Debian system.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    pub alias: String,
    pub version: String,
    pub description: String,
    /// The folder below `bundle/instances` that says what is in it.
    pub recipe: String,
    /// Programs and links by their paths.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// Container images that its containerd has from the start.
    #[serde(default)]
    pub archives: Vec<String>,
    pub differs: Option<String>,
    /// Made when it is asked for by name, and kept as it should be from then on.
    #[serde(default, skip_serializing)]
    pub on_request: bool,
}

impl Instance {
    /// Where its files are in a bundle.
    pub fn folder(&self) -> String {
        folder_of_instance(&self.alias)
    }
}

/// What is downloaded.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    pub files: Vec<Release>,
    pub archives: Vec<PulledArchive>,
    pub instances: Vec<PublishedInstance>,
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
    /// The one file to be taken out of the download, which is a packed archive.
    pub member: Option<String>,
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
    /// GitHub's description of the release, which has the digests of its files as they were when they were published.
    Release(String),
}

/// Container images of registries in one file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PulledArchive {
    pub name: String,
    pub version: String,
    pub architecture: String,
    pub images: Vec<PulledImage>,
}

/// A container image of a registry.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PulledImage {
    pub reference: Reference,
    /// Where there is none, whatever the registry has under the tag is taken.
    pub digest: Option<ContentDigest>,
}

/// An LXD image of an image server.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedInstance {
    pub alias: String,
    pub version: String,
    pub architecture: String,
    pub server: String,
    /// The alias on the server.
    pub image: String,
    /// Where there is none, the newest is taken.
    pub fingerprint: Option<String>,
}

impl PublishedInstance {
    /// Where its files are in a bundle.
    pub fn folder(&self) -> String {
        folder_of_instance(&self.alias)
    }
}

fn folder_of_instance(alias: &str) -> String {
    format!("instances/{}", alias.replace('/', "-"))
}

impl fmt::Display for PublishedInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fingerprint {
            Some(fingerprint) => write!(f, "{} for {} with the fingerprint {fingerprint}", self.image, self.architecture),
            None => write!(f, "{} for {}", self.image, self.architecture),
        }
    }
}

/// Reads a definition.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read_to_string(path).map_err(Error::at(path))?;
    toml::from_str(&text).map_err(|source| Error::Definition { path: path.to_owned(), source })
}
