//! Waits until a cluster that Cluster API makes is as far as it should be.

mod error;
mod instance;

use std::{convert::Infallible, time::Duration};

use ansible::{OptionError, Run, Step};
use cluster::{
    Client, Condition, DynamicObject, Kubeconfig,
    capi::{Counts, Machine},
    resource,
};
use converge::{AbsolutePath, Failure, Section};
use futures_util::future::try_join;
use lab::names;
use lxd::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use crate::error::Error;

/// Wait until a cluster has reached a state.
///
/// The cluster is judged by Cluster API's own objects, and, where O(cluster_kubeconfig_path) is given, by what the cluster
/// itself says. All conditions are watched at once, and each change is told. Nothing is changed.
///
/// At the deadline the result says which condition does not hold and what was seen last; for each machine that is not ready it
/// says what the machine waits for, and what LXD knows of its instance. A machine that cannot become ready any more ends the
/// wait at once.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
#[schemars(extend("required" = ["name", "kubeconfig_path"]))]
pub struct ClusterReady {
    /// Name of the Cluster.
    #[schemars(regex(pattern = names::INSTANCE))]
    pub name: String,
    /// Namespace of the Cluster.
    #[default(names::CLUSTERS_NAMESPACE.into())]
    #[schemars(regex(pattern = names::NAMESPACE), extend("global" = "clusters_namespace"))]
    pub namespace: String,
    /// Kubeconfig of the cluster that has the Cluster's objects, on the host.
    pub kubeconfig_path: AbsolutePath,
    /// Kubeconfig of the cluster itself, on the host. If unset, its nodes are judged by what Cluster API sees of them.
    pub cluster_kubeconfig_path: Option<AbsolutePath>,
    /// What the cluster must have reached.
    #[default(vec![Until::NodesReady])]
    #[schemars(length(min = 1))]
    pub until: Vec<Until>,
    /// How many machines the control plane must have. If unset, as many as the Cluster asks for.
    pub control_plane_count: Option<u64>,
    /// How many workers there must be. If unset, as many as the Cluster asks for.
    pub worker_count: Option<u64>,
    /// Deployments that have to be rolled out in the cluster itself.
    pub deployments: Vec<Workload>,
    /// DaemonSets that have to be rolled out in the cluster itself.
    pub daemonsets: Vec<Workload>,
    /// How long to wait, in seconds.
    #[default(1200)]
    #[schemars(range(min = 1))]
    pub timeout: u64,
    /// Project of the cluster's instances.
    #[default(names::PROJECT.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "project_name"))]
    pub project: String,
    /// Where LXD listens.
    #[serde(flatten)]
    pub lxd: Connection,
}

/// What has to hold of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Its load balancer and the rest of its infrastructure are there.
    InfrastructureReady,
    /// Its API has answered once.
    ControlPlaneInitialized,
    /// Its control plane serves.
    ControlPlaneAvailable,
    /// It has all its machines, each is ready, its node included, and no rollout is under way.
    MachinesReady,
    /// Each of its machines has become a node.
    NodesRegistered,
    /// It has all its nodes, each is Ready, and no rollout is under way.
    NodesReady,
    /// Cluster API says that it can be used.
    Available,
}

/// Something that has to be rolled out.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub struct Workload {
    /// Namespace of the workload.
    #[schemars(length(min = 1))]
    pub namespace: String,
    /// Name of the workload.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// What the step returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Facts {
    /// The cluster as it is now.
    pub cluster: ClusterFacts,
}

/// A cluster as it is now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ClusterFacts {
    /// Name of the cluster.
    pub name: String,
    /// Namespace of the Cluster object.
    pub namespace: String,
    /// Where its API answers: address and port.
    pub endpoint: Option<String>,
    /// The version of Kubernetes that it is to have.
    pub version: Option<String>,
    /// How many machines its control plane has to have.
    pub control_plane_count: u64,
    /// How many workers it has to have.
    pub worker_count: u64,
    /// Machines of the cluster.
    pub machines: Vec<MachineFacts>,
}

/// A machine as it is now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MachineFacts {
    /// Name of the Machine.
    pub name: String,
    /// It belongs to the control plane.
    pub control_plane: bool,
    /// The node that it has become.
    pub node: Option<String>,
    /// Its version of Kubernetes.
    pub version: Option<String>,
    /// Cluster API says that it is ready.
    pub ready: bool,
}

