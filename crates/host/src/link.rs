//! Network links, as the kernel shows them, and bridges.

use std::{collections::BTreeSet, fs, net::Ipv4Addr, path::PathBuf};

use crate::{Error, Root};

/// A network link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its greatest packet.
    pub mtu: u32,
    /// `up`, `down`, `unknown`, ….
    pub operstate: String,
    /// It is administratively up.
    pub up: bool,
    /// The bridge or bond that it belongs to.
    pub master: Option<String>,
    /// It is the loopback link.
    pub loopback: bool,
    /// What it has as a bridge, if it is one.
    pub bridge: Option<Bridge>,
}

/// A bridge's own properties.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bridge {
    /// The links that it joins.
    pub members: BTreeSet<String>,
    /// It takes part in the spanning tree protocol.
    pub stp: bool,
    /// Seconds until a new member forwards.
    pub forward_delay: u32,
    /// It looks for listeners of multicast groups.
    pub multicast_snooping: bool,
}

/// The kernel counts a bridge's times in hundredths of a second.
const TICKS: u32 = 100;

/// Flags of a route, as the kernel's table of IPv6 routes has them.
const REJECT: u32 = 0x0200;
const BY_ADVERTISEMENT: u32 = 0x0001_0000;

/// What a link carries that it would lose in a bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The default route leads over it. One that a router has announced does not count where another link has one: any second link
    /// gets such a route by itself.
    pub default_route: bool,
    /// Its networks and global addresses.
    pub networks: Vec<String>,
}

/// The link of this name; nothing if there is none.
pub fn observe(root: &Root, name: &str) -> Result<Option<Link>, Error> {
    let folder = folder(name);
    if !root.has(&folder) {
        return Ok(None);
    }
    let text = |file: &str| Ok::<_, Error>(root.read(folder.join(file))?.unwrap_or_default().trim().to_owned());
    let number = |file: &str| Ok::<_, Error>(text(file)?.parse::<u32>().unwrap_or_default());
    let flags = u32::from_str_radix(text("flags")?.trim_start_matches("0x"), 16).unwrap_or_default();
    let master = fs::read_link(root.at(folder.join("master"))).ok();
    let bridge = if root.has(folder.join("bridge")) {
        Some(Bridge {
            members: root.list(folder.join("brif"))?.into_iter().collect(),
            stp: number("bridge/stp_state")? != 0,
            forward_delay: number("bridge/forward_delay")? / TICKS,
            multicast_snooping: number("bridge/multicast_snooping")? != 0,
        })
    } else {
        None
    };
    Ok(Some(Link {
        mtu: number("mtu")?,
        operstate: text("operstate")?,
        up: flags & 0x1 != 0,
        master: master.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())),
        loopback: flags & 0x8 != 0,
        bridge,
    }))
}

/// What the link of this name carries.
pub fn load(root: &Root, name: &str) -> Result<Load, Error> {
    let mut load = Load::default();
    let (ipv4, ipv6) = (root.read("/proc/net/route")?.unwrap_or_default(), root.read("/proc/net/ipv6_route")?.unwrap_or_default());
    let mut is_elsewhere = default_routes_v6(&ipv6).any(|route| route.link != name);
    for route in routes(&ipv4) {
        let is_own = route.link == name;
        load.default_route |= is_own && route.is_default;
        is_elsewhere |= !is_own && route.is_default;
        if is_own && !route.is_default {
            load.networks.push(route.network);
        }
    }
    load.default_route |= default_routes_v6(&ipv6).any(|route| route.link == name && !(route.is_announced && is_elsewhere));
    load.networks.extend(global_addresses_v6(&root.read("/proc/net/if_inet6")?.unwrap_or_default(), name));
    Ok(load)
}

/// A link's property that the kernel lets be written while it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// The greatest packet.
    Mtu(u32),
    /// Whether the bridge takes part in the spanning tree protocol.
    Stp(bool),
    /// Seconds until a new member of the bridge forwards.
    ForwardDelay(u32),
    /// Whether the bridge looks for listeners of multicast groups.
    MulticastSnooping(bool),
}

impl Property {
    /// Its name in the kernel.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mtu(_) => "mtu",
            Self::Stp(_) => "stp_state",
            Self::ForwardDelay(_) => "forward_delay",
            Self::MulticastSnooping(_) => "multicast_snooping",
        }
    }

    /// Its value in a unit that people use.
    #[must_use]
    pub fn value(self) -> u32 {
        match self {
            Self::Mtu(number) | Self::ForwardDelay(number) => number,
            Self::Stp(flag) | Self::MulticastSnooping(flag) => u32::from(flag),
        }
    }
}

/// Sets a property of a link.
pub fn set(root: &Root, name: &str, property: Property) -> Result<(), Error> {
    let (file, value) = match property {
        Property::Mtu(bytes) => ("mtu".to_owned(), bytes),
        Property::ForwardDelay(seconds) => ("bridge/forward_delay".to_owned(), seconds * TICKS),
        Property::Stp(_) | Property::MulticastSnooping(_) => (format!("bridge/{}", property.name()), property.value()),
    };
    let path = folder(name).join(file);
    root.set(&path, &value.to_string()).map_err(|error| Error::io("set", &path, error))
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from("/sys/class/net").join(name)
}

