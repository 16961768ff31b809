//! A bundle of the projects' own releases.

use std::{fs, path::Path, time::Instant};

use bundle::{Entry, digest};

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
    let sha256 = match &release.digest {
        Digest::Sha256(pinned) => pinned.clone(),
        Digest::Checksums(url) => published(&downloads.text(url, &beside("checksums")).await?, &release.url, url)?,
    };
    if destination.exists() && digest(&destination).map_err(Error::at(&destination))? == sha256 {
        say(format_args!("    as released"));
    } else {
        let start = Instant::now();
        downloads.file(&release.url, &sha256, &beside("partial"), &destination).await?;
        say(format_args!("    {:.1} s", start.elapsed().as_secs_f64()));
    }
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

/// The digest in a file of checksums: alone, or in the line of the file's name.
fn published(text: &str, url: &str, checksums: &str) -> Result<String, Error> {
    let file = url.rsplit('/').next().unwrap_or(url);
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
            match published(&text, "https://example.org/v1/k3s", "https://example.org/v1/sums") {
                Ok(digest) => assert!(found && digest == ours, "{case}: {digest}"),
                Err(error) => assert!(!found && error.code() == "CHECKSUM_ENTRY_MISSING", "{case}: {error}"),
            }
        }
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
