//! Clusters as the provider sees them: an identity for LXD, and a way to the control plane.

// Each column of a kind has a type.
#![allow(clippy::duplicated_attributes)]

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Image, TemplateMetadata, conditions::ContractStatus};

/// The port of every control plane.
pub const API_PORT: u16 = 6443;

/// What a cluster needs before it has machines: an identity for LXD, and a way to its control plane.
#[derive(CustomResource, Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1alpha2",
    kind = "LXCCluster",
    namespaced,
    category = "cluster-api",
    status = "LXCClusterStatus",
    derive = "PartialEq",
    doc = "The infrastructure of a cluster on LXD or Incus.",
    printcolumn(name = "Cluster", type_ = "string", json_path = r".metadata.labels['cluster\.x-k8s\.io/cluster-name']"),
    printcolumn(name = "Load Balancer", type_ = "string", json_path = ".spec.controlPlaneEndpoint.host"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct LXCClusterSpec {
    /// Where the control plane is reached. Filled in for a load balancer that the provider makes; otherwise it has to be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_endpoint: Option<Endpoint>,
    /// The Secret with the identity for LXD, in the same namespace. A template may leave it to a patch of the ClusterClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// What stands before the control plane.
    pub load_balancer: LoadBalancer,
    /// Machines are unprivileged containers.
    #[serde(default)]
    pub unprivileged: bool,
    /// Machines get no keys and devices beyond those of their own profiles.
    #[serde(default)]
    pub skip_default_kubeadm_profile: bool,
    /// The provider writes the provider ID of each Node.
    #[serde(default)]
    pub cloud_provider_node_patch: bool,
}

/// Where a control plane is reached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Endpoint {
    /// Its address or name.
    #[schemars(length(max = 512))]
    pub host: String,
    /// Its port. A load balancer that the provider makes listens on 6443, whatever is said here.
    #[schemars(range(min = 0, max = 65535))]
    pub port: i32,
}

/// A Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// What stands before a control plane: exactly one of these.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub enum LoadBalancer {
    /// A system container with haproxy.
    #[serde(rename = "lxc")]
    Lxc(HaproxyBalancer),
    /// An application container with haproxy. LXD has none.
    #[serde(rename = "oci")]
    Oci(HaproxyBalancer),
    /// A load balancer of an OVN network.
    #[serde(rename = "ovn")]
    Ovn(OvnBalancer),
    /// A static pod on each control plane machine.
    #[serde(rename = "kubeVIP")]
    KubeVip(KubeVipBalancer),
    /// Somebody else's.
    #[serde(rename = "external")]
    External(ExternalBalancer),
}

/// A container with haproxy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HaproxyBalancer {
    /// What the container is made of.
    #[serde(default)]
    pub instance_spec: BalancerInstance,
    /// A template in Go's syntax that takes the place of the built-in configuration.
    #[serde(default, rename = "customHAProxyConfigTemplate", skip_serializing_if = "Option::is_none")]
    pub custom_haproxy_config_template: Option<String>,
    /// API servers count as healthy when their port is open, whatever /healthz says.
    #[serde(default)]
    pub disable_healthz_check: bool,
}

/// The instance of a load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct BalancerInstance {
    /// CPUs and memory, such as `c1-m1`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub flavor: String,
    /// Its profiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Its image.
    #[serde(default, skip_serializing_if = "Image::is_empty")]
    pub image: Image,
    /// The member of LXD's cluster that carries it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
}

/// A load balancer of an OVN network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OvnBalancer {
    /// The network.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network_name: String,
}

/// A kube-vip static pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeVipBalancer {
    /// Its image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// The interface that carries the address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// The kubeconfig that it uses.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kubeconfig_path: String,
    /// Where its manifest is written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub manifest_path: String,
}

/// Somebody else's load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct ExternalBalancer {}

/// What is known of a cluster's infrastructure.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LXCClusterStatus {
    /// What Cluster API reads.
    #[serde(flatten)]
    pub contract: ContractStatus,
    /// The machines that the load balancer sends requests to, but for those on their way out that have no successor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backends: Option<Vec<String>>,
}

/// What LXCClusters are made from.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1alpha2",
    kind = "LXCClusterTemplate",
    namespaced,
    category = "cluster-api",
    doc = "What a ClusterClass makes LXCClusters from.",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct LXCClusterTemplateSpec {
    /// The cluster to be.
    pub template: LXCClusterTemplateResource,
}

/// An LXCCluster to be.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct LXCClusterTemplateResource {
    /// Its labels and annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// Its specification.
    pub spec: LXCClusterSpec,
}
