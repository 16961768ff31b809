//! Networks: bridges of LXD and interfaces of the host.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::answer::{Answer, Outcome, Refusal, check_etag};
use super::projects::check_bool;
use super::request::{Call, Config};
use super::{Model, without_empty};

#[derive(Clone, Debug)]
pub(super) enum Network {
    Bridge {
        description: String,
        config: Config,
        /// False while an operation is at it.
        made: bool,
    },
    /// An interface of the host that LXD sees and does not manage.
    Interface { kind: &'static str },
}

impl Network {
    fn writable(&self, name: &str) -> Value {
        match self {
            Self::Bridge { description, config, .. } => json!([name, true, "bridge", description, config]),
            Self::Interface { kind } => json!([name, false, kind, "", {}]),
        }
    }
}

impl Model {
    fn view_network(&self, name: &str, network: &Network) -> Value {
        let used_by = self.users_of(|device| {
            let option = |key: &str| device.get(key).is_some_and(|value| value == name);
            option("network") || option("parent")
        });
        let used_by = if used_by.is_empty() { Value::Null } else { json!(used_by) };
        match network {
            Network::Bridge { description, config, made } => json!({
                "name": name, "type": "bridge", "description": description, "config": config, "used_by": used_by,
                "managed": true, "status": if *made { "Created" } else { "Pending" }, "locations": ["none"],
            }),
            Network::Interface { kind } => json!({
                "name": name, "type": kind, "description": "", "config": {}, "used_by": used_by,
                "managed": false, "status": "", "locations": null,
            }),
        }
    }

    /// The config of a network that LXD manages.
    pub(super) fn bridge(&self, name: &str) -> Result<(&String, &Config), Refusal> {
        match self.networks.get(name) {
            Some(Network::Bridge { description, config, .. }) => Ok((description, config)),
            _ => Err(Refusal::not_found("Network not found")),
        }
    }

    fn check_network_project(&self, call: &Call) -> Result<(), Refusal> {
        let name = call.project();
        let project = self.project(name).map_err(|refusal| refusal.with_prefix(&format!("Failed to load project \"{name}\": ")))?;
        // Every network of the model lives in the default project.
        if name != "default" && project.has("features.networks") {
            return Err(Refusal::bad_request("Network type does not support non-default projects"));
        }
        Ok(())
    }

    pub(super) fn list_networks(&self, call: &Call) -> Outcome {
        self.check_network_project(call)?;
        Ok(Answer::Read(if call.recursive() {
            self.networks.iter().map(|(name, network)| self.view_network(name, network)).collect()
        } else {
            self.networks.keys().map(|name| format!("/1.0/networks/{name}")).collect()
        }))
    }

    pub(super) fn get_network(&self, name: &str, call: &Call) -> Outcome {
        self.check_network_project(call)?;
        let network = self.networks.get(name).ok_or_else(|| Refusal::not_found("Network not found"))?;
        Ok(Answer::Tagged { object: self.view_network(name, network), writable: network.writable(name) })
    }

    pub(super) fn get_network_state(&self, name: &str) -> Outcome {
        let Ok((_, config)) = self.bridge(name) else {
            return Err(Refusal::not_found(format!("Network interface \"{name}\" not found")));
        };
        let cidrs = addresses(config).filter_map(|cidr| cidr.split_once('/'));
        let mut addresses: Vec<_> = cidrs
            .map(|(address, netmask)| {
                let family = if address.contains(':') { "inet6" } else { "inet" };
                json!({"family": family, "address": address, "netmask": netmask, "scope": "global"})
            })
            .collect();
        addresses.push(json!({"family": "inet6", "address": "fe80::1", "netmask": "64", "scope": "link"}));
        Ok(Answer::Read(json!({"addresses": addresses, "mtu": 1500, "state": "up", "type": "broadcast"})))
    }

    pub(super) fn create_network(&mut self, call: &Call) -> Outcome {
        self.check_network_project(call)?;
        let body = call.body("NetworksPost")?;
        let name = body.text("name")?.unwrap_or_default();
        let kind = body.text("type")?.unwrap_or_default();
        let description = body.text("description")?.unwrap_or_default();
        let config = without_empty(body.config("config")?.unwrap_or_default());
        if name.is_empty() {
            return Err(Refusal::bad_request("No name provided"));
        }
        if !matches!(kind.as_str(), "" | "bridge") {
            return Err(Refusal::bad_request("Unknown driver"));
        }
        if name.len() > 15 {
            return Err(Refusal::bad_request("Network interface is too long (maximum 15 characters)"));
        }
        let announced = self.personality.is_async() && !self.networks.contains_key(&name);
        if announced {
            let pending = Network::Bridge { description: description.clone(), config: config.clone(), made: false };
            self.networks.insert(name.clone(), pending);
        }
        let path = format!("/1.0/networks/{name}");
        self.carry_out(
            "Creating network",
            json!({"networks": [path]}),
            Answer::Created(path),
            Box::new(move |model| {
                if announced {
                    model.networks.remove(&name);
                }
                model.make_network(name, description, config)
            }),
        )
    }

