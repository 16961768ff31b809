//! Creates and converges the internal network, which LXD manages.

mod error;
mod network;

use std::collections::{BTreeMap, BTreeSet};

use ansible::{OptionError, Run, Step};
use converge::{Failure, Section};
use host::{HostLock, Root, forwarding, route};
use lab::{
    names,
    plan::{self, ClusterNetworks, Plan, Route},
};
use lxd::{Connection, ObjectChange, Tagged};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use crate::{
    error::{SingleStack, Unusable},
    network::{IPV4, IPV6, required},
};

/// Converge the managed internal network.
///
/// A bridge with DHCP, router advertisements and NAT for both address families. It lives in LXD's default project, where the lab's
/// project sees it.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
pub struct LxdNetworkIntManaged {
    /// The networks.
    #[default(vec![Network::internal()])]
    #[schemars(
        length(min = 1),
        extend("role_default" = [{
            "name": "{{ k8s_lab_internal_network_name | default('capi-int') }}",
            "ipv4_subnet": "{{ k8s_lab_internal_ipv4_subnet | default('10.77.0.0/24') }}",
            "ipv6_subnet": "{{ k8s_lab_internal_ipv6_subnet | default('fd42:77:1::/64') }}",
        }])
    )]
    pub networks: Vec<Network>,
    /// Where LXD listens.
    #[serde(flatten)]
    pub lxd: Connection,
}

/// A network as it should be.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
pub struct Network {
    /// Name of the network, which is also the bridge's on the host.
    #[default(names::INTERNAL_NETWORK.into())]
    #[schemars(regex(pattern = names::NETWORK))]
    pub name: String,
    /// Type of the network.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Description of the network.
    #[default(names::NETWORK_DESCRIPTION.into())]
    pub description: String,
    /// Subnet whose first address becomes C(ipv4.address), unless O(networks[].config) has one.
    pub ipv4_subnet: Option<String>,
    /// Subnet whose first address becomes C(ipv6.address), unless O(networks[].config) has one.
    pub ipv6_subnet: Option<String>,
    /// Configuration keys of the network.
    pub config: BTreeMap<String, String>,
    /// Accept a network that lacks one address family. The bootstrap cluster needs both.
    pub allow_single_stack: bool,
}

/// Types of managed networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A bridge of the host.
    #[default]
    Bridge,
}

/// What the step returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Facts {
    /// The networks.
    pub networks: Vec<NetworkFacts>,
}

/// A network as it is now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct NetworkFacts {
    /// Name of the network.
    pub name: String,
    /// This run made it.
    pub created: bool,
    /// The keys that this run changed.
    pub patched_keys: Vec<String>,
    /// The bridge's IPv4 address with its prefix length.
    pub ipv4: Option<String>,
    /// The bridge's IPv6 address with its prefix length.
    pub ipv6: Option<String>,
}

impl Step for LxdNetworkIntManaged {
    const NAME: &'static str = "lxd_network_int_managed";
    const SECTIONS: &'static [&'static str] = &["networks"];
    const EXAMPLES: &'static str = "\
- name: Make the internal network on subnets of its own
  k8slab.capi.lxd_network_int_managed:
    networks:
      - name: capi-int
        ipv4_subnet: 10.77.0.0/24
        ipv6_subnet: fd42:77:1::/64
  become: true
";
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        let mut names = BTreeSet::new();
        for (index, network) in self.networks.iter().enumerate() {
            let place = format!("networks[{index}]");
            if !names.insert(&network.name) {
                return Err(OptionError::invalid(format!("{place}.name"), format!("`{}` is there twice", network.name)).into());
            }
            OptionError::refuse_overrides(&format!("{place}.config"), &network.config, &required())?;
            let config = network.config().map_err(|(option, reason)| OptionError::invalid(format!("{place}.{option}"), reason))?;
            let families =
                [IPV4, IPV6].map(|key| config.get(key).and_then(Option::as_deref).is_some_and(|address| address != "none"));
            network.refuse_unfit(&config)?;
            match families {
                [true, true] => {}
                [false, false] => return Err(SingleStack { network: network.name.clone(), missing: "any address" }.into()),
                _ if network.allow_single_stack => {}
                [false, _] => return Err(SingleStack { network: network.name.clone(), missing: IPV4 }.into()),
                [_, false] => return Err(SingleStack { network: network.name.clone(), missing: IPV6 }.into()),
            }
        }
        self.refuse_overlaps(&self.networks, Vec::new())?;
        Ok(())
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        let converged = run.section(&Networks(self)).await?;
        if let Some(warning) = forwarding::dropped(&Root::default()).await {
            run.warn(warning);
        }
        run.verify(self.facts(converged.live, &converged.changes)).await
    }
}