struct Route {
    link: String,
    is_default: bool,
    network: String,
}

/// Addresses are hexadecimal, in the byte order of the machine; every supported one is little-endian.
fn routes(table: &str) -> impl Iterator<Item = Route> {
    let address = |text: &str| Some(Ipv4Addr::from(u32::from_str_radix(text, 16).ok()?.swap_bytes()));
    table.lines().skip(1).filter_map(move |line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (destination, mask) = (address(fields.get(1)?)?, address(fields.get(7)?)?);
        let is_default = destination.is_unspecified() && mask.is_unspecified();
        let network = format!("{destination}/{}", u32::from(mask).count_ones());
        Some(Route { link: (*fields.first()?).to_owned(), is_default, network })
    })
}

struct DefaultRoute<'a> {
    link: &'a str,
    is_announced: bool,
}

fn default_routes_v6(table: &str) -> impl Iterator<Item = DefaultRoute<'_>> {
    table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [destination, length, .., flags, link] = fields.as_slice() else { return None };
        let flags = u32::from_str_radix(flags, 16).unwrap_or_default();
        let is_default = *length == "00" && destination.bytes().all(|digit| digit == b'0');
        // The kernel keeps a rejecting default route on `lo`.
        (is_default && flags & REJECT == 0).then_some(DefaultRoute { link, is_announced: flags & BY_ADVERTISEMENT != 0 })
    })
}

fn global_addresses_v6(table: &str, link: &str) -> Vec<String> {
    let address = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [digits, _, length, scope, _, device] = fields.as_slice() else { return None };
        let address = std::net::Ipv6Addr::from(u128::from_str_radix(digits, 16).ok()?);
        let length = u32::from_str_radix(length, 16).ok()?;
        (*device == link && *scope == "00").then(|| format!("{address}/{length}"))
    };
    table.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::root::tests::machine;

    #[test]
    fn a_bridge_and_its_member() {
        let (_folder, root) = machine(&[
            ("/sys/class/net/br0/flags", "0x1003\n"),
            ("/sys/class/net/br0/mtu", "1500\n"),
            ("/sys/class/net/br0/operstate", "up\n"),
            ("/sys/class/net/br0/bridge/stp_state", "0\n"),
            ("/sys/class/net/br0/bridge/forward_delay", "1500\n"),
            ("/sys/class/net/br0/bridge/multicast_snooping", "1\n"),
            ("/sys/class/net/br0/brif/eth1/port_no", "0x1\n"),
            ("/sys/class/net/eth1/flags", "0x1002\n"),
            ("/sys/class/net/lo/flags", "0x9\n"),
        ]);
        symlink("../br0", root.at("/sys/class/net/eth1/master")).unwrap();
        let bridge = Bridge { members: BTreeSet::from(["eth1".into()]), stp: false, forward_delay: 15, multicast_snooping: true };
        let expected = Link { mtu: 1500, operstate: "up".into(), up: true, bridge: Some(bridge), ..Link::default() };
        assert_eq!(observe(&root, "br0").unwrap(), Some(expected));
        let member = observe(&root, "eth1").unwrap().unwrap();
        assert_eq!((member.master.as_deref(), member.up), (Some("br0"), false));
        assert!(observe(&root, "lo").unwrap().unwrap().loopback);
        assert_eq!(observe(&root, "eth9").unwrap(), None);
        set(&root, "br0", Property::ForwardDelay(2)).unwrap();
        assert_eq!(observe(&root, "br0").unwrap().unwrap().bridge.unwrap().forward_delay, 2);
    }

    #[test]
    fn what_a_link_carries() {
        let (_folder, root) = machine(&[
            (
                "/proc/net/route",
                "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                 eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                 eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
            ),
            (
                "/proc/net/ipv6_route",
                "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth1\n\
                 00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n\
                 00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000002 00000400 00000001 00000000 00450003     eth3\n",
            ),
            (
                "/proc/net/if_inet6",
                "fe80000000000000021a4afffe000001 03 40 20 80     eth1\n\
                 20010db8004201000000000000000001 03 40 00 80     eth1\n",
            ),
        ]);
        for (name, default_route, networks) in [
            ("eth0", true, vec!["192.168.2.0/24"]),
            ("eth1", true, vec!["2001:db8:42:100::1/64"]),
            ("eth3", false, vec![]),
            ("eth2", false, vec![]),
            ("lo", false, vec![]),
        ] {
            let networks = networks.into_iter().map(str::to_owned).collect();
            assert_eq!(load(&root, name).unwrap(), Load { default_route, networks }, "{name}");
        }
        let announced = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000002 00000400 00000001 00000000 00450003 eth3\n";
        let (_folder, root) = machine(&[("/proc/net/ipv6_route", announced)]);
        assert!(load(&root, "eth3").unwrap().default_route, "the only one there is");
    }
}
