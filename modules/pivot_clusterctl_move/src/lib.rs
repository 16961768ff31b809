//! Has the management cluster take over the objects of Cluster API, its own among them.
//!
//! Whatever was killed and whenever: run again, the step sees what state the move was stopped in and continues in the one way that is
//! right for it (see the crate `pivot`). It never trusts how clusterctl ended, and never lets a side reconcile that lacks an object. What
//! a person has paused stays paused: API servers write down who has set a field. Where it sees a state that no move leaves behind, it
//! touches nothing.
//!
//! Limits: one run at a time is held to by a lock on this host. A run elsewhere that begins before anything is paused is not seen.

mod clusters;
mod copying;
mod error;
mod moving;
mod providers_there;
mod ready;
mod settling;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use ansible::{Run, Step};
use cluster::Clusterctl;
use converge::{AbsolutePath, Failure};
use host::{
    Owner,
    file::{self, Declared},
};
use lab::{machine, names};
use lxd::Connection;
use pivot::{Direction, Found, Signature, Where};
use providers::{Config, Options, Sources};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use crate::{clusters::Clusters, copying::Copying, moving::Moving, providers_there::ProvidersThere, settling::Settling};

/// Move Cluster API's objects to the management cluster.
///
/// Cluster API is installed on the target, a copy of everything that is moved is made, C(clusterctl move) runs, and the target is
/// watched until it has taken over, with the same machines on the same instances, and none more. A run that was killed anywhere is continued
/// by the next one. What no such run leaves behind is told and left alone. Between the copy and the verified end, no Helm may run
/// on either cluster.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
pub struct PivotClusterctlMove {
    /// Which way the objects go.
    pub direction: Direction,
    /// Name of the management cluster.
    #[default(names::MANAGEMENT_CLUSTER.into())]
    #[schemars(regex(pattern = names::INSTANCE), extend("global" = "management_cluster_name"))]
    pub target_cluster_name: String,
    /// Its namespace. Every Cluster in it is moved, with the classes of the same namespace.
    #[default(names::CLUSTERS_NAMESPACE.into())]
    #[schemars(regex(pattern = names::NAMESPACE))]
    pub target_cluster_namespace: String,
    /// Folder of the lab's programs and settings.
    #[default(machine::OPT_ROOT.into())]
    #[schemars(extend("global" = "opt_root"))]
    pub opt_root: AbsolutePath,
    /// Kubeconfig of the bootstrap cluster; that of the role M(k8slab.capi.bootstrap_clusterctl) if unset.
    pub bootstrap_kubeconfig_path: Option<AbsolutePath>,
    /// Kubeconfig of the management cluster; C(etc/clusters/<namespace>/<name>.kubeconfig) in O(opt_root) if unset.
    pub target_kubeconfig_path: Option<AbsolutePath>,
    /// Folder of the lab's programs; C(bin) in O(opt_root) if unset.
    pub host_bin_dir: Option<AbsolutePath>,
    /// Path of clusterctl. If unset, C(clusterctl) in O(host_bin_dir).
    pub clusterctl_path: Option<AbsolutePath>,
    /// Folder of what this step writes: the copy among it, which holds every key of every cluster;
    /// C(etc/pivot_clusterctl_move) in O(opt_root) if unset.
    pub staging_dir: Option<AbsolutePath>,
    /// Where clusterctl's configuration is written; C(clusterctl.yaml) in O(staging_dir) if unset.
    pub config_path: Option<AbsolutePath>,
    /// Mode of the folder.
    #[default("0750".into())]
    #[schemars(regex(pattern = file::MODE))]
    pub staging_mode_dir: String,
    /// Mode of clusterctl's configuration.
    #[default("0600".into())]
    #[schemars(regex(pattern = file::MODE))]
    pub staging_mode_config: String,
    /// Name of the Secret by which the infrastructure provider reaches LXD.
    #[default("incus-identity".into())]
    #[schemars(length(min = 1), extend("global" = "infrastructure_secret_name"))]
    pub infrastructure_secret_name: String,
    /// How long one run of C(clusterctl move) may take, in seconds; as long, another run of this step is waited for.
    #[default(1200)]
    #[schemars(range(min = 1))]
    pub move_timeout: u64,
    /// How long to wait for controllers, and for the target to take over, in seconds.
    #[default(450)]
    #[schemars(range(min = 1))]
    pub wait_timeout: u64,
    /// Project of the lab.
    #[default(names::PROJECT.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "project_name"))]
    pub project: String,
    /// What the target is to have.
    #[serde(flatten)]
    pub providers: Options,
    /// Where the bundle is.
    #[serde(flatten)]
    pub bundle: bundle::Location,
    /// Where LXD listens.
    #[serde(flatten)]
    pub lxd: Connection,
}