impl LxdNetworkIntManaged {
    /// Fails where networks meet each other, the bootstrap cluster's own, or the host's routes.
    fn refuse_overlaps<'a>(
        &self,
        networks: impl IntoIterator<Item = &'a Network>,
        routes: Vec<Route>,
    ) -> Result<(), plan::Refused> {
        let named = |network: &'a Network| network.cidrs().into_iter().map(|cidr| (format!("network {}", network.name), cidr));
        Plan {
            shared: networks.into_iter().flat_map(named).collect(),
            clusters: vec![ClusterNetworks::bootstrap()],
            routes,
            own_links: self.networks.iter().map(|network| network.name.clone()).collect(),
            ..Plan::default()
        }
        .check()
    }

    async fn facts(&self, last: Option<Live>, changes: &[ObjectChange]) -> Result<Facts, Failure> {
        let mut seen = ansible::seen(&Networks(self), last).await?;
        let mut networks = Vec::new();
        for network in &self.networks {
            let live = match seen.networks.remove(&network.name) {
                Some(found) => found.object,
                None => self.lxd.client().await?.get(&format!("networks/{}", network.name)).await?.object,
            };
            let change = changes.iter().find(|change| change.name == network.name);
            networks.push(NetworkFacts {
                created: change.is_some_and(ObjectChange::creates),
                patched_keys: change.filter(|change| !change.creates()).map(|change| change.keys.clone()).unwrap_or_default(),
                ipv4: live.config.get(IPV4).cloned(),
                ipv6: live.config.get(IPV6).cloned(),
                name: live.name,
            });
        }
        Ok(Facts { networks })
    }
}

#[derive(Default)]
struct Live {
    networks: BTreeMap<String, Tagged<lxd::Network>>,
    routes: Vec<Route>,
}

struct Networks<'a>(&'a LxdNetworkIntManaged);

impl Section for Networks<'_> {
    const NAME: &'static str = "networks";
    type Live = Live;
    type Change = ObjectChange;

    async fn observe(&self) -> Result<Live, Failure> {
        let client = self.0.lxd.client().await?;
        let mut live = Live { routes: route::all(&Root::default())?, ..Live::default() };
        for network in &self.0.networks {
            if let Some(found) = client.find_made(&network.name, |network: &lxd::Network| network.status != "Pending").await? {
                live.networks.insert(network.name.clone(), found);
            }
        }
        Ok(live)
    }

    fn plan(&self, live: &Live) -> Result<Vec<ObjectChange>, Failure> {
        let mut changes = Vec::new();
        for network in &self.0.networks {
            let found = live.networks.get(&network.name);
            if let Some(found) = found {
                acceptable(&found.object)?;
            }
            let change = network.declare(found.map(|found| &found.object)).compare(found);
            let is_given = |key: &String| key == IPV4 || key == IPV6;
            if change.as_ref().is_some_and(|change| change.keys.iter().any(is_given)) {
                self.0.refuse_overlaps([network], live.routes.clone())?;
            }
            changes.extend(change);
        }
        Ok(changes)
    }

    async fn apply(&self, change: &ObjectChange) -> Result<(), Failure> {
        let client = self.0.lxd.client().await?;
        // LXD 5.0 changes a network for two requests at once; both then fail, and the network may be left without DHCP.
        let _alone = HostLock::acquire("lxd").await?;
        Ok(change.apply(client).await?)
    }
}

