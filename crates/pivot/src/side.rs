//! The objects of one cluster, as far as a move is about them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use cluster::{Client, Error, resource};
use futures_util::future::try_join_all;

use crate::{
    graph::{Graph, Moving},
    object::{Key, MOVES, Object},
};

/// As many names as a sentence carries.
const NAMED: usize = 4;

/// Which of the two clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// The one that the objects leave.
    Source,
    /// The one that they go to.
    Target,
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// One cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Where it answers.
    pub server: String,
    /// Which cluster it is: the uid of its namespace `kube-system`.
    pub uid: String,
    /// The objects of the namespace, of all kinds that can be moved, and the provider's Secrets that are.
    pub objects: BTreeMap<Key, Object>,
    /// Those that `clusterctl move` would take along.
    pub moved: BTreeSet<Key>,
}

/// Both clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    /// The one that the objects leave.
    pub source: Side,
    /// The one that they go to.
    pub target: Side,
}

impl Side {
    /// Looks at a cluster. `provider` is the namespace of the infrastructure provider, whose labelled Secrets are moved, too.
    pub async fn observe(client: &Client, namespace: &str, provider: &str) -> Result<Self, Error> {
        let home = client.find(resource::NAMESPACE, None, "kube-system");
        let (home, kinds) = tokio::try_join!(home, client.kinds_of_providers())?;
        let moving = Moving::of(&kinds);
        let own = [resource::SECRET, resource::CONFIG_MAP].map(|resource| resource.api());
        let kinds: Vec<_> = kinds.into_iter().filter(|kind| kind.is_namespaced).map(|kind| kind.api).chain(own).collect();
        let listed = kinds.iter().map(|kind| client.list_of(kind, namespace));
        let secret = resource::SECRET.api();
        let (listed, of_provider) = tokio::try_join!(try_join_all(listed), client.list_of(&secret, provider))?;
        let of_provider =
            of_provider.into_iter().filter(|secret| secret.metadata.labels.iter().flatten().any(|(key, _)| key == MOVES));
        let objects = listed.iter().flatten().filter_map(Object::of);
        let objects = objects.chain(of_provider.filter_map(|secret| Object::of(&secret)));
        let uid = home.and_then(|home| home.metadata.uid).unwrap_or_default();
        Ok(Self::of(client.server(), &uid, objects, &moving))
    }

    /// A cluster with these objects.
    #[must_use]
    pub fn of(server: &str, uid: &str, objects: impl IntoIterator<Item = Object>, moving: &Moving) -> Self {
        let objects: BTreeMap<_, _> = objects.into_iter().map(|object| (object.key.clone(), object)).collect();
        let moved = Graph::of(&objects).moved(moving);
        Self { server: server.to_owned(), uid: uid.to_owned(), objects, moved }
    }

    /// The objects that are moved.
    pub fn moved(&self) -> impl Iterator<Item = &Object> {
        self.moved.iter().filter_map(|key| self.objects.get(key))
    }

    /// The objects that are moved and that the copy does not have.
    #[must_use]
    pub fn beyond(&self, copy: &BTreeMap<Key, Object>) -> Vec<&Key> {
        self.moved.iter().filter(|key| !copy.contains_key(*key)).collect()
    }

    /// Everything that is not on its way out.
    pub fn staying(&self) -> impl Iterator<Item = &Key> {
        self.objects.values().filter(|object| !object.going).map(|object| &object.key)
    }

    /// The Clusters, and whether each is paused.
    pub fn clusters(&self) -> impl Iterator<Item = (&Key, bool)> {
        self.objects.values().filter(|object| object.key.is_cluster()).map(|object| (&object.key, object.paused))
    }

    fn described(&self, place: Where, copy: &BTreeMap<Key, Object>) -> Vec<String> {
        let there: Vec<_> = copy.keys().filter_map(|key| self.objects.get(key)).collect();
        let lacking: Vec<_> = copy.keys().filter(|key| !self.objects.contains_key(*key)).collect();
        let ending: Vec<_> = there.iter().filter(|object| object.is_marked() || object.going).map(|object| &object.key).collect();
        let mut lines = vec![format!("{place} {}: {} of the copy's {} objects", self.server, there.len(), copy.len())];
        let heads = there.iter().filter(|object| object.key.is_cluster() || object.key.is_class());
        lines.extend(heads.map(|head| format!("{place}: {} is {}", head.key, if head.paused { "paused" } else { "not paused" })));
        if !there.is_empty() {
            lines.extend(named(place, "lacks", &lacking));
        }
        lines.extend(named(place, "marked for deletion or being deleted", &ending));
        lines.extend(named(place, "not in the copy", &self.beyond(copy)));
        if place == Where::Source {
            let changed = there.iter().filter(|live| copy.get(&live.key).is_some_and(|copied| !live.says_as_much(copied)));
            lines.extend(named(place, "changed since the copy was made", &changed.map(|live| &live.key).collect::<Vec<_>>()));
        }
        lines
    }
}

impl Sides {
    /// What is where, a line each.
    #[must_use]
    pub fn described(&self, copy: &BTreeMap<Key, Object>) -> Vec<String> {
        let source = self.source.described(Where::Source, copy);
        source.into_iter().chain(self.target.described(Where::Target, copy)).collect()
    }
}

fn named(place: Where, what: &str, keys: &[&Key]) -> Option<String> {
    let names: Vec<_> = keys.iter().take(NAMED).map(ToString::to_string).collect();
    let more = keys.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    (!keys.is_empty()).then(|| format!("{place}: {what}: {}{more}", names.join(", ")))
}
