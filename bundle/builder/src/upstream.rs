//! A bundle of the projects' own releases.

use std::{fmt, fs::File, path::Path, process::Command, time::Instant};

use bundle::{Entry, Role, digest};
use serde::Deserialize;

use crate::{
    Error, chosen,
    definition::{self, Digest, PublishedInstance, PulledArchive, Release, Upstream},
    fetch::{Downloads, beside},
    filling::Filling,
    registry::{self, Image},
    say, streams,
};

/// Downloads what is missing or not as released, and tells what the bundle then holds.
pub fn fill(root: &Path, bundle: &mut Filling, only: &[String]) -> Result<(), Error> {
    let upstream: Upstream = definition::read(&root.join("bundle/upstream.toml"))?;
    let parts = Part::chosen(&upstream, only)?;
    let failed = |source| Error::File { path: "asynchronous runtime".into(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let downloads = Downloads::new()?;
        for (number, part) in (1..).zip(&parts) {
            say(format_args!("{number}/{} {part}", parts.len()));
            let start = Instant::now();
            let entries = part.fetch(&downloads, bundle).await?;
            bundle.add(entries)?;
            say(format_args!("    {:.1} s", start.elapsed().as_secs_f64()));
        }
        Ok(())
    })
}

/// What is downloaded at one go, and listed together.
enum Part<'a> {
    File(&'a Release),
    Archive(&'a PulledArchive),
    Instance(&'a PublishedInstance),
}

impl<'a> Part<'a> {
    fn chosen(upstream: &'a Upstream, only: &[String]) -> Result<Vec<Self>, Error> {
        let mut parts: Vec<_> = upstream.files.iter().map(Self::File).collect();
        parts.extend(upstream.archives.iter().map(Self::Archive));
        parts.extend(upstream.instances.iter().map(Self::Instance));
        chosen(parts, Part::name, only)
    }

    fn name(&self) -> &str {
        match self {
            Self::File(release) => &release.name,
            Self::Archive(archive) => &archive.name,
            Self::Instance(instance) => &instance.alias,
        }
    }

    async fn fetch(&self, downloads: &Downloads, bundle: &Filling) -> Result<Vec<Entry>, Error> {
        match self {
            Self::File(release) => Ok(vec![fetch(downloads, release, bundle.folder()).await?]),
            Self::Archive(archive) => Ok(vec![pull(downloads, archive, bundle).await?]),
            Self::Instance(instance) => streams::fetch(downloads, instance, bundle.folder()).await,
        }
    }
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(release) => f.write_str(&release.path),
            Self::Archive(archive) => write!(f, "container images {}", archive.name),
            Self::Instance(instance) => write!(f, "instance image {}", instance.alias),
        }
    }
}

async fn fetch(downloads: &Downloads, release: &Release, bundle: &Path) -> Result<Entry, Error> {
    let destination = bundle.join(&release.path);
    let published = match &release.digest {
        Digest::Sha256(pinned) => pinned.clone(),
        Digest::Checksums(url) => listed(&downloads.text(url).await?, &release.url, url)?,
        Digest::Release(url) => described(&downloads.text(url).await?, &release.url, url)?,
    };
    let sha256 = if let Some(member) = &release.member {
        // The archive stays beside what was taken out of it: only it can be compared with what was published.
        let archive = beside(&destination, "archive");
        downloads.file(&release.url, &published, &archive).await?;
        extract(&archive, member, &destination)?;
        digest(&destination).map_err(Error::at(&destination))?
    } else {
        downloads.file(&release.url, &published, &destination).await?;
        published
    };
    Ok(Entry {
        path: release.path.clone(),
        role: release.role,
        name: release.name.clone(),
        version: release.version.clone(),
        architecture: release.architecture.clone(),
        origin: release.url.clone(),
        sha256,
        standin: false,
        differs: None,
        images: Vec::new(),
        fingerprint: None,
    })
}

