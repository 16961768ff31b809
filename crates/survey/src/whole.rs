//! A lab as a whole.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use cluster::{Condition, Kubeconfig, resource};
use lab::{
    capi,
    lifecycle::{Carrier, Evidence, PHASE_KEY, Phase},
    publication::Publication,
};
use lxd::{Client, Connection, Instance, InstanceState, Network, Pool, Power, Profile, Project};

use crate::Error;

/// How long a look at one cluster may take. One that does not answer is told, not waited for.
const LOOK: Duration = Duration::from_secs(15);

/// What a lab's parts are called, and where its kubeconfigs are.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The project.
    pub project: String,
    /// The storage pool.
    pub pool: String,
    /// The internal network.
    pub network: String,
    /// The bootstrap instance.
    pub bootstrap_instance: String,
    /// The interface on the internal network, inside instances.
    pub interface: String,
    /// The bootstrap cluster's kubeconfig on the host.
    pub bootstrap_kubeconfig: PathBuf,
    /// The management cluster's kubeconfig on the host.
    pub management_kubeconfig: PathBuf,
    /// The namespace and the name of the management cluster's own Cluster object.
    pub management_cluster: (String, String),
    /// The record of a move between the two clusters, which is there while the move is open.
    pub open_pivot: PathBuf,
}

/// What was seen of a lab.
#[derive(Debug, Default)]
pub struct Survey {
    /// The server: `lxd 5.0.2`; none if LXD is not there.
    pub server: Option<String>,
    /// The project.
    pub project: Option<Project>,
    /// The storage pool.
    pub pool: Option<Pool>,
    /// The internal network.
    pub network: Option<Network>,
    /// Ports of the host that forwards of the internal network take and that are not the lab's.
    pub foreign_forwards: Vec<String>,
    /// The names of the project's profiles.
    pub profiles: Vec<String>,
    /// The project's instances.
    pub instances: Vec<Instance>,
    /// The state of the bootstrap instance.
    pub bootstrap: Option<InstanceState>,
    /// The global addresses of the bootstrap instance on the internal network.
    pub bootstrap_addresses: Vec<IpAddr>,
    /// The cluster in the bootstrap instance. It is looked at where the instance runs.
    pub bootstrap_cluster: Option<Cluster>,
    /// The management cluster. It is looked at where its kubeconfig is on the host.
    pub management_cluster: Option<Cluster>,
    /// Cluster API's objects are on their way from one cluster to the other.
    pub pivot_open: bool,
}

/// A cluster that may carry Cluster API's objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Where it answers, by the kubeconfig on the host; none if there is no kubeconfig.
    pub server: Option<String>,
    /// What it lacks, and who owns the Cluster object.
    pub carrier: Carrier,
}

impl Survey {
    /// Reads a lab. A host without LXD is a lab of which nothing is there.
    pub async fn read(connection: &Connection, scope: &Scope) -> Result<Self, Error> {
        let client = match connection.client().await {
            Err(lxd::Error::NoSocket { .. }) => return Ok(Self::default()),
            client => client?,
        };
        let environment = &client.server().environment;
        let mut seen = Self {
            server: Some(format!("{} {}", environment.server, environment.server_version)),
            project: client.find(&scope.project).await?.map(|found| found.object),
            pool: client.find(&scope.pool).await?.map(|found| found.object),
            network: client.find(&scope.network).await?.map(|found| found.object),
            pivot_open: scope.open_pivot.exists(),
            ..Self::default()
        };
        if seen.network.as_ref().is_some_and(|network| network.managed) {
            seen.foreign_forwards = client.unclaimed_forwards(&scope.network, Publication::marks).await?;
        }
        if seen.project.is_some() {
            seen.look_into_project(&client.in_project(&scope.project), scope).await?;
        }
        seen.look_at_clusters(scope).await;
        Ok(seen)
    }

    async fn look_into_project(&mut self, client: &Client, scope: &Scope) -> Result<(), Error> {
        self.profiles = client.list::<Profile>().await?.into_iter().map(|profile| profile.name).collect();
        self.instances = client.list().await?;
        if self.instances.iter().any(|instance| instance.name == scope.bootstrap_instance) {
            // It may have gone meanwhile.
            self.bootstrap = lxd::if_there(client.instance_state(&scope.bootstrap_instance).await)?;
        }
        self.bootstrap_addresses = self.bootstrap.iter().flat_map(|state| state.global_addresses(&scope.interface)).collect();
        Ok(())
    }

