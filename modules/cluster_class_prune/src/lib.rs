//! Removes what earlier revisions of a ClusterClass's release have left, once nothing needs it.
//!
//! Nothing that a Cluster is made of is touched: not the class that it uses, and not a template that a class refers to which stays.

mod leftovers;

use ansible::{Run, Step};
use converge::{AbsolutePath, Failure};
use lab::{machine, names};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use crate::leftovers::Leftovers;

/// Remove the ClusterClasses and templates that an earlier revision of a release has left.
///
/// Templates of Cluster API cannot be changed. So each revision of the chart C(capi-cluster-class) brings new ones, and Helm keeps the
/// old ones, since clusters may be made of them. This step deletes those that nothing needs any more.
///
/// An object is deleted only if Helm's annotations say that the release has made it, its last revision does not have it, no Cluster of
/// any namespace uses the class, and no class that stays refers to the template. If the release was uninstalled, all its objects count
/// as left. The copies of templates that Cluster API makes for each cluster stay.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
#[schemars(extend("required" = ["release", "kubeconfig_path"]))]
pub struct ClusterClassPrune {
    /// Name of the release of the class, for instance C(mgmt-1-class).
    #[schemars(length(min = 1, max = 53), extend("tells_apart" = true))]
    pub release: String,
    /// Namespace of the release and its objects.
    #[default(names::CLUSTERS_NAMESPACE.into())]
    #[schemars(regex(pattern = names::NAMESPACE), extend("tells_apart" = true, "global" = "clusters_namespace"))]
    pub namespace: String,
    /// Kubeconfig of the cluster that has the objects, on the host.
    #[schemars(extend("tells_apart" = true))]
    pub kubeconfig_path: AbsolutePath,
    /// Folder of the lab's programs and settings.
    #[default(machine::OPT_ROOT.into())]
    #[schemars(extend("global" = "opt_root"))]
    pub opt_root: AbsolutePath,
}

/// What the step returns.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Facts {
    /// What was deleted, or in check mode would be: the kind and the name of each object.
    pub pruned: Vec<String>,
}

impl Step for ClusterClassPrune {
    const NAME: &'static str = "cluster_class_prune";
    const SECTIONS: &'static [&'static str] = &["leftovers"];
    const EXAMPLES: &'static str = "\
- name: What earlier versions of the management cluster's class have left
  k8slab.capi.cluster_class_prune:
    release: mgmt-1-class
    kubeconfig_path: /opt/capi-lab/etc/clusters/capi-clusters/mgmt-1.kubeconfig
  become: true
";
    type Facts = Facts;

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        let done = run.section(&Leftovers::new(self)).await?;
        let pruned = done.changes.iter().map(leftovers::Change::label).collect();
        run.verify(async { Ok(Facts { pruned }) }).await
    }
}
