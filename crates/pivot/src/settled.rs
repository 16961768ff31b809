//! Whether a target has taken over: the same machines on the same instances, and none more.

use std::collections::{BTreeMap, BTreeSet};

use cluster::{
    Condition,
    condition::Test,
    resource::{CLUSTER, MACHINE},
};

use crate::{copy::Copy, object::Key, side::Sides};

/// What the target's controllers say when they have taken everything over, by Cluster API's own objects.
#[must_use]
pub fn conditions(copy: &Copy) -> Vec<Condition> {
    let condition = |key: &Key| {
        let (resource, test) = match key {
            key if key.is_cluster() => (CLUSTER, Test::observed().and(Test::status("Available")).named("Available")),
            key if key.is("Machine") => (MACHINE, Test::status("NodeReady")),
            _ => return None,
        };
        Some(Condition::of(resource, Some(&key.namespace), &key.name, test))
    };
    copy.objects.keys().filter_map(condition).collect()
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
        if live.paused {
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
