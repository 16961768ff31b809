//! A small model of a Kubernetes API server: objects by path, namespaces that must be there, and server-side apply with its owners.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::body::Bytes;
use hyper::{Request, Response};
use rcgen::CertificateParams;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use crate::authority::SelfSigned;
use crate::listener::{Handler, Listener, Reply};

/// A name in every API server's certificate.
const NAME: &str = "kubernetes.default.svc";
/// Who has set what a test puts there by hand.
const BY_HAND: &str = "kubectl";

/// A scripted cluster; it lives as long as this value.
pub struct Kubernetes {
    address: SocketAddr,
    own: SelfSigned,
    admin: SelfSigned,
    model: Arc<Shared>,
    _listener: Listener,
}

/// The kinds that every cluster knows.
const OWN: [&str; 5] = [
    "/api/v1/secrets",
    "/api/v1/namespaces",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
];

impl Kubernetes {
    /// A cluster that knows these kinds beside its own, such as `/apis/cluster.x-k8s.io/v1beta2/clusters`, and has no objects.
    pub fn start(kinds: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", kinds)
    }

    /// The same at an address of this machine.
    pub fn start_at(address: &str, kinds: &[&str]) -> Self {
        Self::start_on(TcpListener::bind(address).expect("bind the scripted cluster"), &[], kinds)
    }

    /// The same on a socket that listens already, with further names and addresses in its certificate.
    pub fn start_on(socket: TcpListener, names: &[&str], kinds: &[&str]) -> Self {
        let address = socket.local_addr().expect("the scripted cluster's address");
        let names = [NAME].iter().chain(names).map(|name| (*name).to_owned());
        let params = CertificateParams::new(names.collect::<Vec<_>>()).expect("name the scripted cluster");
        let (own, admin) = (SelfSigned::with(&params), SelfSigned::of("admin"));
        let model = Model { kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(), ..Model::default() };
        let model = Arc::new(Shared { model: Mutex::new(model), changed: Notify::new() });
        let known = CertificateDer::from_pem_slice(admin.certificate.as_bytes()).expect("read the admin's certificate");
        let caller = {
            let model = Arc::clone(&model);
            move |shown: Option<CertificateDer<'static>>| {
                Arc::new(Caller { model: Arc::clone(&model), known: shown.is_some_and(|shown| shown == known) })
            }
        };
        let listener = Listener::start_tls(socket, own.serve(), caller);
        Self { address, own, admin, model, _listener: listener }
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> String {
        self.kubeconfig_of(&self.own, &self.admin)
    }

    /// A kubeconfig of another cluster that was at this address before.
    pub fn outdated_kubeconfig(&self) -> String {
        self.kubeconfig_of(&SelfSigned::of(NAME), &self.admin)
    }

    /// A kubeconfig whose user the cluster does not know.
    pub fn strange_kubeconfig(&self) -> String {
        self.kubeconfig_of(&self.own, &SelfSigned::of("stranger"))
    }

