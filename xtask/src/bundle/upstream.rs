//! A bundle of the projects' own releases.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    time::Instant,
};

use bundle::{Entry, digest};
use serde::Deserialize;

use super::{
    Error,
    definition::{self, Digest, Release, Upstream},
    fetch::Downloads,
    filling::Filling,
    say,
};

/// Downloads what is missing or not as released, and tells what the bundle then holds.
pub fn fill(root: &Path, bundle: &mut Filling, only: &[String]) -> Result<(), Error> {
    let upstream: Upstream = definition::read(&root.join("bundle/upstream.toml"))?;
    if let Some(unknown) = only.iter().find(|name| upstream.files.iter().all(|release| release.name != **name)) {
        let mut known: Vec<_> = upstream.files.iter().map(|release| release.name.clone()).collect();
        known.sort();
        known.dedup();
        return Err(Error::UnknownPart { name: unknown.clone(), known });
    }
    let wanted = |release: &&Release| only.is_empty() || only.contains(&release.name);
    let releases: Vec<_> = upstream.files.iter().filter(wanted).collect();
    let failed = |source| Error::File { path: "asynchronous runtime".into(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let downloads = Downloads::new()?;
        for (number, release) in (1..).zip(&releases) {
            say(format_args!("{number}/{} {}", releases.len(), release.path));
            let entry = fetch(&downloads, (*release).clone(), bundle.folder()).await?;
            bundle.add([entry])?;
        }
        Ok(())
    })
}

async fn fetch(downloads: &Downloads, release: Release, bundle: &Path) -> Result<Entry, Error> {
    let destination = bundle.join(&release.path);
    if let Some(folder) = destination.parent() {
        fs::create_dir_all(folder).map_err(Error::at(folder))?;
    }
    let beside = |suffix: &str| {
        let name = destination.file_name().unwrap_or_default().to_string_lossy();
        destination.with_file_name(format!(".{name}.{suffix}"))
    };
    let published = match &release.digest {
        Digest::Sha256(pinned) => pinned.clone(),
        Digest::Checksums(url) => listed(&downloads.text(url, &beside("checksums")).await?, &release.url, url)?,
        Digest::Release(url) => described(&downloads.text(url, &beside("release")).await?, &release.url, url)?,
    };
    // An archive stays beside what was taken out of it: only it can be compared with what was published.
    let download = if release.member.is_some() { beside("archive") } else { destination.clone() };
    if download.exists() && digest(&download).map_err(Error::at(&download))? == published {
        say(format_args!("    as released"));
    } else {
        let start = Instant::now();
        downloads.file(&release.url, &published, &beside("partial"), &download).await?;
        say(format_args!("    {:.1} s", start.elapsed().as_secs_f64()));
    }
    let sha256 = match &release.member {
        Some(member) => {
            extract(&download, member, &destination)?;
            digest(&destination).map_err(Error::at(&destination))?
        }
        None => published,
    };
    Ok(Entry {
        path: release.path,
        role: release.role,
        name: release.name,
        version: release.version,
        architecture: release.architecture,
        origin: release.url,
        sha256,
        standin: false,
        differs: None,
        images: Vec::new(),
        fingerprint: None,
    })
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
    use ansible::Explain as _;

    use super::*;

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
    fn the_definition_can_be_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bundle/upstream.toml");
        let upstream: Upstream = definition::read(&path).unwrap();
        for release in upstream.files {
            assert!(
                release.url.starts_with("https://") && release.url.contains(&release.version.replace('+', "%2B")),
                "{}",
                release.url
            );
        }
    }
}
