//! Charts as inputs of a release.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

use charts::Files;
use data_encoding::HEXLOWER;
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::Error;

/// As much as a chart may hold, unpacked.
const LIMIT: u64 = 256 << 20;

/// What names a chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A name: one of the charts that the collection ships.
    Shipped(String),
    /// A folder or an archive on the host.
    Path(PathBuf),
    /// An `oci://` or `https://` reference. It is taken to mean the same chart for ever.
    Remote(String),
}

impl Source {
    /// What a user's text names.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let known = ["oci://", "https://"];
        if known.iter().any(|scheme| text.starts_with(scheme)) {
            Ok(Self::Remote(text.to_owned()))
        } else if text.starts_with('/') {
            Ok(Self::Path(text.into()))
        } else if charts::find(text).is_some() {
            Ok(Self::Shipped(text.to_owned()))
        } else {
            Err(Error::NoChart { chart: text.to_owned() })
        }
    }

    /// The chart, where it is at hand.
    pub fn read(&self) -> Result<Option<Chart>, Error> {
        let (text, files) = match self {
            Self::Shipped(name) => (name.clone(), charts::find(name)),
            Self::Path(path) => (path.display().to_string(), read(path)?),
            Self::Remote(_) => return Ok(None),
        };
        let files = files.ok_or_else(|| Error::NoChart { chart: text.clone() })?;
        Chart::new(&text, files).map(Some)
    }
}

/// A chart with all its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chart {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    files: Files,
}

#[derive(Deserialize)]
struct About {
    name: String,
    version: String,
}

impl Chart {
    fn new(place: &str, files: Files) -> Result<Self, Error> {
        let malformed = |reason: &str| Error::NotAChart { chart: place.to_owned(), reason: reason.to_owned() };
        let about = files.get("Chart.yaml").ok_or_else(|| malformed("it has no Chart.yaml"))?;
        let about: Result<About, _> = serde_saphyr::from_str(&String::from_utf8_lossy(about));
        let About { name, version } = about.map_err(|_| malformed("its Chart.yaml has no name and version"))?;
        Ok(Self { name, version, files })
    }

    /// The digest of all its files, subcharts included, whether it came as a folder or packed.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for (path, content) in &self.files {
            for part in [path.as_bytes(), content] {
                hasher.update((part.len() as u64).to_be_bytes());
                hasher.update(part);
            }
        }
        HEXLOWER.encode(&hasher.finalize())
    }

    /// What it says of its values, and each of its subcharts of those below its name.
    #[must_use]
    pub fn schema(&self) -> Value {
        let schema = |path: &str| {
            let text = self.files.get(path)?;
            serde_json::from_slice::<Value>(text).ok()
        };
        let mut schemas: Vec<_> = schema("values.schema.json").into_iter().collect();
        for path in self.files.keys() {
            let subchart = path.strip_prefix("charts/").and_then(|path| path.strip_suffix("/values.schema.json"));
            if let Some(name) = subchart.filter(|name| !name.contains('/')) {
                schemas.extend(schema(path).map(|schema| serde_json::json!({"properties": {name: schema}})));
            }
        }
        serde_json::json!({"allOf": schemas})
    }

    /// Writes it out as a folder.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        charts::write(&self.files, folder).map_err(|source| Error::Io { act: "write", path: folder.to_owned(), source })
    }
}

/// All files of a folder or an archive; nothing if there is neither.
fn read(path: &Path) -> Result<Option<Files>, Error> {
    let failed = |source| Error::Io { act: "read", path: path.to_owned(), source };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Files::new();
    if metadata.is_dir() {
        walk(path, path, &mut files).map_err(failed)?;
    } else {
        unpack(File::open(path).map_err(failed)?, &mut files)
            .map_err(|error| Error::NotAChart { chart: path.display().to_string(), reason: error.to_string() })?;
    }
    Ok(Some(files))
}

fn walk(root: &Path, folder: &Path, files: &mut Files) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(root, &path, files)?;
        } else if let Ok(name) = path.strip_prefix(root) {
            files.insert(name.display().to_string(), fs::read(&path)?);
        }
    }
    Ok(())
}