    async fn look_at_clusters(&mut self, scope: &Scope) {
        if self.evidence().bootstrap_runs() {
            let kubeconfig = Kubeconfig::read(&scope.bootstrap_kubeconfig);
            self.bootstrap_cluster = Some(match kubeconfig {
                Ok(kubeconfig) if self.is_at_bootstrap(&kubeconfig) => Cluster::look(&kubeconfig, scope).await,
                Ok(other) => {
                    Cluster::lacking(format!("kubeconfig of the bootstrap cluster; that on the host is of {}", other.server()))
                }
                Err(error) => Cluster::lacking(format!("bootstrap cluster: {error}")),
            });
        }
        self.management_cluster = match Kubeconfig::read(&scope.management_kubeconfig) {
            Ok(kubeconfig) => Some(Cluster::look(&kubeconfig, scope).await),
            Err(cluster::Error::NoKubeconfig { .. }) => None,
            Err(error) => Some(Cluster::lacking(format!("management cluster: {error}"))),
        };
    }

    /// Whether a kubeconfig leads to the bootstrap instance as it is now, and not to one that was there before.
    fn is_at_bootstrap(&self, kubeconfig: &Kubeconfig) -> bool {
        self.bootstrap_addresses.iter().any(|address| leads_to(kubeconfig.server(), *address))
    }

    /// What the phase depends on.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        Evidence {
            server: self.server.is_some(),
            project: self.project.is_some(),
            pool: self.pool.is_some(),
            network: self.network.as_ref().is_some_and(|network| network.managed),
            profiles: self.profiles.clone(),
            bootstrap_instance: self
                .bootstrap
                .as_ref()
                .map(|state| if state.power() == Power::Running { "Running".to_owned() } else { state.status.clone() }),
            bootstrap: self.bootstrap_cluster.as_ref().map(|cluster| cluster.carrier.clone()),
            management: self.management_cluster.as_ref().map(|cluster| cluster.carrier.clone()),
            recorded: self.project.as_ref().and_then(|project| Phase::recorded(project.config.get(PHASE_KEY)?)),
        }
    }
}

impl Cluster {
    fn lacking(what: String) -> Self {
        Self { server: None, carrier: Carrier { unmet: vec![what], owns: None } }
    }

    async fn look(kubeconfig: &Kubeconfig, scope: &Scope) -> Self {
        let server = kubeconfig.server();
        let looked = tokio::time::timeout(LOOK, carrier(kubeconfig, scope)).await;
        let carrier = match looked {
            Ok(Ok(carrier)) => carrier,
            Ok(Err(error)) => Carrier { unmet: vec![error.to_string()], owns: None },
            Err(_) => {
                let unmet = format!("the cluster at {server} has not answered within {} s", LOOK.as_secs());
                Carrier { unmet: vec![unmet], owns: None }
            }
        };
        Self { server: Some(server.to_owned()), carrier }
    }
}

async fn carrier(kubeconfig: &Kubeconfig, scope: &Scope) -> Result<Carrier, cluster::Error> {
    let client = cluster::Client::connect(kubeconfig)?;
    let conditions = capi::DEPLOYMENTS.map(|(namespace, name)| Condition::deployment_available(namespace, name));
    let unmet = client.unmet(&conditions).await?;
    let (namespace, name) = &scope.management_cluster;
    let owns = client.find(resource::CLUSTER, Some(namespace), name).await?.is_some();
    Ok(Carrier { unmet, owns: Some(owns) })
}

/// Whether a server's URL leads to an address, at whatever port.
fn leads_to(server: &str, address: IpAddr) -> bool {
    let Some(authority) = server.strip_prefix("https://") else { return false };
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host.trim_matches(['[', ']']).parse() == Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_is_of_the_instance_whose_address_it_names() {
        for (server, address, leads) in [
            ("https://10.77.0.5:6443", "10.77.0.5", true),
            ("https://10.77.0.50:6443", "10.77.0.5", false),
            ("https://[fd42::5]:6444", "fd42::5", true),
            ("http://10.77.0.5:6443", "10.77.0.5", false),
            ("https://example.org:6443", "10.77.0.5", false),
        ] {
            assert_eq!(leads_to(server, address.parse().unwrap()), leads, "{server}");
        }
    }
}
