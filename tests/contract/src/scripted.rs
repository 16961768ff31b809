//! A small model of LXD that answers on a unix socket.
//!
//! It keeps objects and applies LXD's own rules to them, as far as the steps can meet these rules. That it does so as LXD does is
//! checked by `tests/scripted_lxd.rs`, which sends the same requests to it and to the real one.

mod answer;
mod forwards;
mod guest;
mod images;
mod instances;
mod networks;
mod operations;
mod pools;
mod profiles;
mod projects;
mod request;
mod restrictions;
mod trust;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Bytes;
use serde_json::json;
use tempfile::TempDir;

use crate::authority::SelfSigned;
use crate::listener::{Handler, Listener, Reply};
pub use guest::Guests;

use answer::{Answer, Outcome, Refusal, check_etag};
use request::{Call, Config};

/// The time of everything that happens in the model.
const EPOCH: &str = "2026-01-01T00:00:00Z";
/// Instances have process numbers that no process of this machine has.
const FIRST_PROCESS: u32 = 1 << 24;

/// The generation of LXD that the model behaves like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Personality {
    /// LXD 5.0: pools, networks, profiles and projects are changed before the answer.
    Sync,
    /// LXD 6.8 and later: pools and networks, changes of profiles and the deletion of projects are operations.
    Async,
}

impl Personality {
    fn is_async(self) -> bool {
        self == Self::Async
    }

    fn version(self) -> &'static str {
        match self {
            Self::Sync => "5.0.2",
            Self::Async => "6.8",
        }
    }

    fn api_extensions(self) -> Vec<&'static str> {
        let mut extensions = vec![
            "etag",
            "patch",
            "network",
            "storage",
            "container_exec_recording",
            "entity_description",
            "storage_volatile_initial_source",
            "projects",
            "projects_restrictions",
            "projects_networks",
            "projects_restricted_cluster_target",
            "projects_restricted_intercept",
            "projects_networks_restricted_access",
            "instances",
            "network_forward",
            "instance_get_full",
        ];
        if self.is_async() {
            extensions.extend([
                "storage_buckets",
                "storage_pool_source_wipe",
                "projects_networks_zones",
                "instance_project_move",
                "access_management_tls",
                "storage_and_profile_operations",
                "project_delete_operation",
                "storage_and_network_operations",
            ]);
        }
        extensions
    }
}

/// A scripted LXD; it lives as long as this value.
pub struct Scripted {
    socket: PathBuf,
    model: Arc<Shared>,
    _listener: Listener,
    _folder: TempDir,
}

impl Scripted {
    /// An LXD with nothing in it but the project `default`, its profile, and the interfaces of the machine.
    pub fn start(personality: Personality) -> Self {
        let folder = TempDir::with_prefix("lxd-").expect("make a folder for the scripted LXD's socket");
        let socket = folder.path().join("unix.socket");
        let model = Arc::new_cyclic(|shared| Shared(Mutex::new(Model::new(personality, shared.clone()))));
        let listener = Listener::start(&socket, Arc::clone(&model));
        Self { socket, model, _listener: listener, _folder: folder }
    }

    /// The socket it answers on.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Lets instances wait for their addresses this long after each start; `None` leaves them without.
    pub fn delay_addresses(&self, delay: Option<Duration>) {
        self.model.lock().set_address_delay(delay);
    }

    /// Lets LXD open its listener this long after it has kept the address.
    pub fn delay_listener(&self, delay: Duration) {
        self.model.lock().endpoint.delay = delay;
    }

    /// Has LXD lose hold of an instance.
    pub fn break_instance(&self, project: &str, name: &str) {
        let mut model = self.model.lock();
        let instance = model.instance_mut(project, name).unwrap_or_else(|_| panic!("there is no instance {name}"));
        instance.broken = true;
    }

