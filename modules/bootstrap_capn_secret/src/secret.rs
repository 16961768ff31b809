//! The Secrets by which the infrastructure provider finds LXD.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cluster::{
    Client, DynamicObject, Kubeconfig, if_there,
    resource::{CLUSTER, NAMESPACE, SECRET},
};
use converge::{Failure, Secret, Section};
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use crate::{BootstrapCapnSecret, error::Error, identity::Identity, listener::Listener, pair::fingerprint_of};

/// On an object that `clusterctl move` takes along.
const MOVE_LABEL: &str = "clusterctl.cluster.x-k8s.io/move";
const CERTIFICATE: &str = "client-crt";
const KEY: &str = "client-key";
const TYPE: &str = "Opaque";

/// The section: a Secret in every namespace that is to hold clusters.
pub(crate) struct Secrets<'a> {
    pub step: &'a BootstrapCapnSecret,
    pub listener: &'a Listener<'a>,
    pub identity: &'a Identity,
    client: OnceCell<Client>,
}

/// What a Secret says beside certificate and key.
struct Server {
    url: String,
    certificate: String,
}

#[derive(Default)]
pub(crate) struct Live {
    server: Option<Server>,
    namespaces: BTreeMap<String, DynamicObject>,
    /// By namespace.
    secrets: BTreeMap<String, DynamicObject>,
}

pub(crate) enum Change {
    Namespace(String),
    Secret(Box<SecretChange>),
}

pub(crate) struct SecretChange {
    namespace: String,
    name: String,
    object: DynamicObject,
    /// Values that nobody may add.
    strange: Vec<String>,
    before: Value,
    after: Value,
}

impl<'a> Secrets<'a> {
    pub(crate) fn of(step: &'a BootstrapCapnSecret, listener: &'a Listener<'a>, identity: &'a Identity) -> Self {
        Self { step, listener, identity, client: OnceCell::new() }
    }

    async fn client(&self) -> Result<&Client, Failure> {
        let connect = async || Ok(Client::connect(&Kubeconfig::read(&self.step.kubeconfig())?)?);
        self.client.get_or_try_init(connect).await
    }

    async fn server(&self) -> Result<Server, Failure> {
        let url = format!("https://{}", self.listener.address().await?);
        let certificate = self.step.lxd.client().await?.server().environment.certificate.clone();
        Ok(Server { url, certificate })
    }

    /// The values of the Secret; those that are not known yet are empty.
    fn values(&self, server: Option<&Server>) -> BTreeMap<&'static str, Secret> {
        let server = |part: fn(&Server) -> &String| server.map(part).cloned().unwrap_or_default().into();
        let pair = self.identity.pair.now();
        BTreeMap::from([
            ("server", server(|server| &server.url)),
            ("server-crt", server(|server| &server.certificate)),
            (CERTIFICATE, pair.map(|pair| pair.certificate.clone()).unwrap_or_default().into()),
            (KEY, pair.map(|pair| pair.key.clone()).unwrap_or_default()),
            ("project", self.step.lxd_project.clone().into()),
        ])
    }

    fn object(&self, namespace: &str, values: &BTreeMap<&'static str, Secret>) -> DynamicObject {
        let data: Map<String, Value> =
            values.iter().map(|(key, value)| ((*key).to_owned(), json!(BASE64_STANDARD.encode(value.expose())))).collect();
        let mut object = SECRET.object(Some(namespace), &self.step.name, json!({"type": TYPE, "data": data}));
        if self.step.pivot_enabled {
            object.metadata.labels = Some(BTreeMap::from([(MOVE_LABEL.to_owned(), "true".to_owned())]));
        }
        object
    }

    fn secret(&self, namespace: &str, live: &Live) -> Result<Option<Change>, Error> {
        let values = self.values(live.server.as_ref());
        let object = self.object(namespace, &values);
        let found = live.secrets.get(namespace);
        if let Some(kind) = found.and_then(|found| found.data["type"].as_str()).filter(|kind| *kind != TYPE) {
            let name = self.step.name.clone();
            return Err(Error::SecretType { namespace: namespace.to_owned(), name, kind: kind.to_owned() });
        }
        let as_wanted = |found: &DynamicObject| found.data["data"] == object.data["data"] && label(found) == label(&object);
        // A certificate that is issued in this run is in no Secret yet.
        if found.is_some_and(as_wanted) {
            return Ok(None);
        }
        let data = found.and_then(|found| found.data["data"].as_object());
        let strange = data.into_iter().flat_map(Map::keys).filter(|key| !values.contains_key(key.as_str())).cloned().collect();
        let before = found.map_or(Value::Null, |found| shown(&decoded(found), label(found)));
        let mut after = shown(&values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(), label(&object));
        if self.identity.issued {
            // A certificate that is new in every run cannot be told beforehand, so its plan says no more than this.
            for key in [CERTIFICATE, KEY] {
                after["data"][key] = json!("<redacted:issued>");
            }
        }
        let namespace = namespace.to_owned();
        let change = SecretChange { namespace, name: self.step.name.clone(), object, strange, before, after };
        Ok(Some(Change::Secret(Box::new(change))))
    }

    /// Which of these certificates Secrets of this name in namespaces beyond the step's carry.
    pub(crate) async fn elsewhere(&self, certificates: &[String]) -> Result<Vec<String>, Failure> {
        let secrets = self.client().await?.list(SECRET, None).await?;
        let is_elsewhere = |secret: &&DynamicObject| {
            let namespace = secret.metadata.namespace.as_ref();
            secret.metadata.name.as_ref() == Some(&self.step.name)
                && namespace.is_some_and(|name| !self.step.namespaces.contains(name))
        };
        let carried = |secret: &DynamicObject| fingerprint_of(decoded(secret).get(CERTIFICATE)?.expose());
        Ok(secrets.iter().filter(is_elsewhere).filter_map(carried).filter(|used| certificates.contains(used)).collect())
    }

    /// Namespaces that hold clusters and no Secret for them.
    pub(crate) async fn unserved(&self) -> Result<BTreeSet<String>, Failure> {
        let client = self.client().await?;
        // Where Cluster API has never been, there is no such kind.
        let clusters = if_there(client.list(CLUSTER, None).await)?.unwrap_or_default();
        let mut namespaces: BTreeSet<_> = clusters.into_iter().filter_map(|cluster| cluster.metadata.namespace).collect();
        namespaces.retain(|namespace| !self.step.namespaces.contains(namespace));
        let mut unserved = BTreeSet::new();
        for namespace in namespaces {
            if client.find(SECRET, Some(&namespace), &self.step.name).await?.is_none() {
                unserved.insert(namespace);
            }
        }
        Ok(unserved)
    }
}

