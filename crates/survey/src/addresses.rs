//! The addresses by which an instance is reached.

use std::{
    cell::Cell,
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use converge::Wait;
use lxd::{Client, InstanceState, Power};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;

/// In the kernel's table of IPv6 addresses: the address is still being tried out, and packets to it go nowhere.
const TENTATIVE: u32 = 0x40;

/// Address families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// Both families.
    pub const BOTH: [Self; 2] = [Self::Ipv4, Self::Ipv6];
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// The usable address of each family that an instance has on an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The first of IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// The first of IPv6.
    pub ipv6: Option<Ipv6Addr>,
}

impl Addresses {
    /// Those of an instance on this host.
    #[must_use]
    pub fn of(state: &InstanceState, interface: &str) -> Self {
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

    /// The one to reach it by: IPv4 if there is one.
    #[must_use]
    pub fn first(&self) -> Option<IpAddr> {
        self.ipv4.map(IpAddr::from).or(self.ipv6.map(IpAddr::from))
    }

    fn has(&self, family: Family) -> bool {
        match family {
            Family::Ipv4 => self.ipv4.is_some(),
            Family::Ipv6 => self.ipv6.is_some(),
        }
    }
}

/// Waits until an instance has a usable address of each of these families, or of either where none is named. It is looked at once at
/// least, and given up at once when it does not run.
pub async fn addresses(
    client: &Client,
    instance: &str,
    interface: &str,
    families: &[Family],
    deadline: Duration,
) -> Result<Addresses, Error> {
    let names = if families.is_empty() { &Family::BOTH } else { families };
    let names = names.iter().map(Family::to_string).collect::<Vec<_>>().join(if families.is_empty() { " or " } else { " and " });
    let wait = Wait::for_condition(format!("{instance}: a global address of {names} on {interface}"), deadline);
    let last = Cell::new(None);
    let waited = wait.until(async || {
        let state = client.instance_state(instance).await?;
        let looked = judge(instance, interface, families, &state)?;
        Ok(looked.map_err(|missing| {
            let seen = missing.seen.clone();
            last.set(Some(missing));
            seen
        }))
    });
    match (waited.await, last.take()) {
        (Err(Error::Wait(_)), Some(Missing { family, seen, interfaces })) => {
            Err(Error::NoAddress { instance: instance.to_owned(), interface: interface.to_owned(), family, seen, interfaces })
        }
        (outcome, _) => outcome,
    }
}

/// What an interface lacks.
#[derive(Debug, PartialEq)]
struct Missing {
    /// None, where either would do.
    family: Option<Family>,
    seen: String,
    /// All interfaces.
    interfaces: String,
}

fn judge(instance: &str, interface: &str, families: &[Family], state: &InstanceState) -> Result<Result<Addresses, Missing>, Error> {
    if state.power() != Power::Running {
        return Err(Error::NotRunning { instance: instance.to_owned(), status: state.status.clone() });
    }
    let found = Addresses::of(state, interface);
    let family = families.iter().copied().find(|family| !found.has(*family));
    if family.is_none() && found.first().is_some() {
        return Ok(Ok(found));
    }
    Ok(Err(Missing { family, seen: state.describe(interface), interfaces: state.describe_all() }))
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

    /// The state of an instance as LXD tells it.
    fn state(status: &str, addresses: &[&str]) -> InstanceState {
        let address =
            |address: &&str| lxd::Address { address: (*address).into(), scope: "global".into(), ..lxd::Address::default() };
        let interface = lxd::Interface { addresses: addresses.iter().map(address).collect(), ..lxd::Interface::default() };
        InstanceState { status: status.into(), network: Some([("eth0".to_owned(), interface)].into()), ..InstanceState::default() }
    }

    #[test]
    fn an_instance_that_does_not_run_is_not_waited_for() {
        for status in ["Stopped", "Error", "Frozen"] {
            let judged = judge("a", "eth0", &Family::BOTH, &state(status, &["10.77.0.5", "fd42::5"]));
            assert!(matches!(judged, Err(Error::NotRunning { .. })), "{status}: {judged:?}");
        }
    }

    #[test]
    fn each_family_that_is_asked_for_counts() {
        for (families, addresses, missing) in [
            (&Family::BOTH[..], &["10.77.0.5", "fd42::5"][..], None),
            (&Family::BOTH, &["10.77.0.5"], Some(Some(Family::Ipv6))),
            (&Family::BOTH, &["fd42::5"], Some(Some(Family::Ipv4))),
            (&[Family::Ipv6], &["fd42::5"], None),
            (&[], &["fd42::5"], None),
            (&[], &[], Some(None)),
        ] {
            let judged = judge("a", "eth0", families, &state("Running", addresses)).unwrap();
            assert_eq!(judged.err().map(|missing| missing.family), missing, "{addresses:?}");
        }
    }
}
