//! Publishes a cluster's API on addresses of the host, so that it is reached from beyond.
//!
//! A forward takes connections before any program on the host sees them, and says so to nobody. So before a port is taken it has to
//! be free in every place that can be looked at: forwards, listeners, and rules of the packet filter. What is published is asked for
//! at its address in the end.

mod error;
mod forward;
mod load_balancer;
mod proxy;
mod published;
mod surroundings;
mod wanted;

use std::{net::IpAddr, time::Duration};

use ansible::{OptionError, Run, Step};
use converge::{AbsolutePath, Failure, Section as _};
use lab::{
    names,
    publication::{self, Publication},
};
use lxd::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;
use tokio::sync::OnceCell;

use crate::{forward::Forwards, proxy::Proxies, wanted::Wanted};

/// Publish the API of a cluster on addresses of the host.
///
/// The load balancer is found by what Cluster API's provider has written on it. When it is replaced, the next run leads the port to
/// the new one. All clusters share one network forward for each address.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
#[schemars(extend("required" = ["name"]))]
pub struct ClusterPublish {
    /// Name of the cluster.
    #[schemars(regex(pattern = names::INSTANCE), extend("tells_apart" = true))]
    pub name: String,
    /// Namespace of its Cluster.
    #[default(names::CLUSTERS_NAMESPACE.into())]
    #[schemars(regex(pattern = names::NAMESPACE), extend("tells_apart" = true, "global" = "clusters_namespace"))]
    pub namespace: String,
    /// Project of the cluster's instances.
    #[default(names::PROJECT.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "project_name"))]
    pub project: String,
    /// Network of the cluster's instances.
    #[default(names::INTERNAL_NETWORK.into())]
    #[schemars(regex(pattern = names::NETWORK), extend("global" = "internal_network_name"))]
    pub internal_network_name: String,
    /// Whether the API is to be published.
    pub state: State,
    /// How the API is published.
    pub mode: Mode,
    /// Addresses at which the API is published, of one family or of both. If the list is empty, the host's own addresses on the
    /// internal network are used. Loopback and wildcard addresses need O(mode=proxy).
    #[schemars(extend("role_default" = "{{ [k8s_lab_lxd_host_address] if k8s_lab_lxd_host_address is defined else [] }}"))]
    pub listen_addresses: Vec<String>,
    /// Port at which the API is published. If unset, the port in the Cluster's annotation C(k8s-lab.io/api-proxy-port). Without
    /// an annotation, a port between 20000 and 29999 that is computed from the name.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Kubeconfig of the cluster that holds the Cluster. Without it the annotation is not read, and what answers at the published
    /// address cannot be told from another cluster.
    #[schemars(extend("tells_apart" = true))]
    pub kubeconfig_path: Option<AbsolutePath>,
    /// How long to wait for the load balancer's addresses, and for the API to answer, in seconds.
    #[default(120)]
    #[schemars(range(min = 1))]
    pub wait_timeout: u64,
    /// Where LXD listens.
    #[serde(flatten)]
    pub lxd: Connection,
    /// What has to be published, as this run found it.
    #[serde(skip)]
    wanted: OnceCell<Wanted>,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is published.
    #[default]
    Present,
    /// It is not.
    Absent,
}

/// Ways to publish an API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The host's packet filter leads connections to the load balancer, by a network forward.
    #[default]
    Forward,
    /// LXD listens on the host and passes connections on, by a proxy device on the load balancer. It hides the clients' addresses, and
    /// the project has to allow it, as with C(isolation=reference).
    Proxy,
}

/// What the step returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Facts {
    /// Where the API is published.
    pub published: Vec<PublishedFacts>,
    /// Its port; nothing with O(state=absent).
    pub port: Option<u16>,
    /// How the API is published.
    pub mode: Mode,
    /// The load balancer; nothing with O(state=absent).
    pub load_balancer: Option<LoadBalancerFacts>,
    /// Ports of the host that network forwards of the internal network take and that are not this lab's: address, port and where
    /// they lead.
    pub foreign_forwards: Vec<String>,
    /// Ports of this lab that lead to a cluster which has no load balancer any more.
    pub stale_forwards: Vec<String>,
}

