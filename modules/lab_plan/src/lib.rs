//! Checks a whole lab before any of it is made: addresses, names, ports, versions. Reads its options, the host's routes and the list of
//! what the bundle has, and changes nothing.

mod cluster;
mod error;

use std::{collections::BTreeSet, convert::Infallible, path::PathBuf};

use ansible::{OptionError, RoleTask, Run, Step};
use converge::{AbsolutePath, Failure, Section};
use host::{Root, route};
use lab::{
    address::{self, Cidr, Range},
    machine, names,
    plan::{self, ClusterNetworks, Fault, Plan, Pool, Refused, Route},
    subnet,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

pub use crate::cluster::{Cluster, ClusterFacts, Purpose};
use crate::error::Error;

/// Check the plan of a lab before the lab is made.
///
/// Every range of addresses is compared with every other and with the host's routes. Names, ports, counts and versions of the
/// clusters are checked. The result is the list of the clusters with everything that follows from their options. The role keeps
/// it in C(lab_plan_result), for the steps that make the clusters.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
pub struct LabPlan {
    /// Name of the internal network.
    #[default(names::INTERNAL_NETWORK.into())]
    #[schemars(regex(pattern = names::NETWORK), extend("global" = "internal_network_name"))]
    pub internal_network_name: String,
    /// IPv4 subnet of the internal network.
    #[default(address::INTERNAL_IPV4.into())]
    #[schemars(extend("global" = "internal_ipv4_subnet"))]
    pub internal_ipv4_subnet: String,
    /// IPv6 subnet of the internal network.
    #[default(address::INTERNAL_IPV6.into())]
    #[schemars(extend("global" = "internal_ipv6_subnet"))]
    pub internal_ipv6_subnet: String,
    /// Name of the bridge to the network outside.
    #[default(names::EXTERNAL_BRIDGE.into())]
    #[schemars(regex(pattern = names::NETWORK), extend("global" = "external_bridge_name"))]
    pub external_bridge_name: String,
    /// The network link that this bridge leads to. The host may still have a route over it, from before it became the bridge's.
    #[schemars(extend("global" = "uplink_interface"))]
    pub uplink_interface: Option<String>,
    /// IPv6 prefix that the router outside announces. Without it no cluster can have a range for Services.
    #[schemars(extend("global" = "external_ipv6_prefix"))]
    pub external_ipv6_prefix: Option<String>,
    /// Ranges of the external prefix that are given to others: machines outside, routers beside the first address.
    #[schemars(extend("global" = "external_reserved_ranges"))]
    pub external_reserved_ranges: Vec<String>,
    /// Folder of the lab's programs and settings.
    #[default(machine::OPT_ROOT.into())]
    #[schemars(extend("global" = "opt_root"))]
    pub opt_root: AbsolutePath,
    /// Namespace of the clusters for which no namespace is given.
    #[default(names::CLUSTERS_NAMESPACE.into())]
    #[schemars(regex(pattern = names::NAMESPACE), extend("global" = "clusters_namespace"))]
    pub clusters_namespace: String,
    /// The management cluster.
    #[default(Cluster::management())]
    #[schemars(extend("role_default" = {
        "name": "{{ k8s_lab_management_cluster_name | default('mgmt-1') }}",
        "pod_cidrs": "{{ k8s_lab_management_pod_cidrs | default(['10.244.0.0/16', 'fd42:77:2::/56']) }}",
        "service_cidrs": "{{ k8s_lab_management_service_cidrs | default(['10.96.0.0/16', 'fd42:77:3::/112']) }}",
        "vip_range": "{{ k8s_lab_management_vip_range | default('') }}",
        "kubernetes_version": "{{ k8s_lab_kubernetes_version | default('v1.35.0') }}",
        "control_plane_count": "{{ k8s_lab_management_controlplane_count | default(1) }}",
        "worker_count": "{{ k8s_lab_management_worker_count | default(2) }}",
    }))]
    pub management_cluster: Cluster,
    /// The workload clusters. The role's default is one, which follows C(k8s_lab_workload_cluster_name) and the like.
    #[schemars(extend("global" = "workload_clusters", "role_default" = WORKLOAD_CLUSTERS))]
    pub workload_clusters: Vec<Cluster>,
    /// Where the images of nodes come from.
    #[serde(flatten)]
    pub bundle: bundle::Location,
}