    fn kubeconfig_of(&self, authority: &SelfSigned, user: &SelfSigned) -> String {
        let [authority, certificate, key] =
            [&authority.certificate, &user.certificate, &user.key].map(|pem| BASE64_STANDARD.encode(pem));
        let cluster = json!({"server": format!("https://{}", self.address), "certificate-authority-data": authority, "tls-server-name": NAME});
        let user = json!({"client-certificate-data": certificate, "client-key-data": key});
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "scripted",
            "clusters": [{"name": "scripted", "cluster": cluster}], "users": [{"name": "admin", "user": user}],
            "contexts": [{"name": "scripted", "context": {"cluster": "scripted", "user": "admin"}}],
        })
        .to_string()
    }

    /// The object at a path; null if there is none.
    pub fn get(&self, path: &str) -> Value {
        self.model.lock().objects.get(path).map_or(Value::Null, |object| object.value.clone())
    }

    /// Puts an object there by hand, whatever there was.
    pub fn put(&self, path: &str, mut value: Value) {
        value["metadata"]["name"] = json!(path.rsplit('/').next());
        if let Some(namespace) = namespace_of(path) {
            value["metadata"]["namespace"] = json!(namespace);
        }
        let owners = leaves(&value).into_keys().map(|leaf| (leaf, BTreeSet::from([BY_HAND.to_owned()]))).collect();
        self.model.lock().objects.insert(path.to_owned(), Object { value, owners });
        self.model.note_change();
    }

    /// Puts a Secret there that holds this text.
    pub fn put_secret(&self, path: &str, key: &str, text: &str) {
        self.put(path, json!({"apiVersion": "v1", "kind": "Secret", "data": {key: BASE64_STANDARD.encode(text)}}));
    }

    /// Takes an object away.
    pub fn remove(&self, path: &str) {
        self.model.lock().objects.remove(path);
        self.model.note_change();
    }

    /// All objects by their paths.
    pub fn snapshot(&self) -> Value {
        self.model.lock().objects.iter().map(|(path, object)| (path.clone(), object.value.clone())).collect::<Map<_, _>>().into()
    }

    /// The requests so far that change something, as `METHOD path`, oldest first.
    pub fn writes(&self) -> Vec<String> {
        self.model.lock().writes.clone()
    }

    /// Refuses the next change of an object with this status.
    pub fn refuse_next_write(&self, status: u16, message: &str) {
        self.model.lock().refusal = Some((status, message.to_owned()));
    }

    /// Lets so many of the next requests go wrong.
    pub fn stumble(&self, times: usize, how: Stumble) {
        self.model.lock().stumbles = vec![how; times];
    }

    /// Every value that a request has carried as a field manager.
    pub fn managers(&self) -> BTreeSet<String> {
        self.model.lock().objects.values().flat_map(|object| object.owners.values().flatten().cloned()).collect()
    }
}

struct Caller {
    model: Arc<Shared>,
    known: bool,
}

impl Handler for Caller {
    async fn call(self: Arc<Self>, request: Request<Bytes>) -> Reply {
        let stumble = self.model.lock().stumbles.pop();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let outcome = match stumble {
            Some(Stumble::Closes) => return Reply::Cut,
            Some(Stumble::Unavailable) => Err(status(503, "ServiceUnavailable", "the apiserver is starting")),
            None if !self.known => Err(status(401, "Unauthorized", "who are you?")),
            None if parameter("watch").is_some() => {
                let since = parameter("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or_default();
                match self.model.changes(request.uri().path(), since).await {
                    Ok(events) => return Reply::Whole(Response::new(events.into())),
                    Err(status) => Err(status),
                }
            }
            None => {
                let outcome = self.model.lock().answer(&request);
                if request.method() != "GET" {
                    self.model.note_change();
                }
                outcome
            }
        };
        let (code, body) = match outcome {
            Ok(body) => (200, body),
            Err(status) => (status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500), status),
        };
        let response =
            Response::builder().status(code).header("content-type", "application/json").body(Bytes::from(body.to_string()));
        Reply::Whole(response.expect("a well-formed answer"))
    }
}

struct Shared {
    model: Mutex<Model>,
    changed: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is not as it was.
    fn note_change(&self) {
        self.lock().version += 1;
        self.changed.notify_waiters();
    }

    /// The objects of a watched kind, as soon as anything has changed since a version.
    async fn changes(&self, path: &str, since: u64) -> Result<String, Value> {
        loop {
            let changed = self.changed.notified();
            {
                let model = self.lock();
                let version = model.version;
                if version > since {
                    let listed = model.list(path)?;
                    let event = |object: &Value| {
                        let mut object = object.clone();
                        object["metadata"]["resourceVersion"] = json!(version.to_string());
                        format!("{}\n", json!({"type": "MODIFIED", "object": object}))
                    };
                    return Ok(listed["items"].as_array().into_iter().flatten().map(event).collect());
                }
            }
            changed.await;
        }
    }
}

/// What a cluster that is not well does with a request.
#[derive(Clone, Copy, Debug)]
pub enum Stumble {
    /// It closes the connection.
    Closes,
    /// It says that it does not serve at the moment.
    Unavailable,
}

