//! Takes a lab down, or a part of it.
//!
//! What goes in which order, and what stays, is `lab::teardown`'s to say; here a lab is looked at for it ([`look`]), and what it says is
//! carried out ([`removal`]). Clusters are deleted by Cluster API where somebody lives who can do it, and by LXD otherwise. A run that
//! was killed is taken up where it stopped: every look begins anew, and a cluster's kubeconfig, by which it is known, goes last.
//!
//! Limits: what a cluster has outside the host (DNS entries, state of Terraform) is left to who made it.

mod error;
mod instances;
mod look;
mod owners;
mod removal;
mod substrate;

use std::{future::Future, path::PathBuf, time::Duration};

use ansible::{OptionError, RoleTask, Run, Step};
use converge::{AbsolutePath, Failure, Wait};
use lab::{
    machine, names,
    teardown::{self, ClusterName},
};
use lxd::{Client, Connection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use crate::removal::Teardown;

/// Remove a lab, or a part of it.
///
/// In check mode it lists what would be removed; the playbooks show this list and ask. With each thing, everything that stands
/// on it is removed, too. A workload cluster is deleted by Cluster API on the management cluster; its published port, its
/// kubeconfigs and its Helm releases are removed with it, and no instance of it is left. The management cluster, which cannot
/// delete itself, is deleted by LXD.
///
/// Instances are known by the keys that the lab and Cluster API have written on them, and the project, the network and the pool
/// by their descriptions. What is not the lab's is left alone and named in RV(kept), with everything that it stands on.
///
/// A cluster that owns other clusters is asked first. If it has instances and does not answer, nothing is removed, because it
/// could make again what was removed without it. If it has no instances any more, it is not asked.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
pub struct LabDestroy {
    /// What is removed.
    pub scope: Scope,
    /// Name of the workload cluster; required with O(scope=workload).
    #[schemars(regex(pattern = names::INSTANCE))]
    pub name: Option<String>,
    /// Namespace of its Cluster.
    #[default(names::CLUSTERS_NAMESPACE.into())]
    #[schemars(regex(pattern = names::NAMESPACE), extend("global" = "clusters_namespace"))]
    pub namespace: String,
    /// Name of the management cluster.
    #[default(names::MANAGEMENT_CLUSTER.into())]
    #[schemars(regex(pattern = names::INSTANCE), extend("global" = "management_cluster_name"))]
    pub management_cluster_name: String,
    /// Namespace of its Cluster.
    #[default(names::CLUSTERS_NAMESPACE.into())]
    #[schemars(regex(pattern = names::NAMESPACE), extend("global" = "clusters_namespace"))]
    pub management_cluster_namespace: String,
    /// Project of the lab.
    #[default(names::PROJECT.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "project_name"))]
    pub project: String,
    /// Internal network of the lab.
    #[default(names::INTERNAL_NETWORK.into())]
    #[schemars(regex(pattern = names::NETWORK), extend("global" = "internal_network_name"))]
    pub internal_network_name: String,
    /// Storage pool of the lab.
    #[default(names::POOL.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "storage_pool_name"))]
    pub storage_pool_name: String,
    /// Descriptions by which the project, the network and the pool are known as the lab's. Set this where the roles that made them were
    /// given other ones.
    #[default(vec![names::PROJECT_DESCRIPTION.into(), names::NETWORK_DESCRIPTION.into(), names::POOL_DESCRIPTION.into()])]
    pub descriptions: Vec<String>,
    /// Delete by LXD what the owner of a cluster would have to delete and cannot be asked to. If the owner comes back, it makes the
    /// instances again.
    pub force: bool,
    /// How long each deletion may take, in seconds.
    #[default(300)]
    #[schemars(range(min = 5))]
    pub timeout: u64,
    /// Folder of the lab's programs and settings.
    #[default(machine::OPT_ROOT.into())]
    #[schemars(extend("global" = "opt_root"))]
    pub opt_root: AbsolutePath,
    /// Where LXD listens.
    #[serde(flatten)]
    pub lxd: Connection,
}

/// What is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One workload cluster.
    #[default]
    Workload,
    /// All workload clusters.
    Workloads,
    /// The management cluster, and with it all workload clusters.
    Management,
    /// The bootstrap cluster, and with it the clusters that it still owns.
    Bootstrap,
    /// All clusters.
    Clusters,
    /// All clusters, then the certificate that LXD trusts, the images, the profiles, the project, the network and the pool.
    All,
}

