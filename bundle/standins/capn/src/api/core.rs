//! Cluster API's own kinds, as far as the provider reads them. Whatever else they hold is left alone.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{CustomResource, Resource};
use serde::{Deserialize, Serialize};

/// The label that names an object's Cluster.
pub const CLUSTER_LABEL: &str = "cluster.x-k8s.io/cluster-name";
/// The label of what runs the control plane.
pub const CONTROL_PLANE_LABEL: &str = "cluster.x-k8s.io/control-plane";
/// Where it is, Cluster API begins nothing with a machine that is to go, not even the end of its etcd.
pub const PRE_DRAIN_HOOK: &str = "pre-drain.delete.hook.machine.cluster.x-k8s.io/load-balancer";
const PAUSED_ANNOTATION: &str = "cluster.x-k8s.io/paused";
const MANAGED_BY_ANNOTATION: &str = "cluster.x-k8s.io/managed-by";

/// A cluster.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize)]
#[kube(group = "cluster.x-k8s.io", version = "v1beta2", kind = "Cluster", namespaced, schema = "disabled")]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterSpec {
    /// Nothing of the cluster is to be touched.
    pub paused: Option<bool>,
    /// Its LXCCluster.
    pub infrastructure_ref: Option<Reference>,
}

/// A machine.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize)]
#[kube(group = "cluster.x-k8s.io", version = "v1beta2", kind = "Machine", namespaced, schema = "disabled")]
#[serde(rename_all = "camelCase", default)]
pub struct MachineSpec {
    /// Its Cluster.
    pub cluster_name: String,
    /// The version of Kubernetes that it is to run.
    pub version: Option<String>,
    /// What it does when it starts first.
    pub bootstrap: Bootstrap,
    /// Its LXCMachine.
    pub infrastructure_ref: Reference,
}

/// What a machine does when it starts first.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bootstrap {
    /// The Secret that holds it, once it is there.
    pub data_secret_name: Option<String>,
}

/// Another object in the same namespace.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Reference {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Machine {
    /// It is to run the control plane.
    pub fn is_control_plane(&self) -> bool {
        label(&self.metadata, CONTROL_PLANE_LABEL).is_some()
    }

    /// Cluster API waits for us once it is to go.
    pub fn has_hook(&self) -> bool {
        has_annotation(&self.metadata, PRE_DRAIN_HOOK)
    }
}

/// The name of the object of a kind that owns another one.
pub fn owner<K: Resource<DynamicType = ()>>(owned: &ObjectMeta) -> Option<&str> {
    let mut owners = owned.owner_references.iter().flatten();
    // The version may be another than the one that is read.
    let group = |version: &str| version.split('/').next() == Some(&*K::group(&()));
    owners.find(|owner| owner.kind == K::kind(&()) && group(&owner.api_version)).map(|owner| owner.name.as_str())
}

/// Nobody is to touch the object, because of its Cluster or of itself.
pub fn is_paused(cluster: &Cluster, object: &ObjectMeta) -> bool {
    cluster.spec.paused == Some(true) || has_annotation(object, PAUSED_ANNOTATION)
}

/// Somebody else takes care of the object.
pub fn is_externally_managed(object: &ObjectMeta) -> bool {
    has_annotation(object, MANAGED_BY_ANNOTATION)
}

/// The name of the Cluster that the object belongs to.
pub fn cluster_label(object: &ObjectMeta) -> Option<&str> {
    label(object, CLUSTER_LABEL)
}

fn has_annotation(object: &ObjectMeta, key: &str) -> bool {
    object.annotations.as_ref().is_some_and(|all| all.contains_key(key))
}

fn label<'a>(object: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    object.labels.as_ref()?.get(key).map(String::as_str)
}