impl Step for ClusterReady {
    const NAME: &'static str = "cluster_ready";
    const SECTIONS: &'static [&'static str] = &["cluster"];
    const EXAMPLES: &'static str = "\
- name: The management cluster has an API
  k8slab.capi.cluster_ready:
    name: mgmt-1
    kubeconfig_path: /opt/capi-lab/etc/bootstrap_clusterctl/bootstrap.kubeconfig
    until: [control_plane_initialized]
  become: true

- name: All its nodes are Ready, and so is what it needs
  k8slab.capi.cluster_ready:
    name: mgmt-1
    kubeconfig_path: /opt/capi-lab/etc/bootstrap_clusterctl/bootstrap.kubeconfig
    cluster_kubeconfig_path: /opt/capi-lab/etc/clusters/capi-clusters/mgmt-1.kubeconfig
    until: [machines_ready, nodes_ready]
    deployments:
      - {namespace: kube-system, name: coredns}
  become: true
";
    const CHANGES: bool = false;
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        let asks_cluster = !self.deployments.is_empty() || !self.daemonsets.is_empty();
        if asks_cluster && self.cluster_kubeconfig_path.is_none() {
            return Err(OptionError::Missing { option: "cluster_kubeconfig_path".into() }.into());
        }
        Ok(())
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        run.section(&Existence(self)).await?;
        run.verify(Box::pin(self.wait())).await
    }
}

