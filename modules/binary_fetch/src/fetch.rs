//! One tool: fetched, verified, tried out, and then put in its place.

use std::{
    cell::Cell,
    fmt,
    marker::PhantomData,
    path::{Path, PathBuf},
    time::Duration,
};

use converge::{Change, Failure, Section};
use host::{
    Owner, Root, archive,
    file::{self, Attributes},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    BinaryFetch,
    error::Error,
    tool::{Declared, Tool},
};

/// How long a tool may take to say its version.
const VERSION_DEADLINE: Duration = Duration::from_secs(60);

/// One tool in its place.
pub(crate) struct Fetch<'a, T> {
    step: &'a BinaryFetch,
    pub tool: Declared,
    path: PathBuf,
    /// The digest of what is there as it was read just now, for the first look.
    digest: Cell<Option<String>>,
    kind: PhantomData<T>,
}

/// What was verified and tried out, kept beside the tool.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Record {
    version: String,
    arch: String,
    sha256: String,
    /// The SHA-256 of the archive that it was taken out of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    archive: Option<String>,
}

impl Record {
    /// The checksum of the file as it came from its source.
    fn download(&self) -> &str {
        self.archive.as_ref().unwrap_or(&self.sha256)
    }
}

#[derive(Default)]
pub(crate) struct Live {
    /// Who should own the tool.
    owner: Owner,
    found: Option<(Attributes, String)>,
    record: Option<Record>,
    /// The checksum that the tool must have, or the archive with it.
    expected: String,
}

pub(crate) enum ToolChange {
    /// Download or copy it, compare its checksum, unpack it, try it out, put it in its place.
    Place { path: PathBuf, before: Option<String>, version: String, expected: String, owner: Owner },
    /// It is in its place, but nothing says that it was tried out.
    TryOut { path: PathBuf, after: Record },
    /// It is right but for owner and mode.
    SetAttributes { path: PathBuf, before: Attributes, after: Attributes },
}

impl<'a, T: Tool> Fetch<'a, T> {
    pub(crate) fn new(step: &'a BinaryFetch, tool: Declared, path: PathBuf, digest: Option<String>) -> Self {
        Self { step, tool, path, digest: Cell::new(digest), kind: PhantomData }
    }

    /// The tool's checksum as it was last verified.
    pub(crate) fn verified(&self) -> Result<Option<String>, host::Error> {
        Ok(self.record()?.map(|record| record.sha256))
    }

    fn silence(&self) -> Duration {
        Duration::from_secs(self.step.download_timeout.into())
    }

    fn mode(&self) -> u32 {
        file::mode(&self.step.mode)
    }

    fn record_path(&self) -> PathBuf {
        self.path.with_file_name(format!(".{}.json", self.tool.file_name))
    }

    /// The record, unless it is of another version or of a source of another kind. One that cannot be read is no record.
    fn record(&self) -> Result<Option<Record>, host::Error> {
        let text = Root::default().read(self.record_path())?;
        let record: Option<Record> = text.and_then(|text| serde_json::from_str(&text).ok());
        let is_of_it = |record: &Record| {
            let as_packed = record.archive.is_some() == self.tool.member.is_some();
            as_packed && record.version == self.tool.version && record.arch == self.tool.arch.name()
        };
        Ok(record.filter(is_of_it))
    }

    async fn place(&self, expected: &str, owner: Owner) -> Result<(), Error> {
        let source = &self.tool.source;
        let copy = source.copy(&self.tool.asset, &self.path, self.silence()).await?;
        if copy.sha256 != expected {
            let (expected, found) = (expected.to_owned(), copy.sha256);
            return Err(Error::ChecksumMismatch { place: source.to_string(), expected, found });
        }
        let (file, sha256) = match &self.tool.member {
            Some(member) => archive::take_out(copy.file, member, &self.path).await?,
            None => (copy.file, copy.sha256),
        };
        let complete = file.seal(owner, self.mode())?;
        self.try_out(complete.path()).await?;
        complete.publish()?;
        self.remember(&self.new_record(sha256, self.tool.member.as_ref().map(|_| expected.to_owned())))
    }

    fn new_record(&self, sha256: String, archive: Option<String>) -> Record {
        Record { version: self.tool.version.clone(), arch: self.tool.arch.name().to_owned(), sha256, archive }
    }

