//! The address plan: every range of addresses that a lab uses, what it is for, and who has to keep out of it.
//!
//! Pods and Services of a cluster are seen by this cluster alone, so that two clusters may have the same; everything else is shared,
//! and no cluster may use it for anything of its own.

use std::{fmt, net::IpAddr};

use converge::{Explain, Explanation};

use crate::address::{self, Cidr, Range};

/// All addresses of a lab, as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Networks that everybody in the lab sees, by what they are for.
    pub shared: Vec<(String, Cidr)>,
    /// What each cluster has for itself.
    pub clusters: Vec<ClusterNetworks>,
    /// The network outside, which is shared, too.
    pub external: Option<Cidr>,
    /// Addresses for Services, on the network outside.
    pub pools: Vec<Pool>,
    /// What is given away on the network outside: nodes, routers.
    pub reserved: Vec<(String, Range)>,
    /// The host's routes.
    pub routes: Vec<Route>,
    /// Links that the lab has made: routes over them lead to its own networks.
    pub own_links: Vec<String>,
}

/// The networks that one cluster has for itself.
#[derive(Clone, Debug)]
pub struct ClusterNetworks {
    /// Its name.
    pub cluster: String,
    /// Where its Pods are.
    pub pods: Vec<Cidr>,
    /// Where its Services are.
    pub services: Vec<Cidr>,
}

impl ClusterNetworks {
    /// Those of the bootstrap cluster.
    #[must_use]
    pub fn bootstrap() -> Self {
        let read = |networks: [&str; 2]| networks.iter().filter_map(|text| text.parse().ok()).collect();
        Self { cluster: "bootstrap".to_owned(), pods: read(address::BOOTSTRAP_PODS), services: read(address::BOOTSTRAP_SERVICES) }
    }
}

impl Plan {
    /// Every use of addresses, but for pools.
    fn uses(&self) -> Vec<Use> {
        let external = self.external.map(|prefix| ("the external prefix".to_owned(), prefix));
        let shared = self.shared.iter().cloned().chain(external).map(|(what, cidr)| Use::shared(what, cidr));
        let own = self.clusters.iter().flat_map(|networks| {
            let name = &networks.cluster;
            let of = move |what: &str, cidr: &Cidr| Use::within(name, format!("{what} of cluster {name}"), *cidr);
            let pods = networks.pods.iter().map(move |cidr| of("Pods", cidr));
            pods.chain(networks.services.iter().map(move |cidr| of("Services", cidr)))
        });
        shared.chain(own).collect()
    }

    /// Everything that does not go together.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let uses = self.uses();
        let own: Vec<&str> = self.own_links.iter().map(String::as_str).collect();
        let mut faults: Vec<Fault> = overlaps(&uses).into_iter().map(Fault::Overlap).collect();
        faults.extend(overlaps_of_routes(&uses, &self.routes, &own).into_iter().map(Fault::Overlap));
        faults.extend(pool_faults(self.external, &self.pools, &self.reserved).into_iter().map(Fault::Pool));
        faults
    }

    /// Fails with everything that does not go together.
    pub fn check(&self) -> Result<(), Refused> {
        Refused::unless_empty(self.faults())
    }
}

/// Something in a lab's addresses that does not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Two uses of the same addresses.
    #[error(transparent)]
    Overlap(Overlap),
    /// Something is wrong with a pool.
    #[error(transparent)]
    Pool(PoolFault),
    /// A network in which the thing cannot work.
    #[error("{what}: {reason}")]
    Unfit {
        /// What it is for.
        what: String,
        /// Why not.
        reason: String,
    },
}

/// A lab's addresses do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", faults.first().map(ToString::to_string).unwrap_or_default(), and_more(faults.len()))]
pub struct Refused {
    /// Everything that is wrong.
    pub faults: Vec<Fault>,
}

impl Refused {
    /// Fails if there is any fault.
    pub fn unless_empty(faults: Vec<Fault>) -> Result<(), Self> {
        if faults.is_empty() { Ok(()) } else { Err(Self { faults }) }
    }
}

fn and_more(count: usize) -> String {
    if count > 1 { format!(", and {} more", count - 1) } else { String::new() }
}