/// An archive of container images. What it was made from tells whether it would be made the same again.
async fn pull(downloads: &Downloads, archive: &PulledArchive, bundle: &Filling) -> Result<Entry, Error> {
    let mut images = Vec::new();
    for wanted in &archive.images {
        images.push(Image::find(downloads, wanted, &archive.architecture).await?);
    }
    let entry = Entry {
        path: format!("images/{}.tar", archive.name),
        role: Role::Images,
        name: archive.name.clone(),
        version: archive.version.clone(),
        architecture: Some(archive.architecture.clone()),
        origin: images.iter().map(Image::origin).collect::<Vec<_>>().join(" "),
        sha256: String::new(),
        standin: false,
        differs: None,
        images: images.iter().map(|image| image.reference.to_string()).collect(),
        fingerprint: None,
    };
    let destination = bundle.folder().join(&entry.path);
    let digest_now = || digest(&destination).map_err(Error::at(&destination));
    if let Some(earlier) = bundle.earlier(&entry.path)
        && entry == (Entry { sha256: String::new(), ..earlier.clone() })
        && destination.exists()
        && digest_now()? == earlier.sha256
    {
        return Ok(earlier.clone());
    }
    registry::pull(&images, &destination).await?;
    Ok(Entry { sha256: digest_now()?, ..entry })
}

/// Takes one file out of a packed archive.
fn extract(archive: &Path, member: &str, destination: &Path) -> Result<(), Error> {
    let file = File::create(destination).map_err(Error::at(destination))?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--to-stdout", "--file"]).arg(archive).arg(member).stdout(file);
    let failed = |outcome: String| Error::Command { command: "tar".into(), outcome, words: archive.display().to_string() };
    match tar.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(format!("ended with {status}"))),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn file_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

/// The digest in GitHub's description of a release.
fn described(text: &str, url: &str, release: &str) -> Result<String, Error> {
    #[derive(Deserialize)]
    struct Description {
        assets: Vec<Asset>,
    }
    #[derive(Deserialize)]
    struct Asset {
        name: String,
        digest: Option<String>,
    }
    let missing = || Error::ChecksumMissing { checksums: release.to_owned(), file: file_of(url).to_owned() };
    let description: Description = serde_json::from_str(text).map_err(|_| missing())?;
    let asset = description.assets.into_iter().find(|asset| asset.name == file_of(url)).ok_or_else(missing)?;
    let digest = asset.digest.as_deref().and_then(|digest| digest.strip_prefix("sha256:")).ok_or_else(missing)?;
    Ok(digest.to_lowercase())
}