/// The list, or the one cluster of those who set variables for a single one.
const WORKLOAD_CLUSTERS: &str = "{{ k8s_lab_workload_clusters | default([{\
    'name': k8s_lab_workload_cluster_name | default('lab-default'), \
    'vip_range': k8s_lab_workload_vip_range | default(''), \
    'control_plane_count': k8s_lab_workload_controlplane_count | default(3), \
    'worker_count': k8s_lab_workload_worker_count | default(2)}]) }}";

/// What the step returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Facts {
    /// All clusters, the management cluster first.
    pub clusters: Vec<ClusterFacts>,
    /// The management cluster.
    pub management_cluster: ClusterFacts,
    /// The workload clusters.
    pub workload_clusters: Vec<ClusterFacts>,
    /// The greatest number of instances that the lab has at one time, also during a rolling upgrade.
    pub instances: u32,
    /// The folder on the host with kubectl and the other programs.
    pub programs: PathBuf,
}

impl Step for LabPlan {
    const NAME: &'static str = "lab_plan";
    const SECTIONS: &'static [&'static str] = &[Lab::NAME];
    const EXAMPLES: &'static str = "\
- name: Check the lab before it is made
  k8slab.capi.lab_plan:
    external_ipv6_prefix: 2001:db8:42:100::/64
    management_cluster:
      name: mgmt-1
      vip_range: 2001:db8:42:100::200-2001:db8:42:100::2ff
    workload_clusters:
      - name: lab-default
        control_plane_count: 3
        vip_range: 2001:db8:42:100::300-2001:db8:42:100::3ff
  become: true
  register: lab_plan_result
";
    const TASKS: &'static [RoleTask] = &[RoleTask { register: Some("lab_plan_result"), ..RoleTask::ON_HOST }];
    const CHANGES: bool = false;
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        let mut names = BTreeSet::new();
        for (place, cluster) in self.placed() {
            cluster.check(&place)?;
            let namespace = cluster.namespace(&self.clusters_namespace);
            if !names.insert((namespace, &cluster.name)) {
                let reason = format!("there are two clusters {namespace}/{}", cluster.name);
                return Err(OptionError::invalid(format!("{place}.name"), reason).into());
            }
        }
        self.refuse_equal_ports()?;
        self.plan(Vec::new())?;
        Ok(())
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        run.section(&Lab(self)).await?;
        for (_, cluster) in self.placed() {
            if cluster.worker_count == 0 && cluster.vip_range.is_some() {
                run.warn(format!(
                    "cluster {} has a range for Services and no worker that could announce it: control planes do not",
                    cluster.name
                ));
            }
        }
        run.verify(async { Ok(self.facts()) }).await
    }
}

impl LabPlan {
    /// Every cluster with the place of its option.
    fn placed(&self) -> impl Iterator<Item = (String, &Cluster)> {
        let workload = self.workload_clusters.iter().enumerate();
        let workload = workload.map(|(index, cluster)| (format!("workload_clusters[{index}]"), cluster));
        [("management_cluster".to_owned(), &self.management_cluster)].into_iter().chain(workload)
    }

    fn refuse_equal_ports(&self) -> Result<(), Error> {
        let clusters: Vec<_> = self.placed().map(|(_, cluster)| cluster).collect();
        for (at, cluster) in clusters.iter().enumerate() {
            if let Some(other) = clusters[at + 1..].iter().find(|other| other.port() == cluster.port()) {
                let (one, other) = (cluster.name.clone(), other.name.clone());
                return Err(Error::PortShared { one, other, port: cluster.port() });
            }
        }
        Ok(())
    }

    /// One of the options that are networks.
    fn network(option: &str, text: &str, is_v4: bool) -> Result<Cidr, OptionError> {
        let cidr: Cidr = text.parse().map_err(|error: address::NotACidr| OptionError::invalid(option, error.to_string()))?;
        if cidr.address.is_ipv4() == is_v4 {
            return Ok(cidr);
        }
        Err(OptionError::invalid(option, format!("`{text}` is of the other address family")))
    }

