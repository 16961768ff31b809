//! Which objects `clusterctl move` takes along, and in which order. Pure.

use std::collections::{BTreeMap, BTreeSet};

use cluster::Kind;

use crate::object::{CORE, Key, MOVES, MOVES_WITH_ITS_OWN, Object};

/// What clusterctl moves with everything that it owns, without being told.
const HEADS: [(&str, &str); 3] = [(CORE, "Cluster"), (CORE, "ClusterClass"), ("addons.cluster.x-k8s.io", "ClusterResourceSet")];

/// What Secrets of a cluster end with; clusterctl knows them by their names alone.
const PURPOSES: [&str; 5] = ["ca", "etcd", "kubeconfig", "proxy", "sa"];

/// Kinds that are moved by themselves: their definitions say so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moving {
    /// By group and kind: whether what they own is moved, too.
    pub kinds: BTreeMap<(String, String), bool>,
}

impl Moving {
    /// What the definitions of kinds say, and what clusterctl knows by itself.
    #[must_use]
    pub fn of(kinds: &[Kind]) -> Self {
        let is_head = |kind: &Kind| {
            let names = (kind.api.group.as_str(), kind.api.kind.as_str());
            HEADS.contains(&names) || kind.labels.contains_key(MOVES_WITH_ITS_OWN)
        };
        let by_itself = |kind: &&Kind| is_head(kind) || kind.labels.contains_key(MOVES);
        let kinds = kinds.iter().filter(by_itself);
        Self { kinds: kinds.map(|kind| ((kind.api.group.clone(), kind.api.kind.clone()), is_head(kind))).collect() }
    }
}

/// Objects by name, with who owns whom.
pub struct Graph<'a> {
    objects: &'a BTreeMap<Key, Object>,
    /// The owners of each that are there, found by uid, by name, or because a Cluster uses a class.
    owners: BTreeMap<&'a Key, BTreeSet<&'a Key>>,
}

impl<'a> Graph<'a> {
    /// Finds out who owns whom.
    #[must_use]
    pub fn of(objects: &'a BTreeMap<Key, Object>) -> Self {
        let by_uid: BTreeMap<&str, &Key> = objects.values().map(|object| (object.uid.as_str(), &object.key)).collect();
        let owners = objects.values().map(|object| {
            let named: BTreeSet<&Key> = object.owners.iter().filter_map(|uid| by_uid.get(uid.as_str()).copied()).collect();
            let soft = soft_owner(object, !named.is_empty()).and_then(|key| objects.get_key_value(&key)).map(|(key, _)| key);
            (&object.key, named.into_iter().chain(soft).collect())
        });
        Self { objects, owners: owners.collect() }
    }

    /// The objects that are moved.
    #[must_use]
    pub fn moved(&self, moving: &Moving) -> BTreeSet<Key> {
        let by_kind = |key: &Key| moving.kinds.get(&(key.group.clone(), key.kind.clone())).copied();
        let is_head = |key: &Key| {
            let is_labelled = self.objects.get(key).is_some_and(|object| object.labels.contains_key(MOVES_WITH_ITS_OWN));
            is_labelled || by_kind(key) == Some(true)
        };
        let is_taken = |object: &&Object| {
            object.labels.contains_key(MOVES) || by_kind(&object.key).is_some() || self.above(&object.key).into_iter().any(is_head)
        };
        self.objects.values().filter(is_taken).map(|object| object.key.clone()).collect()
    }

    /// An object and everything that owns it.
    fn above(&self, key: &'a Key) -> BTreeSet<&'a Key> {
        let (mut found, mut left) = (BTreeSet::new(), vec![key]);
        while let Some(key) = left.pop() {
            if found.insert(key) {
                left.extend(self.owners.get(key).into_iter().flatten());
            }
        }
        found
    }

    /// The objects from those that own nothing to those that nothing owns, Clusters and then classes last.
    #[must_use]
    pub fn leaves_first(&self) -> Vec<&'a Key> {
        let mut keys: Vec<_> = self.objects.keys().collect();
        let last = |key: &Key| u8::from(key.is_cluster()) + 2 * u8::from(key.is_class());
        keys.sort_by_key(|key| (std::cmp::Reverse(self.depth(key)), last(key), *key));
        keys
    }

    /// How many owners are above an object at most.
    fn depth(&self, key: &'a Key) -> usize {
        self.above(key).len()
    }

    /// Whether a class owns the object: it is one of its templates.
    #[must_use]
    pub fn is_of_a_class(&self, key: &Key) -> bool {
        self.owners.get(key).is_some_and(|owners| !key.is_cluster() && owners.iter().any(|owner| owner.is_class()))
    }
}

/// Who owns an object without a word of it: the Cluster whose name its name begins with, or the class that it uses.
fn soft_owner(object: &Object, is_owned: bool) -> Option<Key> {
    let of_core = |kind: &str, namespace: &str, name: &str| Key {
        group: CORE.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    if let Some((namespace, name)) = &object.class {
        return Some(of_core("ClusterClass", namespace, name));
    }
    if !object.key.is_secret() || is_owned {
        return None;
    }
    let (cluster, purpose) = object.key.name.rsplit_once('-')?;
    PURPOSES.contains(&purpose).then(|| of_core("Cluster", &object.key.namespace, cluster))
}