    async fn try_out(&self, program: &Path) -> Result<(), Error> {
        let command = Root::default()
            .command(program)
            .named(T::NAME)
            .args(T::VERSION)
            // Otherwise clusterctl asks its project's server for a newer one, and waits for the answer.
            .env("CLUSTERCTL_DISABLE_VERSIONCHECK", "true")
            .within(VERSION_DEADLINE);
        let said = command.execute().await?.stdout;
        if says(&said, &self.tool.version) {
            return Ok(());
        }
        Err(Error::VersionMismatch {
            tool: T::NAME,
            place: self.tool.source.to_string(),
            version: self.tool.version.clone(),
            said: said.trim().to_owned(),
        })
    }

    fn remember(&self, record: &Record) -> Result<(), Error> {
        Ok(file::write(&self.record_path(), json!(record).to_string().as_bytes(), Owner::default(), 0o644)?)
    }

    async fn carry_out(&self, change: &ToolChange) -> Result<(), Error> {
        match change {
            ToolChange::Place { expected, owner, .. } => self.place(expected, *owner).await,
            ToolChange::TryOut { path, after } => {
                self.try_out(path).await?;
                self.remember(after)
            }
            ToolChange::SetAttributes { path, after, .. } => Ok(file::set_attributes(path, after.owner, after.mode)?),
        }
    }

    async fn look(&self) -> Result<Live, Error> {
        let owner = Owner::resolve(&Root::default(), &self.step.owner, &self.step.group).await?;
        let found = match file::attributes(&self.path)? {
            Some(attributes) => match self.digest.take() {
                Some(sha256) => Some((attributes, sha256)),
                None => file::sha256(&self.path)?.map(|sha256| (attributes, sha256)),
            },
            None => None,
        };
        let record = self.record()?;
        let recorded = record.as_ref().map(Record::download);
        let expected = match self.tool.checksum.known(recorded) {
            Some(expected) => expected,
            None => self.tool.checksum.fetch(self.silence()).await?,
        };
        Ok(Live { owner, found, record, expected })
    }
}

impl<T: Tool> Section for Fetch<'_, T> {
    const NAME: &'static str = T::NAME;
    type Live = Live;
    type Change = ToolChange;

    async fn observe(&self) -> Result<Live, Failure> {
        Ok(self.look().await?)
    }

    fn plan(&self, live: &Live) -> Result<Vec<ToolChange>, Failure> {
        let path = self.path.clone();
        let wanted = Attributes { owner: live.owner, mode: self.mode() };
        // What an archive holds is known once it was unpacked.
        let record = match self.tool.member {
            Some(_) => live.record.clone().filter(|record| record.download() == live.expected),
            None => Some(self.new_record(live.expected.clone(), None)),
        };
        let right =
            record.and_then(|record| Some((record, live.found.as_ref()?))).filter(|(record, (_, sha256))| *sha256 == record.sha256);
        let Some((record, (attributes, _))) = right else {
            let before = live.found.as_ref().map(|(_, sha256)| sha256.clone());
            let (version, expected) = (self.tool.version.clone(), live.expected.clone());
            return Ok(vec![ToolChange::Place { path, before, version, expected, owner: live.owner }]);
        };
        let mut changes = Vec::new();
        if *attributes != wanted {
            changes.push(ToolChange::SetAttributes { path: path.clone(), before: *attributes, after: wanted });
        }
        if live.record.as_ref() != Some(&record) {
            changes.push(ToolChange::TryOut { path, after: record });
        }
        Ok(changes)
    }

    async fn apply(&self, change: &ToolChange) -> Result<(), Failure> {
        Ok(self.carry_out(change).await?)
    }
}

impl ToolChange {
    fn path(&self) -> &Path {
        match self {
            Self::Place { path, .. } | Self::TryOut { path, .. } | Self::SetAttributes { path, .. } => path,
        }
    }
}

impl fmt::Display for ToolChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path().display();
        match self {
            Self::Place { version, .. } => write!(f, "place {path} {version}"),
            Self::TryOut { after, .. } => write!(f, "try {path} {} out", after.version),
            Self::SetAttributes { .. } => write!(f, "set owner and mode of {path}"),
        }
    }
}

impl Change for ToolChange {
    fn object(&self) -> String {
        self.path().display().to_string()
    }

    fn before(&self) -> Value {
        match self {
            Self::Place { before, .. } => before.as_ref().map_or(Value::Null, |sha256| json!({"sha256": sha256})),
            Self::TryOut { .. } => json!({"tried": false}),
            Self::SetAttributes { before, .. } => shown(*before),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Place { expected, .. } => json!({"sha256": expected}),
            Self::TryOut { .. } => json!({"tried": true}),
            Self::SetAttributes { after, .. } => shown(*after),
        }
    }
}

