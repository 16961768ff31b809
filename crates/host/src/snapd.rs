//! snapd, by its REST API.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use converge::Wait;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Error, ended::Ended};

/// Where snapd listens.
pub const SOCKET: &str = "/run/snapd.socket";

/// A connection to snapd.
#[derive(Clone, Debug)]
pub struct Snapd {
    http: reqwest::Client,
    socket: PathBuf,
}

/// An installed snap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Snap {
    /// The channel that it follows.
    pub tracking_channel: String,
    /// Its version.
    pub version: String,
    /// Its revision.
    pub revision: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    result: Value,
    change: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Change {
    summary: String,
    status: String,
    ready: bool,
    err: String,
    tasks: Vec<Task>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Task {
    summary: String,
    status: String,
}

impl Change {
    /// What it is at, as a person would say it.
    fn progress(&self) -> String {
        let doing = self.tasks.iter().find(|task| task.status == "Doing").map_or(&self.summary, |task| &task.summary);
        format!("{doing} ({})", self.status)
    }
}

impl Snapd {
    /// A connection to the snapd that listens on `socket`; made when it is first used.
    pub fn new(socket: &Path) -> Result<Self, Error> {
        let http = transport::client().unix_socket(socket).no_proxy().build();
        let unreachable = |error: reqwest::Error| unreachable(socket, &error);
        Ok(Self { http: http.map_err(unreachable)?, socket: socket.to_owned() })
    }

    /// Waits until snapd has set up what came with the system.
    pub async fn wait_seeded(&self, deadline: Duration) -> Result<(), Error> {
        let wait = Wait::for_condition("snapd: seeded", deadline);
        let look = async || {
            let seeded = self.system_option("seed.loaded").await? == Some(json!(true));
            if seeded { Ok(Ok(())) } else { Ok(Err(self.pending().await?)) }
        };
        wait.until(look).await.map_err(|end: Ended| end.into_error(Error::SnapSeed))
    }

    /// An installed snap; nothing if it is not installed.
    pub async fn snap(&self, name: &str) -> Result<Option<Snap>, Error> {
        match self.call(Method::GET, &format!("/v2/snaps/{name}"), None).await {
            Ok(answer) => self.read(answer.result).map(Some),
            Err(Error::SnapdRefused { kind, .. }) if kind == "snap-not-found" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Installs a snap.
    pub async fn install(&self, name: &str, channel: &str, classic: bool, deadline: Duration) -> Result<(), Error> {
        let body = json!({"action": "install", "channel": channel, "classic": classic});
        self.change(Method::POST, &format!("/v2/snaps/{name}"), &body, deadline).await
    }

    /// Makes a snap follow a channel, and brings it to that channel's revision.
    pub async fn switch(&self, name: &str, channel: &str, deadline: Duration) -> Result<(), Error> {
        let body = json!({"action": "refresh", "channel": channel});
        self.change(Method::POST, &format!("/v2/snaps/{name}"), &body, deadline).await
    }

    /// An option of the system, such as `refresh.hold`; nothing if it is not set.
    pub async fn system_option(&self, name: &str) -> Result<Option<Value>, Error> {
        match self.call(Method::GET, &format!("/v2/snaps/system/conf?keys={name}"), None).await {
            Ok(answer) => Ok(answer.result.get(name).filter(|value| !value.is_null()).cloned()),
            Err(Error::SnapdRefused { kind, .. }) if kind == "option-not-found" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets options of the system; null unsets one.
    pub async fn set_system_options(&self, options: &BTreeMap<&str, Option<&str>>, deadline: Duration) -> Result<(), Error> {
        self.change(Method::PUT, "/v2/snaps/system/conf", &json!(options), deadline).await
    }

    /// What snapd has under way.
    async fn pending(&self) -> Result<String, Error> {
        let changes: Vec<Change> = self.read(self.call(Method::GET, "/v2/changes?select=in-progress", None).await?.result)?;
        let pending: Vec<_> = changes.iter().map(Change::progress).collect();
        Ok(if pending.is_empty() { "no change under way".into() } else { pending.join(", ") })
    }

    /// Begins a change and waits for its end.
    async fn change(&self, method: Method, path: &str, body: &Value, deadline: Duration) -> Result<(), Error> {
        let answer = self.call(method, path, Some(body)).await?;
        let Some(id) = answer.change.filter(|_| answer.kind == "async") else { return Ok(()) };
        let path = format!("/v2/changes/{id}");
        let wait = Wait::for_condition(format!("snapd: change {id}"), deadline);
        let look = async || match self.call(Method::GET, &path, None).await {
            Ok(answer) => {
                let change: Change = self.read(answer.result)?;
                Ok(if change.ready { Ok(change) } else { Err(change.progress()) })
            }
            // With its first snap, snapd replaces itself by its own snap and restarts.
            Err(Error::SnapdUnreachable { reason, .. }) => Ok(Err(format!("snapd does not answer: {reason}"))),
            Err(error) => Err(Ended::from(error)),
        };
        let change = wait.until(look).await.map_err(|end| end.into_error(Error::SnapdSlow))?;
        match change.status.as_str() {
            "Done" => Ok(()),
            _ => Err(Error::SnapdFailed { summary: change.summary, message: change.err.trim().to_owned() }),
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        let request = format!("{method} {path}");
        let mut call = self.http.request(method, format!("http://snapd{path}"));
        if let Some(body) = body {
            call = call.json(body);
        }
        let answer: Answer = match call.send().await {
            Ok(response) => response.json().await.map_err(|error| unreachable(&self.socket, &error))?,
            Err(error) => return Err(unreachable(&self.socket, &error)),
        };
        if answer.kind != "error" {
            return Ok(answer);
        }
        let text = |key: &str| answer.result[key].as_str().unwrap_or_default().to_owned();
        Err(Error::SnapdRefused { request, kind: text("kind"), message: text("message") })
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, result: Value) -> Result<T, Error> {
        serde_json::from_value(result).map_err(|error| Error::SnapdUnreachable {
            socket: self.socket.clone(),
            reason: format!("it does not answer as snapd does: {error}"),
            absent: false,
        })
    }
}

fn unreachable(socket: &Path, error: &reqwest::Error) -> Error {
    Error::SnapdUnreachable { socket: socket.to_owned(), reason: transport::cause(error), absent: !socket.exists() }
}

/// Whether a value of `refresh.hold` means what another means: the same instant in other words, or for ever.
#[must_use]
pub fn same_hold(one: &str, other: &str) -> bool {
    let forever = |text: &str| text == "forever" || year(text).is_some_and(|year| year >= FOREVER);
    let plain = |text: &str| text.trim_end_matches("+00:00").trim_end_matches('Z').trim_end_matches(".000000000").to_owned();
    (forever(one) && forever(other)) || plain(one) == plain(other)
}

/// snapd keeps "for ever" as the greatest span that it can add to now, some three hundred years.
const FOREVER: u32 = 2200;

fn year(timestamp: &str) -> Option<u32> {
    timestamp.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_are_compared_by_their_meaning() {
        for (one, other, same) in [
            ("forever", "forever", true),
            ("forever", "2317-03-01T10:00:00Z", true),
            ("forever", "2030-01-01T00:00:00Z", false),
            ("2030-01-01T00:00:00Z", "2030-01-01T00:00:00+00:00", true),
            ("2030-01-01T00:00:00Z", "2030-01-01T00:00:00.000000000Z", true),
            ("2030-01-01T00:00:00Z", "2030-01-01T01:00:00Z", false),
        ] {
            assert_eq!(same_hold(one, other), same, "{one} {other}");
        }
    }
}
