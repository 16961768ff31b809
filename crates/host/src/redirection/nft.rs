//! What `nft -j list ruleset` says.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use serde::Deserialize;
use serde_json::Value;

use super::{Redirection, is_lxds};

/// The tables of LXD and Incus.
const LXDS: [&str; 2] = ["lxd", "incus"];

#[derive(Deserialize)]
struct Ruleset {
    nftables: Vec<Value>,
}

#[derive(Clone, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    family: String,
    table: String,
    #[serde(alias = "name")]
    chain: String,
}

/// The rules that send connections elsewhere.
pub(super) fn parse(text: &str) -> Vec<Redirection> {
    let Ok(ruleset) = serde_json::from_str::<Ruleset>(text) else { return Vec::new() };
    let of = |kind: &'static str| ruleset.nftables.iter().filter_map(move |entry| entry.get(kind));
    let place = |object: &Value| serde_json::from_value::<Place>(object.clone()).ok();
    // Packets come to other chains only by a jump, which may ask for more than can be seen at the rule.
    let entries: BTreeSet<Place> = of("chain").filter(|chain| chain["type"] == "nat").filter_map(place).collect();
    let sets: BTreeMap<Place, &Value> = of("set").filter_map(|set| Some((place(set)?, &set["elem"]))).collect();
    let rules = of("rule").filter(|rule| !is_lxds(rule["comment"].as_str().unwrap_or_default()));
    rules.filter_map(|rule| redirection(rule, &place(rule)?, &entries, &sets)).collect()
}

fn redirection(rule: &Value, place: &Place, entries: &BTreeSet<Place>, sets: &BTreeMap<Place, &Value>) -> Option<Redirection> {
    let expressions = rule["expr"].as_array()?;
    let sends = |expression: &Value| expression.get("dnat").is_some() || expression.get("redirect").is_some();
    if LXDS.contains(&place.table.as_str()) || !expressions.iter().any(sends) {
        return None;
    }
    let mut found = Redirection {
        place: format!("table {} {}, chain {}", place.family, place.table, place.chain),
        v4: place.family != "ip6",
        v6: place.family != "ip",
        addresses: Vec::new(),
        ports: Vec::new(),
    };
    for condition in expressions.iter().filter_map(|expression| expression.get("match")) {
        // What a rule leaves out is not looked at: it is taken to send more than it does.
        if condition["op"] == "!=" {
            continue;
        }
        let left = &condition["left"];
        let (protocol, field) = (left["payload"]["protocol"].as_str(), left["payload"]["field"].as_str());
        let values = values(&condition["right"], place, sets);
        match (protocol, field) {
            (Some("tcp" | "th"), Some("dport")) => found.ports.extend(values.iter().filter_map(ports)),
            (Some("udp" | "sctp" | "dccp" | "udplite"), _) => return None,
            (Some("ip" | "ip6"), Some("daddr")) => found.addresses.extend(values.iter().filter_map(network)),
            _ if left["meta"]["key"] == "l4proto" && !values.iter().any(is_tcp) => return None,
            _ => {}
        }
    }
    let says_where = !found.ports.is_empty() || entries.contains(place);
    says_where.then_some(found)
}

/// The values of a condition's right side: one, those of a set, or those of a set that has a name.
fn values(right: &Value, place: &Place, sets: &BTreeMap<Place, &Value>) -> Vec<Value> {
    let named = right.as_str().and_then(|name| name.strip_prefix('@'));
    let elements = match named {
        Some(name) => sets.get(&Place { chain: name.to_owned(), ..place.clone() }).copied(),
        None => right.get("set"),
    };
    // An element may stand in an object of its own, with what is known of it beside.
    let bare = |element: &Value| element.get("elem").map_or_else(|| element.clone(), |inner| inner["val"].clone());
    match elements {
        Some(Value::Array(elements)) => elements.iter().map(bare).collect(),
        Some(element) => vec![bare(element)],
        None if named.is_some() => Vec::new(),
        None => vec![right.clone()],
    }
}

fn ports(value: &Value) -> Option<RangeInclusive<u16>> {
    let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
    match &value["range"] {
        Value::Array(ends) => Some(port(ends.first()?)?..=port(ends.get(1)?)?),
        _ => port(value).map(|port| port..=port),
    }
}

fn network(value: &Value) -> Option<(std::net::IpAddr, u8)> {
    let prefix = &value["prefix"];
    if let Some(address) = prefix["addr"].as_str() {
        return Some((address.parse().ok()?, u8::try_from(prefix["len"].as_u64()?).ok()?));
    }
    let address: std::net::IpAddr = value.as_str()?.parse().ok()?;
    Some((address, if address.is_ipv4() { 32 } else { 128 }))
}

/// Some versions of nft name protocols by their numbers.
fn is_tcp(value: &Value) -> bool {
    value == "tcp" || value == 6 || value == "6"
}
