//! One network as it should be.

use lab::{
    Keys,
    address::{self, Cidr},
    keys,
    plan::{self, Fault},
    subnet,
};
use lxd::Declared;
use serde_json::json;

use crate::Network;

/// The bootstrap instance, and a cluster of two nodes with its load balancer, one of which is replaced.
const LEAST_INSTANCES: u32 = 5;

pub(crate) const IPV4: &str = "ipv4.address";
pub(crate) const IPV6: &str = "ipv6.address";

/// What every internal network sets: both families leave by NAT and are handed out.
pub(crate) fn required() -> Keys {
    keys::set([("ipv4.nat", "true"), ("ipv4.dhcp", "true"), ("ipv6.nat", "true"), ("ipv6.dhcp", "true")])
}

impl Network {
    /// The lab's own.
    pub(crate) fn internal() -> Self {
        Self {
            ipv4_subnet: Some(address::INTERNAL_IPV4.into()),
            ipv6_subnet: Some(address::INTERNAL_IPV6.into()),
            ..Self::default()
        }
    }

    /// All keys; an error names the option that cannot be read.
    pub(crate) fn config(&self) -> Result<Keys, (&'static str, String)> {
        let mut config = keys::set(self.config.clone());
        let families = [(IPV4, "ipv4_subnet", &self.ipv4_subnet, true), (IPV6, "ipv6_subnet", &self.ipv6_subnet, false)];
        for (key, option, subnet, is_v4) in families {
            let Some(subnet) = subnet.as_ref().filter(|_| !config.contains_key(key)) else { continue };
            let cidr: Cidr = subnet.parse().map_err(|error: address::NotACidr| (option, error.to_string()))?;
            if cidr.address.is_ipv4() != is_v4 {
                return Err((option, format!("`{subnet}` is of the other address family")));
            }
            config.insert(key.to_owned(), Some(cidr.first_host().to_string()));
        }
        config.extend(required());
        Ok(config)
    }

    /// The subnets that are known by now; LXD chooses others itself.
    pub(crate) fn cidrs(&self) -> Vec<Cidr> {
        let config = self.config().unwrap_or_default();
        [IPV4, IPV6].iter().filter_map(|key| config.get(*key)?.as_ref()?.parse().ok()).collect()
    }

    /// Fails where instances could not live in a subnet.
    pub(crate) fn refuse_unfit(&self, config: &Keys) -> Result<(), plan::Refused> {
        let text = |key: &str| config.get(key).and_then(Option::as_deref).unwrap_or_default();
        let stateful = text("ipv6.dhcp.stateful") == "true";
        let unfit = self.cidrs().into_iter().filter_map(|cidr| {
            let ranges = if cidr.address.is_ipv4() { text("ipv4.dhcp.ranges") } else { text("ipv6.dhcp.ranges") };
            subnet::unfit_for_nodes(cidr, LEAST_INSTANCES, stateful).or_else(|| subnet::unfit_for_dhcp(cidr, ranges))
        });
        let fault = |reason| Fault::Unfit { what: format!("network {}", self.name), reason };
        plan::Refused::unless_empty(unfit.map(fault).collect())
    }

    pub(crate) fn declare(&self, live: Option<&lxd::Network>) -> Declared<lxd::Network> {
        // Preflight has read the same options without an error.
        let mut config = self.config().unwrap_or_default();
        // LXD replaces `auto` by an address of its choice, which then is as good as any.
        config.retain(|key, value| value.as_deref() != Some("auto") || live.is_none_or(|live| !live.config.contains_key(key)));
        let is_own = |key: &str| key == IPV4 || key == IPV6 || required().contains_key(key);
        let (own, added): (Keys, Keys) = config.into_iter().partition(|(key, _)| is_own(key));
        let added = added.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        let own = Declared {
            config: own,
            creation: [("type".to_owned(), json!(self.kind))].into_iter().collect(),
            ..Declared::new(&self.name, &self.description)
        };
        own.with_additions(&added, &lxd::Devices::new())
    }
}