    /// Has the making of a pool end halfway.
    pub fn break_pool(&self, name: &str) {
        let mut model = self.model.lock();
        model.pools.get_mut(name).unwrap_or_else(|| panic!("there is no pool {name}")).errored = true;
    }

    /// Says how the programs inside instances behave from now on.
    pub fn guests(&self, guests: Guests) {
        self.model.lock().guests = guests;
    }
}

struct Shared(Mutex<Model>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for Shared {
    async fn call(self: Arc<Self>, request: Request<Bytes>) -> Reply {
        let outcome = match Call::of(&request) {
            Some(call) => self.answer(&call).await,
            None => Ok(Answer::Read(json!(["/1.0"]))),
        };
        Reply::Whole(answer::response(outcome))
    }
}

impl Shared {
    async fn answer(&self, call: &Call) -> Outcome {
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        if let ("GET", ["operations", id, "wait"]) = (call.method.as_str(), path.as_slice()) {
            return self.wait(id, call).await;
        }
        let mut model = self.lock();
        model.advance(Instant::now());
        model.answer(&path, call)
    }

    async fn wait(&self, id: &str, call: &Call) -> Outcome {
        let timeout = call.query("timeout").and_then(|seconds| seconds.parse().ok()).filter(|seconds| *seconds >= 0);
        let deadline = timeout.map(|seconds: i64| Instant::now() + Duration::from_secs(seconds.unsigned_abs()));
        loop {
            let (operation, due) = {
                let mut model = self.lock();
                model.advance(Instant::now());
                model.operation(id)?
            };
            let Some(due) = due else { return Ok(Answer::Read(operation)) };
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(Answer::Read(operation));
            }
            tokio::time::sleep_until(deadline.map_or(due, |deadline| due.min(deadline)).into()).await;
        }
    }
}

/// Everything that LXD would keep in its database.
struct Model {
    personality: Personality,
    config: Config,
    projects: BTreeMap<String, projects::Project>,
    pools: BTreeMap<String, pools::Pool>,
    networks: BTreeMap<String, networks::Network>,
    /// By network and address.
    forwards: BTreeMap<(String, String), forwards::Forward>,
    /// By project and name, as all that follow.
    profiles: BTreeMap<(String, String), profiles::Profile>,
    instances: BTreeMap<(String, String), instances::Instance>,
    images: BTreeMap<(String, String), images::Image>,
    aliases: BTreeMap<(String, String), String>,
    operations: operations::Operations,
    trusted: trust::Trusted,
    endpoint: trust::Endpoint,
    address_delay: Option<Duration>,
    guests: Guests,
    /// The process number of the last instance that was started.
    last_process: u32,
}

impl Model {
    fn new(personality: Personality, model: Weak<Shared>) -> Self {
        let default = || "default".to_owned();
        let profile = profiles::Profile { description: "Default LXD profile".to_owned(), ..Default::default() };
        Self {
            personality,
            config: Config::new(),
            projects: BTreeMap::from([(default(), projects::Project::default_project())]),
            pools: BTreeMap::new(),
            networks: BTreeMap::from([("lo".to_owned(), networks::Network::Interface { kind: "loopback" })]),
            forwards: BTreeMap::new(),
            profiles: BTreeMap::from([((default(), default()), profile)]),
            instances: BTreeMap::new(),
            images: BTreeMap::new(),
            aliases: BTreeMap::new(),
            operations: operations::Operations::default(),
            trusted: trust::Trusted::default(),
            endpoint: trust::Endpoint { own: SelfSigned::of("scripted"), listener: None, delay: Duration::ZERO, model },
            address_delay: Some(Duration::ZERO),
            guests: Guests::default(),
            last_process: FIRST_PROCESS,
        }
    }

