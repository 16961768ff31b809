//! An LXD of either kind, as a test sees it.

use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value, json};

use crate::{Lent, Personality, Relay, Rest, Scripted, Step};

/// Where a real LXD or Incus may listen.
const SOCKETS: &[&str] = &["/var/snap/lxd/common/lxd/unix.socket", "/var/lib/lxd/unix.socket", "/var/lib/incus/unix.socket"];

/// What every throw-away object's name begins with; the process and the test follow.
const PREFIX: &str = "k8slab-test";

/// The kinds of LXD that every case runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The scripted one as of 5.0.
    ScriptedSync,
    /// The scripted one as of 6.8.
    ScriptedAsync,
    /// The one on this machine.
    Real,
}

/// An LXD behind a [`Relay`], with names for throw-away objects. What the names were used for is deleted in the end.
pub struct Lxd {
    relay: Relay,
    rest: Rest,
    scripted: Option<Scripted>,
    number: usize,
}

impl Lxd {
    /// Starts the scripted LXD, or finds the real one.
    pub fn open(backend: Backend) -> Self {
        let scripted = match backend {
            Backend::ScriptedSync => Some(Scripted::start(Personality::Sync)),
            Backend::ScriptedAsync => Some(Scripted::start(Personality::Async)),
            Backend::Real => None,
        };
        let socket = scripted.as_ref().map_or_else(real_socket, |scripted| scripted.socket().to_owned());
        Self::over(&socket, scripted)
    }

    /// The real one that listens on this socket.
    pub fn at(socket: &Path) -> Self {
        Self::over(socket, None)
    }

    fn over(socket: &Path, scripted: Option<Scripted>) -> Self {
        static OPENED: AtomicUsize = AtomicUsize::new(0);
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        Self { relay: Relay::start(socket), rest: Rest::new(socket), scripted, number }
    }

    /// Where faults are asked for and requests are written down.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// LXD itself, past the relay: for what happens by hand.
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// The scripted LXD, unless this is the real one.
    pub fn scripted(&self) -> Option<&Scripted> {
        self.scripted.as_ref()
    }

    /// The address that it listens on, for this test alone as long as the answer lives.
    pub fn lend_listener(&self) -> Lent {
        Lent::new(&self.rest, self.scripted.is_none())
    }

    /// A step that talks to this LXD.
    pub fn step(&self, name: &'static str) -> Step {
        Step::new(name).socket(self.relay.socket())
    }

    /// A throw-away name for a project, pool or instance.
    pub fn name(&self, what: &str) -> String {
        format!("{}{what}", self.prefix())
    }

    /// A throw-away name for a network, which is at most 15 letters long.
    pub fn network_name(&self, number: u8) -> String {
        format!("{}{number}", self.network_prefix())
    }

    /// An IPv4 and an IPv6 address of a subnet of this test's own.
    pub fn subnet(&self) -> (String, String) {
        // Different tests of a run, and different runs at a time, must not meet.
        let place = (process::id() as usize * 512 + self.number) % 16_384;
        (format!("10.{}.{}.1/24", 128 + place / 256, place % 256), format!("fd42:7e57:{place:x}::1/64"))
    }

    fn prefix(&self) -> String {
        format!("{PREFIX}-{}-{}-", process::id(), self.number)
    }

    fn network_prefix(&self) -> String {
        format!("kt{:x}-{:x}-", process::id(), self.number)
    }

    fn is_ours(&self, name: &str) -> bool {
        name.starts_with(&self.prefix()) || name.starts_with(&self.network_prefix())
    }

    /// A list of objects, or of their paths.
    fn list(&self, path: &str) -> Vec<Value> {
        loop {
            // LXD answers "not found" for the whole list when another test deletes one of its objects meanwhile.
            if let Value::Array(listed) = self.rest.get(path) {
                return listed;
            }
        }
    }

    fn list_within(&self, project: &str, collection: &str) -> Vec<Value> {
        self.list(&format!("/1.0/{collection}?recursion=1&project={project}"))
    }

    /// This test's own projects, pools or networks.
    fn ours(&self, collection: &str) -> Vec<Value> {
        // Of everybody's, LXD is asked for the names alone: whole networks take it long.
        let everybodys = self.list(&format!("/1.0/{collection}"));
        let paths = everybodys.iter().filter_map(Value::as_str);
        let ours = paths.filter(|path| path.rsplit('/').next().is_some_and(|name| self.is_ours(name)));
        ours.map(|path| self.rest.get(path)).collect()
    }

    fn our_certificates(&self) -> Vec<Value> {
        let is_ours = |entry: &Value| entry["name"].as_str().is_some_and(|name| self.is_ours(name));
        self.list("/1.0/certificates?recursion=1").into_iter().filter(is_ours).collect()
    }

    /// The forwards of a network, by their addresses.
    pub fn forwards(&self, network: &str) -> Vec<Value> {
        let mut forwards = self.list(&format!("/1.0/networks/{network}/forwards?recursion=1"));
        forwards.sort_by_key(|forward| forward["listen_address"].to_string());
        forwards
    }

    /// Sets a key of this test's project, as somebody else would.
    pub fn configure_project(&self, key: &str, value: &str) {
        let path = format!("/1.0/projects/{}", self.name("p"));
        let mut project = self.rest().get(&path);
        project["config"][key] = json!(value);
        // LXD 5.0 takes a PATCH for the whole configuration.
        self.rest().write("PUT", &path, &json!({"description": project["description"], "config": project["config"]}));
    }

