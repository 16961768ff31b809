//! The provider's own kinds.

// Each column of a kind has a type.
#![allow(clippy::duplicated_attributes)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The port of a control plane unless something else is said.
pub const API_PORT: i32 = 6443;

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
    label("cluster.x-k8s.io/v1beta2", "v1alpha2"),
    printcolumn(name = "Cluster", type_ = "string", json_path = r".metadata.labels['cluster\.x-k8s\.io/cluster-name']"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".spec.controlPlaneEndpoint.host"),
    printcolumn(name = "Provisioned", type_ = "boolean", json_path = ".status.initialization.provisioned"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct LXCClusterSpec {
    /// Where the control plane is reached. Filled in for a load balancer that the provider makes; otherwise it has to be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_endpoint: Option<Endpoint>,
    /// The Secret with the identity for LXD, in the same namespace.
    pub secret_ref: SecretRef,
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
    /// Its port.
    #[serde(default = "api_port")]
    #[schemars(range(min = 0, max = 65535))]
    pub port: i32,
}

fn api_port() -> i32 {
    API_PORT
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

/// An image of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Image {
    /// Its alias. `VERSION` in it stands for the Machine's version; `capi:`, `images:`, `debian:` and `ubuntu:` name public servers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its fingerprint.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// The server that has it, where it is not LXD itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server: String,
    /// The server's protocol: `simplestreams`, `lxd` or `incus`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub protocol: String,
}

impl Image {
    /// Nothing is said about it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is known of a cluster's infrastructure.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LXCClusterStatus {
    /// How far it has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initialization: Option<Initialization>,
    /// Where machines can be placed: the members of LXD's cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failure_domains: Vec<FailureDomain>,
    /// The machines that the load balancer sends requests to, but for those on their way out that have no successor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backends: Option<Vec<String>>,
    /// Its conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// How far an object's infrastructure has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Initialization {
    /// It is there.
    #[serde(default)]
    pub provisioned: bool,
}

/// Where machines can be placed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureDomain {
    /// Its name.
    pub name: String,
    /// It may carry control plane machines.
    #[serde(default)]
    pub control_plane: bool,
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
    label("cluster.x-k8s.io/v1beta2", "v1alpha2"),
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

/// A machine: one instance.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1alpha2",
    kind = "LXCMachine",
    namespaced,
    category = "cluster-api",
    status = "LXCMachineStatus",
    derive = "PartialEq",
    doc = "A machine of a cluster: an instance of LXD or Incus.",
    label("cluster.x-k8s.io/v1beta2", "v1alpha2"),
    printcolumn(name = "Cluster", type_ = "string", json_path = r".metadata.labels['cluster\.x-k8s\.io/cluster-name']"),
    printcolumn(name = "Machine", type_ = "string", json_path = r#".metadata.ownerReferences[?(@.kind=="Machine")].name"#),
    printcolumn(name = "ProviderID", type_ = "string", json_path = ".spec.providerID"),
    printcolumn(name = "Provisioned", type_ = "boolean", json_path = ".status.initialization.provisioned"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct LXCMachineSpec {
    /// The instance, as the Node of it calls itself. Filled in by the provider.
    #[serde(default, rename = "providerID", skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// `container`, `virtual-machine`, `kind`, or nothing for the server's choice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = "^(container|virtual-machine|kind)?$"))]
    pub instance_type: String,
    /// CPUs and memory, such as `c2-m4`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub flavor: String,
    /// Its profiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Its devices, each as `name,key=value[,key=value]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Further configuration keys of the instance.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Its image.
    #[serde(default, skip_serializing_if = "Image::is_empty")]
    pub image: Image,
    /// The member of LXD's cluster that carries it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
}

/// What is known of a machine.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LXCMachineStatus {
    /// How far it has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initialization: Option<Initialization>,
    /// Its addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<MachineAddress>,
    /// The member of LXD's cluster that carries it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<String>,
    /// Its conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// An address of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct MachineAddress {
    /// `InternalIP`, `Hostname` or another of Cluster API's.
    #[serde(rename = "type")]
    pub kind: String,
    /// The address.
    pub address: String,
}

/// What LXCMachines are made from.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "infrastructure.cluster.x-k8s.io",
    version = "v1alpha2",
    kind = "LXCMachineTemplate",
    namespaced,
    category = "cluster-api",
    doc = "What a control plane or a MachineDeployment makes LXCMachines from.",
    label("cluster.x-k8s.io/v1beta2", "v1alpha2"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct LXCMachineTemplateSpec {
    /// The machine to be.
    pub template: LXCMachineTemplateResource,
}

/// An LXCMachine to be.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct LXCMachineTemplateResource {
    /// Its labels and annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// Its specification.
    pub spec: LXCMachineSpec,
}

/// Labels and annotations of what is made from a template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct TemplateMetadata {
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}