#[derive(Default)]
struct Model {
    kinds: Vec<String>,
    objects: BTreeMap<String, Object>,
    writes: Vec<String>,
    refusal: Option<(u16, String)>,
    stumbles: Vec<Stumble>,
    /// Counts the changes.
    version: u64,
}

#[derive(Default)]
struct Object {
    value: Value,
    /// Who has set each leaf.
    owners: BTreeMap<Leaf, BTreeSet<String>>,
}

/// The way from an object's root to a value that has no members.
type Leaf = Vec<String>;

type Outcome = Result<Value, Value>;

impl Model {
    fn answer(&mut self, request: &Request<Bytes>) -> Outcome {
        let path = request.uri().path().to_owned();
        let method = request.method().as_str();
        if path == "/version" {
            return Ok(json!({"major": "1", "minor": "35", "gitVersion": "v1.35.0", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}));
        }
        if method == "GET" && !self.objects.contains_key(&path) {
            return self.list(&path);
        }
        if method == "GET" {
            return Ok(self.objects[&path].value.clone());
        }
        self.writes.push(format!("{method} {path}"));
        if let Some((code, message)) = self.refusal.take() {
            return Err(status(code, "Refused", &message));
        }
        match method {
            "PATCH" => {
                let body: Value =
                    serde_json::from_slice(request.body()).map_err(|error| status(400, "BadRequest", &error.to_string()))?;
                let kind = request.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
                let query = request.uri().query().unwrap_or_default();
                let manager = query.split('&').find_map(|pair| pair.strip_prefix("fieldManager=")).unwrap_or("unknown");
                if kind.starts_with("application/apply-patch") {
                    self.apply(&path, &body, manager, query.contains("force=true"))
                } else {
                    self.merge(&path, &body, manager)
                }
            }
            "DELETE" => self.objects.remove(&path).map(|object| object.value).ok_or_else(|| not_found(&path)),
            _ => Err(status(405, "MethodNotAllowed", method)),
        }
    }

