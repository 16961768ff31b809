//! Events: what LXD tells of itself as it happens.

use std::{collections::BTreeMap, time::Duration};

use converge::cause;
use futures_util::{SinkExt, Stream, StreamExt, stream};
use reqwest::{
    StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE},
};
use serde::Deserialize;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::Role,
    },
};

use crate::{Client, Error, operation::SUCCESS};

/// The pauses between two attempts to connect grow from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How long nothing may be heard before the other side is asked whether it is still there, and how long it may take to answer.
const SILENCE: Duration = Duration::from_secs(30);

const REQUEST: &str = "GET /1.0/events";

/// What somebody who follows events learns.
#[derive(Debug)]
pub enum Notice {
    /// The connection stands. What happened before is unknown, so everything has to be looked at.
    Connected,
    /// Something happened.
    Happened(Event),
    /// The connection broke. It is being made anew.
    Lost(Error),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it was: an action such as `instance-started`, or `operation` for an operation that ended well.
    pub action: String,
    /// The paths below `/1.0` of what it happened to.
    pub resources: Vec<String>,
}

impl Event {
    /// The names of the instances that it happened to.
    pub fn instances(&self) -> impl Iterator<Item = &str> {
        self.resources.iter().filter_map(|path| path.strip_prefix("instances/")?.split('/').next())
    }
}

impl Client {
    /// Follows what happens in the connection's project, for as long as the stream is asked.
    pub fn events(&self) -> impl Stream<Item = Notice> + Send + use<> {
        let follower = Follower { client: self.clone(), socket: None };
        stream::unfold(follower, |mut follower| async move {
            let notice = follower.next().await;
            Some((notice, follower))
        })
    }

    async fn open_events(&self) -> Result<Socket, Error> {
        let key = generate_key();
        let call = self.http().get(self.url("events?type=lifecycle,operation")?);
        let call = call.header(CONNECTION, "Upgrade").header(UPGRADE, "websocket");
        let call = call.header(SEC_WEBSOCKET_VERSION, "13").header(SEC_WEBSOCKET_KEY, &key);
        let response = self.within(&REQUEST, self.limits().answer, call.send()).await?;
        let status = response.status();
        let accepted =
            response.headers().get(SEC_WEBSOCKET_ACCEPT).is_some_and(|proof| *proof == derive_accept_key(key.as_bytes()));
        if status != StatusCode::SWITCHING_PROTOCOLS || !accepted {
            let message = format!("answered with status {status} instead of a websocket");
            return Err(Error::Refused { request: REQUEST.to_owned(), status: status.as_u16(), message });
        }
        let connection = self.within(&REQUEST, self.limits().answer, response.upgrade()).await?;
        Ok(Socket(WebSocketStream::from_raw_socket(connection, Role::Client, None).await))
    }
}

struct Follower {
    client: Client,
    socket: Option<Socket>,
}

impl Follower {
    async fn next(&mut self) -> Notice {
        let Some(socket) = &mut self.socket else {
            self.socket = Some(connect(&self.client).await);
            return Notice::Connected;
        };
        match socket.event().await {
            Ok(event) => Notice::Happened(event),
            Err(error) => {
                self.socket = None;
                Notice::Lost(error)
            }
        }
    }
}

async fn connect(client: &Client) -> Socket {
    let mut pause = FIRST_PAUSE;
    loop {
        match client.open_events().await {
            Ok(socket) => return socket,
            Err(error) => tracing::debug!("no events: {error}"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

struct Socket(WebSocketStream<reqwest::Upgraded>);

impl Socket {
    async fn event(&mut self) -> Result<Event, Error> {
        let mut asked = false;
        loop {
            match timeout(SILENCE, self.0.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => {
                    if let Some(event) = parse(&text) {
                        return Ok(event);
                    }
                }
                Ok(Some(Ok(Message::Close(_))) | None) => return Err(lost("the server closed it")),
                // Pings are answered by the library.
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => return Err(lost(cause(&error))),
                Err(_) if asked => return Err(lost("the server has fallen silent")),
                Err(_) => {
                    asked = true;
                    self.0.send(Message::Ping(Vec::new().into())).await.map_err(|error| lost(cause(&error)))?;
                    continue;
                }
            }
            asked = false;
        }
    }
}

fn lost(reason: impl Into<String>) -> Error {
    Error::Interrupted { request: REQUEST.to_owned(), reason: reason.into() }
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "metadata", rename_all = "lowercase")]
enum Told {
    Lifecycle {
        action: String,
        source: String,
    },
    Operation {
        status_code: u16,
        #[serde(default)]
        resources: Option<BTreeMap<String, Vec<String>>>,
    },
}

/// An event, if it is one that matters: of an operation only a good end does. Whoever began one that failed is told so.
fn parse(text: &str) -> Option<Event> {
    let (action, paths) = match serde_json::from_str(text).ok()? {
        Told::Lifecycle { action, source } => (action, vec![source]),
        Told::Operation { status_code: SUCCESS, resources } => {
            ("operation".to_owned(), resources.into_iter().flat_map(BTreeMap::into_values).flatten().collect())
        }
        Told::Operation { .. } => return None,
    };
    let below = |path: &String| Some(path.strip_prefix("/1.0/")?.split('?').next()?.to_owned());
    Some(Event { action, resources: paths.iter().filter_map(below).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_name_what_they_happened_to() {
        for (case, text, expected) in [
            (
                "a start",
                r#"{"type": "lifecycle", "project": "lab", "metadata": {"action": "instance-started", "source": "/1.0/instances/cp-1?project=lab"}}"#,
                Some(("instance-started", "cp-1")),
            ),
            (
                "something within an instance",
                r#"{"type": "lifecycle", "metadata": {"action": "instance-log-deleted", "source": "/1.0/instances/cp-1/logs/x.log"}}"#,
                Some(("instance-log-deleted", "cp-1")),
            ),
            (
                "another kind of object",
                r#"{"type": "lifecycle", "metadata": {"action": "image-alias-created", "source": "/1.0/images/aliases/haproxy"}}"#,
                Some(("image-alias-created", "")),
            ),
            (
                "an operation that goes on",
                r#"{"type": "operation", "metadata": {"status_code": 103, "resources": {"instances": ["/1.0/instances/cp-1"]}}}"#,
                None,
            ),
            (
                "an operation that ended well",
                r#"{"type": "operation", "metadata": {"status_code": 200, "resources": {"instances": ["/1.0/instances/cp-1"]}}}"#,
                Some(("operation", "cp-1")),
            ),
            (
                "an operation that failed",
                r#"{"type": "operation", "metadata": {"status_code": 400, "resources": {"instances": ["/1.0/instances/cp-1"]}}}"#,
                None,
            ),
            (
                "an operation on nothing",
                r#"{"type": "operation", "metadata": {"status_code": 200, "resources": null}}"#,
                Some(("operation", "")),
            ),
            ("a kind that was not asked for", r#"{"type": "logging", "metadata": {"message": "x"}}"#, None),
            ("no event at all", "{", None),
        ] {
            let event = parse(text);
            let seen = event.as_ref().map(|event| (event.action.as_str(), event.instances().collect::<Vec<_>>().join(",")));
            assert_eq!(seen, expected.map(|(action, instances)| (action, instances.to_owned())), "{case}");
        }
    }
}
