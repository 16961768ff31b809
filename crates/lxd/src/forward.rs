//! Network forwards: addresses of which LXD sends single ports on to instances. LXD has no tags for them, so that whoever changes one
//! takes a lock that all runs on the host share, and looks again.

use std::{net::IpAddr, ops::RangeInclusive};

use lab::{names::OWNER_KEY, publication::OWNER};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Client, Config, Error, error::if_there};

/// Servers without this extension know no forwards.
const FORWARDS: &str = "network_forward";
/// The key of an address that gets all ports that are not sent elsewhere.
const DEFAULT_TARGET: &str = "target_address";

/// An address, and where its ports lead.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Forward {
    /// The address.
    pub listen_address: IpAddr,
    /// Its description.
    #[serde(default)]
    pub description: String,
    /// Its configuration.
    #[serde(default)]
    pub config: Config,
    /// Its ports.
    #[serde(default)]
    pub ports: Vec<ForwardPort>,
}

/// Where ports of an address lead. Ports are text to LXD: `80,90-99`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ForwardPort {
    /// What it is for.
    pub description: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The ports that are sent on.
    pub listen_port: String,
    /// The ports that they are sent to; as many, or one, or none for the same.
    pub target_port: String,
    /// The address that they are sent to.
    pub target_address: String,
}

impl Forward {
    /// What takes connections to a port; nothing if none is sent on.
    #[must_use]
    pub fn taker(&self, port: u16) -> Option<String> {
        let taker = self.ports.iter().find(|own| own.protocol == "tcp" && own.ranges().any(|range| range.contains(&port)));
        let named =
            |own: &ForwardPort| if own.description.is_empty() { own.target_address.clone() } else { own.description.clone() };
        taker.map(named).or_else(|| self.default_target().cloned())
    }

    /// What of it nobody claims as his own by a description, and so may be anybody's: addresses with their ports, and where they lead.
    #[must_use]
    pub fn unclaimed(&self, is_claimed: impl Fn(&str) -> bool) -> Vec<String> {
        let at = |port: &str| {
            if self.listen_address.is_ipv6() {
                format!("[{}]:{port}", self.listen_address)
            } else {
                format!("{}:{port}", self.listen_address)
            }
        };
        let ports = self.ports.iter().filter(|port| !is_claimed(&port.description));
        let mut found: Vec<_> =
            ports.map(|port| format!("{}/{} to {}", at(&port.listen_port), port.protocol, port.target_address)).collect();
        if let Some(target) = self.default_target() {
            found.push(format!("every other port of {} to {target}", self.listen_address));
        }
        found
    }

    /// The same without the ports of a description.
    #[must_use]
    pub fn without(&self, description: &str) -> Self {
        let mut rest = self.clone();
        rest.ports.retain(|port| port.description != description);
        rest
    }

    /// The lab has made it, and no port of it is left.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.ports.is_empty() && self.config.get(OWNER_KEY).is_some_and(|owner| owner == OWNER)
    }

    fn default_target(&self) -> Option<&String> {
        self.config.get(DEFAULT_TARGET).filter(|target| !target.is_empty())
    }

    /// What can be written of it after it was made.
    fn writable(&self) -> Value {
        json!({"description": self.description, "config": self.config, "ports": self.ports})
    }
}

impl ForwardPort {
    fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u16>> {
        self.listen_port.split(',').filter_map(|part| {
            let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
    }
}

impl Client {
    /// Whether the server knows forwards.
    #[must_use]
    pub fn has_forwards(&self) -> bool {
        self.has(FORWARDS)
    }

    /// All forwards of a network.
    pub async fn forwards(&self, network: &str) -> Result<Vec<Forward>, Error> {
        self.listed(&format!("networks/{network}/forwards?recursion=1")).await
    }

    /// What forwards of a network take from the host and nobody claims by a description; nothing where there is no such network.
    pub async fn unclaimed_forwards(&self, network: &str, is_claimed: impl Fn(&str) -> bool) -> Result<Vec<String>, Error> {
        if !self.has_forwards() {
            return Ok(Vec::new());
        }
        let forwards = if_there(self.forwards(network).await)?.unwrap_or_default();
        Ok(forwards.iter().flat_map(|forward| forward.unclaimed(&is_claimed)).collect())
    }

    /// The forward of an address.
    pub async fn find_forward(&self, network: &str, address: IpAddr) -> Result<Option<Forward>, Error> {
        Ok(if_there(self.get(&path(network, address)).await)?.map(|found| found.object))
    }

    /// Makes a forward.
    pub async fn create_forward(&self, network: &str, forward: &Forward) -> Result<(), Error> {
        self.post(&format!("networks/{network}/forwards"), &json!(forward)).await.map(drop)
    }

    /// Writes a forward whole.
    pub async fn replace_forward(&self, network: &str, forward: &Forward) -> Result<(), Error> {
        self.put(&path(network, forward.listen_address), &forward.writable(), None).await.map(drop)
    }

    /// Deletes a forward.
    pub async fn delete_forward(&self, network: &str, address: IpAddr) -> Result<(), Error> {
        Client::delete(self, &path(network, address)).await.map(drop)
    }
}

/// LXD finds an address in its canonical spelling only.
fn path(network: &str, address: IpAddr) -> String {
    format!("networks/{network}/forwards/{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_a_port_is_named() {
        let port = |protocol: &str, listen_port: &str, description: &str| ForwardPort {
            description: description.into(),
            protocol: protocol.into(),
            listen_port: listen_port.into(),
            target_address: "10.77.0.5".into(),
            ..ForwardPort::default()
        };
        let mut forward = Forward {
            listen_address: IpAddr::from([192, 0, 2, 10]),
            description: String::new(),
            config: Config::new(),
            ports: vec![port("tcp", "80, 90-99", "web"), port("udp", "53", "names"), port("tcp", "443", "")],
        };
        for (number, expected) in [(80, Some("web")), (95, Some("web")), (100, None), (53, None), (443, Some("10.77.0.5"))] {
            assert_eq!(forward.taker(number).as_deref(), expected, "{number}");
        }
        forward.config.insert(DEFAULT_TARGET.into(), "10.77.0.9".into());
        assert_eq!(forward.taker(53).as_deref(), Some("10.77.0.9"), "all other ports lead there");
        assert_eq!(
            forward.unclaimed(|description| description == "web"),
            ["192.0.2.10:53/udp to 10.77.0.5", "192.0.2.10:443/tcp to 10.77.0.5", "every other port of 192.0.2.10 to 10.77.0.9"]
        );
    }
}