    fn answer(&mut self, path: &[&str], call: &Call) -> Outcome {
        match (call.method.as_str(), path) {
            ("GET", []) => Ok(self.get_server()),
            ("PATCH", []) => self.patch_server(call),
            // Nobody listens here; LXD 5.0 does not ask whose events they are.
            ("GET", ["events"]) if self.personality.is_async() => Err(answer::Refusal::forbidden("not authorized")),
            ("GET", ["events"]) => Err(answer::Refusal::bad_request("Bad Request")),

            ("GET", ["certificates"]) => Ok(self.list_certificates(call)),
            ("POST", ["certificates"]) => self.create_certificate(call),
            ("GET", ["certificates", fingerprint]) => self.get_certificate(fingerprint),
            ("PUT", ["certificates", fingerprint]) => self.change_certificate(fingerprint, call, true),
            ("PATCH", ["certificates", fingerprint]) => self.change_certificate(fingerprint, call, false),
            ("DELETE", ["certificates", fingerprint]) => self.delete_certificate(fingerprint),

            ("GET", ["auth", "groups"]) if self.personality.is_async() => self.list_groups(),
            ("POST", ["auth", "groups"]) if self.personality.is_async() => self.create_group(call),
            ("GET", ["auth", "groups", name]) => self.get_group(name),
            ("PUT", ["auth", "groups", name]) => self.put_group(name, call),
            ("DELETE", ["auth", "groups", name]) => self.delete_group(name),
            ("GET", ["auth", "identities", "tls"]) if self.personality.is_async() => Ok(self.list_identities()),
            ("POST", ["auth", "identities", "tls"]) if self.personality.is_async() => self.create_identity(call),
            ("GET", ["auth", "identities", "tls", fingerprint]) => self.get_identity(fingerprint),
            ("PUT", ["auth", "identities", "tls", fingerprint]) => self.put_identity(fingerprint, call),
            ("DELETE", ["auth", "identities", "tls", fingerprint]) => self.delete_identity(fingerprint),

            ("GET", ["projects"]) => Ok(self.list_projects(call)),
            ("POST", ["projects"]) => self.create_project(call),
            ("GET", ["projects", name]) => self.get_project(name),
            ("PUT", ["projects", name]) => self.put_project(name, call),
            ("PATCH", ["projects", name]) => self.patch_project(name, call),
            ("DELETE", ["projects", name]) => self.delete_project(name),

            ("GET", ["storage-pools"]) => Ok(self.list_pools(call)),
            ("POST", ["storage-pools"]) => self.create_pool(call),
            ("GET", ["storage-pools", name]) => self.get_pool(name),
            ("PUT", ["storage-pools", name]) => self.change_pool(name, call, true),
            ("PATCH", ["storage-pools", name]) => self.change_pool(name, call, false),
            ("DELETE", ["storage-pools", name]) => self.delete_pool(name),

            ("GET", ["networks"]) => self.list_networks(call),
            ("POST", ["networks"]) => self.create_network(call),
            ("GET", ["networks", name]) => self.get_network(name, call),
            ("PUT", ["networks", name]) => self.change_network(name, call, true),
            ("PATCH", ["networks", name]) => self.change_network(name, call, false),
            ("DELETE", ["networks", name]) => self.delete_network(name),
            ("GET", ["networks", name, "state"]) => self.get_network_state(name),

            ("GET", ["networks", network, "forwards"]) => self.list_forwards(network, call),
            ("POST", ["networks", network, "forwards"]) => self.create_forward(network, call),
            ("GET", ["networks", network, "forwards", address]) => self.get_forward(network, address),
            ("PUT", ["networks", network, "forwards", address]) => self.change_forward(network, address, call, true),
            ("PATCH", ["networks", network, "forwards", address]) => self.change_forward(network, address, call, false),
            ("DELETE", ["networks", network, "forwards", address]) => self.delete_forward(network, address),

            ("GET", ["profiles"]) => self.list_profiles(call),
            ("POST", ["profiles"]) => self.create_profile(call),
            ("GET", ["profiles", name]) => self.get_profile(name, call),
            ("PUT", ["profiles", name]) => self.put_profile(name, call),
            ("PATCH", ["profiles", name]) => self.patch_profile(name, call),
            ("DELETE", ["profiles", name]) => self.delete_profile(name, call),

            ("GET", ["instances"]) => Ok(self.list_instances(call)),
            ("POST", ["instances"]) => self.create_instance(call),
            ("GET", ["instances", name]) => self.get_instance(name, call),
            ("PUT", ["instances", name]) => self.put_instance(name, call),
            ("PATCH", ["instances", name]) => self.patch_instance(name, call),
            ("DELETE", ["instances", name]) => self.delete_instance(name, call),
            ("GET", ["instances", name, "state"]) => self.get_instance_state(name, call),
            ("PUT", ["instances", name, "state"]) => self.put_instance_state(name, call),
            ("GET" | "HEAD", ["instances", name, "files"]) => self.get_file(name, call),
            ("POST", ["instances", name, "files"]) => self.post_file(name, call),
            ("DELETE", ["instances", name, "files"]) => self.delete_file(name, call),
            ("POST", ["instances", name, "exec"]) => self.exec(name, call),
            ("GET", ["instances", name, "logs", log]) => self.get_log(name, log, call),
            ("DELETE", ["instances", name, "logs", log]) => self.delete_log(name, log, call),

            ("GET", ["images"]) => self.list_images(call),
            ("POST", ["images"]) => self.upload_image(call),
            ("GET", ["images", "aliases"]) => self.list_aliases(call),
            ("POST", ["images", "aliases"]) => self.create_alias(call),
            ("GET", ["images", "aliases", name]) => self.get_alias(name, call),
            ("DELETE", ["images", "aliases", name]) => self.delete_alias(name, call),
            ("GET", ["images", fingerprint]) => self.get_image(fingerprint, call),
            ("GET", ["images", fingerprint, "export"]) => self.export_image(fingerprint, call),
            ("DELETE", ["images", fingerprint]) => self.delete_image(fingerprint, call),

            ("GET", ["operations"]) => Ok(self.list_operations(call)),
            ("GET", ["operations", id]) => self.operation(id).map(|(operation, _)| Answer::Read(operation)),

            _ => Err(Refusal::not_found("not found")),
        }
    }

