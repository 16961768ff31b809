//! Whether a target has taken over: the same machines on the same instances, and none more.

use std::collections::{BTreeMap, BTreeSet};

use cluster::{
    Condition,
    capi::CLUSTER_NAME,
    condition::Test,
    resource::{CLUSTER, MACHINE},
};

use crate::{
    copy::Copy,
    object::{Key, Object},
    side::{Side, Sides},
};

/// What a cluster's controllers say of Clusters and Machines that they have taken over, by Cluster API's own objects.
#[must_use]
pub fn conditions<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Vec<Condition> {
    let condition = |key: &Key| {
        let (resource, test) = match key {
            key if key.is_cluster() => (CLUSTER, Test::observed().and(Test::status("Available")).named("Available")),
            key if key.is("Machine") => (MACHINE, Test::status("NodeReady")),
            _ => return None,
        };
        Some(Condition::of(resource, Some(&key.namespace), &key.name, test))
    };
    keys.into_iter().filter_map(condition).collect()
}

/// An instance of a Cluster, as LXD has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Its Cluster.
    pub cluster: String,
    /// It stands before a control plane, so that it is no Machine.
    pub is_load_balancer: bool,
}

/// Whatever says that a target does not hold any more what was moved to it, a line each. Its owner may have deleted Machines and
/// Clusters since then; these are gone with their instances, where what was lost has left them behind.
#[must_use]
pub fn lost(copy: &Copy, target: &Side, cluster: &str, instances: &[Instance]) -> Vec<String> {
    let mut lines = Vec::new();
    if target.uid != copy.manifest.target {
        lines.push(format!("{} is not the cluster that everything was moved to", target.server));
    }
    let has_cluster = |name: &str| target.clusters().any(|(key, _)| key.name == name);
    if !has_cluster(cluster) {
        lines.push(format!("{} has no Cluster {cluster}", target.server));
    }
    let is_head = |object: &&Object| object.key.is_cluster() || object.key.is_class();
    let paused = target.objects.values().filter(is_head).filter(|object| object.paused);
    lines.extend(paused.map(|object| format!("{} is paused on the management cluster", object.key)));
    let lacks = |copied: &&Object| is_lasting(copied, has_cluster) && !target.objects.contains_key(&copied.key);
    lines.extend(copy.objects.values().filter(lacks).map(|copied| format!("the management cluster has no {}", copied.key)));
    let ids: BTreeSet<_> = target.objects.values().filter_map(|object| object.provider_id.as_deref()).collect();
    for Instance { name, cluster, is_load_balancer } in instances {
        let is_known = if *is_load_balancer { has_cluster(cluster) } else { ids.contains(format!("lxc:///{name}").as_str()) };
        if !is_known {
            lines.push(format!("instance {name} of Cluster {cluster} is there, and nothing on the management cluster knows it"));
        }
    }
    lines
}

/// A Secret that is there for as long as its Cluster is: its authorities, which the copy alone has besides. Those of machines come and go.
fn is_lasting(object: &Object, has_cluster: impl Fn(&str) -> bool) -> bool {
    object.key.is_secret() && !object.is_of_machine && object.labels.get(CLUSTER_NAME).is_some_and(|name| has_cluster(name))
}

/// Whatever is not as it was before the move, a line each.
#[must_use]
pub fn unsettled(copy: &Copy, sides: &Sides, instances: &BTreeMap<String, String>) -> Vec<String> {
    let mut lines = Vec::new();
    let target = &sides.target;
    for (key, copied) in &copy.objects {
        if sides.source.objects.contains_key(key) {
            lines.push(format!("{key} is still on the source"));
        }
        let Some(live) = target.objects.get(key) else {
            lines.push(format!("{key} is not on the target"));
            continue;
        };
        // A Machine that somebody had paused before is to be paused still; of what clusterctl pauses, the copy does not tell.
        if live.paused && (key.is_cluster() || key.is_class() || !copied.paused) {
            lines.push(format!("{key} is paused on the target"));
        }
        if live.provider_id != copied.provider_id {
            let id = |id: &Option<String>| id.clone().unwrap_or_else(|| "none".into());
            lines.push(format!("{key} had the instance {} and has {}", id(&copied.provider_id), id(&live.provider_id)));
        }
        if key.is_secret() && live.digest != copied.digest {
            lines.push(format!("{key} has another content than before"));
        }
        if let Some((name, _)) = copied.own_annotations().find(|(name, _)| !live.annotations.contains_key(*name)) {
            lines.push(format!("{key} has lost its annotation {name}"));
        }
    }
    let machines = target.objects.keys().filter(|key| key.is("Machine") && !copy.objects.contains_key(*key));
    lines.extend(machines.map(|key| format!("{key} was not there before")));
    let names: BTreeSet<_> = copy.manifest.instances.keys().chain(instances.keys()).collect();
    for name in names {
        match (copy.manifest.instances.get(name), instances.get(name)) {
            (Some(before), Some(now)) if before == now => {}
            (Some(_), Some(_)) => lines.push(format!("instance {name} was made anew")),
            (Some(_), None) => lines.push(format!("instance {name} is gone")),
            (None, _) => lines.push(format!("instance {name} was not there before")),
        }
    }
    lines
}