    /// The lab's addresses; an error where one cannot be read, or where the thing cannot work in it.
    fn plan(&self, routes: Vec<Route>) -> Result<Plan, Failure> {
        let internal = [
            Self::network("internal_ipv4_subnet", &self.internal_ipv4_subnet, true)?,
            Self::network("internal_ipv6_subnet", &self.internal_ipv6_subnet, false)?,
        ];
        let external = self.external_ipv6_prefix.as_ref();
        let external = external.map(|text| Self::network("external_ipv6_prefix", text, false)).transpose()?;
        let mut reserved: Vec<(String, Range)> =
            external.iter().map(|prefix| ("the router outside".to_owned(), Range::of(plan::router(*prefix)))).collect();
        for (index, text) in self.external_reserved_ranges.iter().enumerate() {
            let range = text.parse().map_err(|error: address::NotARange| {
                OptionError::invalid(format!("external_reserved_ranges[{index}]"), error.to_string())
            })?;
            reserved.push(("a reserved range".to_owned(), range));
        }
        let what = || format!("network {}", self.internal_network_name);
        let unfit = |cidr: &Cidr| subnet::unfit_for_nodes(*cidr, self.instances(), false);
        let mut faults: Vec<Fault> =
            internal.iter().filter_map(unfit).map(|reason| Fault::Unfit { what: what(), reason }).collect();
        if let Some(reason) = external.and_then(|prefix| subnet::unfit_for_nodes(prefix, self.instances(), false)) {
            faults.push(Fault::Unfit { what: "the external prefix".to_owned(), reason });
        }
        let own_links = [&self.internal_network_name, &self.external_bridge_name].into_iter().chain(&self.uplink_interface);
        let own_links = own_links.cloned().collect();
        let mut found = Plan {
            shared: internal.into_iter().map(|cidr| (what(), cidr)).collect(),
            clusters: vec![ClusterNetworks::bootstrap()],
            external,
            reserved,
            routes,
            own_links,
            ..Plan::default()
        };
        for (place, cluster) in self.placed() {
            let networks = cluster.networks(&place)?;
            faults.extend(cluster.unfit(&networks));
            found.clusters.push(networks);
            let Some(range) = cluster.range(&place)? else { continue };
            if external.is_none() {
                let reason = "a range for Services lies within external_ipv6_prefix, and there is none";
                return Err(OptionError::invalid(format!("{place}.vip_range"), reason).into());
            }
            found.pools.push(Pool { cluster: cluster.name.clone(), range });
        }
        faults.extend(found.faults());
        Refused::unless_empty(faults)?;
        Ok(found)
    }

    /// How many instances there are at once: the bootstrap instance, and of each cluster its nodes, its load balancer and one that
    /// replaces another.
    fn instances(&self) -> u32 {
        1 + self.placed().map(|(_, cluster)| cluster.nodes() + 2).sum::<u32>()
    }

    fn refuse_missing_images(&self) -> Result<(), Failure> {
        let bundle = match self.bundle.open() {
            Err(bundle::Error::Missing { folder }) => return Err(Error::NoBundle { folder }.into()),
            bundle => bundle?,
        };
        let Some(bundle) = bundle else { return Ok(()) };
        let aliases: Vec<&str> = bundle.instance_aliases().collect();
        for (_, cluster) in self.placed() {
            if !aliases.contains(&cluster.node_image().as_str()) {
                let (name, version) = (cluster.name.clone(), cluster.kubernetes_version.clone());
                let prefix = |alias: &&str| alias.strip_prefix(names::NODE_IMAGES).map(str::to_owned);
                return Err(Error::NoImage { name, version, versions: aliases.iter().filter_map(prefix).collect() }.into());
            }
        }
        if aliases.contains(&names::LOAD_BALANCER_IMAGE) { Ok(()) } else { Err(Error::NoLoadBalancerImage.into()) }
    }

    fn facts(&self) -> Facts {
        let facts = |cluster: &Cluster, purpose| cluster.facts(purpose, &self.clusters_namespace, &self.opt_root);
        let management_cluster = facts(&self.management_cluster, Purpose::Management);
        let workload_clusters: Vec<_> = self.workload_clusters.iter().map(|cluster| facts(cluster, Purpose::Workload)).collect();
        let clusters = [&management_cluster].into_iter().chain(&workload_clusters).cloned().collect();
        Facts { clusters, management_cluster, workload_clusters, instances: self.instances(), programs: self.opt_root.join("bin") }
    }
}

/// The lab on this host. There is nothing to change.
struct Lab<'a>(&'a LabPlan);

impl Section for Lab<'_> {
    const NAME: &'static str = "plan";
    type Live = ();
    type Change = Infallible;

    async fn observe(&self) -> Result<(), Failure> {
        self.0.plan(route::all(&Root::default())?)?;
        self.0.refuse_missing_images()
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