    /// The objects of a kind, in a namespace or in all.
    fn list(&self, path: &str) -> Outcome {
        let kind = path.rsplit('/').next().unwrap_or_default();
        let known = self.kinds.iter().any(|known| known == path) || OWN.contains(&path);
        // Below a namespace there is a kind, and below that a name.
        let within = path.split_once("/namespaces/").is_some_and(|(_, rest)| rest.split('/').count() == 2);
        if !known && !within {
            return Err(not_found(path));
        }
        let root = path.rsplit_once('/').map_or("", |(root, _)| root);
        let is_of_kind = |found: &&String| {
            let mut ends = found.rsplit('/').skip(1);
            found.starts_with(root) && ends.next() == Some(kind)
        };
        let items: Vec<_> = self.objects.iter().filter(|(found, _)| is_of_kind(found)).map(|(_, object)| &object.value).collect();
        let metadata = json!({"resourceVersion": self.version.to_string()});
        Ok(json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items}))
    }

    fn apply(&mut self, path: &str, body: &Value, manager: &str, force: bool) -> Outcome {
        if !self.objects.contains_key(path) {
            self.may_create(path)?;
        }
        let mut fields = leaves(body);
        let object = self.objects.entry(path.to_owned()).or_default();
        let others = |leaf: &Leaf| {
            let owners = object.owners.get(leaf).into_iter().flatten();
            owners.filter(|owner| *owner != manager).cloned().collect::<Vec<_>>()
        };
        let is_other = |(leaf, value): &(&Leaf, &Value)| at(&object.value, leaf).is_some_and(|found| found != *value);
        let conflicts: Vec<_> = fields
            .iter()
            .filter(is_other)
            .flat_map(|(leaf, _)| others(leaf).into_iter().map(move |owner| (leaf.clone(), owner)))
            .map(|(leaf, owner)| {
                json!({"reason": "FieldManagerConflict", "message": format!("conflict with {owner:?} using v1"), "field": format!(".{}", leaf.join("."))})
            })
            .collect();
        if !conflicts.is_empty() && !force {
            let mut refusal = status(409, "Conflict", "Apply failed with conflicts");
            refusal["details"] = json!({"causes": conflicts});
            return Err(refusal);
        }
        let dropped: Vec<Leaf> = object
            .owners
            .iter()
            .filter(|(leaf, owners)| owners.contains(manager) && !fields.contains_key(*leaf))
            .map(|(leaf, _)| leaf.clone())
            .collect();
        for leaf in dropped {
            let owners = object.owners.entry(leaf.clone()).or_default();
            owners.remove(manager);
            if owners.is_empty() {
                object.owners.remove(&leaf);
                remove(&mut object.value, &leaf);
            }
        }
        for always in ["apiVersion", "kind"] {
            object.value[always] = body[always].clone();
        }
        for always in ["name", "namespace"] {
            fields.insert(vec!["metadata".into(), always.into()], body["metadata"][always].clone());
        }
        for (leaf, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
            let owners = object.owners.entry(leaf.clone()).or_default();
            if at(&object.value, &leaf) != Some(&value) {
                owners.clear();
                set(&mut object.value, &leaf, value);
            }
            owners.insert(manager.to_owned());
        }
        Ok(object.value.clone())
    }

    fn merge(&mut self, path: &str, body: &Value, manager: &str) -> Outcome {
        let object = self.objects.get_mut(path).ok_or_else(|| not_found(path))?;
        for (leaf, value) in leaves(body) {
            object.owners.remove(&leaf);
            if value.is_null() {
                remove(&mut object.value, &leaf);
            } else {
                set(&mut object.value, &leaf, value);
                object.owners.insert(leaf, BTreeSet::from([manager.to_owned()]));
            }
        }
        Ok(object.value.clone())
    }

    /// A namespace has to be there, and to stay.
    fn may_create(&self, path: &str) -> Result<(), Value> {
        let Some(name) = namespace_of(path) else { return Ok(()) };
        let Some(namespace) = self.objects.get(&format!("/api/v1/namespaces/{name}")) else {
            return Err(status(404, "NotFound", &format!("namespaces {name:?} not found")));
        };
        if namespace.value["metadata"]["deletionTimestamp"].is_null() {
            return Ok(());
        }
        let mut refusal =
            status(403, "Forbidden", &format!("unable to create new content in namespace {name} because it is being terminated"));
        refusal["details"] = json!({"causes": [{"reason": "NamespaceTerminating", "message": "", "field": "metadata.namespace"}]});
        Err(refusal)
    }
}

/// The namespace that something at a path is in.
fn namespace_of(path: &str) -> Option<&str> {
    let (name, rest) = path.split_once("/namespaces/")?.1.split_once('/')?;
    (!rest.is_empty()).then_some(name)
}

fn not_found(path: &str) -> Value {
    status(404, "NotFound", &format!("{path} not found"))
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code})
}

/// Every value of an object that has no members, beside what names the object.
fn leaves(value: &Value) -> BTreeMap<Leaf, Value> {
    let mut found = BTreeMap::new();
    collect(value, &mut Vec::new(), &mut found);
    found.retain(|leaf, _| !matches!(leaf.join(".").as_str(), "apiVersion" | "kind" | "metadata.name" | "metadata.namespace"));
    found
}

fn collect(value: &Value, way: &mut Leaf, found: &mut BTreeMap<Leaf, Value>) {
    let Value::Object(members) = value else {
        found.insert(way.clone(), value.clone());
        return;
    };
    for (name, member) in members {
        way.push(name.clone());
        collect(member, way, found);
        way.pop();
    }
}

fn at<'a>(value: &'a Value, leaf: &Leaf) -> Option<&'a Value> {
    leaf.iter().try_fold(value, |value, name| value.get(name))
}

fn set(value: &mut Value, leaf: &Leaf, new: Value) {
    let place = leaf.iter().fold(value, |value, name| &mut value[name.as_str()]);
    *place = new;
}

fn remove(value: &mut Value, leaf: &Leaf) {
    let Some((last, way)) = leaf.split_last() else { return };
    let parent = way.iter().try_fold(value, |value, name| value.get_mut(name));
    if let Some(members) = parent.and_then(Value::as_object_mut) {
        members.remove(last);
    }
}
