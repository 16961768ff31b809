//! An object, as far as a move is about it.

use std::{collections::BTreeMap, fmt};

use cluster::{DynamicObject, FIELD_MANAGER, clusterctl};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// On an object: `clusterctl move` is about to delete it. It replaces all other annotations.
pub const MARK: &str = "clusterctl.cluster.x-k8s.io/delete-for-move";
/// On an object, or on the definition of its kind: it is moved.
pub const MOVES: &str = "clusterctl.cluster.x-k8s.io/move";
/// The same, with everything that it owns.
pub const MOVES_WITH_ITS_OWN: &str = "clusterctl.cluster.x-k8s.io/move-hierarchy";
/// On an object: nothing reconciles it. Its value does not matter.
pub const PAUSED: &str = "cluster.x-k8s.io/paused";
/// Who pauses objects for a move, as API servers write it down: clusterctl, and the steps themselves.
const MOVERS: [&str; 2] = [clusterctl::FIELD_MANAGER, FIELD_MANAGER];
/// The group of what machines start with.
const BOOTSTRAP: &str = "bootstrap.cluster.x-k8s.io/";
/// Cluster API's own group.
pub const CORE: &str = "cluster.x-k8s.io";
/// What a client of an older kind has written down of the object; of a Secret, all of it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object's name in the same words on both clusters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The group of its kind; empty for the core's.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Whether it is of one of Cluster API's own kinds.
    #[must_use]
    pub fn is(&self, kind: &str) -> bool {
        self.group == CORE && self.kind == kind
    }

    /// A Cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.is("Cluster")
    }

    /// A ClusterClass.
    #[must_use]
    pub fn is_class(&self) -> bool {
        self.is("ClusterClass")
    }

    /// A Secret.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.group.is_empty() && self.kind == "Secret"
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// An object of one cluster, to be acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle {
    /// Its name.
    pub key: Key,
    /// The version of its kind.
    pub version: String,
    /// Which one of this name it is.
    pub uid: String,
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

/// What the pivot has to know of an object. It carries no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its name.
    pub key: Key,
    /// The version of its kind.
    pub version: String,
    /// Which one of this name it is.
    pub uid: String,
    /// The uids of its owners.
    pub owners: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The SHA-256 of what it says, apart from its status, its metadata and whether it is paused.
    pub digest: String,
    /// Nothing reconciles it.
    pub paused: bool,
    /// Who has paused it, if it was not done for a move.
    pub paused_by: Option<String>,
    /// It is on its way out.
    pub going: bool,
    /// A Cluster's class, with its namespace.
    pub class: Option<(String, String)>,
    /// A Machine's instance, as its provider calls it.
    pub provider_id: Option<String>,
    /// It is what a single machine starts with.
    pub is_of_machine: bool,
}

impl Object {
    /// Reads an object; nothing if it has no namespace, since what belongs to a whole cluster is never moved.
    #[must_use]
    pub fn of(object: &DynamicObject) -> Option<Self> {
        let metadata = &object.metadata;
        let types = object.types.as_ref()?;
        let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
        let key = Key {
            group: group.to_owned(),
            kind: types.kind.clone(),
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
        };
        let mut annotations = metadata.annotations.clone().unwrap_or_default();
        if key.is_secret() {
            annotations.remove(LAST_APPLIED);
        }
        let text = |pointer: &str| object.data.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let class = key.is_cluster().then(|| text("/spec/topology/classRef/name")).flatten().map(|name| {
            let namespace = text("/spec/topology/classRef/namespace").filter(|namespace| !namespace.is_empty());
            (namespace.unwrap_or_else(|| key.namespace.clone()), name)
        });
        let provider_id = key.is("Machine").then(|| text("/spec/providerID")).flatten();
        let is_paused = key.is_cluster() && object.data.pointer("/spec/paused") == Some(&Value::Bool(true));
        Some(Self {
            version: version.to_owned(),
            uid: metadata.uid.clone().unwrap_or_default(),
            owners: metadata.owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect(),
            labels: metadata.labels.clone().unwrap_or_default(),
            paused: is_paused || annotations.contains_key(PAUSED),
            paused_by: paused_by(object, is_paused, annotations.contains_key(PAUSED)),
            annotations,
            digest: digest(&object.data),
            going: metadata.deletion_timestamp.is_some(),
            class,
            provider_id,
            is_of_machine: metadata.owner_references.iter().flatten().any(|owner| owner.api_version.starts_with(BOOTSTRAP)),
            key,
        })
    }

    /// What it is acted on by.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { key: self.key.clone(), version: self.version.clone(), uid: self.uid.clone() }
    }

    /// clusterctl is about to delete it, or has copied it when it was.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.annotations.contains_key(MARK)
    }

    /// Its annotations apart from those that come and go with a move.
    pub fn own_annotations(&self) -> impl Iterator<Item = (&String, &String)> {
        self.annotations.iter().filter(|(name, _)| ![MARK, PAUSED].contains(&name.as_str()))
    }

    /// Whether it says the same as the other, pauses apart.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.digest == other.digest && self.labels == other.labels && self.own_annotations().eq(other.own_annotations())
    }

    /// The same, where a mark may have replaced its annotations.
    #[must_use]
    pub fn says_as_much(&self, copied: &Self) -> bool {
        if self.is_marked() {
            return self.digest == copied.digest && self.labels == copied.labels;
        }
        self.says_the_same(copied)
    }
}