/// What the step returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Facts {
    /// What was found when the step began.
    pub signature: Signature,
    /// This run moved something, or finished what another one had begun.
    pub moved: bool,
    /// Where the cluster that holds the objects answers.
    pub server: String,
    /// Where its kubeconfig is.
    pub target_kubeconfig_path: String,
    /// The providers that it has, with their versions.
    pub providers: BTreeMap<String, String>,
    /// How many objects of each kind were moved, by the copy; empty if there is none any more.
    pub inventory: BTreeMap<String, usize>,
    /// The instances of the Clusters with their uuids, by the copy.
    pub instances: BTreeMap<String, String>,
}

impl Step for PivotClusterctlMove {
    const NAME: &'static str = "pivot_clusterctl_move";
    const SECTIONS: &'static [&'static str] = &["config", "providers", "copy", "move", "settle"];
    const EXAMPLES: &'static str = "\
- name: Have the management cluster take over
  k8slab.capi.pivot_clusterctl_move:
    bundle: /srv/k8slab-bundle
  become: true

- name: Bring everything back to the bootstrap cluster, for instance to delete the management cluster
  k8slab.capi.pivot_clusterctl_move:
    direction: to_bootstrap
  become: true
";
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        Ok(self.providers.check()?)
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        let sources = Sources::of(&self.providers, &self.bundle)?;
        let clusters = Clusters::of(self);
        run.section(&self.config(&sources)).await?;
        run.section(&ProvidersThere { clusters: &clusters, sources: &sources }).await?;
        run.section(&Copying(&clusters)).await?;
        let moved = !run.section(&Moving(&clusters)).await?.changes.is_empty();
        run.section(&Settling(&clusters)).await?;
        run.verify(self.facts(&clusters, moved)).await
    }
}

impl PivotClusterctlMove {
    /// clusterctl's configuration on the host, and the folder that it is in.
    fn config(&self, sources: &Sources) -> Config {
        Config {
            declared: vec![
                Declared::folder(self.staging_dir(), Owner::default(), file::mode(&self.staging_mode_dir)),
                Config::file(self.config_path(), &sources.config(&self.providers), file::mode(&self.staging_mode_config)),
            ],
        }
    }

    async fn facts(&self, clusters: &Clusters<'_>, moved: bool) -> Result<Facts, Failure> {
        let target = clusters.client(Where::Target).await?;
        let copy = match clusters.folder().read()? {
            Found::Whole(copy) => Some(copy),
            _ => None,
        };
        Ok(Facts {
            signature: clusters.began_as().unwrap_or(Signature::Finished),
            moved,
            server: target.server().to_owned(),
            target_kubeconfig_path: clusters.kubeconfig(Where::Target).display().to_string(),
            providers: target.providers().await?.into_iter().map(|provider| (provider.label(), provider.version)).collect(),
            inventory: copy.as_ref().map(|copy| copy.counts()).unwrap_or_default(),
            instances: copy.map(|copy| copy.manifest.instances).unwrap_or_default(),
        })
    }

    fn clusterctl(&self) -> Clusterctl {
        let folder = || self.host_bin_dir.as_deref().map_or_else(|| self.opt_root.join("bin"), PathBuf::from);
        let program = self.clusterctl_path.as_deref().map_or_else(|| folder().join("clusterctl"), PathBuf::from);
        let github_token = self.providers.github_token.clone();
        Clusterctl { program, config: self.config_path(), home: self.staging_dir(), github_token, lock: None }
    }

    fn staging_dir(&self) -> PathBuf {
        self.staging_dir.as_deref().map_or_else(|| self.opt_root.join(machine::PIVOT), PathBuf::from)
    }

    fn config_path(&self) -> PathBuf {
        self.config_path.as_deref().map_or_else(|| self.staging_dir().join("clusterctl.yaml"), PathBuf::from)
    }

    fn bootstrap_kubeconfig(&self) -> PathBuf {
        self.bootstrap_kubeconfig_path.as_deref().map_or_else(|| self.opt_root.join(machine::BOOTSTRAP_KUBECONFIG), PathBuf::from)
    }

    fn management_kubeconfig(&self) -> PathBuf {
        let own = || machine::cluster_kubeconfig(&self.opt_root, &self.target_cluster_namespace, &self.target_cluster_name);
        self.target_kubeconfig_path.as_deref().map_or_else(own, PathBuf::from)
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.wait_timeout)
    }

    fn move_limit(&self) -> Duration {
        Duration::from_secs(self.move_timeout)
    }
}

#[cfg(test)]
mod tests;
