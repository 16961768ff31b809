//! The four profiles, for each isolation.

use crate::{
    Devices, Isolation, Keys,
    keys::{set, without_rest_of},
};

/// Root disk and internal network; every instance lists it first.
pub const BASE: &str = "capi-base";
/// The instance of the bootstrap cluster.
pub const BOOTSTRAP: &str = "capi-bootstrap";
/// Control planes.
pub const CONTROL_PLANE: &str = "capi-controlplane";
/// Workers.
pub const WORKER: &str = "capi-worker";

/// What the profiles are described as, which is what they are known by as the lab's.
const DESCRIPTIONS: [(&str, &str); 4] = [
    (BASE, "k8slab: root disk and internal network"),
    (BOOTSTRAP, "k8slab: bootstrap cluster"),
    (CONTROL_PLANE, "k8slab: control plane node"),
    (WORKER, "k8slab: worker node"),
];

/// The profiles' names in the order in which they are made.
pub fn names() -> impl Iterator<Item = &'static str> {
    DESCRIPTIONS.iter().map(|(name, _)| *name)
}

/// Whether a profile of this name and description is one of the lab's.
#[must_use]
pub fn is_ours(name: &str, description: &str) -> bool {
    DESCRIPTIONS.contains(&(name, description))
}

fn description(profile: &str) -> &'static str {
    DESCRIPTIONS.iter().find(|(name, _)| *name == profile).map_or("", |(_, description)| description)
}

/// What the profiles refer to.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// The pool of root disks.
    pub pool: &'a str,
    /// The managed internal network.
    pub internal_network: &'a str,
    /// The host's bridge to the outside.
    pub external_bridge: &'a str,
    /// The interface on the internal network, inside instances.
    pub internal_interface: &'a str,
    /// The interface on the external bridge, inside instances.
    pub external_interface: &'a str,
    /// Images whose layers carry device nodes need system call interception even in strict.
    pub interception: bool,
    /// The host's kernel loads no modules: it has built in what it has. LXD would try to load them all the same, and fail.
    pub fixed_kernel: bool,
}

/// A profile's owned part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    /// Its description.
    pub description: &'static str,
    /// Its owned configuration keys.
    pub config: Keys,
    /// Its owned devices.
    pub devices: Devices,
}

/// The profiles in the order in which they are made.
#[must_use]
pub fn catalogue(isolation: Isolation, around: &Surroundings<'_>) -> Vec<Profile> {
    let other = match isolation {
        Isolation::Strict => Isolation::Reference,
        Isolation::Reference => Isolation::Strict,
    };
    let (own, other) = (plain(isolation, around), plain(other, around));
    own.into_iter().zip(other).map(|(own, other)| without_rest(own, &other)).collect()
}

fn plain(isolation: Isolation, around: &Surroundings<'_>) -> Vec<Profile> {
    let eth0 = match isolation {
        Isolation::Strict => device([("type", "nic"), ("network", around.internal_network), ("name", around.internal_interface)]),
        Isolation::Reference => device([
            ("type", "nic"),
            ("nictype", "bridged"),
            ("parent", around.internal_network),
            ("name", around.internal_interface),
        ]),
    };
    let eth1 =
        device([("type", "nic"), ("nictype", "bridged"), ("parent", around.external_bridge), ("name", around.external_interface)]);
    let root = device([("type", "disk"), ("path", "/"), ("pool", around.pool)]);
    let kmsg = device([("type", "unix-char"), ("source", "/dev/kmsg"), ("path", "/dev/kmsg")]);
    let boot = device([("type", "disk"), ("source", "/boot"), ("path", "/boot"), ("readonly", "true")]);
    let (bootstrap_devices, node_devices): (Vec<_>, Vec<_>) = match isolation {
        Isolation::Strict => (vec![], vec![("eth1", eth1)]),
        Isolation::Reference => (vec![("kmsg", kmsg.clone())], vec![("eth1", eth1), ("host-boot", boot), ("kmsg", kmsg)]),
    };
    let confined = |modules| confinement(isolation, around, modules);
    let node = confined("br_netfilter,ip_vs,nf_conntrack,nf_tables,overlay,vxlan");
    let profile = |name, description, config, devices| Profile { name, description, config, devices };
    vec![
        profile(BASE, description(BASE), Keys::new(), owned([("root", root), ("eth0", eth0)])),
        profile(BOOTSTRAP, description(BOOTSTRAP), confined("br_netfilter,ip_vs,nf_conntrack,overlay"), owned(bootstrap_devices)),
        profile(CONTROL_PLANE, description(CONTROL_PLANE), node.clone(), owned(node_devices.clone())),
        profile(WORKER, description(WORKER), node, owned(node_devices)),
    ]
}

/// What every profile of a Kubernetes node sets: unprivileged, in an id map of its own, nesting containers.
fn confinement(isolation: Isolation, around: &Surroundings<'_>, modules: &str) -> Keys {
    let mut keys = set([("security.nesting", "true"), ("security.privileged", "false"), ("security.idmap.isolated", "true")]);
    if isolation == Isolation::Reference {
        keys.extend(set([("raw.lxc", "lxc.apparmor.profile=unconfined")]));
        keys.insert("linux.kernel_modules".into(), (!around.fixed_kernel).then(|| modules.to_owned()));
    }
    if isolation == Isolation::Reference || around.interception {
        keys.extend(set([("security.syscalls.intercept.mknod", "true"), ("security.syscalls.intercept.setxattr", "true")]));
    }
    keys
}

