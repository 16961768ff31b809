//! snapd, by its REST API. No change is waited for without a deadline; while snapd replaces itself, it is asked again.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use converge::{Explain, Explanation, Wait, WaitError};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

/// Where snapd listens.
pub(crate) const SOCKET: &str = "/run/snapd.socket";

/// What can go wrong between the step and snapd.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("snapd at {} cannot be reached: {reason}", socket.display())]
    Unreachable {
        socket: PathBuf,
        reason: String,
        /// There is no socket: snapd is not installed yet.
        absent: bool,
    },
    #[error("snapd refused {request}: {message}")]
    Refused {
        request: String,
        /// snapd's name of the error, where it has one.
        kind: String,
        message: String,
    },
    #[error("snapd could not finish: {summary}: {message}")]
    Failed { summary: String, message: String },
    #[error(transparent)]
    Slow(#[from] WaitError),
    #[error(transparent)]
    NotSeeded(WaitError),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Unreachable { absent: true, .. } => {
                Explanation::new("SNAPD_UNREACHABLE").hint("run the role base_system first; it installs snapd").prerequisite()
            }
            Self::Unreachable { .. } => Explanation::new("SNAPD_UNREACHABLE").hint("look at `systemctl status snapd.socket`"),
            Self::Refused { message, .. } if names_the_store(message) => Explanation::new("SNAP_STORE_UNREACHABLE")
                .hint("the snap store must be reachable, by a proxy if need be: `snap set system proxy.https=…`"),
            Self::Refused { kind, .. } => match kind.as_str() {
                "snap-channel-not-available" | "snap-revision-not-available" => {
                    Explanation::new("SNAP_CHANNEL_UNKNOWN").hint("`snap info` lists a snap's channels")
                }
                "snap-not-found" => Explanation::new("SNAP_NOT_FOUND").hint("`snap find` looks for snaps by name"),
                "snap-change-conflict" => Explanation::new("SNAP_CHANGE_CONFLICT")
                    .hint("another change of this snap is under way; `snap changes` lists it"),
                _ => Explanation::new("SNAPD_REFUSED").hint("`snap changes` lists what snapd does"),
            },
            Self::Failed { .. } => Explanation::new("SNAP_CHANGE_FAILED")
                .hint("`snap change --last=install` has the tasks; the store must be reachable"),
            Self::Slow(error) => {
                error.explain().with_code("SNAP_CHANGE_TIMEOUT").with_hint("`snap changes` lists what snapd still does")
            }
            Self::NotSeeded(error) => error
                .explain()
                .with_code("SNAP_SEED_TIMEOUT")
                .with_hint("fresh images can hang in seeding; `snap changes` lists the pending changes"),
        }
    }
}

/// snapd has no name for this error; its words carry the address that it asked.
fn names_the_store(message: &str) -> bool {
    message.contains("snapcraft.io") || message.contains("network error")
}

/// A connection to snapd.
#[derive(Clone, Debug)]
pub(crate) struct Snapd {
    http: reqwest::Client,
    socket: PathBuf,
}

/// An installed snap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Snap {
    /// The channel that it follows.
    pub(crate) tracking_channel: String,
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

/// How long snapd may take to answer. What takes longer is a change, and waited for.
const ANSWERING: Duration = Duration::from_secs(60);

impl Snapd {
    /// A connection to the snapd that listens on `socket`; made when it is first used.
    pub(crate) fn new(socket: &Path) -> Result<Self, Error> {
        let http = transport::client().unix_socket(socket).no_proxy().timeout(ANSWERING).build();
        let unreachable = |error: reqwest::Error| unreachable(socket, &error);
        Ok(Self { http: http.map_err(unreachable)?, socket: socket.to_owned() })
    }

    /// Waits until snapd has set up what came with the system.
    pub(crate) async fn wait_seeded(&self, deadline: Duration) -> Result<(), Error> {
        let wait = Wait::for_condition("snapd: seeded", deadline);
        let look = async || {
            let seeded = self.system_option("seed.loaded").await? == Some(json!(true));
            if seeded { Ok(Ok(())) } else { Ok(Err(self.pending().await?)) }
        };
        match wait.until(look).await {
            Err(Error::Slow(over)) => Err(Error::NotSeeded(over)),
            outcome => outcome,
        }
    }

    /// An installed snap; nothing if it is not installed.
    pub(crate) async fn snap(&self, name: &str) -> Result<Option<Snap>, Error> {
        match self.call(Method::GET, &format!("/v2/snaps/{name}"), None).await {
            Ok(answer) => self.read(answer.result).map(Some),
            Err(Error::Refused { kind, .. }) if kind == "snap-not-found" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Installs a snap.
    pub(crate) async fn install(&self, name: &str, channel: &str, classic: bool, deadline: Duration) -> Result<(), Error> {
        let body = json!({"action": "install", "channel": channel, "classic": classic});
        self.change(Method::POST, &format!("/v2/snaps/{name}"), &body, deadline).await
    }

    /// Makes a snap follow a channel, and brings it to that channel's revision.
    pub(crate) async fn switch(&self, name: &str, channel: &str, deadline: Duration) -> Result<(), Error> {
        let body = json!({"action": "refresh", "channel": channel});
        self.change(Method::POST, &format!("/v2/snaps/{name}"), &body, deadline).await
    }

    /// An option of the system, such as `refresh.hold`; nothing if it is not set.
    pub(crate) async fn system_option(&self, name: &str) -> Result<Option<Value>, Error> {
        match self.call(Method::GET, &format!("/v2/snaps/system/conf?keys={name}"), None).await {
            Ok(answer) => Ok(answer.result.get(name).filter(|value| !value.is_null()).cloned()),
            Err(Error::Refused { kind, .. }) if kind == "option-not-found" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets options of the system; null unsets one.
    pub(crate) async fn set_system_options(&self, options: &BTreeMap<&str, Option<&str>>, deadline: Duration) -> Result<(), Error> {
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
            Err(Error::Unreachable { reason, .. }) => Ok(Err(format!("snapd does not answer: {reason}"))),
            Err(error) => Err(error),
        };
        let change = wait.until(look).await?;
        match change.status.as_str() {
            "Done" => Ok(()),
            _ => Err(Error::Failed { summary: change.summary, message: change.err.trim().to_owned() }),
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
        Err(Error::Refused { request, kind: text("kind"), message: text("message") })
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, result: Value) -> Result<T, Error> {
        serde_json::from_value(result).map_err(|error| Error::Unreachable {
            socket: self.socket.clone(),
            reason: format!("it does not answer as snapd does: {error}"),
            absent: false,
        })
    }
}

fn unreachable(socket: &Path, error: &reqwest::Error) -> Error {
    Error::Unreachable { socket: socket.to_owned(), reason: converge::cause(error), absent: !socket.exists() }
}

/// Whether a value of `refresh.hold` means what another means: the same instant in other words, or for ever.
pub(crate) fn same_hold(one: &str, other: &str) -> bool {
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