impl Explain for Refused {
    fn explain(&self) -> Explanation {
        let explanation = match self.faults.first() {
            Some(Fault::Pool(_)) => Explanation::new("POOL_UNFIT")
                .hint("pools lie within the external prefix, apart from each other and from what nodes and routers have there"),
            Some(Fault::Unfit { .. }) => {
                Explanation::new("SUBNET_UNFIT").hint("choose another subnet; networks of a lab are set once")
            }
            _ => Explanation::new("ADDRESSES_OVERLAP").hint("give one of the two other addresses before anything is made"),
        };
        if self.faults.len() < 2 {
            return explanation;
        }
        explanation.detail(self.faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }
}

/// Who sees a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Every cluster and the host.
    Lab,
    /// The cluster of this name, and nobody else.
    Cluster(String),
}

/// A range of addresses, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// What it is for, as a person names it: `Pods of cluster mgmt-1`.
    pub what: String,
    /// Its addresses.
    pub range: Range,
    /// As it was written: `10.244.0.0/16`.
    pub written: String,
    /// Who sees it.
    pub reach: Reach,
}

impl Use {
    /// A network that everybody in the lab sees.
    #[must_use]
    pub fn shared(what: impl Into<String>, cidr: Cidr) -> Self {
        Self { what: what.into(), range: cidr.range(), written: cidr.to_string(), reach: Reach::Lab }
    }

    /// A network that one cluster sees.
    #[must_use]
    pub fn within(cluster: &str, what: impl Into<String>, cidr: Cidr) -> Self {
        Self { reach: Reach::Cluster(cluster.to_owned()), ..Self::shared(what, cidr) }
    }

    fn meets(&self, other: &Self) -> bool {
        let strangers = matches!((&self.reach, &other.reach), (Reach::Cluster(one), Reach::Cluster(two)) if one != two);
        !strangers && self.range.overlaps(other.range)
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.written)
    }
}

/// Two uses of the same addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{one} and {other} have addresses in common")]
pub struct Overlap {
    /// The one.
    pub one: Use,
    /// The other.
    pub other: Use,
}

/// Every pair that does not go together, in the order of the list.
fn overlaps(uses: &[Use]) -> Vec<Overlap> {
    let pairs = uses.iter().enumerate().flat_map(|(at, one)| uses[at + 1..].iter().map(move |other| (one, other)));
    let meeting = pairs.filter(|(one, other)| one.meets(other));
    meeting.map(|(one, other)| Overlap { one: one.clone(), other: other.clone() }).collect()
}

/// A route of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub network: Cidr,
    /// The link that it leads over.
    pub link: String,
    /// A router stands between: the network is not at the link itself.
    pub by_router: bool,
}

/// What the host's routes stand in the way of. A network that the lab makes is a more special route than a wide one by a router, which
/// goes on to lead everywhere else; in a network at a link the lab would take addresses away from neighbours.
///
/// `own` are links that the lab has made; routes over them are its own networks.
fn overlaps_of_routes(uses: &[Use], routes: &[Route], own: &[&str]) -> Vec<Overlap> {
    let foreign = routes.iter().filter(|route| route.network.prefix > 0 && !own.contains(&route.link.as_str()));
    let meeting = foreign.flat_map(|route| {
        let other = Use::shared(format!("the host's route over {}", route.link), route.network);
        let is_wide =
            move |one: &Use| route.by_router && route.network.range().holds(one.range) && route.network.range() != one.range;
        let meets = uses.iter().filter(move |one| one.range.overlaps(route.network.range()) && !is_wide(one));
        meets.map(move |one| Overlap { one: one.clone(), other: other.clone() })
    });
    meeting.collect()
}

/// A pool of addresses for Services of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The cluster.
    pub cluster: String,
    /// Its addresses.
    pub range: Range,
}