    fn get_server(&self) -> Answer {
        let object = json!({
            "config": self.config, "api_extensions": self.personality.api_extensions(), "api_status": "stable", "api_version": "1.0",
            "auth": "trusted", "public": false, "auth_methods": ["tls"],
            "environment": {
                "addresses": [], "architectures": ["x86_64", "i686"], "driver": "lxc", "firewall": "nftables", "kernel": "Linux",
                "kernel_architecture": "x86_64", "os_name": "Debian GNU/Linux", "os_version": "12", "project": "default",
                "server": "lxd", "server_clustered": false, "server_name": "scripted", "server_version": self.personality.version(),
                "storage": "", "storage_version": "", "certificate": self.endpoint.own.certificate,
                "storage_supported_drivers": [
                    {"Name": "dir", "Version": "1", "Remote": false},
                    {"Name": "btrfs", "Version": "6.2", "Remote": false},
                ],
            },
        });
        Answer::Tagged { object, writable: json!(self.config) }
    }

    fn patch_server(&mut self, call: &Call) -> Outcome {
        check_etag(call.if_match(), &json!(self.config))?;
        let before = self.config.get(HTTPS_ADDRESS).cloned();
        self.config.extend(call.body("ServerPut")?.config("config")?.unwrap_or_default());
        self.config = without_empty(std::mem::take(&mut self.config));
        let after = self.config.get(HTTPS_ADDRESS).cloned();
        // What cannot be listened on is kept all the same.
        if before != after {
            self.listen_soon(after.unwrap_or_default())?;
        }
        Ok(Answer::Done)
    }
}

const HTTPS_ADDRESS: &str = "core.https_address";

/// LXD does not keep keys with an empty value.
fn without_empty(config: Config) -> Config {
    config.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}
