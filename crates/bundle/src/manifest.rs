//! The manifest: what lies in the bundle, for which CPU, from where, and with which digest.
//!
//! A manifest of a later schema is refused, and so is one that lists a path outside the bundle.

use std::{
    fmt,
    path::{Component, Path},
};

use serde::{Deserialize, Serialize};

use crate::Error;

/// The form of the manifest that this version writes, and the newest that it reads.
pub const SCHEMA: u32 = 1;

/// What a bundle holds, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    schema: u32,
    /// How the bundle was filled.
    pub source: Source,
    /// Its files, by path.
    pub files: Vec<Entry>,
}

/// How a bundle was filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// From the projects' own releases.
    Upstream,
    /// From package registries.
    Modules,
}

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Below the bundle's folder.
    pub path: String,
    /// What it is for.
    pub role: Role,
    /// Whose it is: a tool, a provider's label, a group of images.
    pub name: String,
    /// The version of what it holds.
    pub version: String,
    /// Go's name of the CPU that it is for; absent if it suits all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// The address or the module that it was made from.
    pub origin: String,
    /// In hexadecimal.
    pub sha256: String,
    /// It is not what its name says, but does as much of it as a lab needs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standin: bool,
    /// How it differs from what upstream releases under this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differs: Option<String>,
    /// The references of the container images in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// On the root filesystem of an instance image: how LXD calls the image, which it derives from both its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A program for the host or an instance.
    Executable,
    /// Container images in one archive.
    Images,
    /// The objects of a Cluster API provider.
    Components,
    /// What releases of a Cluster API provider follow which contract.
    Metadata,
    /// Objects of another component, cert-manager's for one.
    Manifest,
    /// A packed Helm chart.
    Chart,
    /// The root filesystem of an LXD image, or the whole of it, named by the image's alias.
    InstanceImage,
    /// What LXD has to know of that image, if it is not whole.
    InstanceMetadata,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Executable => "executable",
            Self::Images => "images",
            Self::Components => "components",
            Self::Metadata => "metadata",
            Self::Manifest => "manifest",
            Self::Chart => "chart",
            Self::InstanceImage => "instance-image",
            Self::InstanceMetadata => "instance-metadata",
        })
    }
}

impl Entry {
    /// Whether the file serves a machine with this CPU.
    #[must_use]
    pub fn runs_on(&self, architecture: &str) -> bool {
        self.architecture.as_deref().is_none_or(|own| own == architecture)
    }

    /// What it is instead, if it is not what its name says.
    #[must_use]
    pub fn instead(&self) -> Option<&str> {
        self.standin.then_some(self.differs.as_deref().unwrap_or_default())
    }
}

impl Manifest {
    /// A manifest of these files.
    #[must_use]
    pub fn new(source: Source, mut files: Vec<Entry>) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { schema: SCHEMA, source, files }
    }

    /// As it stands in the file.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Nothing in a manifest can fail to serialise: it has no maps, and no foreign types.
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }

    /// Reads what stands in the file at `path`.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let malformed = |source| Error::Malformed { path: path.to_owned(), source };
        // First of all, because what else a newer form has is not known here.
        let Version { schema } = serde_json::from_str(text).map_err(malformed)?;
        if schema > SCHEMA {
            return Err(Error::SchemaNewer { path: path.to_owned(), schema });
        }
        let manifest: Self = serde_json::from_str(text).map_err(malformed)?;
        match manifest.files.iter().find(|entry| !is_below(&entry.path)) {
            Some(entry) => Err(Error::Outside { path: path.to_owned(), entry: entry.path.clone() }),
            None => Ok(manifest),
        }
    }
}

#[derive(Deserialize)]
struct Version {
    schema: u32,
}

fn is_below(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|component| matches!(component, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use converge::Explain as _;

    use super::*;

    const TEXT: &str = r#"{
  "schema": 1,
  "source": "modules",
  "files": [
    {
      "path": "bin/k3s",
      "role": "executable",
      "name": "k3s",
      "version": "v1.35.0+k3s0",
      "architecture": "amd64",
      "origin": "bundle/standins/k3s",
      "sha256": "00",
      "standin": true,
      "differs": "a launcher"
    },
    {
      "path": "images/bootstrap.tar",
      "role": "images",
      "name": "bootstrap",
      "version": "v1.35.0",
      "origin": "k8s.io/kubernetes@v1.35.0",
      "sha256": "00",
      "images": [
        "registry.k8s.io/pause:3.10.1"
      ]
    }
  ]
}
"#;

    fn parse(text: &str) -> Result<Manifest, Error> {
        Manifest::parse(text, Path::new("/bundle/bundle.json"))
    }

    #[test]
    fn what_is_written_is_what_was_read() {
        assert_eq!(parse(TEXT).unwrap().to_json(), TEXT);
    }

    #[test]
    fn files_are_listed_by_path() {
        let mut files = parse(TEXT).unwrap().files;
        files.reverse();
        assert_eq!(Manifest::new(Source::Modules, files).to_json(), TEXT);
    }

    #[test]
    fn what_this_version_cannot_read_is_refused() {
        for (case, text, code) in [
            ("newer", TEXT.replace("\"schema\": 1", "\"schema\": 2"), "BUNDLE_SCHEMA_NEWER"),
            ("newer, of another form", r#"{"schema": 7, "parts": {}}"#.to_owned(), "BUNDLE_SCHEMA_NEWER"),
            ("no schema", r#"{"files": []}"#.to_owned(), "BUNDLE_MALFORMED"),
            ("cut off", TEXT[..TEXT.len() / 2].to_owned(), "BUNDLE_MALFORMED"),
            ("unknown field", TEXT.replace("\"origin\"", "\"orgin\""), "BUNDLE_MALFORMED"),
            ("upwards", TEXT.replace("bin/k3s", "bin/../../k3s"), "BUNDLE_PATH"),
            ("absolute", TEXT.replace("bin/k3s", "/bin/k3s"), "BUNDLE_PATH"),
            ("no path", TEXT.replace("bin/k3s", ""), "BUNDLE_PATH"),
        ] {
            assert_eq!(parse(&text).unwrap_err().code(), code, "{case}");
        }
    }
}