/// An archive has everything in one folder of the chart's name.
fn unpack(archive: File, files: &mut Files) -> io::Result<()> {
    let mut archive = tar::Archive::new(GzDecoder::new(archive).take(LIMIT));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path()?.into_owned();
        let parts: Vec<_> = path.components().filter(|part| *part != Component::CurDir).collect();
        if parts.iter().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(io::Error::other(format!("it has a file outside its folder: {}", path.display())));
        }
        let name = parts.iter().skip(1).collect::<PathBuf>().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.insert(name, content);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use converge::Explain as _;
    use flate2::{Compression, write::GzEncoder};
    use serde_json::json;

    use super::*;

    const ABOUT: &str = "apiVersion: v2\nname: demo\nversion: 1.2.3\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn archive(files: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut archive = tar::Builder::new(GzEncoder::new(file.reopen().unwrap(), Compression::fast()));
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            // The builder itself refuses paths that climb.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            archive.append(&header, text.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap();
        file
    }

    fn chart(path: &Path) -> Result<Chart, Error> {
        Source::parse(path.to_str().unwrap())?.read().map(Option::unwrap)
    }

    #[test]
    fn packed_or_not_it_is_the_same_chart() {
        let plain = folder(&[("Chart.yaml", ABOUT), ("templates/a.yaml", "a"), ("charts/sub/Chart.yaml", "x")]);
        let packed = archive(&[("demo/charts/sub/Chart.yaml", "x"), ("demo/Chart.yaml", ABOUT), ("demo/templates/a.yaml", "a")]);
        let (plain, packed) = (chart(plain.path()).unwrap(), chart(packed.path()).unwrap());
        assert_eq!((plain.name.as_str(), plain.version.as_str()), ("demo", "1.2.3"));
        assert_eq!(plain, packed);
        assert_eq!(plain.digest(), packed.digest());
        let written = tempfile::tempdir().unwrap();
        plain.write(written.path()).unwrap();
        assert_eq!(chart(written.path()).unwrap(), plain);
    }

    #[test]
    fn every_file_counts() {
        let digest = |files: &[(&str, &str)]| chart(folder(files).path()).unwrap().digest();
        let base = digest(&[("Chart.yaml", ABOUT), ("charts/sub/values.yaml", "a: 1")]);
        for other in [
            &[("Chart.yaml", ABOUT), ("charts/sub/values.yaml", "a: 2")][..],
            &[("Chart.yaml", ABOUT), ("charts/sub/value.yaml", "sa: 1")],
            &[("Chart.yaml", ABOUT)],
        ] {
            assert_ne!(digest(other), base);
        }
    }

    #[test]
    fn subcharts_speak_of_the_values_below_their_names() {
        let schema = r#"{"properties": {"token": {"writeOnly": true}}}"#;
        let plain = folder(&[("Chart.yaml", ABOUT), ("charts/sub/values.schema.json", schema)]);
        let token = json!({"properties": {"sub": {"properties": {"token": {"writeOnly": true}}}}});
        assert_eq!(chart(plain.path()).unwrap().schema(), json!({"allOf": [token]}));
    }

    #[test]
    fn what_is_no_chart_says_why() {
        let empty = folder(&[]);
        let nameless = folder(&[("Chart.yaml", "version: 1.0.0")]);
        let text = folder(&[("file", "a text that is no archive")]);
        let climbing = archive(&[("demo/../../etc/passwd", "x")]);
        for (path, code, words) in [
            (empty.path(), "CHART_MALFORMED", "no Chart.yaml"),
            (nameless.path(), "CHART_MALFORMED", "no name and version"),
            (&text.path().join("file"), "CHART_MALFORMED", "gzip"),
            (climbing.path(), "CHART_MALFORMED", "outside its folder"),
            (&empty.path().join("absent"), "CHART_NOT_FOUND", "absent"),
            (Path::new("no-such-chart"), "CHART_NOT_FOUND", "no-such-chart"),
        ] {
            let error = chart(path).unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