/// Whether a program says this version, and not one that only begins or ends like it. What it was built from may follow.
fn says(said: &str, version: &str) -> bool {
    let goes_on = |rest: &str| {
        let mut letters = rest.chars();
        match letters.next() {
            Some('.') => letters.next().is_some_and(|letter| letter.is_ascii_alphanumeric()),
            Some(letter) => letter.is_ascii_alphanumeric() || letter == '-',
            None => false,
        }
    };
    let begins_before = |before: &str| before.ends_with(|letter: char| letter.is_ascii_alphanumeric() || ".-+".contains(letter));
    said.match_indices(version).any(|(at, _)| !begins_before(&said[..at]) && !goes_on(&said[at + version.len()..]))
}

fn shown(attributes: Attributes) -> Value {
    let Attributes { owner, mode } = attributes;
    json!({"owner": owner.user, "group": owner.group, "mode": format!("{mode:04o}")})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::{Helm, Kubectl};

    #[test]
    fn plans() {
        let step = BinaryFetch::default();
        let fetch = Fetch::<Kubectl>::new(&step, Kubectl::declare(&step).unwrap(), "/bin/kubectl".into(), None);
        let attributes = |user, mode| Attributes { owner: Owner { user, group: 0 }, mode };
        let record = fetch.new_record("aa".into(), None);
        for (case, found, record, expected) in [
            ("not there", None, None, "place /bin/kubectl v1.35.3"),
            ("right", Some((attributes(0, 0o755), "aa")), Some(&record), ""),
            ("another one", Some((attributes(0, 0o755), "bb")), Some(&record), "place /bin/kubectl v1.35.3"),
            ("somebody's right one", Some((attributes(0, 0o755), "aa")), None, "try /bin/kubectl v1.35.3 out"),
            ("another mode", Some((attributes(0, 0o700), "aa")), Some(&record), "set owner and mode of /bin/kubectl"),
            ("another owner", Some((attributes(1, 0o755), "aa")), Some(&record), "set owner and mode of /bin/kubectl"),
        ] {
            let found = found.map(|(attributes, sha256)| (attributes, sha256.to_owned()));
            let live = Live { owner: Owner::default(), found, record: record.cloned(), expected: "aa".into() };
            let plan = fetch.plan(&live).unwrap();
            assert_eq!(plan.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), expected, "{case}");
        }
    }

    #[test]
    fn a_version_is_a_whole_word() {
        for (said, version, expected) in [
            ("clientVersion:\n  gitVersion: v1.35.3\n", "v1.35.3", true),
            ("clientVersion:\n  gitVersion: v1.35.30\n", "v1.35.3", false),
            ("gitVersion: v1.35.3-rc.1", "v1.35.3", false),
            ("gitVersion: v1.35.3.1", "v1.35.3", false),
            ("{\"gitVersion\":\"v1.35.3\"}", "v1.35.3", true),
            ("This is v1.35.3.", "v1.35.3", true),
            ("v4.3.1+g9a4f3b2", "v4.3.1", true),
            ("k3s version v1.35.3+k3s1 (1a2b3c)", "v1.35.3+k3s1", true),
            ("k3s version v1.35.3+k3s10 (1a2b3c)", "v1.35.3+k3s1", false),
            ("x-v1.35.3", "v1.35.3", false),
            ("", "v1.35.3", false),
        ] {
            assert_eq!(says(said, version), expected, "{said}");
        }
    }

    #[test]
    fn what_was_unpacked_is_known_by_its_archive() {
        let step = BinaryFetch::default();
        let fetch = Fetch::<Helm>::new(&step, Helm::declare(&step).unwrap(), "/bin/helm".into(), None);
        let record = |archive: &str| fetch.new_record("aa".into(), Some(archive.into()));
        for (case, found, record, expected) in [
            ("not there", None, None, "place /bin/helm v4.3.1"),
            ("right", Some("aa"), Some(record("tar")), ""),
            ("another one", Some("bb"), Some(record("tar")), "place /bin/helm v4.3.1"),
            ("of another archive", Some("aa"), Some(record("other")), "place /bin/helm v4.3.1"),
            ("nobody knows what it is", Some("aa"), None, "place /bin/helm v4.3.1"),
        ] {
            let attributes = Attributes { owner: Owner::default(), mode: 0o755 };
            let found = found.map(|sha256| (attributes, sha256.to_owned()));
            let plan = fetch.plan(&Live { owner: Owner::default(), found, record, expected: "tar".into() }).unwrap();
            assert_eq!(plan.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), expected, "{case}");
        }
    }
}
