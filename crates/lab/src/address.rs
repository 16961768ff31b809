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

/// An address with the length of its prefix: `10.77.0.1/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The address, host part included.
    pub address: IpAddr,
    /// The length of the prefix in bits.
    pub prefix: u8,
}

/// The text is not an address and a prefix length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotACidr(String);

impl fmt::Display for NotACidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not an address with a prefix length, such as 10.77.0.0/24", self.0)
    }
}

impl std::error::Error for NotACidr {}

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
