//! Brings the management cluster's kubeconfig and Terraform's variables to the machine that runs Ansible.

mod error;
mod folders;
mod kubeconfig;
mod source;
mod tfvars;

use std::{collections::BTreeMap, path::PathBuf};

use ansible::{OptionError, RoleTask, Run, Step};
use converge::{AbsolutePath, Failure, Secret, Section as _};
use lab::{machine, names, versions};
use lxd::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smart_default::SmartDefault;

use crate::{folders::Folders, kubeconfig::MgmtKubeconfig, source::Source, tfvars::Tfvars};

/// Converge the management cluster's kubeconfig and Terraform's variables on the runner.
///
/// The kubeconfig is read on the host and written on the machine that runs Ansible, as the user who runs it, readable by nobody
/// else. Terraform's variables follow it: when the cluster is reached at another address, they say so.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
#[schemars(extend("required" = ["root"]))]
// Each is an option of its own, and none implies another.
#[allow(clippy::struct_excessive_bools)]
pub struct ExportArtifacts {
    /// Which half of the work is done; the role does one after the other.
    pub mode: Mode,
    /// Folder of the artifacts on the runner.
    #[schemars(extend("tells_apart" = true, "global" = "artifacts_root"))]
    pub root: AbsolutePath,
    /// Name of the host that the artifacts are of. Two hosts cannot share a folder.
    #[default("localhost".into())]
    #[schemars(length(min = 1))]
    pub host: String,
    /// Whether the kubeconfig is copied to the runner.
    #[default(true)]
    pub mgmt_kubeconfig_enabled: bool,
    /// Whether Terraform's variables are written.
    #[default(true)]
    pub tfvars_enabled: bool,
    /// Where the kubeconfig is on the host. If unset, that of the bootstrap cluster, or of the management cluster once it has taken
    /// over.
    pub mgmt_kubeconfig_source: Option<AbsolutePath>,
    /// Address at which the runner reaches the cluster. If unset, the address in the kubeconfig.
    pub mgmt_api_server_url: Option<String>,
    /// Further variables for Terraform. Those that the lab sets cannot be overridden.
    #[schemars(extend("key_pattern" = "^[A-Za-z_][A-Za-z0-9_-]*$"))]
    pub tfvars_extra: BTreeMap<String, Value>,
    /// What was read on the host, with O(mode=write).
    #[serde(skip_serializing)]
    pub kubeconfig: Option<Secret>,
    /// Folder of the lab's programs and settings on the host.
    #[default(machine::OPT_ROOT.into())]
    #[schemars(extend("global" = "opt_root"))]
    pub opt_root: AbsolutePath,
    /// Project of the lab.
    #[default(names::PROJECT.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "project_name"))]
    pub project: String,
    /// Name of the Secret by which the infrastructure provider reaches LXD.
    #[default("incus-identity".into())]
    #[schemars(length(min = 1), extend("global" = "infrastructure_secret_name"))]
    pub infrastructure_secret_name: String,
    /// Whether clusters are made from a class.
    #[default(true)]
    #[schemars(extend("global" = "cluster_topology_enabled"))]
    pub cluster_topology_enabled: bool,
    /// Whether nodes are unprivileged containers.
    #[default(true)]
    #[schemars(extend("global" = "unprivileged_nodes"))]
    pub unprivileged_nodes: bool,
    /// Name of the management cluster.
    #[default(names::MANAGEMENT_CLUSTER.into())]
    #[schemars(regex(pattern = names::INSTANCE), extend("global" = "management_cluster_name"))]
    pub management_cluster_name: String,
    /// Namespace of the management cluster's own objects.
    #[default(names::CLUSTERS_NAMESPACE.into())]
    #[schemars(regex(pattern = names::NAMESPACE), extend("global" = "clusters_namespace"))]
    pub clusters_namespace: String,
    /// Name of the workload cluster.
    #[default("lab-default".into())]
    #[schemars(regex(pattern = names::INSTANCE), extend("global" = "workload_cluster_name"))]
    pub workload_cluster_name: String,
    /// Version of Kubernetes in both.
    #[default(versions::KUBERNETES.into())]
    #[schemars(regex(pattern = r"^v\d+\.\d+\.\d+$"), extend("global" = "kubernetes_version"))]
    pub kubernetes_version: String,
    /// Control plane nodes of the management cluster; an odd number.
    #[default(1)]
    #[schemars(range(min = 1), extend("global" = "management_controlplane_count"))]
    pub management_controlplane_count: u32,
    /// Workers of the management cluster.
    #[default(2)]
    #[schemars(extend("global" = "management_worker_count"))]
    pub management_worker_count: u32,
    /// Control plane nodes of the workload cluster; an odd number.
    #[default(3)]
    #[schemars(range(min = 1), extend("global" = "workload_controlplane_count"))]
    pub workload_controlplane_count: u32,
    /// Workers of the workload cluster.
    #[default(2)]
    #[schemars(extend("global" = "workload_worker_count"))]
    pub workload_worker_count: u32,
    /// Version of the infrastructure provider.
    #[default(versions::CAPN.into())]
    #[schemars(regex(pattern = r"^v\d+\.\d+\.\d+$"), extend("global" = "capn_provider_version"))]
    pub capn_provider_version: String,
    /// Copy the bootstrap cluster's kubeconfig to the runner, even though the management cluster has taken over.
    pub allow_rebootstrap: bool,
    /// Where LXD listens.
    #[serde(flatten)]
    pub lxd: Connection,
}