fn device<const N: usize>(keys: [(&str, &str); N]) -> Keys {
    set(keys)
}

fn owned(devices: impl IntoIterator<Item = (&'static str, Keys)>) -> Devices {
    devices.into_iter().map(|(name, keys)| (name.to_owned(), Some(keys))).collect()
}

fn without_rest(mut own: Profile, other: &Profile) -> Profile {
    own.config = without_rest_of(own.config, &other.config);
    for (name, device) in &other.devices {
        let kept = own.devices.entry(name.clone()).or_insert(None);
        if let (Some(keys), Some(other)) = (kept.as_mut(), device) {
            *keys = without_rest_of(std::mem::take(keys), other);
        }
    }
    own
}

/// Whether a running container takes a changed key only by a restart.
#[must_use]
pub fn needs_restart(key: &str) -> bool {
    key == "raw.lxc"
        || key == "security.privileged"
        || key == "security.idmap.isolated"
        || key.starts_with("security.syscalls.intercept.")
}

/// The keys of a device that say what it is; an addition may not touch them.
pub const IDENTITY: [&str; 7] = ["type", "path", "pool", "nictype", "parent", "network", "source"];

#[cfg(test)]
mod tests {
    use super::*;

    const AROUND: Surroundings<'_> = Surroundings {
        pool: "capi-fast",
        internal_network: "capi-int",
        external_bridge: "br-ext6",
        internal_interface: "eth0",
        external_interface: "eth1",
        interception: false,
        fixed_kernel: false,
    };

    fn named(profiles: Vec<Profile>, name: &str) -> Profile {
        profiles.into_iter().find(|profile| profile.name == name).unwrap()
    }

    fn profile(isolation: Isolation, name: &str) -> Profile {
        named(catalogue(isolation, &AROUND), name)
    }

    fn value<'a>(keys: &'a Keys, key: &str) -> Option<&'a str> {
        keys.get(key).and_then(Option::as_deref)
    }

    #[test]
    fn strict_needs_nothing_of_the_host() {
        for name in [BASE, BOOTSTRAP, CONTROL_PLANE, WORKER] {
            let profile = profile(Isolation::Strict, name);
            for key in ["raw.lxc", "linux.kernel_modules", "security.syscalls.intercept.mknod"] {
                assert_eq!(value(&profile.config, key), None, "{name}: {key}");
            }
            for device in ["kmsg", "host-boot"] {
                assert_eq!(profile.devices.get(device).cloned().flatten(), None, "{name}: {device}");
            }
        }
    }

    #[test]
    fn changing_isolation_leaves_nothing_of_the_other() {
        let strict = profile(Isolation::Strict, CONTROL_PLANE);
        assert_eq!(strict.config.get("raw.lxc"), Some(&None));
        assert_eq!(strict.devices.get("host-boot"), Some(&None));
        let base = profile(Isolation::Strict, BASE).devices["eth0"].clone().unwrap();
        assert_eq!(value(&base, "network"), Some("capi-int"));
        assert_eq!(base.get("parent"), Some(&None));
        let base = profile(Isolation::Reference, BASE).devices["eth0"].clone().unwrap();
        assert_eq!(value(&base, "parent"), Some("capi-int"));
        assert_eq!(base.get("network"), Some(&None));
    }

    #[test]
    fn only_nodes_reach_the_outside() {
        for (name, expected) in [(BASE, false), (BOOTSTRAP, false), (CONTROL_PLANE, true), (WORKER, true)] {
            assert_eq!(profile(Isolation::Strict, name).devices.contains_key("eth1"), expected, "{name}");
        }
    }

    #[test]
    fn interception_is_a_waiver_of_its_own() {
        let waived = catalogue(Isolation::Strict, &Surroundings { interception: true, ..AROUND });
        let worker = named(waived, WORKER);
        assert_eq!(value(&worker.config, "security.syscalls.intercept.mknod"), Some("true"));
        assert_eq!(value(&worker.config, "raw.lxc"), None);
    }

    #[test]
    fn a_kernel_without_modules_is_asked_for_none() {
        for (fixed_kernel, expected) in [(false, Some("br_netfilter,ip_vs,nf_conntrack,overlay")), (true, None)] {
            let catalogue = catalogue(Isolation::Reference, &Surroundings { fixed_kernel, ..AROUND });
            assert_eq!(value(&named(catalogue, BOOTSTRAP).config, "linux.kernel_modules"), expected);
        }
    }

    #[test]
    fn restarts_follow_what_cannot_apply_live() {
        for (key, expected) in [
            ("raw.lxc", true),
            ("security.syscalls.intercept.setxattr", true),
            ("security.nesting", false),
            ("linux.kernel_modules", false),
        ] {
            assert_eq!(needs_restart(key), expected, "{key}");
        }
    }
}
