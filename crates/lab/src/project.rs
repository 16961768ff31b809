//! The project's keys: features, and restrictions for each isolation.

use std::collections::BTreeMap;

use crate::{
    Isolation, Keys,
    keys::{set, without_rest_of},
};

/// What the strict restrictions depend on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings<'a> {
    /// The networks that instances may attach to.
    pub networks: &'a [String],
    /// Images whose layers carry device nodes need system call interception.
    pub interception: bool,
    /// The server is a member of a cluster.
    pub clustered: bool,
}

/// Everything that the lab sets on its project.
///
/// Values that are LXD's defaults are written out all the same: a default cannot be seen to drift.
#[must_use]
pub fn config(isolation: Isolation, around: Surroundings<'_>) -> Keys {
    let (own, other) = match isolation {
        Isolation::Strict => (strict(around), reference()),
        Isolation::Reference => (reference(), strict(around)),
    };
    let mut keys = features();
    keys.extend(without_rest_of(own, &other));
    keys
}

/// The isolation that a project has, if it is one of the lab's.
#[must_use]
pub fn isolation(config: &BTreeMap<String, String>) -> Option<Isolation> {
    match config.get("restricted.containers.lowlevel").map(String::as_str) {
        Some("block") => Some(Isolation::Strict),
        Some("allow") => Some(Isolation::Reference),
        _ => None,
    }
}

/// On the project: what the infrastructure provider's certificate reaches beyond it, and on which server that was found out.
pub const RESIDUAL_KEY: &str = "user.k8slab.residual";

/// Keys that not every supported server has, with the extension that they came with.
pub const EXTENSIONS: [(&str, &str); 5] = [
    ("features.networks.zones", "projects_networks_zones"),
    ("features.storage.buckets", "storage_buckets"),
    ("restricted.networks.access", "projects_networks_restricted_access"),
    ("restricted.containers.interception", "projects_restricted_intercept"),
    ("restricted.cluster.target", "projects_restricted_cluster_target"),
];

fn features() -> Keys {
    set([
        ("features.images", "true"),
        ("features.profiles", "true"),
        // Bridges cannot live in a project, so it uses the default project's.
        ("features.networks", "false"),
        ("features.networks.zones", "false"),
        ("features.storage.volumes", "true"),
        ("features.storage.buckets", "true"),
    ])
}

fn strict(around: Surroundings<'_>) -> Keys {
    let allowed = |condition| if condition { "allow" } else { "block" };
    let mut keys = set([
        ("restricted", "true"),
        ("restricted.containers.nesting", "allow"),
        ("restricted.containers.privilege", "isolated"),
        ("restricted.containers.lowlevel", "block"),
        ("restricted.containers.interception", allowed(around.interception)),
        ("restricted.virtual-machines.lowlevel", "block"),
        ("restricted.devices.nic", "allow"),
        ("restricted.devices.disk", "managed"),
        ("restricted.devices.unix-char", "block"),
        ("restricted.devices.unix-block", "block"),
        ("restricted.devices.unix-hotplug", "block"),
        ("restricted.devices.proxy", "block"),
        ("restricted.devices.usb", "block"),
        ("restricted.devices.gpu", "block"),
        ("restricted.devices.pci", "block"),
        ("restricted.devices.infiniband", "block"),
        ("restricted.cluster.target", allowed(around.clustered)),
    ]);
    // Without this list a client that may use the project may attach to, edit and delete every network of the host.
    keys.insert("restricted.networks.access".into(), Some(around.networks.join(",")));
    keys
}

fn reference() -> Keys {
    set([
        ("restricted", "true"),
        ("restricted.containers.nesting", "allow"),
        ("restricted.containers.privilege", "unprivileged"),
        ("restricted.containers.lowlevel", "allow"),
        ("restricted.containers.interception", "allow"),
        ("restricted.devices.disk", "allow"),
        ("restricted.devices.disk.paths", "/boot"),
        ("restricted.devices.nic", "allow"),
        ("restricted.devices.unix-char", "allow"),
        ("restricted.devices.proxy", "allow"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(isolation: Isolation) -> Keys {
        config(isolation, Surroundings { networks: &["capi-int".into(), "br-ext6".into()], ..Surroundings::default() })
    }

    #[test]
    fn what_leads_to_the_host_is_blocked_only_in_strict() {
        for (key, in_strict, in_reference) in [
            ("restricted", Some("true"), Some("true")),
            ("restricted.containers.lowlevel", Some("block"), Some("allow")),
            ("restricted.containers.interception", Some("block"), Some("allow")),
            ("restricted.containers.privilege", Some("isolated"), Some("unprivileged")),
            ("restricted.devices.proxy", Some("block"), Some("allow")),
            ("restricted.devices.disk", Some("managed"), Some("allow")),
            ("restricted.devices.disk.paths", None, Some("/boot")),
            ("restricted.networks.access", Some("capi-int,br-ext6"), None),
            ("features.networks", Some("false"), Some("false")),
        ] {
            for (isolation, expected) in [(Isolation::Strict, in_strict), (Isolation::Reference, in_reference)] {
                assert_eq!(keys(isolation)[key].as_deref(), expected, "{key} in {isolation:?}");
            }
        }
    }

    #[test]
    fn a_project_shows_its_isolation() {
        for wanted in [Isolation::Strict, Isolation::Reference] {
            let live = keys(wanted).into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            assert_eq!(isolation(&live), Some(wanted));
        }
        assert_eq!(isolation(&BTreeMap::new()), None);
    }

    #[test]
    fn a_cluster_may_be_told_where_instances_go() {
        let clustered = config(Isolation::Strict, Surroundings { clustered: true, ..Surroundings::default() });
        assert_eq!(clustered["restricted.cluster.target"].as_deref(), Some("allow"));
        assert_eq!(keys(Isolation::Strict)["restricted.cluster.target"].as_deref(), Some("block"));
    }
}