/// Who else than a move has paused it, by its field or by its annotation: API servers write down who has set what. A pause that nobody
/// is known to have made is taken for the move's own.
fn paused_by(object: &DynamicObject, by_field: bool, by_annotation: bool) -> Option<String> {
    let annotation = format!("f:{PAUSED}");
    let sets = |fields: &Value| {
        (by_field && fields["f:spec"].get("f:paused").is_some())
            || (by_annotation && fields["f:metadata"]["f:annotations"].get(&annotation).is_some())
    };
    let entries = object.metadata.managed_fields.iter().flatten();
    let managers = entries.filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| sets(&fields.0)));
    managers.filter_map(|entry| entry.manager.as_deref()).find(|manager| !MOVERS.contains(manager)).map(str::to_owned)
}

/// What an object says: the keys of a JSON object are sorted, so that equal ones have equal text.
fn digest(data: &Value) -> String {
    let mut said = data.clone();
    if let Some(fields) = said.as_object_mut() {
        fields.remove("status");
        fields.remove("metadata");
    }
    if let Some(spec) = said.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("paused");
    }
    if said.get("spec") == Some(&json!({})) {
        said = json!({});
    }
    HEXLOWER.encode(&Sha256::digest(said.to_string().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Object {
        Object::of(&serde_json::from_value(value).unwrap()).unwrap()
    }

    fn cluster(spec: &Value, annotations: &Value) -> Value {
        json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "spec": spec,
            "metadata": {"name": "mgmt-1", "namespace": "capi-clusters", "uid": "u", "annotations": annotations},
            "status": {"phase": "Provisioned"},
        })
    }

    #[test]
    fn a_pause_is_seen_by_field_and_by_annotation() {
        for (spec, annotations, paused) in [
            (json!({"paused": true}), json!({}), true),
            (json!({"paused": false}), json!({}), false),
            (json!({}), json!({}), false),
            (json!({}), json!({PAUSED: ""}), true),
        ] {
            assert_eq!(object(cluster(&spec, &annotations)).paused, paused, "{spec} {annotations}");
        }
    }

    #[test]
    fn who_has_paused_it_is_known_unless_a_move_has() {
        let field = json!({"f:spec": {"f:paused": {}}});
        let annotation = json!({"f:metadata": {"f:annotations": {".": {}, format!("f:{PAUSED}"): {}}}});
        let other = json!({"f:spec": {"f:topology": {}}});
        for (case, paused, annotations, managers, expected) in [
            ("by a person", true, json!({}), json!([["clusterctl", other], ["kubectl-patch", field]]), Some("kubectl-patch")),
            ("by clusterctl", true, json!({}), json!([["kubectl-patch", other], ["clusterctl", field]]), None),
            ("by a step", true, json!({}), json!([[FIELD_MANAGER, field]]), None),
            ("by both", true, json!({}), json!([["clusterctl", field], ["argocd", field]]), Some("argocd")),
            ("by nobody that is known", true, json!({}), json!([]), None),
            ("by an annotation", false, json!({PAUSED: ""}), json!([["kubectl-annotate", annotation]]), Some("kubectl-annotate")),
            ("by clusterctl's annotation", false, json!({PAUSED: ""}), json!([["clusterctl", annotation]]), None),
            ("not any more", false, json!({}), json!([["kubectl-patch", field]]), None),
        ] {
            let mut whole = cluster(&json!({"paused": paused}), &annotations);
            let entry =
                |pair: &Value| json!({"manager": pair[0], "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": pair[1]});
            whole["metadata"]["managedFields"] = managers.as_array().unwrap().iter().map(entry).collect();
            assert_eq!(object(whole).paused_by.as_deref(), expected, "{case}");
        }
    }

    #[test]
    fn a_pause_and_a_mark_change_nothing_of_what_it_says() {
        let own = json!({"paused": true, "topology": {"classRef": {"name": "class"}}});
        let before = object(cluster(&json!({"topology": {"classRef": {"name": "class"}}}), &json!({"port": "1"})));
        assert!(before.says_the_same(&object(cluster(&own, &json!({"port": "1", PAUSED: ""})))));
        assert!(!before.says_the_same(&object(cluster(&own, &json!({"port": "2"})))));
        assert!(!before.says_the_same(&object(cluster(&json!({"topology": {}}), &json!({"port": "1"})))));
        assert_eq!(before.class, Some(("capi-clusters".into(), "class".into())));
    }

    #[test]
    fn a_secret_is_known_by_its_digest_alone() {
        let secret = |value: &str| {
            object(json!({
                "apiVersion": "v1", "kind": "Secret", "data": {"value": value},
                "metadata": {"name": "ca", "namespace": "x", "annotations": {LAST_APPLIED: value}},
            }))
        };
        let (one, other) = (secret("aHVudGVyMg=="), secret("aHVudGVyMw=="));
        assert_ne!(one.digest, other.digest);
        assert!(!format!("{one:?}").contains("aHVudGVyMg"), "{one:?}");
    }

    #[test]
    fn what_has_no_namespace_is_not_moved() {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}});
        assert_eq!(Object::of(&serde_json::from_value(node).unwrap()), None);
    }
}
