//! Whether a subnet has room for what is to live in it, and the form that it needs.

use crate::address::{Cidr, Range};

/// Why nodes cannot live in a subnet; nothing if they can. `instances` is how many addresses they need at once, `stateful` says that
/// IPv6 addresses are handed out one by one.
#[must_use]
pub fn unfit_for_nodes(subnet: Cidr, instances: u32, stateful: bool) -> Option<String> {
    if subnet.address.is_ipv4() {
        let hosts = 2_u64.pow(u32::from(32 - subnet.prefix)).saturating_sub(3);
        return (hosts < u64::from(instances)).then(|| {
            format!(
                "{subnet} has room for {hosts} instances beside the host, and {instances} are needed: a shorter prefix has more"
            )
        });
    }
    match (subnet.prefix, stateful) {
        (64, _) | (65..=120, true) => None,
        (121.., true) => Some(format!("{subnet} is too small for the lab's instances: use a /64")),
        (..64, _) => Some(format!("{subnet} is wider than a /64, and instances form their addresses in a /64 alone")),
        _ => Some(format!("{subnet} is narrower than a /64, and instances form their addresses in a /64 alone")),
    }
}

/// How many bits of a network's prefix decide which node has it, at the most.
const NODE_BITS: u8 = 16;

/// Why a cluster of so many nodes cannot have its Pods here; nothing if it can. Every node gets a /24, of IPv6 a /64.
#[must_use]
pub fn unfit_for_pods(network: Cidr, nodes: u32) -> Option<String> {
    let each = if network.address.is_ipv4() { 24 } else { 64 };
    if network.prefix > each {
        return Some(format!("{network} is narrower than the /{each} that every node gets for its Pods"));
    }
    let bits = each - network.prefix;
    if bits > NODE_BITS {
        return Some(format!(
            "{network} is too wide: Kubernetes divides at most a /{} into a /{each} for each node",
            each - NODE_BITS
        ));
    }
    (1_u64 << bits < u64::from(nodes))
        .then(|| format!("{network} has a /{each} for {} nodes, and the cluster may come to have {nodes}", 1_u64 << bits))
}

/// Why a cluster cannot have its Services here; nothing if it can.
#[must_use]
pub fn unfit_for_services(network: Cidr) -> Option<String> {
    let (widest, narrowest) = if network.address.is_ipv4() { (12, 28) } else { (108, 124) };
    if network.prefix < widest {
        return Some(format!("{network} is too wide: an API server takes at most a /{widest} for Services"));
    }
    (network.prefix > narrowest)
        .then(|| format!("{network} is too small for the Services of a cluster: use at least a /{narrowest}"))
}

/// Why a list of ranges for DHCP does not fit its subnet; nothing if it does. Ranges are as LXD takes them: `10.0.0.2-10.0.0.9,…`.
#[must_use]
pub fn unfit_for_dhcp(subnet: Cidr, ranges: &str) -> Option<String> {
    ranges.split(',').map(str::trim).filter(|text| !text.is_empty()).find_map(|text| {
        let Ok(range) = text.parse::<Range>() else { return Some(format!("`{text}` is no range of addresses")) };
        (!subnet.range().holds(range)).then(|| format!("the range {text} is not within {subnet}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_in_which_the_thing_cannot_work() {
        for (subnet, instances, stateful, fits) in [
            ("10.77.0.0/24", 20, false, true),
            ("10.77.0.0/28", 13, false, true),
            ("10.77.0.0/28", 14, false, false),
            ("10.77.0.0/32", 1, false, false),
            ("fd42:77:1::/64", 20, false, true),
            ("fd42:77:1::/80", 20, false, false),
            ("fd42:77:1::/80", 20, true, true),
            ("fd42:77:1::/126", 20, true, false),
            ("fd42:77::/56", 20, false, false),
            ("fd42:77::/56", 20, true, false),
        ] {
            assert_eq!(unfit_for_nodes(cidr(subnet), instances, stateful).is_none(), fits, "{subnet} {instances} {stateful}");
        }
        for (network, nodes, fits) in [
            ("10.244.0.0/16", 256, true),
            ("10.244.0.0/16", 257, false),
            ("10.244.0.0/25", 1, false),
            ("10.0.0.0/7", 3, false),
            ("fd42:77:2::/56", 256, true),
            ("fd42:77:2::/64", 2, false),
            ("fd42:77:2::/65", 1, false),
            ("fd42::/40", 3, false),
        ] {
            assert_eq!(unfit_for_pods(cidr(network), nodes).is_none(), fits, "{network} {nodes}");
        }
        for (network, fits) in [
            ("10.96.0.0/16", true),
            ("10.0.0.0/8", false),
            ("10.96.0.0/30", false),
            ("fd42:77:3::/112", true),
            ("fd42:77:3::/108", true),
            ("fd42:77:3::/64", false),
            ("fd42:77:3::/127", false),
        ] {
            assert_eq!(unfit_for_services(cidr(network)).is_none(), fits, "{network}");
        }
    }

    #[test]
    fn ranges_of_dhcp() {
        for (ranges, expected) in [
            ("", None),
            ("10.77.0.10-10.77.0.99", None),
            ("10.77.0.10-10.77.0.19, 10.77.0.30-10.77.0.39", None),
            ("10.77.0.10-10.77.1.19", Some("the range 10.77.0.10-10.77.1.19 is not within 10.77.0.1/24")),
            ("10.77.0.99-10.77.0.10", Some("`10.77.0.99-10.77.0.10` is no range of addresses")),
        ] {
            assert_eq!(unfit_for_dhcp(cidr("10.77.0.1/24"), ranges).as_deref(), expected, "{ranges}");
        }
    }
}
