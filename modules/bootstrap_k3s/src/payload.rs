//! What is too large to be compared byte by byte in every run: k3s itself, and container images.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use bundle::{Bundle, Entry};
use converge::Failure;
use lxd::{Client, FileInfo, FileKind, Source};
use serde::{Deserialize, Serialize};

use crate::{binary, error::Error};

/// Where k3s looks for images.
const IMAGES: &str = "/var/lib/rancher/k3s/agent/images";
/// Where the records are, in the instance.
const RECORDS: &str = "/var/lib/k8slab";

/// A large file as it should be.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    pub path: String,
    pub source: PathBuf,
    pub mode: u32,
    /// It is tried out before it gets its name.
    is_program: bool,
    /// The SHA-256 that whoever put the source there has verified.
    verified: Option<String>,
}

/// What was placed, kept in the instance. Reading a hundred megabytes on both sides takes a second. So both sides are trusted as
/// long as neither file has been written since: the instance's by its time, the host's by time and size. A file that was only half
/// sent never has its name, and a file without a record is placed anew.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Record {
    pub sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    modified: String,
    source: SourceState,
}

/// What of a file of the host changes when it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct SourceState {
    size: u64,
    /// In nanoseconds.
    modified: u128,
}

/// A large file as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Live {
    /// The source's SHA-256.
    pub wanted: String,
    pub found: Option<FileInfo>,
    pub record: Option<Record>,
}

impl Payload {
    pub(crate) fn binary(path: String, source: PathBuf, mode: u32) -> Self {
        let verified = verified(&source);
        Self { path, source, mode, is_program: true, verified }
    }

    pub(crate) fn images(bundle: &Bundle, entry: &Entry) -> Self {
        let source = bundle.path(entry);
        let name = source.file_name().unwrap_or_default().to_string_lossy();
        let (path, verified) = (format!("{IMAGES}/{name}"), Some(entry.sha256.clone()));
        Self { path, source, mode: 0o644, is_program: false, verified }
    }

    pub(crate) async fn observe(&self, client: &Client, instance: &str) -> Result<Live, Failure> {
        let source = self.source_state()?;
        let found = client.stat_file(instance, &self.path).await?;
        let record = self.record(client, instance).await?;
        let known = record.as_ref().filter(|record| record.source == source).map(|record| record.sha256.clone());
        let wanted = match known {
            Some(sha256) => sha256,
            None => self.read_source()?,
        };
        Ok(Live { wanted, found, record })
    }

    /// Whether it has to be placed. Pure.
    pub(crate) fn differs(&self, live: &Live) -> bool {
        let (Some(found), Some(record)) = (&live.found, &live.record) else { return true };
        let attributes = (found.kind, found.user, found.group, found.mode);
        attributes != (FileKind::File, 0, 0, self.mode) || record.modified != found.modified || record.sha256 != live.wanted
    }

    /// Sends it, tries it out, and gives it its name.
    pub(crate) async fn place(&self, client: &Client, instance: &str, sha256: &str) -> Result<(), Failure> {
        let source = self.source_state()?;
        let file = client.stage_file(instance, &self.path, self.mode, Source::File(&self.source)).await?;
        let version = if self.is_program { Some(try_out(client, instance, file.staged()).await?) } else { None };
        let modified = file.stat().await?.map(|info| info.modified).unwrap_or_default();
        let record = Record { sha256: sha256.to_owned(), version, modified, source };
        let text = serde_json::to_vec(&record).unwrap_or_default();
        let record = client.stage_file(instance, &self.record_path(), 0o644, Source::Bytes(&text)).await?;
        Ok(file.publish_with(record).await?)
    }

    pub(crate) async fn record(&self, client: &Client, instance: &str) -> Result<Option<Record>, lxd::Error> {
        let found = client.read_file(instance, &self.record_path()).await?;
        // A record that says nothing is as good as none.
        Ok(found.and_then(|(_, text)| serde_json::from_slice(&text).ok()))
    }

    fn record_path(&self) -> String {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        format!("{RECORDS}/{name}.json")
    }

    fn source_state(&self) -> Result<SourceState, Error> {
        let path = self.source.clone();
        let found = match fs::metadata(&path) {
            Ok(found) if found.is_file() => found,
            Ok(_) => return Err(Error::BinaryDamaged { path, reason: "it is no file".into() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::NoSource { path }),
            Err(source) => return Err(Error::Unreadable { path, source }),
        };
        let modified = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        Ok(SourceState { size: found.len(), modified: modified.as_nanos() })
    }

    /// The source's SHA-256, once it is sure that it can be used.
    pub(crate) fn read_source(&self) -> Result<String, Failure> {
        if self.is_program {
            binary::check(&self.source, bundle::architecture())?;
        }
        let path = self.source.clone();
        let Some(actual) = host::file::sha256(&path)? else { return Err(Error::NoSource { path }.into()) };
        match &self.verified {
            Some(listed) if *listed != actual => {
                Err(Error::BinaryDamaged { path, reason: format!("its SHA-256 is {actual}, and should be {listed}") }.into())
            }
            _ => Ok(actual),
        }
    }
}

/// What the step that placed a program on the host wrote down beside it.
fn verified(program: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Verified {
        sha256: String,
    }
    let name = program.file_name()?.to_string_lossy();
    let text = fs::read_to_string(program.with_file_name(format!(".{name}.json"))).ok()?;
    serde_json::from_str(&text).ok().map(|found: Verified| found.sha256)
}

/// The version that the program says it has, in the place where it will run.
async fn try_out(client: &Client, instance: &str, program: &str) -> Result<String, Failure> {
    let answer = match client.exec(instance, &[program, "--version"]).await {
        Ok(answer) if answer.code == 0 => answer.stdout,
        Ok(answer) => return Err(Error::BinaryUnusable { words: answer.words() }.into()),
        Err(lxd::Error::Failed { message, .. }) => return Err(Error::BinaryUnusable { words: message }.into()),
        Err(error) => return Err(error.into()),
    };
    let version = answer.strip_prefix("k3s version ").and_then(|rest| rest.split_whitespace().next());
    version.map(str::to_owned).ok_or_else(|| Error::BinaryUnusable { words: format!("it says {:?}", answer.trim()) }.into())
}
