//! A man in the middle: what a step says to LXD passes through here, is written down, and meets the faults that the test asked for.
//!
//! It stands in front of the scripted LXD and of the real one alike, so that every fault is tried against both.

mod fault;
mod journal;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::body::Bytes;
use hyper::{Request, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

pub use fault::{Held, Trigger};
pub use journal::Recorded;

use crate::listener::{Handler, Listener, Reply};
use crate::rest::{self, Rest};
use fault::{Armed, Effect};

/// A socket that stands for the LXD behind it.
pub struct Relay {
    socket: PathBuf,
    wire: Arc<Wire>,
    _listener: Listener,
    _folder: TempDir,
}

impl Relay {
    /// Stands in front of the LXD that listens on `upstream`.
    pub fn start(upstream: &Path) -> Self {
        let folder = TempDir::with_prefix("relay-").expect("make a folder for the relay's socket");
        let socket = folder.path().join("unix.socket");
        let wire = Arc::new(Wire { upstream: upstream.to_owned(), ..Wire::default() });
        let listener = Listener::start(&socket, Arc::clone(&wire));
        Self { socket, wire, _listener: listener, _folder: folder }
    }

    /// The socket to give to a step.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Names the request that a fault is for: a method (or `*`) and a path, in which `*` stands for one segment.
    pub fn on(&self, method: &str, path: &str) -> Trigger<'_> {
        Trigger::new(&self.wire, method, path)
    }

    /// Names the next request that changes something.
    pub fn on_write(&self) -> Trigger<'_> {
        Trigger::on_write(&self.wire)
    }

    /// Every request so far, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.wire.journal).clone()
    }

    /// Every request so far that may change something, as `METHOD path`.
    pub fn writes(&self) -> Vec<String> {
        lock(&self.wire.journal).iter().filter(|request| request.is_write()).map(ToString::to_string).collect()
    }

    /// Forgets the requests so far and disarms what has not happened yet.
    pub fn reset(&self) {
        lock(&self.wire.journal).clear();
        lock(&self.wire.armed).clear();
    }
}

/// What the relay's socket and its owner share.
#[derive(Default)]
pub(crate) struct Wire {
    upstream: PathBuf,
    journal: Mutex<Vec<Recorded>>,
    armed: Mutex<Vec<Armed>>,
    /// Operations that LXD never heard of, by their path: accepted and failed at a test's wish.
    failed: Mutex<BTreeMap<String, Value>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handler for Wire {
    async fn call(self: Arc<Self>, request: Request<Bytes>) -> Reply {
        let place = {
            let mut journal = lock(&self.journal);
            journal.push(Recorded::of(&request));
            journal.len() - 1
        };
        let reply = self.answer(request).await;
        if let (Reply::Whole(response), Some(entry)) = (&reply, lock(&self.journal).get_mut(place)) {
            entry.status = Some(response.status().as_u16());
        }
        reply
    }
}

impl Wire {
    async fn answer(&self, request: Request<Bytes>) -> Reply {
        if let Some(operation) = self.failed_operation(request.uri().path()) {
            return Reply::Whole(json_response(
                200,
                &json!({
                    "type": "sync", "status": "Success", "status_code": 200,
                    "operation": "", "error_code": 0, "error": "", "metadata": operation,
                }),
            ));
        }
        let effect = fault::due(&mut lock(&self.armed), &request);
        match effect {
            None => self.forward(request).await,
            Some(Effect::Refuse { status, message }) => Reply::Whole(refusal(status, &message)),
            Some(Effect::RefuseAfter { status, message }) => {
                let reply = self.forward(request).await;
                self.finish(reply).await;
                Reply::Whole(refusal(status, &message))
            }
            Some(Effect::FailOperation { error }) => Reply::Whole(self.accept_and_fail(&error)),
            Some(Effect::Say { status, content_type, body }) => Reply::Whole(
                Response::builder()
                    .status(status)
                    .header("content-type", content_type)
                    .body(Bytes::from(body))
                    .expect("a well-formed answer"),
            ),
            Some(Effect::Delay(duration)) => {
                tokio::time::sleep(duration).await;
                self.forward(request).await
            }
            Some(Effect::CutBefore) => Reply::Cut,
            Some(Effect::CutAfter) => {
                self.forward(request).await;
                Reply::Cut
            }
            Some(Effect::CutWithin) => match self.forward(request).await {
                Reply::Whole(response) => Reply::Half(response),
                other => other,
            },
            Some(Effect::Meanwhile(act)) => {
                let rest = Rest::new(&self.upstream);
                // The act talks to LXD and blocks; the relay's own thread has to stay free.
                let acted = tokio::task::spawn_blocking(move || act(&rest)).await;
                acted.expect("the act of the other party");
                self.forward(request).await
            }
            Some(Effect::HoldBefore(gate)) => {
                if gate.pass().await {
                    self.forward(request).await
                } else {
                    Reply::Cut
                }
            }
            Some(Effect::HoldAfter(gate)) => {
                let reply = self.forward(request).await;
                if gate.pass().await { reply } else { Reply::Cut }
            }
        }
    }

    async fn forward(&self, request: Request<Bytes>) -> Reply {
        match rest::send(&self.upstream, request).await {
            Ok(response) => Reply::Whole(response),
            Err(_) => Reply::Cut,
        }
    }

    /// Waits for the end of what an answer says is still being done.
    async fn finish(&self, reply: Reply) {
        let Reply::Whole(response) = reply else { return };
        let envelope: Value = serde_json::from_slice(response.body()).unwrap_or_default();
        let Some(operation) = envelope["operation"].as_str().filter(|operation| !operation.is_empty()) else { return };
        let (rest, path) = (Rest::new(&self.upstream), format!("{operation}/wait?timeout=10"));
        let ended = tokio::task::spawn_blocking(move || rest.get(&path)).await;
        ended.expect("the end of the operation");
    }

    fn failed_operation(&self, path: &str) -> Option<Value> {
        let path = path.strip_suffix("/wait").unwrap_or(path);
        lock(&self.failed).get(path).cloned()
    }

    fn accept_and_fail(&self, error: &str) -> Response<Bytes> {
        let mut failed = lock(&self.failed);
        let id = format!("00000000-0000-4000-8000-{:012x}", failed.len() + 1);
        let path = format!("/1.0/operations/{id}");
        let mut operation = json!({
            "id": id, "class": "task", "description": "Doing as asked",
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
            "status": "Running", "status_code": 103, "resources": null, "metadata": null,
            "may_cancel": false, "err": "", "location": "none",
        });
        let response = json_response(
            202,
            &json!({
                "type": "async", "status": "Operation created", "status_code": 100,
                "operation": path, "error_code": 0, "error": "", "metadata": operation,
            }),
        );
        operation["status"] = json!("Failure");
        operation["status_code"] = json!(400);
        operation["err"] = json!(error);
        failed.insert(path, operation);
        response
    }
}

fn refusal(status: u16, message: &str) -> Response<Bytes> {
    json_response(
        status,
        &json!({
            "type": "error", "status": "", "status_code": 0,
            "operation": "", "error_code": status, "error": message, "metadata": null,
        }),
    )
}

fn json_response(status: u16, body: &Value) -> Response<Bytes> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Bytes::from(body.to_string()))
        .expect("a well-formed answer")
}
