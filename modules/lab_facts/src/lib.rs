//! Tells how far a lab has come and where it is reached. Reads only.

use std::collections::BTreeSet;

use ansible::{RoleTask, Run, Step};
use converge::{AbsolutePath, Failure};
use lab::{
    Isolation,
    lifecycle::{Owner, PHASE_KEY, Phase},
    machine, names, project,
    teardown::Of,
};
use lxd::{Connection, Instance};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;
use survey::{Scope, Survey};

/// Tell the phase and the addresses of the lab.
///
/// Reads the live state and changes nothing. A host without LXD is a lab that is V(absent).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
pub struct LabFacts {
    /// Project of the lab.
    #[default(names::PROJECT.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "project_name"))]
    pub project: String,
    /// Pool of the lab.
    #[default(names::POOL.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "storage_pool_name"))]
    pub storage_pool: String,
    /// Internal network of the lab.
    #[default(names::INTERNAL_NETWORK.into())]
    #[schemars(regex(pattern = names::NETWORK), extend("global" = "internal_network_name"))]
    pub internal_network: String,
    /// Instance of the bootstrap cluster.
    #[default(names::BOOTSTRAP_INSTANCE.into())]
    #[schemars(regex(pattern = names::INSTANCE), extend("global" = "bootstrap_instance_name"))]
    pub bootstrap_instance: String,
    /// Interface on the internal network, inside instances.
    #[default(names::INTERNAL_INTERFACE.into())]
    #[schemars(regex(pattern = names::INTERFACE), extend("global" = "guest_internal_ifname"))]
    pub internal_ifname: String,
    /// Folder of the lab's programs and settings on the host.
    #[default(machine::OPT_ROOT.into())]
    #[schemars(extend("global" = "opt_root"))]
    pub opt_root: AbsolutePath,
    /// The bootstrap cluster's kubeconfig on the host; the lab's own in O(opt_root) if unset.
    pub kubeconfig_path: Option<AbsolutePath>,
    /// Name of the management cluster.
    #[default(names::MANAGEMENT_CLUSTER.into())]
    #[schemars(regex(pattern = names::INSTANCE), extend("global" = "management_cluster_name"))]
    pub management_cluster_name: String,
    /// Namespace of the management cluster's own objects.
    #[default(names::CLUSTERS_NAMESPACE.into())]
    #[schemars(regex(pattern = names::NAMESPACE), extend("global" = "clusters_namespace"))]
    pub clusters_namespace: String,
    /// Where LXD listens.
    #[serde(flatten)]
    pub lxd: Connection,
}

/// What the step returns.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Facts {
    /// The lab.
    pub lab: Lab,
}

/// A lab as it is now.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Lab {
    /// Phase that the lab has reached.
    pub phase: Phase,
    /// The phase that a run recorded last; a hint, which the live state overrides.
    pub recorded_phase: Option<String>,
    /// What the next phase lacks: of the substrate, or once that is there, of the bootstrap cluster.
    pub missing: Vec<String>,
    /// The isolation that the project has now; nothing if there is no project.
    pub isolation: Option<Isolation>,
    /// The server: C(lxd) or C(incus), and its version.
    pub server: Option<String>,
    /// The internal network's IPv4 address with its prefix length.
    pub network_ipv4: Option<String>,
    /// The internal network's IPv6 address with its prefix length.
    pub network_ipv6: Option<String>,
    /// Ports of the host that forwards of the internal network take and that are not the lab's.
    pub foreign_forwards: Vec<String>,
    /// The bootstrap instance's global addresses.
    pub bootstrap_addresses: Vec<String>,
    /// The bootstrap cluster; nothing while its instance does not run.
    pub bootstrap_cluster: Option<ClusterFacts>,
    /// The management cluster; nothing while its kubeconfig is not on the host.
    pub management_cluster: Option<ClusterFacts>,
    /// The cluster whose API has the management cluster's own Cluster object. Nothing if neither has it, or both have while it moves.
    pub owner: Option<Owner>,
    /// The kubeconfig on the host of the cluster that keeps the management cluster, which is the bootstrap cluster until that one owns
    /// its objects itself.
    pub cluster_api_kubeconfig: String,
    /// Cluster API's objects are on their way from one cluster to the other. Helm must not run on either until they have arrived.
    pub pivot_open: bool,
    /// Instances of the project.
    pub instances: Vec<String>,
    /// Clusters that have instances in the project.
    pub clusters: Vec<LabCluster>,
}

