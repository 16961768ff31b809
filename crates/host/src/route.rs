//! The host's routes, as its main table has them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lab::{address::Cidr, plan::Route};

use crate::{Error, Root};

const REJECT: u32 = 0x0200;
const LOCAL: u32 = 0x8000_0000;

/// All routes to networks that others may be in: not to the host itself, to its links alone, or to groups.
pub fn all(root: &Root) -> Result<Vec<Route>, Error> {
    let mut routes: Vec<_> = root.read("/proc/net/route")?.unwrap_or_default().lines().skip(1).filter_map(ipv4).collect();
    // A host may have no IPv6.
    routes.extend(root.read("/proc/net/ipv6_route")?.unwrap_or_default().lines().filter_map(ipv6));
    Ok(routes)
}

/// Link, destination, gateway, flags and more; the eighth field is the mask. Addresses are hexadecimal, in the byte order of the
/// machine; every supported one is little-endian.
fn ipv4(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |field: usize| Some(u32::from_str_radix(fields.get(field)?, 16).ok()?.swap_bytes());
    let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
    let prefix = u8::try_from(number(7)?.count_ones()).ok()?;
    let network = Cidr { address: Ipv4Addr::from_bits(number(1)?).into(), prefix };
    (flags & REJECT == 0).then(|| Route { network, link: fields[0].to_owned(), by_router: number(2) != Some(0) })
}

/// Destination and its length, source and its length, gateway, metric, two counters, flags, link.
fn ipv6(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = |field: usize| Some(Ipv6Addr::from_bits(u128::from_str_radix(fields.get(field)?, 16).ok()?));
    let flags = u32::from_str_radix(fields.get(8)?, 16).ok()?;
    let (destination, over) = (address(0)?, *fields.get(9)?);
    let prefix = u8::from_str_radix(fields.get(1)?, 16).ok()?;
    let is_own = over == "lo" || flags & (LOCAL | REJECT) != 0 || destination.is_unicast_link_local() || destination.is_multicast();
    let network = Cidr { address: IpAddr::from(destination), prefix };
    (!is_own).then(|| Route { network, link: over.to_owned(), by_router: address(4) != Some(Ipv6Addr::UNSPECIFIED) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::machine;

    #[test]
    fn routes_to_others() {
        let (_folder, root) = machine(&[
            (
                "/proc/net/route",
                "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                 eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                 eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                 docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n",
            ),
            (
                "/proc/net/ipv6_route",
                "fd420077000100000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 capi-int\n\
                 20010db8000000000000000000000000 20 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n\
                 fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
                 fd420077000100000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001 capi-int\n\
                 ff000000000000000000000000000000 08 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000003 00000000 00000001     eth0\n\
                 00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n",
            ),
        ]);
        let route = |route: Route| format!("{} {} {}", route.network, route.link, route.by_router);
        let found: Vec<_> = all(&root).unwrap().into_iter().map(route).collect();
        assert_eq!(
            found,
            [
                "0.0.0.0/0 eth0 true",
                "192.168.2.0/24 eth0 false",
                "172.17.0.0/16 docker0 false",
                "fd42:77:1::/64 capi-int false",
                "2001:db8::/32 eth0 true",
            ]
        );
    }
}