    /// Everything in LXD that has a throw-away name of this test, with all its keys.
    pub fn snapshot(&self) -> Value {
        let projects = self.ours("projects");
        let networks = self.ours("networks");
        let names = networks.iter().filter_map(|network| network["name"].as_str());
        let forwards: Map<String, Value> = names.map(|name| (name.to_owned(), json!(self.forwards(name)))).collect();
        let mut snapshot = json!({
            "projects": projects, "pools": self.ours("storage-pools"), "networks": networks, "forwards": forwards,
            "certificates": self.our_certificates(), "within": Map::new(),
        });
        for project in projects.iter().filter_map(|project| project["name"].as_str()) {
            let within = |collection| self.list_within(project, collection);
            snapshot["within"][project] = json!({"profiles": within("profiles"), "instances": within("instances")});
        }
        sort_users(&mut snapshot);
        snapshot
    }

    /// Returns once LXD works on nothing of this test any more.
    pub fn settle(&self) {
        let projects = self.ours("projects");
        // Pools and networks are nobody's project; their operations name them.
        let places = projects.iter().filter_map(|project| project["name"].as_str()).chain(["default"]);
        for place in places {
            let running = self.rest.get(&format!("/1.0/operations?recursion=1&project={place}"))["running"].clone();
            for operation in running.as_array().into_iter().flatten().filter(|operation| operation["class"] == "task") {
                let on = operation["resources"].to_string();
                if place != "default" || on.contains(&self.prefix()) || on.contains(&self.network_prefix()) {
                    self.rest.get(&format!("/1.0/operations/{}/wait?timeout=60", operation["id"].as_str().unwrap_or_default()));
                }
            }
        }
    }

    /// The snapshot without what differs between two objects that were made alike.
    pub fn lasting(&self) -> Value {
        let mut snapshot = self.snapshot();
        forget_the_passing(&mut snapshot);
        snapshot
    }

    fn delete(&self, path: &str) -> Result<(), String> {
        self.rest.try_write("DELETE", path, &Value::Null).map(drop)
    }

    /// Deletes what has a throw-away name of this test; returns what could not be deleted.
    fn clean_up(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut note = |path: &str, result: Result<(), String>| {
            if let Err(error) = result {
                problems.push(format!("{path}: {error}"));
            }
        };
        self.settle();
        let projects = self.ours("projects");
        for (project, config) in projects.iter().filter_map(|project| Some((project["name"].as_str()?, &project["config"]))) {
            for (collection, key) in [("instances", "name"), ("images", "fingerprint"), ("profiles", "name")] {
                // Where a project has none of its own, its listing shows those of the default project.
                if collection != "instances" && config[format!("features.{collection}")] != "true" {
                    continue;
                }
                let names = self.list_within(project, collection);
                for name in names.iter().filter_map(|object| object[key].as_str()).filter(|name| *name != "default") {
                    let path = format!("/1.0/{collection}/{name}");
                    if collection == "instances" {
                        let stop = json!({"action": "stop", "force": true, "timeout": 30});
                        // A stopped instance refuses, which is as good.
                        let _ = self.rest.try_write("PUT", &format!("{path}/state?project={project}"), &stop);
                    }
                    note(&path, self.delete(&format!("{path}?project={project}")));
                }
            }
            let path = format!("/1.0/projects/{project}");
            note(&path, self.delete(&path));
        }
        for entry in self.our_certificates().iter().filter_map(|entry| entry["fingerprint"].as_str()) {
            let path = format!("/1.0/certificates/{entry}");
            note(&path, self.delete(&path));
        }
        for collection in ["networks", "storage-pools"] {
            for name in self.ours(collection).iter().filter_map(|object| object["name"].as_str()) {
                let path = format!("/1.0/{collection}/{name}");
                note(&path, self.delete(&path));
            }
        }
        problems
    }
}

impl Drop for Lxd {
    fn drop(&mut self) {
        if self.scripted.is_some() {
            return;
        }
        let problems = self.clean_up();
        // A second panic would hide the first.
        assert!(problems.is_empty() || std::thread::panicking(), "left behind: {problems:#?}");
    }
}

/// LXD names the users of an object in any order.
fn sort_users(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Array(users)) = fields.get_mut("used_by") {
                users.sort_by_key(Value::to_string);
            }
            fields.values_mut().for_each(sort_users);
        }
        Value::Array(items) => items.iter_mut().for_each(sort_users),
        _ => {}
    }
}

fn forget_the_passing(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| {
                !key.starts_with("volatile.")
                    && !matches!(
                        key.as_str(),
                        "certificate" | "fingerprint" | "created_at" | "last_used_at" | "user.k8slab.restart-pending"
                    )
            });
            fields.values_mut().for_each(forget_the_passing);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_the_passing),
        _ => {}
    }
}

fn real_socket() -> PathBuf {
    let found = SOCKETS.iter().map(Path::new).find(|socket| socket.exists());
    found.unwrap_or_else(|| panic!("these tests need a real LXD; none listens on any of {SOCKETS:?}")).to_owned()
}

/// Makes one test of each case for each [`Backend`]; a case is a function of an [`Lxd`].
#[macro_export]
macro_rules! on_every_lxd {
    ($($case:ident),+ $(,)?) => {
        mod scripted_sync {
            $(#[test] fn $case() { super::$case(&$crate::Lxd::open($crate::Backend::ScriptedSync)); })+
        }
        mod scripted_async {
            $(#[test] fn $case() { super::$case(&$crate::Lxd::open($crate::Backend::ScriptedAsync)); })+
        }
        mod real {
            $(#[test] fn $case() { super::$case(&$crate::Lxd::open($crate::Backend::Real)); })+
        }
    };
}
