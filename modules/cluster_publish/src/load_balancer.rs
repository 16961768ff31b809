//! The load balancer of a cluster, found by what Cluster API's provider has written on it.

use std::net::IpAddr;

use converge::{Failure, Wait};
use lab::{address::Cidr, names, publication};
use lxd::{Client, Instance};

use crate::{ClusterPublish, error::Error};

/// The load balancer, and where it is reached on the internal network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoadBalancer {
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
}

impl LoadBalancer {
    /// Where connections of a family are led. What is led there already stays as long as it is the load balancer's.
    pub(crate) fn target(&self, family_of: IpAddr, present: Option<IpAddr>) -> Option<IpAddr> {
        let of_family = |address: &&IpAddr| address.is_ipv4() == family_of.is_ipv4();
        let present = present.filter(|address| self.addresses.contains(address));
        present.filter(|address| of_family(&address)).or_else(|| self.addresses.iter().find(of_family).copied())
    }
}

/// The instances of the project.
pub(crate) async fn instances(step: &ClusterPublish) -> Result<Vec<Instance>, Failure> {
    Ok(step.lxd.client().await?.in_project(&step.project).list().await?)
}

/// The cluster's load balancer among them. Between the end of one and the beginning of the next there may be none, never two.
pub(crate) fn find<'a>(step: &ClusterPublish, instances: &'a [Instance]) -> Result<Option<&'a Instance>, Error> {
    let is = |instance: &Instance, key: &str, value: &str| instance.config.get(key).is_some_and(|found| found == value);
    let ours = instances.iter().filter(|instance| {
        is(instance, publication::CLUSTER_KEY, &step.name)
            && is(instance, publication::NAMESPACE_KEY, &step.namespace)
            && is(instance, publication::ROLE_KEY, publication::LOAD_BALANCER)
    });
    let found: Vec<&Instance> = ours.collect();
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => Err(Error::SeveralLoadBalancers {
            cluster: step.name.clone(),
            instances: several.iter().map(|instance| instance.name.clone()).collect(),
        }),
    }
}

/// Every cluster that has a load balancer in the project, as namespace and name.
pub(crate) fn clusters(instances: &[Instance]) -> Vec<String> {
    let balancers = instances
        .iter()
        .filter(|instance| instance.config.get(publication::ROLE_KEY).is_some_and(|role| role == publication::LOAD_BALANCER));
    let text = |instance: &Instance, key: &str| instance.config.get(key).cloned().unwrap_or_default();
    let cluster = |instance| format!("{}/{}", text(instance, publication::NAMESPACE_KEY), text(instance, publication::CLUSTER_KEY));
    let mut found: Vec<String> = balancers.map(cluster).collect();
    found.sort();
    found
}

/// Waits until the load balancer has an address of every family that is asked for. Only addresses of the network itself count:
/// LXD sends nothing to others.
pub(crate) async fn await_addresses(
    step: &ClusterPublish,
    client: &Client,
    name: &str,
    networks: &[Cidr],
    families: &[IpAddr],
) -> Result<LoadBalancer, Failure> {
    let client = client.in_project(&step.project);
    let look = async || {
        let state = client.instance_state(name).await?;
        let within = |address: &IpAddr| networks.iter().any(|network| network.contains(*address));
        let addresses: Vec<IpAddr> = state.global_addresses(names::INTERNAL_INTERFACE).filter(within).collect();
        let lacks = |family: &&IpAddr| !addresses.iter().any(|address| address.is_ipv4() == family.is_ipv4());
        Ok::<_, lxd::Error>(match families.iter().find(lacks) {
            Some(_) => Err(state.describe(names::INTERNAL_INTERFACE)),
            None => Ok(LoadBalancer { name: name.to_owned(), addresses }),
        })
    };
    let which = match (families.iter().any(IpAddr::is_ipv4), families.iter().any(IpAddr::is_ipv6)) {
        (true, true) => "an IPv4 and an IPv6 address",
        (true, false) => "an IPv4 address",
        _ => "an IPv6 address",
    };
    Ok(Wait::for_condition(format!("load balancer {name}: {which} on {}", names::INTERNAL_INTERFACE), step.patience())
        .until(look)
        .await?)
}
