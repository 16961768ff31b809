//! Instances: what they are, their addresses, and commands inside them.

use std::{collections::BTreeMap, net::IpAddr};

use lab::address::Cidr;
use serde::Deserialize;
use serde_json::json;

use crate::{Client, Config, Devices, Error, object::object};

/// An instance.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// `container` or `virtual-machine`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The project it lives in.
    pub project: String,
    /// The member of LXD's cluster that carries it.
    pub location: String,
    /// Its description.
    pub description: String,
    /// Its CPU architecture.
    pub architecture: String,
    /// It goes when it stops.
    pub ephemeral: bool,
    /// `Running`, `Stopped` and others.
    pub status: String,
    /// When it was started last, as RFC 3339 has it.
    pub last_used_at: String,
    /// Its profiles in the order in which they apply.
    pub profiles: Vec<String>,
    /// Its own configuration.
    pub config: Config,
    /// Its own devices.
    pub devices: Devices,
    /// Its configuration with that of its profiles.
    pub expanded_config: Config,
}
object!(Instance, "instance", "instances", merges: true, devices: own, fields: |instance| [
    ("architecture", json!(instance.architecture)),
    ("ephemeral", json!(instance.ephemeral)),
    ("profiles", json!(instance.profiles)),
]);

/// What an instance is doing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct InstanceState {
    /// `Running`, `Stopped` and others.
    pub status: String,
    /// The process that started it, as the host counts.
    pub pid: i64,
    /// Its interfaces; absent while it does not run.
    pub network: Option<BTreeMap<String, Interface>>,
}

/// An interface inside an instance.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Its peer on the host; empty if it has none.
    pub host_name: String,
    /// Its addresses.
    pub addresses: Vec<Address>,
}

/// An address of an interface, with LXD's own names.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_field_names)]
pub struct Address {
    /// The address.
    pub address: String,
    /// The length of its network's prefix.
    pub netmask: String,
    /// `global`, `link` or `local`.
    pub scope: String,
}

impl Interface {
    /// The addresses by which others reach it.
    pub fn global_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let addresses = self.addresses.iter().filter(|address| address.scope == "global");
        addresses.filter_map(|address| address.address.parse().ok())
    }
}

impl InstanceState {
    /// The addresses by which others reach the instance on one interface.
    pub fn global_addresses(&self, interface: &str) -> impl Iterator<Item = IpAddr> {
        let found = self.network.iter().filter_map(|network| network.get(interface));
        found.flat_map(Interface::global_addresses)
    }

    /// The networks that an interface is in, by which others reach the instance.
    pub fn networks(&self, interface: &str) -> impl Iterator<Item = Cidr> {
        let found = self.network.iter().filter_map(|network| network.get(interface));
        let global = found.flat_map(|interface| &interface.addresses).filter(|address| address.scope == "global");
        global.filter_map(|address| format!("{}/{}", address.address, address.netmask).parse().ok())
    }

    /// All interfaces with their addresses.
    #[must_use]
    pub fn describe_all(&self) -> String {
        let names = self.network.iter().flat_map(BTreeMap::keys);
        names.map(|name| format!("{name}: {}", self.describe(name))).collect::<Vec<_>>().join("\n")
    }

    /// All addresses of an interface with their scopes, for a person who wonders why none is usable.
    #[must_use]
    pub fn describe(&self, interface: &str) -> String {
        let Some(network) = &self.network else { return format!("the instance is {}", self.status) };
        let Some(found) = network.get(interface) else {
            return format!("no interface {interface} among {}", network.keys().cloned().collect::<Vec<_>>().join(", "));
        };
        let addresses: Vec<_> = found.addresses.iter().map(|a| format!("{} ({})", a.address, a.scope)).collect();
        if addresses.is_empty() { format!("no address on {interface}") } else { addresses.join(", ") }
    }
}

/// What a command inside an instance did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Its exit code.
    pub code: i64,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

impl Exec {
    /// What it said last, on its standard error if it said anything there.
    #[must_use]
    pub fn words(&self) -> String {
        let words = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        words.trim().to_owned()
    }
}

impl Client {
    /// The host's own interface on a network.
    pub async fn network_interface(&self, name: &str) -> Result<Interface, Error> {
        Ok(self.get(&format!("networks/{name}/state")).await?.object)
    }

    /// What an instance is doing.
    pub async fn instance_state(&self, name: &str) -> Result<InstanceState, Error> {
        Ok(self.get(&format!("instances/{name}/state")).await?.object)
    }

    /// Runs a command inside an instance and gives what it wrote.
    pub async fn exec(&self, instance: &str, command: &[&str]) -> Result<Exec, Error> {
        let body = json!({"command": command, "record-output": true, "wait-for-websocket": false, "interactive": false});
        let done = self.post(&format!("instances/{instance}/exec"), &body).await?;
        let mut streams = [String::new(), String::new()];
        for (stream, text) in ["1", "2"].iter().zip(&mut streams) {
            if let Some(log) = done["output"][stream].as_str() {
                let written = self.raw(log).await?.unwrap_or_default();
                *text = String::from_utf8_lossy(&written).into_owned();
                self.delete(log).await?;
            }
        }
        let [stdout, stderr] = streams;
        Ok(Exec { code: done["return"].as_i64().unwrap_or(-1), stdout, stderr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(addresses: &[(&str, &str)]) -> InstanceState {
        let addresses =
            addresses.iter().map(|(a, s)| Address { address: (*a).into(), scope: (*s).into(), ..Address::default() }).collect();
        InstanceState {
            network: Some(BTreeMap::from([("eth0".into(), Interface { addresses, ..Interface::default() })])),
            ..InstanceState::default()
        }
    }

    #[test]
    fn only_global_addresses_count() {
        for (addresses, expected) in [
            (&[("169.254.3.4", "link"), ("127.0.0.1", "local")][..], &[][..]),
            (&[("10.77.0.5", "global"), ("fe80::1", "link")], &["10.77.0.5"]),
            (&[("10.77.0.5", "global"), ("fd42:77:1::5", "global")], &["10.77.0.5", "fd42:77:1::5"]),
        ] {
            let found: Vec<_> = state(addresses).global_addresses("eth0").map(|address| address.to_string()).collect();
            assert_eq!(found, expected);
        }
        assert_eq!(state(&[("10.77.0.5", "global")]).global_addresses("eth1").count(), 0);
    }

    #[test]
    fn networks_are_those_of_global_addresses() {
        let mut state = state(&[("10.77.0.5", "global"), ("fe80::1", "link")]);
        for address in &mut state.network.as_mut().unwrap().get_mut("eth0").unwrap().addresses {
            address.netmask = "24".into();
        }
        assert_eq!(state.networks("eth0").map(|network| network.to_string()).collect::<Vec<_>>(), ["10.77.0.5/24"]);
    }
}
