//! Helm's own records of releases.
//!
//! A revision is a Secret. Its labels tell the status, so that a list without the data is enough to see where a release stands; what
//! it was made of is in the data.

use std::{collections::BTreeMap, fmt, io::Read as _};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cluster::{Client, ObjectMeta, resource};
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Error;

/// On a record: the revision's objects have been seen rolled out. Helm itself writes a record anew, without it, whenever the
/// revision becomes something else.
const ROLLED_OUT: &str = "k8s-lab.io/rolled-out";
/// Labels that Helm sets itself.
const SYSTEM_LABELS: [&str; 6] = ["name", "owner", "status", "version", "createdAt", "modifiedAt"];
/// As much as a record may hold, unpacked.
const LIMIT: u64 = 64 << 20;

/// Where a revision stands, in Helm's own words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is what there is.
    Deployed,
    /// It was removed, and its record kept.
    Uninstalled,
    /// A later one has taken its place.
    Superseded,
    /// Helm gave up on it.
    Failed,
    /// It is being removed.
    Uninstalling,
    /// It is being made, as the first.
    PendingInstall,
    /// It is being made.
    PendingUpgrade,
    /// It is being made of an earlier one.
    PendingRollback,
    /// Helm itself does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deployed => "deployed",
            Self::Uninstalled => "uninstalled",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
            Self::Uninstalling => "uninstalling",
            Self::PendingInstall => "pending-install",
            Self::PendingUpgrade => "pending-upgrade",
            Self::PendingRollback => "pending-rollback",
            Self::Unknown => "unknown",
        })
    }
}

/// A revision, as its record's metadata tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revision {
    /// Its number.
    pub number: u64,
    /// Where it stands.
    pub status: Status,
    /// Labels that users gave the release.
    pub labels: BTreeMap<String, String>,
    /// Its objects have been seen rolled out.
    pub is_rolled_out: bool,
}

/// A revision with all that Helm keeps of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Record {
    /// Its number.
    #[serde(rename = "version")]
    pub revision: u64,
    /// Its status and description.
    pub info: Info,
    /// Its chart.
    pub chart: ChartRecord,
    /// What the user has set.
    #[serde(default, deserialize_with = "or_default")]
    pub config: Map<String, Value>,
    /// The objects, rendered.
    #[serde(default)]
    pub manifest: String,
    /// Objects that are made at certain moments only.
    #[serde(default, deserialize_with = "or_default")]
    pub hooks: Vec<Hook>,
}

/// What a record says of its revision.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Info {
    /// Where it stands.
    #[serde(default)]
    pub status: Status,
    /// Words about it.
    #[serde(default)]
    pub description: String,
}

/// What a record says of its chart.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ChartRecord {
    metadata: About,
    /// Base64 of its values' schema.
    #[serde(default)]
    schema: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct About {
    name: String,
    version: String,
}

/// An object that is made at certain moments only.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Hook {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// The object, rendered.
    #[serde(default)]
    pub manifest: String,
    /// At which moments.
    #[serde(default, deserialize_with = "or_default")]
    pub events: Vec<String>,
    /// How it went.
    #[serde(default, deserialize_with = "or_default")]
    pub last_run: LastRun,
}

/// How a hook went.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct LastRun {
    /// `Succeeded`, `Failed`, `Running`, `Unknown`, or nothing.
    #[serde(default)]
    pub phase: String,
}

/// Go writes nothing and null for the same.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Hook {
    /// It belongs to a moment, such as `pre-install`.
    #[must_use]
    pub fn is_at(&self, event: &str) -> bool {
        self.events.iter().any(|own| own == event)
    }

    /// It did what it was made for.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.last_run.phase == "Succeeded"
    }
}

impl Record {
    /// The chart's name.
    #[must_use]
    pub fn chart_name(&self) -> &str {
        &self.chart.metadata.name
    }

    /// The chart's version.
    #[must_use]
    pub fn chart_version(&self) -> &str {
        &self.chart.metadata.version
    }