impl Section for Secrets<'_> {
    const NAME: &'static str = "secret";
    type Live = Live;
    type Change = Change;

    async fn observe(&self) -> Result<Live, Failure> {
        let mut live = Live { server: Some(self.server().await?), ..Live::default() };
        if self.step.namespaces.is_empty() {
            return Ok(live);
        }
        let client = self.client().await?;
        for name in &self.step.namespaces {
            let Some(namespace) = client.find(NAMESPACE, None, name).await? else { continue };
            live.namespaces.insert(name.clone(), namespace);
            if let Some(secret) = client.find(SECRET, Some(name), &self.step.name).await? {
                live.secrets.insert(name.clone(), secret);
            }
        }
        Ok(live)
    }

    fn plan(&self, live: &Live) -> Result<Vec<Change>, Failure> {
        let mut changes = Vec::new();
        for name in &self.step.namespaces {
            match live.namespaces.get(name) {
                None => changes.push(Change::Namespace(name.clone())),
                Some(namespace) if namespace.metadata.deletion_timestamp.is_some() => {
                    return Err(cluster::Error::Terminating { what: format!("Secret {name}/{}", self.step.name) }.into());
                }
                Some(_) => {}
            }
            changes.extend(self.secret(name, live)?);
        }
        Ok(changes)
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        let client = self.client().await?;
        match change {
            Change::Namespace(name) => drop(client.apply(&NAMESPACE.object(None, name, json!({}))).await?),
            Change::Secret(change) => {
                client.take_over(&change.object).await?;
                // Applying leaves what others have added.
                if !change.strange.is_empty() {
                    let gone: Map<String, Value> = change.strange.iter().map(|key| (key.clone(), Value::Null)).collect();
                    client.merge(SECRET, Some(&change.namespace), &change.name, &json!({"data": gone})).await?;
                }
            }
        }
        Ok(())
    }
}

fn label(object: &DynamicObject) -> Option<&String> {
    object.metadata.labels.as_ref().and_then(|labels| labels.get(MOVE_LABEL))
}

fn decoded(secret: &DynamicObject) -> BTreeMap<String, Secret> {
    let decode = |(key, value): (&String, &Value)| {
        let value = BASE64_STANDARD.decode(value.as_str()?).ok()?;
        Some((key.clone(), String::from_utf8_lossy(&value).into_owned().into()))
    };
    secret.data["data"].as_object().into_iter().flatten().filter_map(decode).collect()
}

/// A Secret's owned part, of which only what is no secret can be read.
fn shown(values: &BTreeMap<String, Secret>, label: Option<&String>) -> Value {
    let data: Map<String, Value> = values
        .iter()
        .map(|(key, value)| {
            let open = matches!(key.as_str(), "server" | "project");
            (key.clone(), json!(if open { value.expose().to_owned() } else { value.redacted() }))
        })
        .collect();
    json!({"data": data, "labels": label.map(|value| BTreeMap::from([(MOVE_LABEL, value)]))})
}

