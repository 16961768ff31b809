//! What an instance is made of, and what is read off one.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use k8s_openapi::jiff::Timestamp;
use lxd::{Client, Config, Devices, Instance, InstanceState, Profile};

use super::image::ImageSource;

const CLUSTER_KEY: &str = "user.cluster-name";
const NAMESPACE_KEY: &str = "user.cluster-namespace";
const ROLE_KEY: &str = "user.cluster-role";
const MACHINE_KEY: &str = "user.machine-name";
/// The kind of instance that is made unless another is asked for.
pub const CONTAINER: &str = "container";
/// The pauses between looks at an instance without an IPv4 address grow with the time that it has been running.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LAST_LOOK: Duration = Duration::from_secs(15);
/// After so long an instance's network is one without IPv4; earlier for a load balancer, without which nothing goes on.
pub const MACHINE_PATIENCE: Duration = Duration::from_secs(600);
pub const LOAD_BALANCER_PATIENCE: Duration = Duration::from_secs(60);
/// What cloud-init finds in the instance.
pub const USER_DATA_KEY: &str = "cloud-init.user-data";

/// Why there can never be such an instance.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A device that cannot be read.
    #[error("the device `{0}` is not of the form name,key=value[,key=value]")]
    Device(String),
    /// The image is to be of the Machine's version, and there is none.
    #[error("the image's name `{0}` holds VERSION, but the Machine has no version")]
    VersionMissing(String),
    /// An image on a server that nobody knows.
    #[error("the image's name `{0}` begins with a shorthand that is none of capi, capi-stg, images, debian and ubuntu")]
    ImagePrefix(String),
    /// A kind of instance that this provider does not make.
    #[error("instances of type `{0}` are not made by this stand-in; it makes containers and virtual machines")]
    Kind(String),
    /// User data that is not cloud-init's.
    #[error("bootstrap data in the format `{0}` is not supported; cloud-config is")]
    Format(String),
}

/// What an instance is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It runs a control plane.
    ControlPlane,
    /// It runs pods.
    Worker,
    /// It stands before a control plane.
    LoadBalancer,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Worker => "worker",
            Self::LoadBalancer => "loadbalancer",
        }
    }
}

/// Whose an instance is.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The Cluster.
    pub cluster: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
}

impl Owner<'_> {
    /// The keys by which an instance is known.
    pub fn marks(&self, role: Role, machine: Option<&str>) -> Config {
        let mut marks = Config::from([
            (CLUSTER_KEY.to_owned(), self.cluster.to_owned()),
            (NAMESPACE_KEY.to_owned(), self.namespace.to_owned()),
            (ROLE_KEY.to_owned(), role.as_str().to_owned()),
        ]);
        marks.extend(machine.map(|name| (MACHINE_KEY.to_owned(), name.to_owned())));
        marks
    }

    /// Whether the instance with this configuration is the owner's, in this role.
    pub fn has(&self, config: &Config, role: Role) -> bool {
        self.marks(role, None).iter().all(|(key, value)| config.get(key) == Some(value))
    }
}

/// Devices, each written as `name,key=value[,key=value]`. What is written of one device in several places belongs together.
pub fn devices(written: &[String]) -> Result<Devices, Invalid> {
    let device = |text: &str| {
        let (name, keys) = text.split_once(',')?;
        let keys: Option<Config> =
            keys.split(',').map(|pair| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))).collect();
        let well_formed = |keys: &Config| !name.is_empty() && keys.keys().all(|key| !key.is_empty());
        keys.filter(well_formed).map(|keys| (name.to_owned(), keys))
    };
    let mut devices = Devices::new();
    for text in written {
        let (name, keys) = device(text).ok_or_else(|| Invalid::Device(text.clone()))?;
        devices.entry(name).or_default().extend(keys);
    }
    Ok(devices)
}

