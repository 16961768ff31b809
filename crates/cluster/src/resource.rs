//! The kinds of objects that the lab deals with.

use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;

/// A kind of objects: what is read, listed and watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// Its group; empty for the core's.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its kind.
    pub kind: &'static str,
}

const fn resource(group: &'static str, version: &'static str, kind: &'static str) -> Resource {
    Resource { group, version, kind }
}

/// Namespaces.
pub const NAMESPACE: Resource = resource("", "v1", "Namespace");
/// Settings that are no secret.
pub const CONFIG_MAP: Resource = resource("", "v1", "ConfigMap");
/// Nodes.
pub const NODE: Resource = resource("", "v1", "Node");
/// Pods.
pub const POD: Resource = resource("", "v1", "Pod");
/// Secrets.
pub const SECRET: Resource = resource("", "v1", "Secret");
/// Definitions of kinds.
pub const CUSTOM_RESOURCE_DEFINITION: Resource = resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
/// Whom the API server has alter objects before it takes them.
pub const MUTATING_WEBHOOKS: Resource = resource("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration");
/// Whom the API server asks before it takes objects.
pub const VALIDATING_WEBHOOKS: Resource = resource("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration");
/// Deployments.
pub const DEPLOYMENT: Resource = resource("apps", "v1", "Deployment");
/// DaemonSets.
pub const DAEMON_SET: Resource = resource("apps", "v1", "DaemonSet");
/// StatefulSets.
pub const STATEFUL_SET: Resource = resource("apps", "v1", "StatefulSet");
/// Jobs.
pub const JOB: Resource = resource("batch", "v1", "Job");
/// Entries of clusterctl's inventory.
pub const PROVIDER: Resource = resource("clusterctl.cluster.x-k8s.io", "v1alpha3", "Provider");
/// Clusters of Cluster API.
pub const CLUSTER: Resource = resource("cluster.x-k8s.io", "v1beta2", "Cluster");
/// What Clusters are made of.
pub const CLUSTER_CLASS: Resource = resource("cluster.x-k8s.io", "v1beta2", "ClusterClass");
/// Machines of Cluster API.
pub const MACHINE: Resource = resource("cluster.x-k8s.io", "v1beta2", "Machine");

impl Resource {
    /// An object of this kind. `data` is everything beside its name.
    #[must_use]
    pub fn object(&self, namespace: Option<&str>, name: &str, data: Value) -> DynamicObject {
        let object = DynamicObject::new(name, &self.api()).data(data);
        match namespace {
            Some(namespace) => object.within(namespace),
            None => object,
        }
    }

    /// What the kind is called by those who ask for it.
    #[must_use]
    pub fn api(&self) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk(self.group, self.version, self.kind))
    }
}