/// What the step returns.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Facts {
    /// What stays although it is in the scope.
    pub kept: Vec<KeptFacts>,
    /// Clusters that there is still a trace of, as C(namespace/name).
    pub clusters: Vec<String>,
}

/// Something that stays.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeptFacts {
    /// What it is.
    pub what: String,
    /// Why it stays.
    pub why: String,
}

impl Step for LabDestroy {
    const NAME: &'static str = "lab_destroy";
    const SECTIONS: &'static [&'static str] = &["teardown"];
    const EXAMPLES: &'static str = "\
- name: Remove a workload cluster
  k8slab.capi.lab_destroy:
    scope: workload
    name: lab-default
  become: true

- name: See what would go of the whole lab
  k8slab.capi.lab_destroy:
    scope: all
  become: true
  check_mode: true
";
    const TASKS: &'static [RoleTask] = &[RoleTask { register: Some("lab_destroy_result"), ..RoleTask::ON_HOST }];
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        if self.scope == Scope::Workload && self.name.is_none() {
            return Err(OptionError::Missing { option: "name".into() }.into());
        }
        Ok(())
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        let teardown = Teardown::new(self);
        let seen = run.section(&teardown).await?.live;
        let Some(seen) = seen else { return run.verify(async { Ok(Facts::default()) }).await };
        let plan = teardown.plan_for(&seen)?;
        for kept in &plan.kept {
            run.warn(format!("{} stays: {}", kept.what, kept.why));
        }
        let clusters = seen.clusters().iter().map(ToString::to_string).collect();
        let kept = plan.kept.into_iter().map(|kept| KeptFacts { what: kept.what, why: kept.why }).collect();
        run.verify(async { Ok(Facts { kept, clusters }) }).await
    }
}

impl LabDestroy {
    fn scope(&self) -> teardown::Scope {
        match self.scope {
            // Preflight has seen that there is a name.
            Scope::Workload => {
                teardown::Scope::Workload(ClusterName::new(&self.namespace, self.name.as_deref().unwrap_or_default()))
            }
            Scope::Workloads => teardown::Scope::Workloads,
            Scope::Management => teardown::Scope::Management,
            Scope::Bootstrap => teardown::Scope::Bootstrap,
            Scope::Clusters => teardown::Scope::Clusters,
            Scope::All => teardown::Scope::All,
        }
    }

    fn management(&self) -> ClusterName {
        ClusterName::new(&self.management_cluster_namespace, &self.management_cluster_name)
    }

    fn bootstrap_kubeconfig(&self) -> PathBuf {
        self.opt_root.join(machine::BOOTSTRAP_KUBECONFIG)
    }

    fn management_kubeconfig(&self) -> PathBuf {
        machine::cluster_kubeconfig(&self.opt_root, &self.management_cluster_namespace, &self.management_cluster_name)
    }

    /// The connection, seen from the lab's project.
    async fn project_client(&self) -> Result<Client, Failure> {
        Ok(self.lxd.client().await?.in_project(&self.project).patient(self.patience()))
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// Asks LXD once more for as long as it is away.
    async fn steadily<T, F>(&self, what: &str, ask: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, lxd::Error>>,
    {
        let wait = Wait::for_condition(format!("LXD answers: {what}"), self.patience());
        let look = async || match ask().await {
            Err(error) if error.is_passing() => Ok(Err(error)),
            answer => answer.map(Ok),
        };
        Ok(wait.until::<_, _, lxd::Error, _>(look).await?)
    }
}