/// An address at which the API answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PublishedFacts {
    /// The address.
    pub address: String,
    /// The URL.
    pub url: String,
    /// The certificate of the API was checked against the cluster's authority.
    pub verified: bool,
    /// The certificate carries the address. If it does not, kubeconfigs for this address need a C(tls-server-name).
    pub in_certificate: bool,
}

/// The load balancer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LoadBalancerFacts {
    /// The name of its instance.
    pub name: String,
    /// Addresses of the load balancer.
    pub addresses: Vec<String>,
}

impl Step for ClusterPublish {
    const NAME: &'static str = "cluster_publish";
    const SECTIONS: &'static [&'static str] = &[Proxies::NAME, Forwards::NAME];
    const EXAMPLES: &'static str = "\
- name: Publish the API of a workload cluster
  k8slab.capi.cluster_publish:
    name: lab-default
    listen_addresses: [192.0.2.10, \"2001:db8::10\"]
    kubeconfig_path: /opt/capi-lab/etc/clusters/mgmt-1.kubeconfig
  become: true

- name: Publish it no longer
  k8slab.capi.cluster_publish:
    name: lab-default
    state: absent
  become: true
";
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        let mut seen = Vec::new();
        for (index, text) in self.listen_addresses.iter().enumerate() {
            let refuse = |reason: String| OptionError::invalid(format!("listen_addresses[{index}]"), reason);
            let address = canonical(text).ok_or_else(|| {
                refuse(format!("`{text}` is not an address; a name may lead elsewhere tomorrow, so give the address it stands for"))
            })?;
            if self.mode == Mode::Forward && (address.is_loopback() || address.is_unspecified()) {
                let reason = "LXD accepts it and no connection ever arrives; give an address of the host, or mode: proxy";
                return Err(refuse(format!("a forward of `{text}` is dead: {reason}")).into());
            }
            if matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) || address.is_multicast() {
                return Err(refuse(format!("`{text}` is no address that others reach this host by")).into());
            }
            if seen.contains(&address) {
                return Err(refuse(format!("`{text}` is there twice")).into());
            }
            seen.push(address);
        }
        if seen.iter().filter(|address| address.is_unspecified()).count() > 0 && seen.len() > 1 {
            let reason = "a proxy on `0.0.0.0` or `::` takes every address of the host, so no other can stand beside it";
            return Err(OptionError::invalid("listen_addresses", reason).into());
        }
        Ok(())
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        // What the other way has published holds the port.
        if self.mode == Mode::Forward {
            run.section(&Proxies(self)).await?;
            run.section(&Forwards(self)).await?;
        } else {
            run.section(&Forwards(self)).await?;
            run.section(&Proxies(self)).await?;
        }
        // First, since it may be why nothing answers.
        if let Some(warning) = host::forwarding::dropped(&host::Root::default()).await {
            run.warn(warning);
        }
        let Some((facts, warnings)) = run.verify(published::facts(self)).await? else { return Ok(None) };
        for warning in warnings {
            run.warn(warning);
        }
        Ok(Some(facts))
    }
}

/// An address in its one spelling.
fn canonical(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(|address: IpAddr| address.to_canonical())
}

impl ClusterPublish {
    fn publication(&self) -> Publication {
        Publication { project: self.project.clone(), namespace: self.namespace.clone(), cluster: self.name.clone() }
    }

    /// The addresses that were given; preflight has read them all.
    fn given_addresses(&self) -> Vec<IpAddr> {
        self.listen_addresses.iter().filter_map(|text| canonical(text)).collect()
    }

    /// The port, as far as nothing else is known.
    fn presumed_port(&self) -> u16 {
        self.port.unwrap_or_else(|| publication::port(&self.name))
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.wait_timeout)
    }

    fn publishes(&self, mode: Mode) -> bool {
        self.state == State::Present && self.mode == mode
    }
}

#[cfg(test)]
mod tests;
