//! One cluster of the lab: its options, what is wrong with them, and what follows from them.

use std::{collections::BTreeMap, path::Path};

use ansible::OptionError;
use lab::{
    address::{self, Cidr, Range},
    machine, names,
    plan::{ClusterNetworks, Fault},
    publication,
    subnet::{unfit_for_pods, unfit_for_services},
    versions,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smart_default::SmartDefault;

/// A cluster as it is to be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
#[schemars(extend("required" = ["name"]))]
pub struct Cluster {
    /// Name of the cluster.
    #[schemars(regex(pattern = names::INSTANCE))]
    pub name: String,
    /// Namespace of its Cluster.
    #[schemars(regex(pattern = names::NAMESPACE))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Networks of its Pods: IPv4, then IPv6.
    #[default(texts(address::CLUSTER_PODS))]
    pub pod_cidrs: Vec<String>,
    /// Networks of its Services: IPv4, then IPv6.
    #[default(texts(address::CLUSTER_SERVICES))]
    pub service_cidrs: Vec<String>,
    /// Addresses of the external prefix for its Services, from one to another or as a network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vip_range: Option<String>,
    /// Version of Kubernetes.
    #[default(versions::KUBERNETES.into())]
    #[schemars(regex(pattern = r"^v\d+\.\d+\.\d+$"))]
    pub kubernetes_version: String,
    /// Its control plane nodes; an odd number.
    #[default(1)]
    #[schemars(range(min = 1))]
    pub control_plane_count: u32,
    /// How many worker nodes it has.
    #[default(1)]
    #[schemars(range(min = 0))]
    pub worker_count: u32,
    /// Port at which its API is published; one that follows from the name if unset.
    #[schemars(range(min = 1, max = 65535))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its plugin for the network of Pods. If unset, that of all clusters. The role cluster reads this and the values below itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cni: Option<Cni>,
    /// Values for the chart of its class, which go over those that follow from the rest. The same is true of the other charts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub class_values: BTreeMap<String, Value>,
    /// Values for the chart of its Cluster.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cluster_values: BTreeMap<String, Value>,
    /// Values for the chart of its plugin for the network of Pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cni_values: BTreeMap<String, Value>,
    /// Values for the chart of MetalLB.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metallb_values: BTreeMap<String, Value>,
    /// Values for the chart of MetalLB's addresses.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metallb_config_values: BTreeMap<String, Value>,
}

/// A plugin for the network of Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cni {
    /// With policies.
    Calico,
    /// For little labs.
    Flannel,
}

/// What a cluster is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// It carries Cluster API.
    Management,
    /// It carries what the lab is there for.
    Workload,
}

/// A cluster with everything that follows from its options.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ClusterFacts {
    /// Name of the cluster.
    pub name: String,
    /// Namespace of its Cluster.
    pub namespace: String,
    /// What it is for.
    pub purpose: Purpose,
    /// Networks of its Pods.
    pub pod_cidrs: Vec<String>,
    /// Networks of its Services.
    pub service_cidrs: Vec<String>,
    /// Addresses for its Services.
    pub vip_range: Option<String>,
    /// Version of Kubernetes.
    pub kubernetes_version: String,
    /// How many control plane nodes it has.
    pub control_plane_count: u32,
    /// How many worker nodes it has.
    pub worker_count: u32,
    /// Port at which its API is published.
    pub port: u16,
    /// Where its kubeconfig is on the host.
    pub kubeconfig_path: String,
    /// Alias of the image of its nodes.
    pub node_image: String,
    /// Alias of the image of its load balancer.
    pub load_balancer_image: String,
}

fn texts(networks: [&str; 2]) -> Vec<String> {
    networks.map(str::to_owned).to_vec()
}

impl Cluster {
    /// The management cluster, where nothing else is said.
    pub(crate) fn management() -> Self {
        Self { name: names::MANAGEMENT_CLUSTER.into(), worker_count: 2, ..Self::default() }
    }

    pub(crate) fn namespace<'a>(&'a self, default: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(default)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or_else(|| publication::port(&self.name))
    }

    pub(crate) fn nodes(&self) -> u32 {
        self.control_plane_count + self.worker_count
    }

    pub(crate) fn node_image(&self) -> String {
        format!("{}{}", names::NODE_IMAGES, self.kubernetes_version)
    }

    /// What the option table cannot check.
    pub(crate) fn check(&self, place: &str) -> Result<(), OptionError> {
        let count = self.control_plane_count;
        if count.is_multiple_of(2) {
            let reason = format!("{count} is even, and etcd needs a majority: one more fails as soon as one fewer would");
            return Err(OptionError::invalid(format!("{place}.control_plane_count"), reason));
        }
        Ok(())
    }

    pub(crate) fn networks(&self, place: &str) -> Result<ClusterNetworks, OptionError> {
        Ok(ClusterNetworks {
            cluster: self.name.clone(),
            pods: pair(&format!("{place}.pod_cidrs"), &self.pod_cidrs)?,
            services: pair(&format!("{place}.service_cidrs"), &self.service_cidrs)?,
        })
    }

    /// Networks in which the cluster cannot work.
    pub(crate) fn unfit<'a>(&'a self, networks: &'a ClusterNetworks) -> impl Iterator<Item = Fault> + 'a {
        // One more node stands beside the others while they are replaced.
        let nodes = self.nodes() + 1;
        let fault = |what: &str, reason: String| Fault::Unfit { what: format!("{what} of cluster {}", self.name), reason };
        let pods = networks.pods.iter().filter_map(move |cidr| Some(fault("Pods", unfit_for_pods(*cidr, nodes)?)));
        pods.chain(networks.services.iter().filter_map(move |cidr| Some(fault("Services", unfit_for_services(*cidr)?))))
    }

    pub(crate) fn range(&self, place: &str) -> Result<Option<Range>, OptionError> {
        let read = |text: &String| {
            text.parse().map_err(|error: address::NotARange| OptionError::invalid(format!("{place}.vip_range"), error.to_string()))
        };
        self.vip_range.as_ref().map(read).transpose()
    }

    pub(crate) fn facts(&self, purpose: Purpose, namespace: &str, opt_root: &Path) -> ClusterFacts {
        let namespace = self.namespace(namespace);
        ClusterFacts {
            name: self.name.clone(),
            namespace: namespace.to_owned(),
            purpose,
            pod_cidrs: self.pod_cidrs.clone(),
            service_cidrs: self.service_cidrs.clone(),
            vip_range: self.vip_range.clone(),
            kubernetes_version: self.kubernetes_version.clone(),
            control_plane_count: self.control_plane_count,
            worker_count: self.worker_count,
            port: self.port(),
            kubeconfig_path: machine::cluster_kubeconfig(opt_root, namespace, &self.name).display().to_string(),
            node_image: self.node_image(),
            load_balancer_image: names::LOAD_BALANCER_IMAGE.to_owned(),
        }
    }
}

/// An IPv4 network and an IPv6 one, in this order: Kubernetes takes the first family for the main one.
fn pair(option: &str, texts: &[String]) -> Result<Vec<Cidr>, OptionError> {
    let read = |text: &String| text.parse().map_err(|error: address::NotACidr| OptionError::invalid(option, error.to_string()));
    let networks: Vec<Cidr> = texts.iter().map(read).collect::<Result<_, _>>()?;
    match networks.as_slice() {
        [first, second] if first.address.is_ipv4() && second.address.is_ipv6() => Ok(networks),
        _ => Err(OptionError::invalid(
            option,
            "the lab's clusters have both address families: give an IPv4 network, then an IPv6 one",
        )),
    }
}
