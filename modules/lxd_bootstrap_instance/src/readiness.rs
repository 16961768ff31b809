//! Which addresses of the instance can be used.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use lxd::InstanceState;

use crate::Family;

/// The instance's usable address of each family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

/// In the kernel's table of IPv6 addresses: the address is still being tried out, and packets to it go nowhere.
const TENTATIVE: u32 = 0x40;

impl Addresses {
    pub(crate) fn of(state: &InstanceState, interface: &str) -> Self {
        // The kernel's table of the instance's own network, as the host sees it. Without it LXD's word has to do.
        let table = fs::read_to_string(format!("/proc/{}/net/if_inet6", state.pid)).unwrap_or_default();
        let tentative = tentative(&table);
        let mut addresses = Self::default();
        for address in state.global_addresses(interface) {
            match address {
                IpAddr::V4(address) => drop(addresses.ipv4.get_or_insert(address)),
                IpAddr::V6(address) if !tentative.contains(&address) => drop(addresses.ipv6.get_or_insert(address)),
                IpAddr::V6(_) => {}
            }
        }
        addresses
    }

    pub(crate) fn has(&self, family: Family) -> bool {
        match family {
            Family::Ipv4 => self.ipv4.is_some(),
            Family::Ipv6 => self.ipv6.is_some(),
        }
    }
}

/// Lines of address, interface index, prefix length, scope, flags (all hexadecimal) and interface name.
fn tentative(table: &str) -> Vec<Ipv6Addr> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let flags = u32::from_str_radix(fields.get(4)?, 16).ok()?;
        let address = u128::from_str_radix(fields.first()?, 16).ok()?;
        (flags & TENTATIVE != 0).then(|| Ipv6Addr::from_bits(address))
    };
    table.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_being_tried_out_does_not_count() {
        let table = "\
00000000000000000000000000000001 01 80 10 80       lo
fd4200770001000000163efffe000001 05 40 00 40     eth0
fd4200770001000000163efffe000002 05 40 00 00     eth0
";
        assert_eq!(tentative(table), ["fd42:77:1:0:16:3eff:fe00:1".parse::<Ipv6Addr>().unwrap()]);
    }
}
