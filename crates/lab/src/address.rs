//! Addresses of the lab's networks.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// The internal network.
pub const INTERNAL_IPV4: &str = "10.77.0.0/24";
/// The internal network.
pub const INTERNAL_IPV6: &str = "fd42:77:1::/64";

/// Pods of the bootstrap cluster.
pub const BOOTSTRAP_PODS: [&str; 2] = ["10.42.0.0/16", "fd42:77:42::/56"];
/// Services of the bootstrap cluster.
pub const BOOTSTRAP_SERVICES: [&str; 2] = ["10.43.0.0/16", "fd42:77:43::/112"];
/// Where pods of the bootstrap cluster ask for names.
pub const BOOTSTRAP_DNS: [&str; 2] = ["10.43.0.10", "fd42:77:43::a"];

/// Pods of the clusters that Cluster API makes.
pub const CLUSTER_PODS: [&str; 2] = ["10.244.0.0/16", "fd42:77:2::/56"];
/// Services of the clusters that Cluster API makes.
pub const CLUSTER_SERVICES: [&str; 2] = ["10.96.0.0/16", "fd42:77:3::/112"];

/// An address with the length of its prefix: `10.77.0.1/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The address, host part included.
    pub address: IpAddr,
    /// The length of the prefix in bits.
    pub prefix: u8,
}

/// The text is not an address and a prefix length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address with a prefix length, such as 10.77.0.0/24")]
pub struct NotACidr(String);

impl FromStr for Cidr {
    type Err = NotACidr;

    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let cidr = Self { address: address.parse().ok()?, prefix: prefix.parse().ok()? };
            (cidr.prefix <= cidr.width()).then_some(cidr)
        };
        parse().ok_or_else(|| NotACidr(text.to_owned()))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Cidr {
    /// The first host address of the network: what its gateway gets.
    #[must_use]
    pub fn first_host(self) -> Self {
        let first = self.network() + 1;
        Self { address: self.with_bits(first), prefix: self.prefix }
    }

    /// Whether the two networks share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = self.prefix.min(other.prefix);
        let cut = |cidr: Self| Self { prefix: shorter, ..cidr }.network();
        self.width() == other.width() && cut(self) == cut(other)
    }

    /// Whether the network has this address.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.overlaps(Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } })
    }

    /// All addresses of the network.
    #[must_use]
    pub fn range(self) -> Range {
        let first = self.network();
        let hosts = u128::MAX.checked_shr(u32::from(128 - (self.width() - self.prefix))).unwrap_or(0);
        Range { first: self.with_bits(first), last: self.with_bits(first | hosts) }
    }

    fn width(self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }

    fn network(self) -> u128 {
        let bits = match self.address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let host_bits = u32::from(self.width() - self.prefix);
        bits.checked_shr(host_bits).and_then(|bits| bits.checked_shl(host_bits)).unwrap_or(0)
    }

    fn with_bits(self, bits: u128) -> IpAddr {
        match self.address {
            IpAddr::V4(_) => Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(bits).into(),
        }
    }
}

/// Addresses from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The first.
    pub first: IpAddr,
    /// The last; of the same family, and not before the first.
    pub last: IpAddr,
}

/// The text is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no range of addresses, such as 2001:db8::200-2001:db8::2ff or 2001:db8::200/120")]
pub struct NotARange(String);

impl FromStr for Range {
    type Err = NotARange;

    fn from_str(text: &str) -> Result<Self, NotARange> {
        let parse = || {
            let Some((first, last)) = text.split_once('-') else { return Some(text.parse::<Cidr>().ok()?.range()) };
            let range = Self { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? };
            (range.first.is_ipv4() == range.last.is_ipv4() && range.first <= range.last).then_some(range)
        };
        parse().ok_or_else(|| NotARange(text.to_owned()))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Range {
    /// One address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self { first: address, last: address }
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4() && self.first <= other.last && other.first <= self.last
    }

    /// Whether all addresses of the other are in this one.
    #[must_use]
    pub fn holds(self, other: Self) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4() && self.first <= other.first && other.last <= self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_the_first_host() {
        for (subnet, gateway) in [
            ("10.77.0.0/24", "10.77.0.1/24"),
            ("10.77.0.9/24", "10.77.0.1/24"),
            ("fd42:77:1::/64", "fd42:77:1::1/64"),
            ("0.0.0.0/0", "0.0.0.1/0"),
        ] {
            assert_eq!(subnet.parse::<Cidr>().unwrap().first_host().to_string(), gateway);
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.77.0.0", "10.77.0.0/33", "fd42::/129", "capi-int/24", "10.77.0.0/x"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_is_a_range() {
        for (cidr, range) in [
            ("10.77.0.0/24", "10.77.0.0-10.77.0.255"),
            ("10.77.0.9/32", "10.77.0.9-10.77.0.9"),
            ("0.0.0.0/0", "0.0.0.0-255.255.255.255"),
            ("2001:db8:42:100::200/120", "2001:db8:42:100::200-2001:db8:42:100::2ff"),
            ("::/0", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            assert_eq!(cidr.parse::<Cidr>().unwrap().range().to_string(), range);
            assert_eq!(cidr.parse::<Range>().unwrap(), range.parse().unwrap());
        }
    }

    #[test]
    fn ranges_are_numbers_and_not_text() {
        let range = |text: &str| text.parse::<Range>().unwrap();
        for (one, other, overlaps, holds) in [
            ("fd00::100-fd00::1ff", "fd00::180-fd00::190", true, true),
            ("fd00::100-fd00::1ff", "fd00:0:0:0::1ff-fd00::200", true, false),
            ("fd00::100-fd00::1ff", "fd00::200-fd00::2ff", false, false),
            ("2001:db8:42:100::/64", "2001:DB8:42:100:0:0:0:200-2001:db8:42:100::2ff", true, true),
            ("10.0.0.1-10.0.0.9", "10.0.0.10-10.0.0.20", false, false),
            ("0.0.0.0/0", "::1-::2", false, false),
        ] {
            assert_eq!((range(one).overlaps(range(other)), range(one).holds(range(other))), (overlaps, holds), "{one} {other}");
        }
        for text in ["", "fd00::2-fd00::1", "10.0.0.1-fd00::1", "fd00::1", "fd00::1-", "a-b"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }

    #[test]
    fn overlap_is_containment_within_a_family() {
        for (one, other, expected) in [
            ("10.77.0.0/24", "10.77.0.128/25", true),
            ("10.77.0.0/24", "10.77.1.0/24", false),
            ("10.0.0.0/8", "10.77.0.1/24", true),
            ("fd42:77:1::/64", "fd42:77:2::/64", false),
            ("0.0.0.0/0", "::/0", false),
            ("::/0", "fd42::1/128", true),
        ] {
            assert_eq!(one.parse::<Cidr>().unwrap().overlaps(other.parse().unwrap()), expected, "{one} {other}");
        }
    }
}