/// The digest in a file of checksums: alone, or in the line of the file's name.
fn listed(text: &str, url: &str, checksums: &str) -> Result<String, Error> {
    let file = file_of(url);
    let is_digest = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut lines = text.lines().filter(|line| !line.trim().is_empty()).map(str::split_whitespace);
    let found = lines.find_map(|mut words| {
        let digest = words.next().filter(is_digest)?;
        // sha256sum marks files that it read as binary.
        words.next().is_none_or(|name| name.trim_start_matches('*') == file).then(|| digest.to_lowercase())
    });
    found.ok_or_else(|| Error::ChecksumMissing { checksums: checksums.to_owned(), file: file.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bundle::Source;
    use converge::Explain as _;

    use super::{
        super::{
            registry::tests::{image, wanted},
            site::{Answer, Files, Site, block_on},
        },
        *,
    };

    #[test]
    fn digests_are_found_alone_and_in_lists() {
        let (ours, other) = ("a".repeat(64), "b".repeat(64));
        for (case, text, found) in [
            ("alone", ours.clone(), true),
            ("alone, with a newline", format!("{ours}\n"), true),
            ("in a list", format!("{other}  k3s-arm64\n{ours}  k3s\n"), true),
            ("binary mode", format!("{ours} *k3s\n"), true),
            ("upper case", format!("{}  k3s\n", ours.to_uppercase()), true),
            ("not in the list", format!("{other}  k3s-arm64\n"), false),
            ("no digest", "<html>404</html>".to_owned(), false),
            ("nothing", String::new(), false),
        ] {
            match listed(&text, "https://example.org/v1/k3s", "https://example.org/v1/sums") {
                Ok(digest) => assert!(found && digest == ours, "{case}: {digest}"),
                Err(error) => assert!(!found && error.code() == "CHECKSUM_ENTRY_MISSING", "{case}: {error}"),
            }
        }
    }

    #[test]
    fn digests_are_found_in_descriptions_of_releases() {
        let sha256 = "a".repeat(64);
        for (case, text, found) in [
            (
                "among others",
                format!(
                    r#"{{"tag_name": "v1", "assets": [{{"name": "k3s-arm64", "digest": null}}, {{"name": "k3s", "digest": "sha256:{sha256}"}}]}}"#
                ),
                true,
            ),
            ("from before digests", r#"{"assets": [{"name": "k3s", "digest": null}]}"#.to_owned(), false),
            ("of another kind", r#"{"assets": [{"name": "k3s", "digest": "sha1:00"}]}"#.to_owned(), false),
            ("not there", r#"{"assets": []}"#.to_owned(), false),
            ("no release", r#"{"message": "Not Found"}"#.to_owned(), false),
        ] {
            match described(&text, "https://example.org/v1/k3s", "https://example.org/releases/v1") {
                Ok(digest) => assert!(found && digest == sha256, "{case}: {digest}"),
                Err(error) => assert!(!found && error.code() == "CHECKSUM_ENTRY_MISSING", "{case}: {error}"),
            }
        }
    }

    #[test]
    fn one_file_is_taken_out_of_an_archive() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("linux-amd64")).unwrap();
        fs::write(at("linux-amd64/helm"), "program").unwrap();
        let mut pack = Command::new("tar");
        pack.args(["--create", "--gzip", "--file"]).arg(at("a")).arg("linux-amd64").current_dir(&folder);
        assert!(pack.status().unwrap().success());
        extract(&at("a"), "linux-amd64/helm", &at("helm")).unwrap();
        assert_eq!(fs::read_to_string(at("helm")).unwrap(), "program");
        assert_eq!(extract(&at("a"), "linux-amd64/tiller", &at("tiller")).unwrap_err().code(), "COMMAND_FAILED");
    }

    #[test]
    fn images_are_pulled_when_there_are_others_than_before() {
        use Answer::{Redirect, Serve};
        let folder = tempfile::tempdir().unwrap();
        let mut files = image("v1", "layer");
        files.extend(image("v2", "other"));
        // The second build finds all as it was, the third a damaged archive, the fourth another image under the tag.
        let moved = Redirect("/v2/lab/tool/manifests/v2");
        let site = Site::open(Files { files, token: None }, [vec![Serve; 5 + 3 + 5 + 1], vec![moved]].concat());
        let images = vec![wanted(&site, "v1")];
        let archive = PulledArchive { name: "tools".into(), version: "v1".into(), architecture: "amd64".into(), images };
        let path = folder.path().join("images/tools.tar");
        let build = |earlier: Option<&Entry>| {
            let mut bundle = Filling::begin(folder.path(), Source::Upstream).unwrap();
            let entry = block_on(pull(&Downloads::for_tests(), &archive, &bundle)).unwrap();
            assert_eq!(entry.sha256, digest(&path).unwrap());
            bundle.add([entry.clone()]).unwrap();
            assert!(earlier.is_none_or(|earlier| earlier.images == entry.images));
            entry
        };
        let first = build(None);
        assert_eq!(build(Some(&first)), first);
        fs::write(&path, "damaged").unwrap();
        assert_eq!(build(Some(&first)), first);
        let moved = build(Some(&first));
        assert_ne!((&moved.origin, &moved.sha256), (&first.origin, &first.sha256));
        assert_eq!(site.close().iter().filter(|request| request.contains("/blobs/")).count(), 2 + 2 + 2);
    }

    #[test]
    fn the_definition_can_be_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../upstream.toml");
        let upstream: Upstream = definition::read(&path).unwrap();
        for release in &upstream.files {
            let version = release.version.replace('+', "%2B");
            assert!(release.url.starts_with("https://") && release.url.contains(&version), "{}", release.url);
        }
        for archive in &upstream.archives {
            for image in &archive.images {
                assert!(image.reference.to_string().ends_with(&format!(":{}", archive.version)), "{}", image.reference);
            }
        }
        for instance in &upstream.instances {
            assert!(instance.server.starts_with("https://"), "{}", instance.server);
        }
        let chosen = Part::chosen(&upstream, &["cert-manager".to_owned()]).unwrap();
        let chosen: Vec<_> = chosen.iter().map(ToString::to_string).collect();
        assert_eq!(chosen, ["cert-manager/v1.20.1/cert-manager.yaml", "container images cert-manager"]);
        assert_eq!(Part::chosen(&upstream, &["tiller".to_owned()]).err().unwrap().code(), "BUNDLE_PART_UNKNOWN");
    }
}