/// A cluster that has instances.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LabCluster {
    /// Name of the cluster.
    pub name: String,
    /// Namespace of its Cluster.
    pub namespace: String,
}

/// A cluster that may carry Cluster API's objects.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ClusterFacts {
    /// Where it answers, by the kubeconfig on the host.
    pub server: Option<String>,
    /// What keeps it from carrying Cluster API's objects.
    pub missing: Vec<String>,
    /// Whether it has the management cluster's own Cluster object; nothing if it does not answer.
    pub owns_objects: Option<bool>,
}

impl Step for LabFacts {
    const NAME: &'static str = "lab_facts";
    const SECTIONS: &'static [&'static str] = &[];
    const EXAMPLES: &'static str = "\
- name: Ask how far the lab has come
  k8slab.capi.lab_facts:
  become: true
  register: lab

- name: Show it
  ansible.builtin.debug:
    var: lab.lab.phase
";
    const TASKS: &'static [RoleTask] = &[RoleTask { register: Some("lab_facts_result"), ..RoleTask::ON_HOST }];
    const CHANGES: bool = false;
    type Facts = Facts;

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        let scope = self.scope();
        run.verify(async { Ok(Facts { lab: Lab::of(Survey::read(&self.lxd, &scope).await?, &scope) }) }).await
    }
}

impl LabFacts {
    fn scope(&self) -> Scope {
        let bootstrap = || self.opt_root.join(machine::BOOTSTRAP_KUBECONFIG);
        let (namespace, name) = (&self.clusters_namespace, &self.management_cluster_name);
        Scope {
            project: self.project.clone(),
            pool: self.storage_pool.clone(),
            network: self.internal_network.clone(),
            bootstrap_instance: self.bootstrap_instance.clone(),
            interface: self.internal_ifname.clone(),
            bootstrap_kubeconfig: self.kubeconfig_path.as_ref().map_or_else(bootstrap, |path| path.to_path_buf()),
            management_kubeconfig: machine::cluster_kubeconfig(&self.opt_root, namespace, name),
            management_cluster: (namespace.clone(), name.clone()),
            open_pivot: machine::open_pivot(&self.opt_root),
        }
    }
}

impl Lab {
    fn of(seen: Survey, scope: &Scope) -> Self {
        let evidence = seen.evidence();
        let (phase, missing) = evidence.judge();
        let kept_by = match evidence.owner() {
            Some(Owner::Management) => &scope.management_kubeconfig,
            _ => &scope.bootstrap_kubeconfig,
        };
        let address = |key: &str| seen.network.as_ref().and_then(|network| network.config.get(key).cloned());
        Self {
            phase,
            missing,
            owner: evidence.owner(),
            cluster_api_kubeconfig: kept_by.display().to_string(),
            pivot_open: seen.pivot_open,
            recorded_phase: seen.project.as_ref().and_then(|project| project.config.get(PHASE_KEY).cloned()),
            isolation: seen.project.as_ref().and_then(|project| project::isolation(&project.config)),
            network_ipv4: address("ipv4.address"),
            network_ipv6: address("ipv6.address"),
            server: seen.server,
            foreign_forwards: seen.foreign_forwards,
            bootstrap_addresses: seen.bootstrap_addresses.iter().map(ToString::to_string).collect(),
            bootstrap_cluster: seen.bootstrap_cluster.map(ClusterFacts::of),
            management_cluster: seen.management_cluster.map(ClusterFacts::of),
            clusters: clusters(&seen.instances),
            instances: seen.instances.into_iter().map(|instance| instance.name).collect(),
        }
    }
}

/// The clusters that instances belong to.
fn clusters(instances: &[Instance]) -> Vec<LabCluster> {
    let whose = instances.iter().map(|instance| Of::by_keys(&instance.config));
    let clusters: BTreeSet<_> = whose.filter_map(|of| if let Of::Cluster(cluster) = of { Some(cluster) } else { None }).collect();
    clusters.into_iter().map(|cluster| LabCluster { name: cluster.name, namespace: cluster.namespace }).collect()
}

impl ClusterFacts {
    fn of(cluster: survey::Cluster) -> Self {
        Self { server: cluster.server, missing: cluster.carrier.unmet, owns_objects: cluster.carrier.owns }
    }
}