    /// What the chart says of its values.
    #[must_use]
    pub fn schema(&self) -> Value {
        let text = self.chart.schema.as_ref().and_then(|text| BASE64_STANDARD.decode(text).ok());
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// The tests of the release.
    pub fn tests(&self) -> impl Iterator<Item = &Hook> {
        self.hooks.iter().filter(|hook| hook.is_at("test") || hook.is_at("test-success"))
    }

    /// Every test of this revision has passed, or there is none.
    #[must_use]
    pub fn has_passed(&self) -> bool {
        self.tests().all(Hook::succeeded)
    }

    /// Reads a record's data.
    fn parse(data: &str) -> Result<Self, String> {
        let packed = BASE64_STANDARD.decode(data).ok().and_then(|inner| BASE64_STANDARD.decode(inner).ok());
        let packed = packed.ok_or("it is not the base64 that Helm writes")?;
        let mut text = Vec::new();
        GzDecoder::new(&packed[..])
            .take(LIMIT)
            .read_to_end(&mut text)
            .map_err(|error| format!("it is not packed as Helm packs it: {error}"))?;
        // The parser's own words may quote a value.
        serde_json::from_slice(&text)
            .map_err(|error| format!("it is not of Helm's form (line {}, column {})", error.line(), error.column()))
    }
}

/// A release in a cluster.
#[derive(Clone)]
pub struct Release {
    client: Client,
    namespace: String,
    name: String,
}

impl Release {
    /// The release of a name.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The cluster that it is in.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// All revisions that there are records of, oldest first. One request.
    pub async fn history(&self) -> Result<Vec<Revision>, Error> {
        let selector = format!("owner=helm,name={}", self.name);
        let records = self.client.list_metadata(resource::SECRET, Some(&self.namespace), &selector).await?;
        let mut history: Vec<_> = records.iter().filter_map(revision).collect();
        history.sort_by_key(|revision| revision.number);
        Ok(history)
    }

    /// The record of a revision. One request.
    pub async fn record(&self, revision: u64) -> Result<Record, Error> {
        let secret = self.secret(revision);
        let unreadable =
            |reason: &str| Error::RecordUnreadable { record: format!("{}/{secret}", self.namespace), reason: reason.to_owned() };
        let found = self.client.find(resource::SECRET, Some(&self.namespace), &secret).await?;
        let found = found.ok_or_else(|| Error::Overtaken { release: self.name.clone() })?;
        let data = found.data["data"]["release"].as_str().ok_or_else(|| unreadable("it has no data"))?;
        Record::parse(data).map_err(|reason| unreadable(&reason))
    }

    /// The record of the last revision, unless it was removed, and of the one that was deployed before it. A request each.
    pub async fn standing(&self, history: &[Revision]) -> Result<(Option<Record>, Option<Record>), Error> {
        let Some(last) = history.last().filter(|last| last.status != Status::Uninstalled) else { return Ok((None, None)) };
        let earlier = history.iter().rev().find(|it| it.status == Status::Deployed && it.number != last.number);
        let deployed = match earlier {
            Some(earlier) => Some(self.record(earlier.number).await?),
            None => None,
        };
        Ok((Some(self.record(last.number).await?), deployed))
    }

    /// Notes on a record that the revision's objects have been seen rolled out.
    pub async fn mark_rolled_out(&self, revision: u64) -> Result<(), Error> {
        let mark = json!({"metadata": {"annotations": {ROLLED_OUT: "true"}}});
        Ok(self.client.merge(resource::SECRET, Some(&self.namespace), &self.secret(revision), &mark).await?)
    }

