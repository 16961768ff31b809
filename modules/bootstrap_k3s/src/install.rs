//! k3s in its place: its program, its images and its files.

use std::{collections::BTreeMap, fmt};

use converge::{Failure, Section};
use lab::{
    address::Cidr,
    plan::{ClusterNetworks, Plan},
};
use lxd::{FileInfo, FileKind, Source};
use serde_json::{Value, json};

use crate::{
    BootstrapK3s,
    files::{self, File},
    payload::{self, Payload, Record},
};

/// Everything that k3s consists of, in its place.
pub(crate) struct Install<'a> {
    pub step: &'a BootstrapK3s,
    pub payloads: Vec<Payload>,
}

#[derive(Default)]
pub(crate) struct Live {
    pub payloads: BTreeMap<String, payload::Live>,
    pub files: BTreeMap<String, LiveFile>,
    /// The networks that the node is to be in.
    pub networks: Vec<Cidr>,
}

/// A file as it is.
#[derive(Clone, Debug)]
pub(crate) struct LiveFile {
    pub info: FileInfo,
    pub text: String,
}

pub(crate) enum Change {
    Place { payload: Payload, before: Option<Record>, after: String },
    Write { file: File, before: Option<LiveFile> },
    Remove { file: File, before: LiveFile },
}

impl Install<'_> {
    /// The program's record; nothing where the program was never placed.
    pub(crate) async fn record(&self) -> Result<Option<Record>, Failure> {
        let client = self.step.client().await?;
        let Some(program) = self.payloads.first() else { return Ok(None) };
        Ok(program.record(&client, &self.step.instance_name).await?)
    }

    /// What k3s has read by the time it runs.
    pub(crate) fn paths(&self) -> Vec<String> {
        let files = files::declare(self.step).into_iter().map(|file| file.path);
        self.payloads.iter().map(|payload| payload.path.clone()).chain(files).collect()
    }
}

impl Section for Install<'_> {
    const NAME: &'static str = "install";
    type Live = Live;
    type Change = Change;

    async fn observe(&self) -> Result<Live, Failure> {
        let (client, instance) = (self.step.instance().await?, &self.step.instance_name);
        let state = client.instance_state(instance).await?;
        let mut live = Live { networks: state.networks(&self.step.internal_ifname).collect(), ..Live::default() };
        for payload in &self.payloads {
            live.payloads.insert(payload.path.clone(), payload.observe(&client, instance).await?);
        }
        for file in files::declare(self.step) {
            if let Some((info, content)) = client.read_file(instance, &file.path).await? {
                live.files.insert(file.path, LiveFile { info, text: String::from_utf8_lossy(&content).into_owned() });
            }
        }
        Ok(live)
    }

    fn plan(&self, live: &Live) -> Result<Vec<Change>, Failure> {
        let unknown = payload::Live::default();
        let place = |payload: &Payload| {
            let found = live.payloads.get(&payload.path).unwrap_or(&unknown);
            let change = || Change::Place { payload: payload.clone(), before: found.record.clone(), after: found.wanted.clone() };
            payload.differs(found).then(change)
        };
        let write = |file: File| match (&file.text, live.files.get(&file.path)) {
            (Some(_), before) if before.is_some_and(|before| file.is_as_declared(before)) => None,
            (Some(_), before) => Some(Change::Write { before: before.cloned(), file }),
            (None, Some(before)) if file.is_ours(&before.text) => Some(Change::Remove { before: before.clone(), file }),
            (None, _) => None,
        };
        let changes: Vec<_> =
            self.payloads.iter().filter_map(place).chain(files::declare(self.step).into_iter().filter_map(write)).collect();
        if !changes.is_empty() {
            let shared = live.networks.iter().map(|network| ("the node's network".to_owned(), *network)).collect();
            Plan { shared, clusters: vec![ClusterNetworks::bootstrap()], ..Plan::default() }.check()?;
        }
        Ok(changes)
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        let (client, instance) = (self.step.client().await?, &self.step.instance_name);
        match change {
            Change::Place { payload, after, .. } => payload.place(&client, instance, after).await,
            Change::Write { file, .. } => {
                let text = file.text.as_ref().map_or("", |text| text.expose());
                let staged = client.stage_file(instance, &file.path, file.mode, Source::Bytes(text.as_bytes())).await?;
                Ok(staged.publish().await?)
            }
            Change::Remove { file, .. } => Ok(client.delete_file(instance, &file.path).await?),
        }
    }
}

impl File {
    fn is_as_declared(&self, live: &LiveFile) -> bool {
        let attributes = (live.info.kind, live.info.user, live.info.group, live.info.mode);
        attributes == (FileKind::File, 0, 0, self.mode) && self.text.as_ref().is_some_and(|text| text.expose() == live.text)
    }

    /// What may be shown of the file with some text.
    fn show(&self, text: &str, mode: u32) -> Value {
        let text = if self.shown { text.to_owned() } else { converge::Secret::from(text.to_owned()).redacted() };
        json!({"mode": format!("{mode:04o}"), "content": text})
    }
}

impl Change {
    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Place { payload, .. } => &payload.path,
            Self::Write { file, .. } | Self::Remove { file, .. } => &file.path,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self {
            Self::Place { .. } => "place",
            Self::Write { .. } => "write",
            Self::Remove { .. } => "remove",
        };
        write!(f, "{verb} {}", self.path())
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        self.path().to_owned()
    }

    fn before(&self) -> Value {
        match self {
            Self::Place { before, .. } => before.as_ref().map_or(Value::Null, |record| json!({"sha256": record.sha256})),
            Self::Write { file, before } => before.as_ref().map_or(Value::Null, |live| file.show(&live.text, live.info.mode)),
            Self::Remove { file, before } => file.show(&before.text, before.info.mode),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Place { payload, after, .. } => json!({"sha256": after, "mode": format!("{:04o}", payload.mode)}),
            Self::Write { file, .. } => file.text.as_ref().map_or(Value::Null, |text| file.show(text.expose(), file.mode)),
            Self::Remove { .. } => Value::Null,
        }
    }
}
