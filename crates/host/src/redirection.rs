//! Rules of this host's packet filter that send connections elsewhere, whoever made them: a port that they take is not free although
//! nobody listens at it.
//!
//! Rules that LXD and Incus made for their own networks are left out. So are jumps by a map from ports to chains, as kube-proxy makes
//! them for the ports of nodes.

mod iptables;
mod nft;

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

use crate::{Command, CommandError, Error, Root};

/// A rule that sends connections elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirection {
    /// Where the rule stands: `table ip nat, chain DOCKER`.
    pub place: String,
    v4: bool,
    v6: bool,
    /// To which addresses a connection has to go; all if there is none.
    addresses: Vec<(IpAddr, u8)>,
    /// To which ports a connection has to go; all if there is none.
    ports: Vec<RangeInclusive<u16>>,
}

/// All such rules.
pub async fn all(root: &Root) -> Result<Vec<Redirection>, Error> {
    let mut found = Vec::new();
    if let Some(rules) = said_by(root.command("nft").args(["-j", "list", "ruleset"])).await? {
        found.extend(nft::parse(&rules));
    }
    for (program, is_v6) in [("iptables-save", false), ("ip6tables-save", true)] {
        if let Some(rules) = said_by(root.command(program).args(["-t", "nat"])).await? {
            found.extend(iptables::parse(&rules, is_v6));
        }
    }
    Ok(found)
}