    fn secret(&self, revision: u64) -> String {
        format!("sh.helm.release.v1.{}.v{revision}", self.name)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

fn revision(record: &ObjectMeta) -> Option<Revision> {
    let mut labels = record.labels.clone().unwrap_or_default();
    let number = labels.get("version")?.parse().ok()?;
    let status = labels.get("status").and_then(|status| serde_json::from_value(json!(status)).ok()).unwrap_or_default();
    labels.retain(|label, _| !SYSTEM_LABELS.contains(&label.as_str()));
    let is_rolled_out = record.annotations.as_ref().is_some_and(|notes| notes.contains_key(ROLLED_OUT));
    Some(Revision { number, status, labels, is_rolled_out })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn packed(record: &Value) -> String {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(record.to_string().as_bytes()).unwrap();
        BASE64_STANDARD.encode(BASE64_STANDARD.encode(packer.finish().unwrap()))
    }

    #[test]
    fn a_record_is_read_as_either_version_of_helm_writes_it() {
        let record = json!({
            "name": "demo", "version": 3, "namespace": "ns", "manifest": "---\n", "apply_method": "ssa",
            "info": {"status": "deployed", "description": "by hand", "first_deployed": "2026-01-01T00:00:00Z"},
            "chart": {
                "metadata": {"name": "demo", "version": "1.2.3", "apiVersion": "v2"}, "lock": null, "templates": [],
                "schema": BASE64_STANDARD.encode(r#"{"type": "object"}"#),
            },
            "config": null,
            "hooks": [
                {"name": "gate", "kind": "Pod", "events": ["test"], "last_run": {"phase": "Succeeded", "started_at": ""}},
                {"name": "late", "kind": "Job", "events": null, "last_run": null},
            ],
        });
        let read = Record::parse(&packed(&record)).unwrap();
        assert_eq!(
            (read.revision, read.info.status, read.chart_name(), read.chart_version()),
            (3, Status::Deployed, "demo", "1.2.3")
        );
        assert_eq!(read.schema(), json!({"type": "object"}));
        assert!(read.config.is_empty() && read.has_passed());
        assert_eq!(read.tests().map(|hook| hook.name.as_str()).collect::<Vec<_>>(), ["gate"]);
    }

    #[test]
    fn tests_pass_together_or_not_at_all() {
        for (phases, passed) in
            [(&[][..], true), (&["Succeeded", "Succeeded"], true), (&["Succeeded", ""], false), (&["Failed"], false)]
        {
            let hook = |phase: &&str| Hook {
                events: vec!["test".into()],
                last_run: LastRun { phase: (*phase).to_owned() },
                ..Hook::default()
            };
            let record = Record { hooks: phases.iter().map(hook).collect(), ..Record::default() };
            assert_eq!(record.has_passed(), passed, "{phases:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_why_without_quoting_it() {
        let odd = packed(&json!({"config": "hunter2"}));
        let plain = BASE64_STANDARD.encode(BASE64_STANDARD.encode("hunter2"));
        for (data, words) in [("hunter2", "base64"), (&plain, "packed"), (&odd, "form")] {
            let reason = Record::parse(data).unwrap_err();
            assert!(reason.contains(words) && !reason.contains("hunter2"), "{reason}");
        }
    }

    #[test]
    fn metadata_tells_where_a_revision_stands() {
        let record = |labels: Value, annotations: Value| {
            serde_json::from_value(json!({"labels": labels, "annotations": annotations})).unwrap()
        };
        let labels = json!({
            "owner": "helm", "name": "demo", "version": "12", "status": "pending-upgrade", "modifiedAt": "1",
            "clusterctl.cluster.x-k8s.io/move": "",
        });
        let labelled = BTreeMap::from([("clusterctl.cluster.x-k8s.io/move".to_owned(), String::new())]);
        let expected = Revision { number: 12, status: Status::PendingUpgrade, labels: labelled, is_rolled_out: true };
        assert_eq!(revision(&record(labels, json!({ROLLED_OUT: "true"}))), Some(expected));
        let odd = revision(&record(json!({"version": "1", "status": "dreaming"}), Value::Null));
        assert_eq!(odd.map(|odd| (odd.status, odd.is_rolled_out)), Some((Status::Unknown, false)));
        assert_eq!(revision(&record(json!({"version": "next"}), Value::Null)), None);
    }
}