/// What is wrong with a pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolFault {
    /// It is not where the nodes can announce it.
    #[error("the pool {} of cluster {} is not within the external prefix {prefix}", pool.range, pool.cluster)]
    Outside {
        /// The pool.
        pool: Pool,
        /// The external prefix.
        prefix: Cidr,
    },
    /// Another cluster has one of its addresses.
    #[error("the pools of clusters {} ({}) and {} ({}) have addresses in common", one.cluster, one.range, other.cluster, other.range)]
    Shared {
        /// The one.
        one: Pool,
        /// The other.
        other: Pool,
    },
    /// Somebody on the link has one of its addresses.
    #[error("the pool {} of cluster {} holds addresses of {what} ({range})", pool.range, pool.cluster)]
    Reserved {
        /// The pool.
        pool: Pool,
        /// Who has them.
        what: String,
        /// Which they are.
        range: Range,
    },
}

/// Everything that is wrong with the pools of a lab. `reserved` are ranges of the external prefix that are given away: nodes, routers.
fn pool_faults(prefix: Option<Cidr>, pools: &[Pool], reserved: &[(String, Range)]) -> Vec<PoolFault> {
    let mut faults = Vec::new();
    for (at, pool) in pools.iter().enumerate() {
        if let Some(prefix) = prefix.filter(|prefix| !prefix.range().holds(pool.range)) {
            faults.push(PoolFault::Outside { pool: pool.clone(), prefix });
        }
        let others = pools[at + 1..].iter().filter(|other| other.range.overlaps(pool.range));
        faults.extend(others.map(|other| PoolFault::Shared { one: pool.clone(), other: other.clone() }));
        let taken = reserved.iter().filter(|(_, range)| range.overlaps(pool.range));
        faults.extend(taken.map(|(what, range)| PoolFault::Reserved { pool: pool.clone(), what: what.clone(), range: *range }));
    }
    faults
}

