//! What has to be published, as the clusters and LXD say.

use std::net::{IpAddr, SocketAddr};

use cluster::{Client, DynamicObject, Kubeconfig, resource};
use converge::Failure;
use lab::{
    address::Cidr,
    publication::{PORT_ANNOTATION, port},
};

use crate::{
    ClusterPublish,
    error::Error,
    load_balancer::{self, LoadBalancer},
    proxy,
};

/// The network's keys that carry its own addresses.
const ADDRESSES: [&str; 2] = ["ipv4.address", "ipv6.address"];

/// What has to be published, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) port: u16,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) load_balancer: LoadBalancer,
    /// Another Cluster that is to have the same port.
    pub(crate) rival: Option<String>,
    /// Where the step's own proxy devices listen on the load balancer.
    pub(crate) proxies: Vec<SocketAddr>,
    /// The annotation, where it says another port than the option does.
    pub(crate) annotated: Option<u16>,
}

impl ClusterPublish {
    /// What this run has to publish.
    pub(crate) async fn wanted(&self) -> Result<&Wanted, Failure> {
        self.wanted.get_or_try_init(async || self.find_wanted().await).await
    }

    async fn find_wanted(&self) -> Result<Wanted, Failure> {
        let client = self.lxd.client().await?;
        let (annotated, rival) = self.ask_cluster().await?;
        let instances = load_balancer::instances(self).await?;
        let found = load_balancer::find(self, &instances)?.ok_or_else(|| Error::NoLoadBalancer {
            cluster: format!("{}/{}", self.namespace, self.name),
            project: self.project.clone(),
            others: load_balancer::clusters(&instances),
        })?;
        let networks = self.networks().await?;
        let given = self.given_addresses();
        let addresses = if given.is_empty() { networks.iter().map(|cidr| cidr.address).collect() } else { given };
        let load_balancer = load_balancer::await_addresses(self, client, &found.name, &networks, &addresses).await?;
        let port = self.port.or(annotated).unwrap_or_else(|| self.presumed_port());
        let annotated = annotated.filter(|annotated| *annotated != port);
        Ok(Wanted { port, addresses, load_balancer, rival, proxies: proxy::listeners(&found.devices), annotated })
    }

    /// The internal network's own addresses, with their prefixes.
    async fn networks(&self) -> Result<Vec<Cidr>, Failure> {
        let name = || self.internal_network_name.clone();
        let client = self.lxd.client().await?;
        let found =
            client.find::<lxd::Network>(&self.internal_network_name).await?.ok_or_else(|| Error::NoNetwork { name: name() })?;
        let network = found.object;
        if !network.managed {
            return Err(Error::NoNetwork { name: name() }.into());
        }
        Ok(ADDRESSES.iter().filter_map(|key| network.config.get(*key)?.parse().ok()).collect())
    }

    /// The port in the Cluster's annotation, and another Cluster that has the port that is wanted.
    async fn ask_cluster(&self) -> Result<(Option<u16>, Option<String>), Failure> {
        let Some(path) = &self.kubeconfig_path else { return Ok((None, None)) };
        let cluster = Client::connect(&Kubeconfig::read(path)?)?;
        cluster.answers(self.patience()).await?;
        // Where Cluster API has never been, there is no such kind.
        let clusters = cluster::if_there(cluster.list(resource::CLUSTER, None).await)?.unwrap_or_default();
        let is_ours = |object: &&DynamicObject| {
            object.metadata.name.as_ref() == Some(&self.name) && object.metadata.namespace.as_ref() == Some(&self.namespace)
        };
        let own = clusters.iter().find(is_ours).ok_or_else(|| Error::NoCluster {
            cluster: format!("{}/{}", self.namespace, self.name),
            server: cluster.server().to_owned(),
        })?;
        let annotated = annotated_port(own)?;
        let wanted = self.port.or(annotated).unwrap_or_else(|| port(&self.name));
        let others = clusters.iter().filter(|object| !is_ours(object));
        let rival = others.into_iter().find(|other| annotated_port(other).is_ok_and(|port| port == Some(wanted)));
        Ok((annotated, rival.map(name_of)))
    }
}

fn name_of(object: &DynamicObject) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", text(&object.metadata.namespace), text(&object.metadata.name))
}

fn annotated_port(cluster: &DynamicObject) -> Result<Option<u16>, Error> {
    let Some(text) = cluster.metadata.annotations.as_ref().and_then(|annotations| annotations.get(PORT_ANNOTATION)) else {
        return Ok(None);
    };
    match text.parse() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(Error::Annotation { cluster: name_of(cluster), text: text.clone() }),
    }
}