impl Change {
    /// The namespace whose Secret changes.
    pub(crate) fn namespace(&self) -> Option<&str> {
        match self {
            Self::Namespace(_) => None,
            Self::Secret(change) => Some(&change.namespace),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(name) => write!(f, "create Namespace {name}"),
            Self::Secret(change) => {
                let verb = if change.before.is_null() { "create" } else { "update" };
                write!(f, "{verb} Secret {}/{}", change.namespace, change.name)
            }
        }
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        match self {
            Self::Namespace(name) => format!("Namespace {name}"),
            Self::Secret(change) => format!("Secret {}/{}", change.namespace, change.name),
        }
    }

    fn before(&self) -> Value {
        match self {
            Self::Namespace(_) => Value::Null,
            Self::Secret(change) => change.before.clone(),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Namespace(name) => json!({"name": name}),
            Self::Secret(change) => change.after.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{identity, planned};

    struct Case {
        step: BootstrapCapnSecret,
        identity: Identity,
    }

    impl Case {
        fn new(pivot_enabled: bool) -> Self {
            let step = BootstrapCapnSecret {
                namespaces: vec!["capi-clusters".into(), "team-a".into()],
                pivot_enabled,
                ..BootstrapCapnSecret::default()
            };
            Self { step, identity: identity() }
        }

        /// Both namespaces with their Secrets, bent.
        fn plan(&self, bend: impl FnOnce(&mut Live)) -> String {
            let listener = Listener::of(&self.step);
            let section = Secrets::of(&self.step, &listener, &self.identity);
            let server = Server { url: "https://10.77.0.1:8443".into(), certificate: "CERTIFICATE".into() };
            let values = section.values(Some(&server));
            let mut live = Live { server: Some(server), ..Live::default() };
            for name in &self.step.namespaces {
                live.namespaces.insert(name.clone(), NAMESPACE.object(None, name, json!({})));
                live.secrets.insert(name.clone(), section.object(name, &values));
            }
            bend(&mut live);
            planned(&section, &live)
        }
    }

    #[test]
    fn plans() {
        let update = "update Secret team-a/incus-identity";
        let create = "create Secret team-a/incus-identity";
        let set = |key: &'static str, value: &'static str| {
            move |live: &mut Live| live.secrets.get_mut("team-a").unwrap().data["data"][key] = json!(BASE64_STANDARD.encode(value))
        };
        let case = Case::new(true);
        assert_eq!(case.plan(|_| ()), "");
        assert_eq!(case.plan(|live| drop(live.secrets.remove("team-a"))), create);
        let without = |live: &mut Live| {
            live.secrets.remove("team-a");
            live.namespaces.remove("team-a");
        };
        assert_eq!(case.plan(without), format!("create Namespace team-a; {create}"));
        assert_eq!(case.plan(set("server", "https://10.77.0.9:8443")), update);
        assert_eq!(case.plan(set("insecure-skip-verify", "true")), update);
        assert_eq!(case.plan(|live| live.secrets.get_mut("team-a").unwrap().metadata.labels = None), update);
        assert_eq!(Case::new(false).plan(|_| ()), "");
        let going = |live: &mut Live| {
            let gone = serde_json::from_value(json!("2026-11-21T00:00:00Z")).unwrap();
            live.namespaces.get_mut("team-a").unwrap().metadata.deletion_timestamp = gone;
        };
        assert_eq!(case.plan(going), "NAMESPACE_TERMINATING: the namespace of Secret team-a/incus-identity is being deleted");
        assert_eq!(
            case.plan(|live| live.secrets.get_mut("team-a").unwrap().data["type"] = json!("kubernetes.io/tls")),
            "SECRET_TYPE: Secret team-a/incus-identity is of type kubernetes.io/tls, which cannot be changed"
        );
    }

    #[test]
    fn the_key_is_in_no_diff() {
        let case = Case::new(true);
        let listener = Listener::of(&case.step);
        let section = Secrets::of(&case.step, &listener, &case.identity);
        let changes = section.plan(&Live::default()).unwrap_or_default();
        let shown: String =
            changes.iter().map(|change| format!("{change} {}", converge::Change::after(change))).collect::<Vec<_>>().join("\n");
        let key = case.identity.pair.now().unwrap().key.clone();
        assert!(!shown.contains(&BASE64_STANDARD.encode(key.expose())[..40]) && !shown.contains("PRIVATE KEY"), "{shown}");
        assert!(shown.contains(&key.redacted()) && shown.contains("capi-lab"), "{shown}");
    }
}
