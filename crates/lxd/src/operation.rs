//! Operations: what LXD goes on doing after it has answered.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Client, Error};

/// How long one request waits for an operation. LXD answers earlier when the operation ends; in between its progress can be told.
const GLANCE: Duration = Duration::from_secs(5);

/// The first status code that is an end; below it an operation is pending or running.
const ENDED: u16 = 200;
pub(crate) const SUCCESS: u16 = 200;

#[derive(Deserialize)]
struct Operation {
    status: String,
    status_code: u16,
    #[serde(default)]
    err: String,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

/// An operation in a list.
#[derive(Deserialize)]
pub(crate) struct Running {
    pub id: String,
    #[serde(default)]
    status_code: u16,
    #[serde(default)]
    resources: Option<BTreeMap<String, Vec<String>>>,
}

impl Running {
    pub(crate) fn works_on(&self, target: &str) -> bool {
        let mut resources = self.resources.iter().flat_map(BTreeMap::values).flatten();
        self.status_code < ENDED && resources.any(|path| path.split('?').next() == Some(target))
    }
}

/// Waits for the operation's end and gives its metadata.
pub(crate) async fn finish(client: &Client, operation: &str, request: &str, patience: Duration) -> Result<Value, Error> {
    let start = Instant::now();
    let mut told = String::new();
    loop {
        let left = patience.saturating_sub(start.elapsed());
        let path = format!("{operation}/wait?timeout={}", left.min(GLANCE).as_secs().max(1));
        let now: Operation = client.get(&path).await?.object;
        if now.status_code >= ENDED {
            return now.outcome(request);
        }
        if left.is_zero() {
            return Err(Error::Slow { request: request.to_owned(), deadline: patience, seen: now.progress() });
        }
        let progress = now.progress();
        if progress != told {
            tracing::info!("{request}: {progress}");
            told = progress;
        }
    }
}

impl Operation {
    fn outcome(self, request: &str) -> Result<Value, Error> {
        if self.status_code == SUCCESS {
            return Ok(self.metadata.map_or(Value::Null, Value::Object));
        }
        let message = if self.err.is_empty() { self.status } else { self.err };
        Err(Error::Failed { request: request.to_owned(), message })
    }

    /// What LXD says of it: `rootfs: 43% (12MB/s)` of a download, otherwise its status.
    fn progress(&self) -> String {
        let progress = self.metadata.iter().flatten().find(|(key, value)| key.ends_with("_progress") && value.is_string());
        progress.and_then(|(_, value)| value.as_str()).unwrap_or(&self.status).to_owned()
    }
}
