//! Removes the bootstrap cluster once it is proved that nothing needs it any more.
//!
//! Nothing goes without proof: the management cluster answers by its own kubeconfig, reconciles what was moved, each instance belongs
//! to a Machine there, and the bootstrap cluster has nothing left. What goes is the bootstrap instance and what belongs to it: its
//! kubeconfig on the host, and the copy's content, of which an inventory without secrets stays.

mod artifacts;
mod error;
mod files;
mod instance;
mod phase;
mod proof;

use std::{path::PathBuf, time::Duration};

use ansible::{RoleTask, Run, Step};
use converge::{AbsolutePath, Failure};
use lab::{machine, names};
use lxd::Connection;
use pivot::{Direction, Folder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use crate::{artifacts::Artifacts, files::Files, instance::BootstrapInstance, phase::Cleaned, proof::Proof};

/// Remove the bootstrap cluster.
///
/// Refused unless the management cluster has taken over. It answers by its own kubeconfig, its controllers are available, none of its
/// Clusters is paused, every machine has a live node, and there is no instance of them that it does not know. No Cluster is left on the
/// bootstrap cluster.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
pub struct CleanupBootstrap {
    /// Which half of the work is done; the role does one after the other.
    pub mode: Mode,
    /// Project of the instance.
    #[default(names::PROJECT.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "project_name"))]
    pub project: String,
    /// Name of the instance that carries the bootstrap cluster.
    #[default(names::BOOTSTRAP_INSTANCE.into())]
    #[schemars(regex(pattern = names::INSTANCE), extend("global" = "bootstrap_instance_name"))]
    pub instance_name: String,
    /// Name of the management cluster.
    #[default(names::MANAGEMENT_CLUSTER.into())]
    #[schemars(regex(pattern = names::INSTANCE), extend("global" = "management_cluster_name"))]
    pub target_cluster_name: String,
    /// Namespace of the management cluster.
    #[default(names::CLUSTERS_NAMESPACE.into())]
    #[schemars(regex(pattern = names::NAMESPACE))]
    pub target_cluster_namespace: String,
    /// Folder of the lab's programs and settings.
    #[default(machine::OPT_ROOT.into())]
    #[schemars(extend("global" = "opt_root"))]
    pub opt_root: AbsolutePath,
    /// Kubeconfig of the bootstrap cluster, which is removed; that of the role M(k8slab.capi.bootstrap_clusterctl) if unset.
    pub bootstrap_kubeconfig_path: Option<AbsolutePath>,
    /// Kubeconfig of the management cluster; C(etc/clusters/<namespace>/<name>.kubeconfig) in O(opt_root) if unset.
    pub target_kubeconfig_path: Option<AbsolutePath>,
    /// Folder of what M(k8slab.capi.pivot_clusterctl_move) wrote; C(etc/pivot_clusterctl_move) in O(opt_root) if unset.
    pub staging_dir: Option<AbsolutePath>,
    /// Stop the instance at once instead of shutting it down: nothing in it is needed any more.
    #[default(true)]
    pub force_stop: bool,
    /// How long stopping and deleting may take, in seconds.
    #[default(60)]
    #[schemars(range(min = 4))]
    pub delete_timeout: u64,
    /// Remove it without proof. What only the bootstrap cluster knows is lost: machines that it has made run on, and nobody manages them.
    pub force: bool,
    /// Remove O(artifacts_root) on the runner, too. After a pivot the artifacts are the management cluster's, so this is for the end of
    /// a lab.
    pub remove_artifacts: bool,
    /// Folder of the artifacts on the runner.
    #[schemars(extend("global" = "artifacts_root"))]
    pub artifacts_root: Option<AbsolutePath>,
    /// Name of the host that the artifacts are of.
    #[default("localhost".into())]
    #[schemars(length(min = 1))]
    pub host: String,
    /// Where LXD listens.
    #[serde(flatten)]
    pub lxd: Connection,
}

/// Halves of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What is on the host.
    #[default]
    Host,
    /// What is on the runner.
    Runner,
}

/// What the step returns.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Facts {
    /// The instance, with O(mode=host).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceFacts>,
    /// The artifacts, with O(mode=runner).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<ArtifactFacts>,
    /// Whether LXD could be asked: C(reachable) or C(unreachable).
    pub probe: String,
}

