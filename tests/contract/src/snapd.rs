//! A small model of snapd that answers on a unix socket.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::body::Bytes;
use hyper::{Request, Response};
use serde_json::{Value, json};

use crate::listener::{Handler, Listener, Reply};

/// How often a change is looked at before it is ready.
const LOOKS: u32 = 2;

/// A running snapd.
pub struct Snapd {
    model: Arc<Model>,
    _listener: Listener,
}

#[derive(Default)]
struct Model {
    state: Mutex<State>,
}

struct State {
    seeded: bool,
    channels: BTreeSet<&'static str>,
    snaps: BTreeMap<String, String>,
    options: BTreeMap<String, Value>,
    changes: Vec<Change>,
    failure: Option<&'static str>,
    writes: Vec<String>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            seeded: true,
            channels: BTreeSet::from(["5.21/stable", "6/stable"]),
            snaps: BTreeMap::new(),
            options: BTreeMap::new(),
            changes: Vec::new(),
            failure: None,
            writes: Vec::new(),
        }
    }
}

struct Change {
    effect: Effect,
    looks: u32,
    failure: Option<&'static str>,
}

#[derive(Clone)]
enum Effect {
    Follow { snap: String, channel: String },
    Configure(Value),
}

impl Snapd {
    /// Starts a snapd without any snap.
    pub fn start(socket: &Path) -> Self {
        std::fs::create_dir_all(socket.parent().expect("a socket is in a folder")).expect("make the socket's folder");
        let model = Arc::new(Model::default());
        let listener = Listener::start(socket, Arc::clone(&model));
        Self { model, _listener: listener }
    }

    /// Whether snapd's own first start is over.
    pub fn set_seeded(&self, seeded: bool) {
        self.model.lock().seeded = seeded;
    }

    /// Makes the next change fail with these words.
    pub fn fail_next_change(&self, words: &'static str) {
        self.model.lock().failure = Some(words);
    }

    /// Installs a snap by hand, or lets it follow another channel.
    pub fn set_snap(&self, name: &str, channel: &str) {
        self.model.lock().snaps.insert(name.to_owned(), channel.to_owned());
    }

    /// Sets an option of the system by hand.
    pub fn set_option(&self, name: &str, value: &str) {
        self.model.lock().options.insert(name.to_owned(), json!(value));
    }

    /// The options of the system that are set.
    pub fn options(&self) -> BTreeMap<String, Value> {
        self.model.lock().options.clone()
    }

    /// The requests that changed something.
    pub fn writes(&self) -> Vec<String> {
        self.model.lock().writes.clone()
    }
}

impl Model {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for Model {
    async fn call(self: Arc<Self>, request: Request<Bytes>) -> Reply {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let mut state = self.lock();
        if request.method() != "GET" {
            state.writes.push(format!("{} {path} {body}", request.method()));
        }
        let parts: Vec<_> = path.trim_start_matches("/v2/").split('/').collect();
        let (status, answer) = match (request.method().as_str(), parts.as_slice()) {
            ("GET", ["snaps", "system", "conf"]) => state.option(query.trim_start_matches("keys=")),
            ("PUT", ["snaps", "system", "conf"]) => state.begin(Effect::Configure(body)),
            ("GET", ["snaps", name]) => state.snap(name),
            ("POST", ["snaps", name]) => state.follow(name, &body),
            ("GET", ["changes"]) => sync(&json!([{"summary": "Initialize system state", "status": "Doing", "ready": false}])),
            ("GET", ["changes", id]) => state.change(id),
            _ => refuse(404, "", "not found"),
        };
        let answer = Response::builder().status(status).body(Bytes::from(answer.to_string()));
        Reply::Whole(answer.expect("an answer is well-formed"))
    }
}

impl State {
    fn option(&self, name: &str) -> (u16, Value) {
        let value = if name == "seed.loaded" { self.seeded.then_some(json!(true)) } else { self.options.get(name).cloned() };
        match value {
            Some(value) => sync(&json!({name: value})),
            None => refuse(400, "option-not-found", &format!("snap \"core\" has no \"{name}\" configuration option")),
        }
    }

    fn snap(&self, name: &str) -> (u16, Value) {
        match self.snaps.get(name) {
            Some(channel) => sync(
                &json!({"name": name, "version": "6.5-1", "revision": "33000", "status": "active", "tracking-channel": channel}),
            ),
            None => refuse(404, "snap-not-found", "snap not installed"),
        }
    }

    fn follow(&mut self, name: &str, body: &Value) -> (u16, Value) {
        let action = body["action"].as_str().unwrap_or_default();
        let channel = body["channel"].as_str().unwrap_or_default();
        if (action == "install") == self.snaps.contains_key(name) {
            return refuse(400, "snap-already-installed", &format!("snap \"{name}\" cannot be asked to {action}"));
        }
        if !self.channels.contains(channel) {
            return refuse(404, "snap-channel-not-available", &format!("no snap revision on channel {channel}"));
        }
        self.begin(Effect::Follow { snap: name.to_owned(), channel: channel.to_owned() })
    }

    fn begin(&mut self, effect: Effect) -> (u16, Value) {
        self.changes.push(Change { effect, looks: 0, failure: self.failure.take() });
        let id = self.changes.len().to_string();
        (202, json!({"type": "async", "status-code": 202, "status": "Accepted", "result": null, "change": id}))
    }

    fn change(&mut self, id: &str) -> (u16, Value) {
        let index = id.parse::<usize>().ok().and_then(|id| id.checked_sub(1));
        let Some(change) = index.and_then(|index| self.changes.get_mut(index)) else { return refuse(404, "", "no such change") };
        change.looks += 1;
        let summary = "Do what was asked";
        if change.looks < LOOKS {
            let tasks = json!([{"summary": "Download snap", "status": "Doing"}]);
            return sync(&json!({"id": id, "summary": summary, "status": "Doing", "ready": false, "tasks": tasks}));
        }
        if let Some(words) = change.failure {
            return sync(&json!({"id": id, "summary": summary, "status": "Error", "ready": true, "err": words}));
        }
        match change.effect.clone() {
            Effect::Follow { snap, channel } => drop(self.snaps.insert(snap, channel)),
            Effect::Configure(options) => {
                for (name, value) in options.as_object().into_iter().flatten() {
                    self.options.remove(name);
                    if !value.is_null() {
                        self.options.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        sync(&json!({"id": id, "summary": summary, "status": "Done", "ready": true}))
    }
}

fn sync(result: &Value) -> (u16, Value) {
    (200, json!({"type": "sync", "status-code": 200, "status": "OK", "result": result}))
}

fn refuse(status: u16, kind: &str, message: &str) -> (u16, Value) {
    (status, json!({"type": "error", "status-code": status, "status": "Error", "result": {"message": message, "kind": kind}}))
}