fn acceptable(found: &lxd::Network) -> Result<(), Unusable> {
    let network = found.name.clone();
    if !found.managed {
        return Err(Unusable::Unmanaged { network });
    }
    if found.kind != "bridge" {
        return Err(Unusable::OtherType { network, kind: found.kind.clone() });
    }
    if found.status != "Created" {
        return Err(Unusable::NotCreated { network, status: found.status.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> LxdNetworkIntManaged {
        LxdNetworkIntManaged::default()
    }

    /// The lab's network as it should be, bent.
    fn live(bend: impl FnOnce(&mut lxd::Network)) -> Live {
        let config = Network::internal().config().unwrap().into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        let mut object = lxd::Network {
            name: "capi-int".into(),
            kind: "bridge".into(),
            managed: true,
            status: "Created".into(),
            description: Network::default().description,
            config,
            used_by: None,
        };
        bend(&mut object);
        Live { networks: BTreeMap::from([("capi-int".into(), Tagged { object, etag: None })]), ..Live::default() }
    }

    fn plan(step: &LxdNetworkIntManaged, live: &Live) -> String {
        match Networks(step).plan(live) {
            Ok(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn plans() {
        let set = |key: &'static str, value: &'static str| {
            move |network: &mut lxd::Network| drop(network.config.insert(key.into(), value.into()))
        };
        for (case, live, expected) in [
            ("absent", Live::default(), "create network capi-int"),
            ("as desired", live(|_| ()), ""),
            ("a foreign key", live(set("bridge.mtu", "1400")), ""),
            ("drifted", live(set("ipv4.nat", "false")), "network capi-int: ipv4.nat: false -> true"),
            ("another address", live(set(IPV4, "10.9.0.1/24")), "network capi-int: ipv4.address: 10.9.0.1/24 -> 10.77.0.1/24"),
            (
                "an interface of the host",
                live(|network| network.managed = false),
                "NETWORK_UNMANAGED_CLASH: capi-int is an interface of the host that LXD does not manage",
            ),
            (
                "another type",
                live(|network| network.kind = "ovn".into()),
                "NETWORK_TYPE_MISMATCH: network capi-int is of type ovn, not bridge",
            ),
            (
                "half made",
                live(|network| network.status = "Errored".into()),
                "NETWORK_STATUS_ERRORED: network capi-int is Errored, not Created",
            ),
        ] {
            assert_eq!(plan(&step(), &live), expected, "{case}");
        }
    }

    #[test]
    fn routes_of_the_host_count_where_a_subnet_is_taken() {
        let route = |network: &str, link: &str| Route { network: network.parse().unwrap(), link: link.into(), by_router: false };
        let foreign = vec![route("10.77.0.0/16", "eth0")];
        let refused = "ADDRESSES_OVERLAP: network capi-int (10.77.0.1/24) and the host's route over eth0 (10.77.0.0/16) have \
                       addresses in common";
        for (case, live, expected) in [
            ("new", Live { routes: foreign.clone(), ..Live::default() }, refused),
            (
                "its own route",
                Live { routes: vec![route("10.77.0.0/24", "capi-int")], ..Live::default() },
                "create network capi-int",
            ),
            ("there already", Live { routes: foreign.clone(), ..live(|_| ()) }, ""),
            (
                "moved",
                Live { routes: foreign, ..live(|network| drop(network.config.insert(IPV4.into(), "10.9.0.1/24".into()))) },
                refused,
            ),
        ] {
            assert_eq!(plan(&step(), &live), expected, "{case}");
        }
    }

    #[test]
    fn auto_is_settled_by_lxd() {
        let mut step = step();
        step.networks[0].config.insert(IPV4.into(), "auto".into());
        assert_eq!(plan(&step, &live(|network| drop(network.config.insert(IPV4.into(), "10.1.2.1/24".into())))), "");
        assert_eq!(step.networks[0].declare(None).config[IPV4].as_deref(), Some("auto"));
    }

    #[test]
    fn options_are_checked() {
        let with = |bend: fn(&mut Network)| {
            let mut step = step();
            bend(&mut step.networks[0]);
            step
        };
        for (case, step, expected) in [
            ("default", step(), None),
            ("an address of one's own", with(|network| drop(network.config.insert(IPV4.into(), "10.1.0.1/24".into()))), None),
            ("no IPv6", with(|network| network.ipv6_subnet = None), Some("NETWORK_SINGLE_STACK")),
            (
                "no IPv6, waived",
                with(|network| {
                    network.ipv6_subnet = None;
                    network.allow_single_stack = true;
                }),
                None,
            ),
            (
                "neither, waived",
                with(|network| {
                    network.ipv4_subnet = None;
                    network.ipv6_subnet = None;
                    network.allow_single_stack = true;
                }),
                Some("NETWORK_SINGLE_STACK"),
            ),
            ("no subnet", with(|network| network.ipv4_subnet = Some("10.77.0.0".into())), Some("OPTION_INVALID")),
            (
                "the bootstrap cluster's Pods",
                with(|network| network.ipv4_subnet = Some("10.42.0.0/24".into())),
                Some("ADDRESSES_OVERLAP"),
            ),
            ("just large enough", with(|network| network.ipv4_subnet = Some("10.77.0.0/29".into())), None),
            ("too small", with(|network| network.ipv4_subnet = Some("10.77.0.0/30".into())), Some("SUBNET_UNFIT")),
            (
                "no addresses by themselves",
                with(|network| network.ipv6_subnet = Some("fd42:77:1::/80".into())),
                Some("SUBNET_UNFIT"),
            ),
            (
                "addresses handed out one by one",
                with(|network| {
                    network.ipv6_subnet = Some("fd42:77:1::/80".into());
                    network.config.insert("ipv6.dhcp.stateful".into(), "true".into());
                }),
                None,
            ),
            (
                "a range beside the subnet",
                with(|network| drop(network.config.insert("ipv4.dhcp.ranges".into(), "10.78.0.2-10.78.0.9".into()))),
                Some("SUBNET_UNFIT"),
            ),
            ("the other family", with(|network| network.ipv4_subnet = Some("fd42::/64".into())), Some("OPTION_INVALID")),
            (
                "a required key",
                with(|network| drop(network.config.insert("ipv6.nat".into(), "false".into()))),
                Some("OPTION_COLLISION"),
            ),
            ("what is required", with(|network| drop(network.config.insert("ipv6.nat".into(), "true".into()))), None),
        ] {
            assert_eq!(step.preflight().err().map(|failure| failure.code), expected, "{case}");
        }
    }
}