impl ClusterReady {
    fn label(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn client(&self) -> Result<Client, cluster::Error> {
        Client::connect(&Kubeconfig::read(&self.kubeconfig_path)?)
    }

    async fn cluster(&self, client: &Client) -> Result<DynamicObject, Error> {
        let found = client.find(resource::CLUSTER, Some(&self.namespace), &self.name).await?;
        found.ok_or_else(|| Error::NoCluster { cluster: self.label() })
    }

    fn counts(&self, cluster: &DynamicObject) -> Result<Counts, Error> {
        let own = Counts::of(cluster);
        let counts =
            |control_plane: Option<u64>, workers: Option<u64>| Some(Counts { control_plane: control_plane?, workers: workers? });
        let control_plane = self.control_plane_count.or(own.map(|own| own.control_plane));
        let workers = self.worker_count.or(own.map(|own| own.workers));
        counts(control_plane, workers).ok_or_else(|| Error::NoCounts { cluster: self.label() })
    }

    /// What is asked of Cluster API.
    fn conditions(&self, counts: Counts) -> Vec<Condition> {
        let (namespace, name) = (&self.namespace, &self.name);
        let has_own = self.cluster_kubeconfig_path.is_some();
        let condition = |until: &Until| match until {
            Until::InfrastructureReady => Some(Condition::cluster(namespace, name, "InfrastructureReady")),
            Until::ControlPlaneInitialized => Some(Condition::cluster(namespace, name, "ControlPlaneInitialized")),
            Until::ControlPlaneAvailable => Some(Condition::cluster(namespace, name, "ControlPlaneAvailable")),
            Until::Available => Some(Condition::cluster(namespace, name, "Available")),
            Until::MachinesReady => Some(Condition::machines_ready(namespace, name, counts)),
            Until::NodesRegistered => Some(Condition::nodes_registered(namespace, name, counts)),
            Until::NodesReady if has_own => None,
            Until::NodesReady => Some(Condition::machines_nodes_ready(namespace, name, counts)),
        };
        // While machines are being replaced, all that there are may be ready, and none of them be one that stays.
        let asks_machines = self.until.iter().any(|until| matches!(until, Until::MachinesReady | Until::NodesReady));
        let ended = [Condition::rollout_ended(namespace, name), Condition::machines_up_to_date(namespace, name)];
        let ended = ended.into_iter().filter(|_| asks_machines);
        self.until.iter().filter_map(condition).chain(ended).collect()
    }

    /// What is asked of the cluster itself.
    fn own_conditions(&self, counts: Counts) -> Vec<Condition> {
        let nodes = self.until.contains(&Until::NodesReady).then(|| Condition::nodes_ready(counts));
        let rolled_out = |kind: &'static str| move |it: &Workload| Condition::rolled_out(kind, &it.namespace, &it.name);
        let deployments = self.deployments.iter().filter_map(rolled_out("Deployment"));
        nodes.into_iter().chain(deployments).chain(self.daemonsets.iter().filter_map(rolled_out("DaemonSet"))).collect()
    }

    async fn wait(&self) -> Result<Facts, Failure> {
        let client = self.client()?;
        let counts = self.counts(&self.cluster(&client).await?)?;
        let failed = [Condition::machine_failed(&self.namespace, &self.name)];
        let (what, deadline) = (format!("Cluster {}", self.label()), Duration::from_secs(self.timeout));
        let conditions = self.conditions(counts);
        let by_capi = async {
            let waited = client.wait_for_unless(&what, &conditions, &failed, deadline);
            if conditions.is_empty() { Ok(()) } else { waited.await }
        };
        let by_itself = async {
            let Some(path) = &self.cluster_kubeconfig_path else { return Ok(()) };
            let conditions = self.own_conditions(counts);
            if conditions.is_empty() {
                return Ok(());
            }
            Client::connect(&Kubeconfig::read(path)?)?.wait_for(&format!("{what} itself"), &conditions, deadline).await
        };
        match try_join(by_capi, by_itself).await {
            Ok(_) => self.facts(&client, counts).await,
            Err(source) => Err(self.explain(&client, source).await.into()),
        }
    }

    /// Why it did not come to be so, as far as that can be found out.
    async fn explain(&self, client: &Client, source: cluster::Error) -> Error {
        match source {
            cluster::Error::Hopeless { .. } => Error::Failed { source, machines: self.missing(client).await },
            cluster::Error::Unmet { .. } | cluster::Error::Wait(_) => {
                Error::NotInTime { source, machines: self.missing(client).await }
            }
            source => Error::Cluster(source),
        }
    }

    /// What holds up each machine that is not ready.
    async fn missing(&self, client: &Client) -> Vec<String> {
        let machines = match client.machines(&self.namespace, &self.name).await {
            Ok(machines) => machines,
            Err(error) => return vec![format!("the machines cannot be looked at: {error}")],
        };
        let mut lines = Vec::new();
        for machine in machines.iter().filter(|machine| !machine.is_ready) {
            let waits_for = machine.failure.iter().chain(&machine.waits_for);
            lines.extend(waits_for.map(|why| format!("machine {}: {why}", machine.name)));
            // One that has become a node speaks for itself.
            if let (None, Some(instance)) = (&machine.node, &machine.infrastructure) {
                lines.extend(instance::describe(&self.lxd, &self.project, instance).await);
            }
        }
        lines
    }

    async fn facts(&self, client: &Client, counts: Counts) -> Result<Facts, Failure> {
        let cluster = self.cluster(client).await?;
        let machines = client.machines(&self.namespace, &self.name).await?;
        let endpoint = &cluster.data["spec"]["controlPlaneEndpoint"];
        let endpoint = endpoint["host"].as_str().map(|host| format!("{host}:{}", endpoint["port"]));
        let fact = |machine: Machine| MachineFacts {
            name: machine.name,
            control_plane: machine.is_control_plane,
            node: machine.node,
            version: machine.version,
            ready: machine.is_ready,
        };
        Ok(Facts {
            cluster: ClusterFacts {
                name: self.name.clone(),
                namespace: self.namespace.clone(),
                endpoint,
                version: cluster.data["spec"]["topology"]["version"].as_str().map(str::to_owned),
                control_plane_count: counts.control_plane,
                worker_count: counts.workers,
                machines: machines.into_iter().map(fact).collect(),
            },
        })
    }
}

/// That there is a Cluster at all: in check mode an earlier step may have yet to make it.
struct Existence<'a>(&'a ClusterReady);

impl Section for Existence<'_> {
    const NAME: &'static str = "cluster";
    type Live = ();
    type Change = Infallible;

    async fn observe(&self) -> Result<(), Failure> {
        self.0.cluster(&self.0.client()?).await?;
        Ok(())
    }

    fn plan(&self, (): &()) -> Result<Vec<Infallible>, Failure> {
        Ok(Vec::new())
    }

    async fn apply(&self, change: &Infallible) -> Result<(), Failure> {
        match *change {}
    }
}

#[cfg(test)]
mod tests;
