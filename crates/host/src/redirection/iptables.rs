//! What `iptables-save` says.

use std::{net::IpAddr, ops::RangeInclusive};

use super::{Redirection, is_lxds};

/// The chains that packets come to by themselves.
const ENTRIES: [&str; 2] = ["PREROUTING", "OUTPUT"];

/// The rules that send connections elsewhere.
pub(super) fn parse(saved: &str, is_v6: bool) -> Vec<Redirection> {
    saved.lines().filter(|line| !is_lxds(line)).filter_map(|line| redirection(line, is_v6)).collect()
}

fn redirection(line: &str, is_v6: bool) -> Option<Redirection> {
    let words: Vec<&str> = line.split_whitespace().collect();
    // What a rule leaves out (`! -d`) is not looked at: it is taken to send more than it does.
    let value = |names: &[&str]| {
        let at = words.iter().position(|word| names.contains(word))?;
        let negated = at > 0 && words[at - 1] == "!";
        words.get(at + 1).filter(|_| !negated).copied()
    };
    let chain = value(&["-A"])?;
    if !matches!(value(&["-j", "--jump"])?, "DNAT" | "REDIRECT") || !matches!(value(&["-p"]), None | Some("tcp" | "all")) {
        return None;
    }
    let ports: Vec<_> = value(&["--dport", "--dports"]).into_iter().flat_map(|list| list.split(',')).filter_map(ports).collect();
    // Packets come to other chains only by a jump, which may ask for more than can be seen at the rule.
    if ports.is_empty() && !ENTRIES.contains(&chain) {
        return None;
    }
    let program = if is_v6 { "ip6tables" } else { "iptables" };
    Some(Redirection {
        place: format!("{program}, table nat, chain {chain}"),
        v4: !is_v6,
        v6: is_v6,
        addresses: value(&["-d"]).and_then(network).into_iter().collect(),
        ports,
    })
}

fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    Some((address, if length.is_empty() { width } else { length.parse().ok()? }))
}
