//! Machines as the provider sees them: one instance each.

// Each column of a kind has a type.
#![allow(clippy::duplicated_attributes)]

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Image, TemplateMetadata, conditions::ContractStatus};

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
    printcolumn(name = "Cluster", type_ = "string", json_path = r".metadata.labels['cluster\.x-k8s\.io/cluster-name']"),
    printcolumn(name = "Machine", type_ = "string", json_path = r#".metadata.ownerReferences[?(@.kind=="Machine")].name"#),
    printcolumn(name = "ProviderID", type_ = "string", json_path = ".spec.providerID"),
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
    /// What Cluster API reads.
    #[serde(flatten)]
    pub contract: ContractStatus,
    /// Its addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<MachineAddress>,
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