/// Halves of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The kubeconfig is read on the host and returned.
    #[default]
    Read,
    /// It and Terraform's variables are written on the runner.
    Write,
}

/// What the step returns.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Facts {
    /// The kubeconfig, with O(mode=read).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("writeOnly" = true))]
    pub kubeconfig: Option<String>,
    /// Where the cluster is reached.
    pub server: Option<String>,
    /// Where the kubeconfig is, with O(mode=write).
    pub kubeconfig_path: Option<String>,
    /// Where Terraform's variables are, with O(mode=write).
    pub tfvars_path: Option<String>,
    /// The folder of the clusters' kubeconfigs, with O(mode=write).
    pub clusters_dir: Option<String>,
}

impl Step for ExportArtifacts {
    const NAME: &'static str = "export_artifacts";
    const SECTIONS: &'static [&'static str] = &[MgmtKubeconfig::NAME, Tfvars::NAME];
    const EXAMPLES: &'static str = "\
- name: Read the kubeconfig
  k8slab.capi.export_artifacts:
    mode: read
    root: /home/me/lab/.artifacts
  become: true
  no_log: true
  register: found

- name: Bring it here
  k8slab.capi.export_artifacts:
    mode: write
    root: /home/me/lab/.artifacts
    host: \"{{ inventory_hostname }}\"
    kubeconfig: \"{{ found.kubeconfig }}\"
  delegate_to: localhost
  become: false
  no_log: true
";
    const TASKS: &'static [RoleTask] = &[
        RoleTask {
            name: Some("Read the management cluster's kubeconfig"),
            sets: &[("mode", "read"), ("host", HOST), ("kubeconfig", "")],
            register: Some("_export_artifacts_read"),
            ..RoleTask::ON_HOST
        },
        RoleTask {
            name: Some("Converge it and Terraform's variables on the runner"),
            sets: &[("mode", "write"), ("host", HOST), ("kubeconfig", "{{ _export_artifacts_read.kubeconfig | default('') }}")],
            on_runner: true,
            ..RoleTask::ON_HOST
        },
    ];
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        for (option, count) in [
            ("management_controlplane_count", self.management_controlplane_count),
            ("workload_controlplane_count", self.workload_controlplane_count),
        ] {
            if count % 2 == 0 {
                return Err(OptionError::invalid(option, format!("{count} is even, and etcd needs a majority")).into());
            }
        }
        if let Some(url) = &self.mgmt_api_server_url {
            source::check_server(url).map_err(|error| OptionError::invalid("mgmt_api_server_url", error.to_string()))?;
        }
        tfvars::refuse_overrides(self)?;
        Ok(())
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        match self.mode {
            Mode::Read => self.read(run).await,
            Mode::Write => self.write(run).await,
        }
    }
}

/// The host's name in the inventory.
const HOST: &str = "{{ inventory_hostname }}";

impl ExportArtifacts {
    async fn read(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        if !self.mgmt_kubeconfig_enabled {
            return Ok(Some(Facts::default()));
        }
        run.section(&Source(self)).await?;
        run.verify(async {
            let kubeconfig = source::read(self).await?;
            Ok(Facts {
                server: Some(kubeconfig.server().to_owned()),
                kubeconfig: Some(kubeconfig.to_yaml().expose().to_owned()),
                ..Facts::default()
            })
        })
        .await
    }

    async fn write(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        run.section(&Folders(self)).await?;
        if self.mgmt_kubeconfig_enabled {
            run.section(&MgmtKubeconfig(self)).await?;
        }
        if self.tfvars_enabled {
            run.section(&Tfvars(self)).await?;
        }
        let text = |path: PathBuf| Some(path.display().to_string());
        run.verify(async {
            Ok(Facts {
                server: kubeconfig::shipped(self).ok().map(|kubeconfig| kubeconfig.server().to_owned()),
                kubeconfig_path: text(self.kubeconfig_path()),
                tfvars_path: text(self.tfvars_path()),
                clusters_dir: text(self.clusters_dir()),
                ..Facts::default()
            })
        })
        .await
    }

    fn kubeconfig_path(&self) -> PathBuf {
        self.root.join("mgmt.kubeconfig")
    }

    fn tfvars_path(&self) -> PathBuf {
        self.root.join("mgmt.auto.tfvars.json")
    }

    fn clusters_dir(&self) -> PathBuf {
        self.root.join("clusters")
    }
}

#[cfg(test)]
mod tests;