/// What a program says; nothing where it is not installed.
async fn said_by(command: Command) -> Result<Option<String>, Error> {
    match command.execute().await {
        Ok(output) => Ok(Some(output.stdout)),
        Err(Error::Command(CommandError::Missing { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Redirection {
    /// Whether it takes connections to an address.
    #[must_use]
    pub fn takes(&self, address: SocketAddr) -> bool {
        let of_family = if address.is_ipv4() { self.v4 } else { self.v6 };
        of_family
            && (self.addresses.is_empty() || self.addresses.iter().any(|network| contains(*network, address.ip())))
            && (self.ports.is_empty() || self.ports.iter().any(|range| range.contains(&address.port())))
    }
}

fn contains((network, length): (IpAddr, u8), address: IpAddr) -> bool {
    let (network, address, width) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => (u128::from(network.to_bits()), u128::from(address.to_bits()), 32),
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    let host_bits = u32::from(u8::saturating_sub(width, length));
    network.checked_shr(host_bits) == address.checked_shr(host_bits)
}

/// Whether a rule's comment says that LXD or Incus made it.
fn is_lxds(comment: &str) -> bool {
    comment.contains("generated for LXD ") || comment.contains("generated for Incus ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these addresses the rules take.
    fn taken(rules: &[Redirection], addresses: &[&str]) -> Vec<String> {
        let takes = |address: &&&str| rules.iter().any(|rule| rule.takes(address.parse().unwrap()));
        addresses.iter().filter(takes).map(|address| (*address).to_owned()).collect()
    }

    #[test]
    fn rules_of_nft() {
        const HERE: &[&str] =
            &["192.0.2.10:25060", "192.0.2.11:25060", "192.0.2.10:8080", "[2001:db8::1]:25060", "[2001:db8::1]:9000"];
        let rule = |family: &str, expr: &str| {
            format!(
                r#"{{"nftables": [
                    {{"metainfo": {{"version": "1.0.6"}}}},
                    {{"chain": {{"family": "{family}", "table": "theirs", "name": "pre", "type": "nat", "hook": "prerouting"}}}},
                    {{"set": {{"family": "{family}", "table": "theirs", "name": "ports", "elem": [8080, {{"range": [9000, 9010]}}]}}}},
                    {{"rule": {{"family": "{family}", "table": "theirs", "chain": "pre", "expr": [{expr}]}}}}
                ]}}"#
            )
        };
        let is = |protocol: &str, field: &str, value: &str| {
            format!(
                r#"{{"match": {{"op": "==", "left": {{"payload": {{"protocol": "{protocol}", "field": "{field}"}}}}, "right": {value}}}}}"#
            )
        };
        let port = |value: &str| is("tcp", "dport", value);
        let dnat = r#"{"dnat": {"addr": "10.0.0.2", "port": 80}}"#;
        for (case, family, expr, expected) in [
            (
                "one port",
                "inet",
                format!("{}, {dnat}", port("25060")),
                vec!["192.0.2.10:25060", "192.0.2.11:25060", "[2001:db8::1]:25060"],
            ),
            ("of one family", "ip6", format!("{}, {dnat}", port("25060")), vec!["[2001:db8::1]:25060"]),
            (
                "of one address",
                "ip",
                format!("{}, {}, {dnat}", is("ip", "daddr", r#""192.0.2.10""#), port("25060")),
                vec!["192.0.2.10:25060"],
            ),
            (
                "of a network",
                "ip",
                format!("{}, {}, {dnat}", is("ip", "daddr", r#"{"prefix": {"addr": "192.0.2.10", "len": 32}}"#), port("25060")),
                vec!["192.0.2.10:25060"],
            ),
            ("a range", "ip", format!("{}, {dnat}", port(r#"{"range": [8000, 9000]}"#)), vec!["192.0.2.10:8080"]),
            ("a set", "ip", format!("{}, {dnat}", port(r#"{"set": [80, 8080]}"#)), vec!["192.0.2.10:8080"]),
            ("a named set", "inet", format!("{}, {dnat}", port(r#""@ports""#)), vec!["192.0.2.10:8080", "[2001:db8::1]:9000"]),
            (
                "a redirection to the host",
                "ip",
                format!(r#"{}, {{"redirect": {{"port": 1}}}}"#, port("8080")),
                vec!["192.0.2.10:8080"],
            ),
            (
                "everything to one address",
                "ip",
                format!("{}, {dnat}", is("ip", "daddr", r#""192.0.2.11""#)),
                vec!["192.0.2.11:25060"],
            ),
            ("another protocol", "ip", format!("{}, {dnat}", is("udp", "dport", "25060")), vec![]),
            (
                "another protocol, otherwise said",
                "ip",
                format!(r#"{{"match": {{"op": "==", "left": {{"meta": {{"key": "l4proto"}}}}, "right": "udp"}}}}, {dnat}"#),
                vec![],
            ),
            ("no redirection", "ip", format!(r#"{}, {{"accept": null}}"#, port("25060")), vec![]),
        ] {
            assert_eq!(taken(&nft::parse(&rule(family, &expr)), HERE), expected, "{case}");
        }
        let lxds = rule("inet", &format!("{}, {dnat}", port("25060"))).replace("theirs", "lxd");
        assert_eq!(nft::parse(&lxds), []);
        assert_eq!(nft::parse(&rule("inet", &format!("{}, {dnat}", port("1"))))[0].place, "table inet theirs, chain pre");
        assert_eq!(nft::parse("not JSON"), []);
    }

    #[test]
    fn rules_of_iptables() {
        const HERE: &[&str] = &["192.0.2.10:25060", "192.0.2.11:25060", "192.0.2.10:8080"];
        for (case, rule, expected) in [
            (
                "Docker's",
                "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
                vec!["192.0.2.10:8080"],
            ),
            (
                "of one address",
                "-A PREROUTING -d 192.0.2.10/32 -p tcp -m tcp --dport 25000:26000 -j DNAT --to-destination 10.0.0.2",
                vec!["192.0.2.10:25060"],
            ),
            (
                "several ports",
                "-A PREROUTING -p tcp -m multiport --dports 80,8000:8100 -j REDIRECT --to-ports 1",
                vec!["192.0.2.10:8080"],
            ),
            (
                "everything to one address",
                "-A PREROUTING -d 192.0.2.11/32 -j DNAT --to-destination 10.0.0.2",
                vec!["192.0.2.11:25060"],
            ),
            ("where another rule leads", "-A KUBE-SEP-X -p tcp -m tcp -j DNAT --to-destination 10.244.0.2:53", vec![]),
            ("another protocol", "-A PREROUTING -p udp -m udp --dport 25060 -j DNAT --to-destination 10.0.0.2", vec![]),
            ("no redirection", "-A POSTROUTING -p tcp --dport 25060 -j MASQUERADE", vec![]),
            (
                "LXD's",
                "-A PREROUTING -d 192.0.2.10/32 -p tcp --dport 25060 -m comment --comment \"generated for LXD network-forward capi-int\" -j DNAT --to-destination 10.77.0.5:6443",
                vec![],
            ),
        ] {
            let saved = format!("*nat\n:PREROUTING ACCEPT [0:0]\n{rule}\nCOMMIT\n");
            assert_eq!(taken(&iptables::parse(&saved, false), HERE), expected, "{case}");
        }
        let v6 = iptables::parse("-A PREROUTING -p tcp --dport 25060 -j DNAT --to-destination [2001:db8::2]:80", true);
        assert_eq!(taken(&v6, &["192.0.2.10:25060", "[2001:db8::1]:25060"]), ["[2001:db8::1]:25060"]);
        assert_eq!(v6[0].place, "ip6tables, table nat, chain PREROUTING");
    }
}