/// What became of the instance.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InstanceFacts {
    /// It was there when the step began.
    pub existed: bool,
    /// This run deleted it.
    pub deleted: bool,
}

/// What became of the artifacts.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ArtifactFacts {
    /// Folder of the artifacts.
    pub path: String,
    /// This run removed it.
    pub removed: bool,
}

impl Step for CleanupBootstrap {
    const NAME: &'static str = "cleanup_bootstrap";
    const SECTIONS: &'static [&'static str] = &[BootstrapInstance::NAME, Files::NAME, Artifacts::NAME];
    const EXAMPLES: &'static str = "\
- name: Remove the bootstrap cluster after the pivot
  k8slab.capi.cleanup_bootstrap:
  become: true
";
    const TASKS: &'static [RoleTask] = &[
        RoleTask { name: Some("Remove the bootstrap cluster"), sets: &[("mode", "host"), ("host", HOST)], ..RoleTask::ON_HOST },
        RoleTask {
            name: Some("Remove the artifacts on the runner, if that is asked for"),
            sets: &[("mode", "runner"), ("host", HOST)],
            on_runner: true,
            ..RoleTask::ON_HOST
        },
    ];
    type Facts = Facts;

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        match self.mode {
            Mode::Host => self.on_host(run).await,
            Mode::Runner => self.on_runner(run).await,
        }
    }
}

/// The host's name in the inventory.
const HOST: &str = "{{ inventory_hostname }}";

impl CleanupBootstrap {
    async fn on_host(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        if let Err(error @ (lxd::Error::NoSocket { .. } | lxd::Error::Unreachable { .. })) = self.lxd.client().await {
            run.warn(format!("whether there is a bootstrap instance cannot be known: {error}"));
            return run.verify(async { Ok(Facts { probe: "unreachable".into(), ..Facts::default() }) }).await;
        }
        let proof = run.section(&Proof(self)).await?.live;
        let is_proved = proof.is_some_and(|proof| proof.is_taken_over);
        let is_complete = run.is_on(BootstrapInstance::NAME);
        let deleted = run.section(&BootstrapInstance(self)).await?;
        run.section(&Files(self)).await?;
        run.section(&Cleaned { step: self, is_proved, is_complete }).await?;
        let existed = !deleted.changes.is_empty() || deleted.live.is_some_and(|live| live.is_some());
        run.verify(async {
            let left = BootstrapInstance(self).find().await?;
            let instance = InstanceFacts { existed, deleted: existed && left.is_none() };
            Ok(Facts { instance: Some(instance), artifacts: None, probe: "reachable".into() })
        })
        .await
    }

    async fn on_runner(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        let Some(path) = self.artifacts_root.as_deref().filter(|_| self.remove_artifacts) else {
            return Ok(Some(Facts { probe: "reachable".into(), ..Facts::default() }));
        };
        let removed = !run.section(&Artifacts { path, host: &self.host }).await?.changes.is_empty();
        let artifacts = ArtifactFacts { path: path.display().to_string(), removed };
        run.verify(async { Ok(Facts { artifacts: Some(artifacts), instance: None, probe: "reachable".into() }) }).await
    }

    fn staging_dir(&self) -> PathBuf {
        self.staging_dir.as_deref().map_or_else(|| self.opt_root.join(machine::PIVOT), PathBuf::from)
    }

    /// The copy that was made for the pivot.
    fn folder(&self) -> Folder {
        Folder::of(&self.staging_dir(), Direction::ToManagement)
    }

    fn bootstrap_kubeconfig(&self) -> PathBuf {
        self.bootstrap_kubeconfig_path.as_deref().map_or_else(|| self.opt_root.join(machine::BOOTSTRAP_KUBECONFIG), PathBuf::from)
    }

    fn management_kubeconfig(&self) -> PathBuf {
        let own = || machine::cluster_kubeconfig(&self.opt_root, &self.target_cluster_namespace, &self.target_cluster_name);
        self.target_kubeconfig_path.as_deref().map_or_else(own, PathBuf::from)
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(self.delete_timeout)
    }
}