    fn make_network(&mut self, name: String, description: String, config: Config) -> Result<Value, Refusal> {
        match self.networks.get(&name) {
            Some(Network::Bridge { .. }) => return Err(Refusal::bad_request("The network already exists")),
            Some(Network::Interface { .. }) => {
                return Err(Refusal::internal(format!("Network interface \"{name}\" already exists")));
            }
            None => {}
        }
        check_network_config(&name, &config).map_err(|refusal| Refusal::internal(refusal.message))?;
        let addresses: Vec<&String> = addresses(&config).collect();
        let taken = self.networks.values().any(|network| match network {
            Network::Bridge { config, .. } => self::addresses(config).any(|address| addresses.contains(&address)),
            Network::Interface { .. } => false,
        });
        if taken {
            let address = addresses.first().and_then(|cidr| cidr.split('/').next()).unwrap_or_default();
            return Err(Refusal::internal(format!(
                "The DNS and DHCP service exited prematurely: Process exited with non-zero value 2 \
                 (\"dnsmasq: failed to create listening socket for {address}: Address already in use\")"
            )));
        }
        self.networks.insert(name, Network::Bridge { description, config, made: true });
        Ok(Value::Null)
    }

    pub(super) fn change_network(&mut self, name: &str, call: &Call, replace: bool) -> Outcome {
        let (_, current) = self.bridge(name).map_err(|refusal| refusal.with_prefix("Failed loading network: "))?;
        let current = current.clone();
        check_etag(call.if_match(), &self.networks[name].writable(name))?;
        let body = call.body("NetworkPut")?;
        // Unlike the config, an absent description is an empty one even in a PATCH.
        let description = body.text("description")?.unwrap_or_default();
        let mut config = if replace { Config::new() } else { current };
        config.extend(body.config("config")?.unwrap_or_default());
        let config = without_empty(config);
        check_network_config(name, &config)?;
        let path = format!("/1.0/networks/{name}");
        let name = name.to_owned();
        self.carry_out(
            "Updating network",
            json!({"networks": [path]}),
            Answer::Done,
            Box::new(move |model| {
                model.networks.insert(name, Network::Bridge { description, config, made: true });
                Ok(Value::Null)
            }),
        )
    }

    pub(super) fn delete_network(&mut self, name: &str) -> Outcome {
        self.bridge(name).map_err(|refusal| refusal.with_prefix("Failed loading network: "))?;
        if !self.view_network(name, &self.networks[name])["used_by"].is_null() {
            return Err(Refusal::bad_request("The network is currently in use"));
        }
        let path = format!("/1.0/networks/{name}");
        let name = name.to_owned();
        self.carry_out(
            "Deleting network",
            json!({"networks": [path]}),
            Answer::Done,
            Box::new(move |model| {
                model.networks.remove(&name);
                model.forwards.retain(|(network, _), _| *network != name);
                Ok(Value::Null)
            }),
        )
    }
}

fn addresses(config: &Config) -> impl Iterator<Item = &String> {
    config.iter().filter(|(key, value)| key.ends_with(".address") && value.contains('/')).map(|(_, value)| value)
}

fn check_network_config(name: &str, config: &Config) -> Result<(), Refusal> {
    for (key, value) in config {
        let checked = match key.as_str() {
            "ipv4.address" | "ipv6.address" => check_address(value),
            "ipv4.dhcp" | "ipv4.nat" | "ipv4.firewall" | "ipv4.routing" | "ipv6.dhcp" | "ipv6.dhcp.stateful" | "ipv6.nat"
            | "ipv6.firewall" | "ipv6.routing" => check_bool(value),
            "bridge.driver" | "bridge.hwaddr" | "bridge.mtu" | "dns.domain" | "dns.mode" | "dns.search" | "ipv4.dhcp.ranges"
            | "ipv4.nat.address" | "ipv4.routes" | "ipv6.dhcp.ranges" | "ipv6.nat.address" | "ipv6.routes" | "raw.dnsmasq" => {
                Ok(())
            }
            key if key.starts_with("user.") => Ok(()),
            key => return Err(Refusal::bad_request(format!("Invalid option for network \"{name}\" option \"{key}\""))),
        };
        checked.map_err(|refusal| refusal.with_prefix(&format!("Invalid value for network \"{name}\" option \"{key}\": ")))?;
    }
    Ok(())
}

fn check_address(value: &str) -> Result<(), Refusal> {
    let is_cidr = value.split_once('/').is_some_and(|(address, length)| {
        address.parse::<IpAddr>().is_ok() && length.parse::<u8>().is_ok_and(|length| length <= 128)
    });
    if is_cidr || matches!(value, "auto" | "none") {
        return Ok(());
    }
    Err(Refusal::bad_request(format!("invalid CIDR address: {value}")))
}