/// The address that a router takes on the external prefix, by custom.
#[must_use]
pub fn router(prefix: Cidr) -> IpAddr {
    prefix.first_host().address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn range(text: &str) -> Range {
        text.parse().unwrap()
    }

    fn said<T: ToString>(found: &[T]) -> Vec<String> {
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_cluster_keeps_out_of_what_is_shared_and_not_out_of_another_cluster() {
        let nodes = || Use::shared("nodes", cidr("10.42.0.0/24"));
        let pods = |cluster: &str| Use::within(cluster, format!("Pods of {cluster}"), cidr("10.42.0.0/16"));
        let services = |cluster: &str| Use::within(cluster, format!("Services of {cluster}"), cidr("10.43.0.0/16"));
        for (case, uses, expected) in [
            ("apart", vec![nodes(), services("a")], vec![]),
            (
                "nodes in Pods",
                vec![nodes(), pods("a"), services("a")],
                vec!["nodes (10.42.0.0/24) and Pods of a (10.42.0.0/16) have addresses in common"],
            ),
            ("two clusters alike", vec![pods("a"), services("a"), pods("b"), services("b")], vec![]),
            (
                "within one cluster",
                vec![pods("a"), Use::within("a", "Services of a", cidr("10.42.1.0/24"))],
                vec!["Pods of a (10.42.0.0/16) and Services of a (10.42.1.0/24) have addresses in common"],
            ),
            ("of two families", vec![nodes(), Use::shared("external", cidr("2001:db8::/64"))], vec![]),
        ] {
            assert_eq!(said(&overlaps(&uses)), expected, "{case}");
        }
        let all = [nodes(), nodes(), pods("a"), pods("b")];
        assert_eq!(overlaps(&all).len(), 5, "every pair is told");
    }

    #[test]
    fn routes_of_the_host() {
        let uses = [Use::shared("nodes", cidr("10.77.0.0/24")), Use::within("a", "Pods of a", cidr("10.244.0.0/16"))];
        let route = |network: &str, link: &str, by_router: bool| Route { network: cidr(network), link: link.into(), by_router };
        for (case, route, expected) in [
            ("the lab's own", route("10.77.0.0/24", "capi-int", false), 0),
            ("the default", route("0.0.0.0/0", "eth0", true), 0),
            ("elsewhere", route("192.0.2.0/24", "eth0", false), 0),
            ("a wide one by a router", route("10.0.0.0/8", "tun0", true), 0),
            ("a wide one at a link", route("10.0.0.0/8", "eth0", false), 2),
            ("the same by a router", route("10.77.0.0/24", "tun0", true), 1),
            ("a part of it", route("10.244.7.0/24", "tun0", true), 1),
        ] {
            assert_eq!(overlaps_of_routes(&uses, &[route], &["capi-int"]).len(), expected, "{case}");
        }
        let told = overlaps_of_routes(&uses, &[route("10.77.0.128/25", "docker0", false)], &[]);
        assert_eq!(
            said(&told),
            ["nodes (10.77.0.0/24) and the host's route over docker0 (10.77.0.128/25) have addresses in common"]
        );
    }

    #[test]
    fn everything_that_is_wrong_with_a_plan_is_said_at_once() {
        let cluster = |name: &str, pods: &str| ClusterNetworks {
            cluster: name.into(),
            pods: vec![cidr(pods)],
            services: address::CLUSTER_SERVICES.map(cidr).to_vec(),
        };
        let mut plan = Plan {
            shared: vec![
                ("network capi-int".into(), cidr(address::INTERNAL_IPV4)),
                ("network capi-int".into(), cidr(address::INTERNAL_IPV6)),
            ],
            clusters: vec![
                ClusterNetworks::bootstrap(),
                cluster("mgmt-1", "10.244.0.0/16"),
                cluster("lab-default", "10.244.0.0/16"),
            ],
            external: Some(cidr("2001:db8:42:100::/64")),
            pools: vec![Pool { cluster: "mgmt-1".into(), range: range("2001:db8:42:100::200-2001:db8:42:100::2ff") }],
            ..Plan::default()
        };
        assert_eq!(plan.check(), Ok(()), "the lab's defaults go together");
        plan.clusters[1] = cluster("mgmt-1", "10.77.0.0/16");
        plan.pools.push(Pool { cluster: "lab-default".into(), range: range("2001:db8:42:100::2ff/128") });
        let refused = plan.check().unwrap_err();
        assert_eq!(
            refused.to_string(),
            "network capi-int (10.77.0.0/24) and Pods of cluster mgmt-1 (10.77.0.0/16) have addresses in common, and 1 more"
        );
        let explanation = refused.explain();
        assert_eq!(explanation.code, "ADDRESSES_OVERLAP");
        assert!(explanation.detail.unwrap().contains("2001:db8:42:100::2ff-2001:db8:42:100::2ff"));
    }

    #[test]
    fn pools() {
        let pool = |cluster: &str, text: &str| Pool { cluster: cluster.into(), range: range(text) };
        let prefix = cidr("2001:db8:42:100::/64");
        let reserved = [("the router".to_owned(), Range::of(router(prefix)))];
        for (case, pools, expected) in [
            ("apart", vec![pool("a", "2001:db8:42:100::200-2001:db8:42:100::2ff"), pool("b", "2001:db8:42:100::300/120")], vec![]),
            (
                "outside",
                vec![pool("a", "2001:db8:42:101::200-2001:db8:42:101::2ff")],
                vec![
                    "the pool 2001:db8:42:101::200-2001:db8:42:101::2ff of cluster a is not within the external prefix 2001:db8:42:100::/64",
                ],
            ),
            (
                "beyond its end",
                vec![pool("a", "2001:db8:42:100:ffff:ffff:ffff:fff0-2001:db8:42:101::1")],
                vec![
                    "the pool 2001:db8:42:100:ffff:ffff:ffff:fff0-2001:db8:42:101::1 of cluster a is not within the external prefix 2001:db8:42:100::/64",
                ],
            ),
            (
                "shared",
                vec![
                    pool("a", "2001:db8:42:100::200-2001:db8:42:100::2ff"),
                    pool("b", "2001:db8:42:100::2ff-2001:db8:42:100::3ff"),
                ],
                vec![
                    "the pools of clusters a (2001:db8:42:100::200-2001:db8:42:100::2ff) and b (2001:db8:42:100::2ff-2001:db8:42:100::3ff) have addresses in common",
                ],
            ),
            (
                "with the router in it",
                vec![pool("a", "2001:db8:42:100::-2001:db8:42:100::2ff")],
                vec![
                    "the pool 2001:db8:42:100::-2001:db8:42:100::2ff of cluster a holds addresses of the router (2001:db8:42:100::1-2001:db8:42:100::1)",
                ],
            ),
        ] {
            assert_eq!(said(&pool_faults(Some(prefix), &pools, &reserved)), expected, "{case}");
        }
    }
}