/// What a machine gets that is not told to go without: as the provider's own profile for LXD has it.
pub fn kubeadm_profile(unprivileged: bool) -> (Config, Devices) {
    let modules =
        "ip_vs,ip_vs_rr,ip_vs_wrr,ip_vs_sh,ip_tables,ip6_tables,iptable_raw,netlink_diag,nf_nat,overlay,br_netfilter,xt_socket";
    let mut config = pairs(&[("security.nesting", "true"), ("linux.kernel_modules", modules)]);
    let boot = pairs(&[("type", "disk"), ("source", "/boot"), ("path", "/usr/lib/ostree-boot"), ("readonly", "true")]);
    let silenced = ["snapd.service", "snapd.socket", "apparmor.service"].into_iter().map(|unit| {
        let path = format!("/usr/lib/systemd/system/{unit}");
        (format!("00-disable-{}", unit.replace('.', "-")), pairs(&[("type", "disk"), ("source", "/dev/null"), ("path", &path)]))
    });
    let mut devices: Devices = silenced.chain([("00-boot".to_owned(), boot)]).collect();
    if !unprivileged {
        let unconfined = ["lxc.apparmor.profile=unconfined", "lxc.mount.auto=proc:rw sys:rw cgroup:rw"];
        let unlimited = ["lxc.cgroup.devices.allow=a", "lxc.cap.drop="];
        let raw = [unconfined, unlimited].concat().join("\n");
        config.extend(pairs(&[("security.privileged", "true"), ("raw.lxc", &raw)]));
        devices.insert("00-kmsg".to_owned(), pairs(&[("type", "unix-char"), ("source", "/dev/kmsg"), ("path", "/dev/kmsg")]));
    }
    (config, devices)
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The addresses by which others reach an instance: the global ones of interfaces with a peer on the host, but no virtual addresses,
/// sorted as text. The first is the instance's.
pub fn addresses(state: &InstanceState) -> Vec<String> {
    let interfaces = state.network.iter().flatten().filter(|(_, interface)| !interface.host_name.is_empty());
    let addresses = interfaces.flat_map(|(_, interface)| &interface.addresses);
    let usable = addresses.filter(|address| address.scope == "global" && !matches!(address.netmask.as_str(), "32" | "128"));
    let mut usable: Vec<String> = usable.map(|address| address.address.clone()).collect();
    usable.sort();
    usable.dedup();
    usable
}

/// When to look again for the IPv4 address of an instance that runs: LXD tells of none, and IPv6 is often there before it.
pub fn look_again(instance: &Instance, addresses: &[String], patience: Duration, now: Timestamp) -> Option<Duration> {
    let started: Timestamp = instance.last_used_at.parse().ok()?;
    // It is in the future where LXD's clock is ahead of ours.
    let running = Duration::try_from(now.duration_since(started)).unwrap_or_default();
    let has_ipv4 = addresses.iter().any(|address| address.parse::<Ipv4Addr>().is_ok());
    (!has_ipv4 && running < patience).then(|| (running / 8).clamp(FIRST_LOOK, LAST_LOOK))
}

/// An instance. A manager that was killed may have left LXD about to make it, which is waited for.
pub async fn find(client: &Client, name: &str) -> Result<Option<Instance>, lxd::Error> {
    let mut found = client.find(name).await?;
    if found.is_none() {
        client.settle("instances", name).await?;
        found = client.find(name).await?;
    }
    Ok(found.map(|found| found.object))
}

/// The addresses of an instance that runs; none if it has gone meanwhile.
pub async fn addresses_of(client: &Client, name: &str) -> Result<Vec<String>, lxd::Error> {
    Ok(lxd::if_there(client.instance_state(name).await)?.map(|state| addresses(&state)).unwrap_or_default())
}

/// What a new instance would need and LXD lacks. LXD's own refusal does not tell these from anything else that is not found.
pub async fn missing(client: &Client, source: Option<&ImageSource>, profiles: &[String]) -> Result<Option<String>, lxd::Error> {
    if let Some(ImageSource::Alias(alias)) = source
        && client.find_alias(alias).await?.is_none()
    {
        return Ok(Some(format!("LXD has no image {alias} in the identity's project; `lxc image alias list` shows what it has")));
    }
    for profile in profiles {
        if client.find::<Profile>(profile).await?.is_none() {
            let made = "the role lxd_profiles makes those of the lab";
            return Ok(Some(format!("LXD has no profile {profile} in the identity's project; {made}")));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn devices_are_read_or_refused() {
        let read = devices(&["eth1,type=nic,network=ext".into(), "kmsg,type=unix-char".into()]).unwrap();
        assert_eq!(read["eth1"], pairs(&[("type", "nic"), ("network", "ext")]));
        assert_eq!(read.len(), 2);
        for wrong in ["", "eth1", "eth1,", "eth1,nic", ",type=nic", "eth1,type=nic,", "eth1,=nic"] {
            assert_eq!(devices(&[wrong.to_owned()]), Err(Invalid::Device(wrong.to_owned())), "{wrong}");
        }
    }

    #[test]
    fn devices_of_one_name_are_one_device() {
        let written = ["eth1,type=nic", "root,type=disk,size=8GiB", "eth1,network=ext,type=nic"].map(str::to_owned);
        let read = devices(&written).unwrap();
        assert_eq!(read["eth1"], pairs(&[("type", "nic"), ("network", "ext")]));
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn a_privileged_machine_is_not_confined() {
        let (config, devices) = kubeadm_profile(false);
        assert_eq!(config["security.privileged"], "true");
        for line in ["lxc.apparmor.profile=unconfined", "lxc.cap.drop="] {
            assert!(config["raw.lxc"].lines().any(|known| known == line), "{line}");
        }
        assert_eq!(devices["00-kmsg"]["type"], "unix-char");
        let (config, devices) = kubeadm_profile(true);
        assert!(!config.contains_key("raw.lxc") && !config.contains_key("security.privileged"));
        assert!(!devices.contains_key("00-kmsg"));
    }

    #[test]
    fn an_owner_is_known_by_all_keys() {
        let owner = Owner { cluster: "mgmt", namespace: "lab" };
        let config = owner.marks(Role::Worker, Some("mgmt-md-0"));
        assert_eq!(config["user.machine-name"], "mgmt-md-0");
        assert!(owner.has(&config, Role::Worker));
        assert!(!owner.has(&config, Role::ControlPlane));
        // A name that begins like another one is another name.
        assert!(!Owner { cluster: "mgmt-1", namespace: "lab" }.has(&config, Role::Worker));
        assert!(!Owner { cluster: "mgmt", namespace: "other" }.has(&config, Role::Worker));
        assert!(!owner.has(&Config::new(), Role::Worker));
    }

    #[test]
    fn an_instance_without_ipv4_is_looked_at_again_for_a_while() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let both: &[&str] = &["10.77.0.5", "fd42:77:1::5"];
        let late: &[&str] = &["fd42:77:1::5"];
        for (case, started, addresses, expected) in [
            ("it has one", "2026-01-01T11:59:59.5Z", both, None),
            ("just started", "2026-01-01T11:59:59.5Z", late, Some(1)),
            ("no address at all", "2026-01-01T11:59:59.5Z", &[], Some(1)),
            ("forty seconds", "2026-01-01T11:59:20Z", late, Some(5)),
            ("four minutes", "2026-01-01T11:56:00Z", late, Some(15)),
            ("a network without IPv4", "2026-01-01T11:49:00Z", late, None),
            ("LXD's clock is ahead", "2026-01-01T12:03:00Z", late, Some(1)),
            ("never started", "", late, None),
        ] {
            let instance = Instance { last_used_at: started.into(), ..Instance::default() };
            let addresses: Vec<_> = addresses.iter().map(|address| (*address).to_owned()).collect();
            assert_eq!(look_again(&instance, &addresses, MACHINE_PATIENCE, now), expected.map(Duration::from_secs), "{case}");
        }
    }

    #[test]
    fn the_first_address_as_text_is_the_instances() {
        let state = |interfaces: Value| serde_json::from_value::<InstanceState>(json!({"network": interfaces})).unwrap();
        let address = |address: &str, netmask: &str, scope: &str| json!({"address": address, "netmask": netmask, "scope": scope});
        let eth0 = json!({"host_name": "veth1", "addresses": [
            address("fd42:77:1::5", "64", "global"), address("10.77.0.5", "24", "global"), address("fe80::1", "64", "link"),
            address("10.77.0.200", "32", "global"), address("fd42:77:1::200", "128", "global"),
        ]});
        let cni0 = json!({"host_name": "", "addresses": [address("10.244.0.1", "24", "global")]});
        let late = json!({"host_name": "veth1", "addresses": [address("fd42:77:1::5", "64", "global")]});
        let external = json!({"host_name": "veth2", "addresses": [address("2001:db8::5", "64", "global")]});
        for (case, interfaces, expected) in [
            (
                "both families",
                json!({"eth0": eth0, "cni0": cni0, "lo": {"host_name": "", "addresses": [address("127.0.0.1", "8", "local")]}}),
                vec!["10.77.0.5", "fd42:77:1::5"],
            ),
            ("IPv4 is late", json!({"eth0": late, "eth1": external}), vec!["2001:db8::5", "fd42:77:1::5"]),
            ("stopped", Value::Null, vec![]),
        ] {
            assert_eq!(addresses(&state(interfaces)), expected, "{case}");
        }
    }
}
