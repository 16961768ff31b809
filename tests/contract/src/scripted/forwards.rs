//! Network forwards: an address, and a list of ports that lead into the network. Nothing here carries packets.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::Model;
use super::answer::{Answer, Outcome, Refusal};
use super::request::{Call, Config};

/// What is kept of a forward, but for its address.
#[derive(Clone, Debug, Default)]
pub(super) struct Forward {
    description: String,
    config: Config,
    ports: Vec<Value>,
}

impl Forward {
    fn view(&self, address: &str) -> Value {
        json!({
            "listen_address": address, "description": self.description, "config": self.config, "ports": self.ports,
            "location": "none",
        })
    }
}

impl Model {
    fn forward(&self, network: &str, address: &str) -> Result<&Forward, Refusal> {
        self.bridge(network).map_err(|refusal| refusal.with_prefix("Failed loading network: "))?;
        let found = self.forwards.get(&(network.to_owned(), address.to_owned()));
        found.ok_or_else(|| Refusal::not_found("Network forward not found"))
    }

    pub(super) fn list_forwards(&self, network: &str, call: &Call) -> Outcome {
        self.bridge(network).map_err(|refusal| refusal.with_prefix("Failed loading network: "))?;
        let ours = self.forwards.iter().filter(|((of, _), _)| of == network);
        Ok(Answer::Read(if call.recursive() {
            ours.map(|((_, address), forward)| forward.view(address)).collect()
        } else {
            ours.map(|((_, address), _)| format!("/1.0/networks/{network}/forwards/{address}")).collect()
        }))
    }

    pub(super) fn get_forward(&self, network: &str, address: &str) -> Outcome {
        Ok(Answer::Read(self.forward(network, address)?.view(address)))
    }

    pub(super) fn create_forward(&mut self, network: &str, call: &Call) -> Outcome {
        self.bridge(network).map_err(|refusal| refusal.with_prefix("Failed loading network: "))?;
        self.add_forward(network, call).map_err(|refusal| refusal.with_prefix("Failed creating forward: "))
    }

    fn add_forward(&mut self, network: &str, call: &Call) -> Outcome {
        let body = call.body("NetworkForwardsPost")?;
        let address = body.text("listen_address")?.unwrap_or_default();
        let unreadable = || {
            Refusal::internal(format!(
                "Failed parsing address forward listen address \"{address}\": invalid CIDR address: {address}/32"
            ))
        };
        let parsed: IpAddr = address.parse().map_err(|_| unreadable())?;
        let address = parsed.to_string();
        if self.forwards.keys().any(|(of, taken)| of == network && *taken == address) {
            return Err(Refusal::conflict("A forward for that listen address already exists"));
        }
        if self.forwards.keys().any(|(_, taken)| *taken == address) {
            let width = if parsed.is_ipv4() { 32 } else { 128 };
            let text = format!("Forward listen address \"{address}/{width}\" overlaps with another network or NIC");
            return Err(Refusal::internal(text));
        }
        let forward = Forward {
            description: body.text("description")?.unwrap_or_default(),
            config: body.config("config")?.unwrap_or_default(),
            ports: ports(body.field("ports"))?.unwrap_or_default(),
        };
        self.check_forward(network, parsed, &forward)?;
        let path = format!("/1.0/networks/{network}/forwards/{address}");
        self.forwards.insert((network.to_owned(), address), forward);
        Ok(Answer::Created(path))
    }

    /// The tag of a request is not looked at.
    pub(super) fn change_forward(&mut self, network: &str, address: &str, call: &Call, replace: bool) -> Outcome {
        let mut forward = self.forward(network, address)?.clone();
        let body = call.body("NetworkForwardPut")?;
        let (description, config, ports) = (body.text("description")?, body.config("config")?, ports(body.field("ports"))?);
        if replace {
            forward = Forward::default();
        }
        forward.description = description.unwrap_or(forward.description);
        forward.config = config.unwrap_or(forward.config);
        forward.ports = ports.unwrap_or(forward.ports);
        if let Ok(parsed) = address.parse() {
            self.check_forward(network, parsed, &forward)?;
        }
        self.forwards.insert((network.to_owned(), address.to_owned()), forward);
        Ok(Answer::Done)
    }

    pub(super) fn delete_forward(&mut self, network: &str, address: &str) -> Outcome {
        self.forward(network, address)?;
        self.forwards.remove(&(network.to_owned(), address.to_owned()));
        Ok(Answer::Done)
    }

    fn check_forward(&self, network: &str, address: IpAddr, forward: &Forward) -> Result<(), Refusal> {
        let (_, config) = self.bridge(network)?;
        let key = if address.is_ipv4() { "ipv4.address" } else { "ipv6.address" };
        let mut taken = Vec::new();
        for (number, port) in forward.ports.iter().enumerate() {
            let text = |field: &str| port[field].as_str().unwrap_or_default();
            let target: IpAddr = text("target_address")
                .parse()
                .map_err(|_| Refusal::internal(format!("Invalid target address in port specification {number}")))?;
            if target.is_ipv4() != address.is_ipv4() {
                return Err(Refusal::internal(format!(
                    "Cannot mix IP versions in listen address and port specification {number} target address"
                )));
            }
            if config.get(key).is_some_and(|subnet| !holds(subnet, target)) {
                return Err(Refusal::internal(format!(
                    "Target address is not within the network subnet in port specification {number}"
                )));
            }
            let listens = (text("protocol").to_owned(), text("listen_port").to_owned());
            if taken.contains(&listens) {
                let (protocol, listen) = listens;
                return Err(Refusal::internal(format!(
                    "Duplicate listen port {listen} for protocol \"{protocol}\" in port specification {number}"
                )));
            }
            taken.push(listens);
        }
        Ok(())
    }
}

/// Every value of a port is text.
fn ports(value: Option<&Value>) -> Result<Option<Vec<Value>>, Refusal> {
    let Some(Value::Array(ports)) = value else { return Ok(None) };
    let fields = ["description", "protocol", "listen_port", "target_port", "target_address"];
    let port = |port: &Value| {
        let mut kept = Map::new();
        for field in fields {
            match &port[field] {
                Value::Null => drop(kept.insert(field.to_owned(), json!(""))),
                Value::String(text) => drop(kept.insert(field.to_owned(), json!(text))),
                _ => {
                    return Err(Refusal::bad_request(format!(
                        "json: cannot unmarshal number into Go struct field NetworkForwardPort.ports.{field} of type string"
                    )));
                }
            }
        }
        Ok(Value::Object(kept))
    };
    ports.iter().map(port).collect::<Result<_, _>>().map(Some)
}

/// Whether an address is within the subnet of an address with a prefix.
fn holds(subnet: &str, address: IpAddr) -> bool {
    let Some((own, length)) = subnet.split_once('/') else { return true };
    let (Ok(own), Ok(length)) = (own.parse::<IpAddr>(), length.parse::<u32>()) else { return true };
    let host_bits = |width: u32| width.saturating_sub(length);
    match (own, address) {
        (IpAddr::V4(own), IpAddr::V4(address)) => {
            own.to_bits().checked_shr(host_bits(32)) == address.to_bits().checked_shr(host_bits(32))
        }
        (IpAddr::V6(own), IpAddr::V6(address)) => {
            own.to_bits().checked_shr(host_bits(128)) == address.to_bits().checked_shr(host_bits(128))
        }
        _ => false,
    }
}
