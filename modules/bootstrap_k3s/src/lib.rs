//! Installs k3s in the bootstrap instance, runs it as a service, and waits until its node is Ready.

mod binary;
mod cause;
mod crash;
mod error;
mod files;
mod flags;
mod install;
mod node;
mod payload;
mod process;
mod service;

use std::{collections::BTreeMap, path::PathBuf};

use ansible::{OptionError, Run, Step};
use converge::{AbsolutePath, Failure, Secret, Section as _};
use host::file;
use lab::{machine, names};
use lxd::{Client, Connection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use crate::{install::Install, payload::Payload, process::Invocation, service::Service};

/// Converge k3s in the bootstrap instance.
///
/// The program comes from the host, where M(k8slab.capi.binary_fetch) has placed it, and goes into the instance with a unit, a launcher
/// and an environment of its own. It is started once, and again only when one of them, its token or its images have changed.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
pub struct BootstrapK3s {
    /// Project of the instance.
    #[default(names::PROJECT.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "project_name"))]
    pub project: String,
    /// Name of the instance.
    #[default(names::BOOTSTRAP_INSTANCE.into())]
    #[schemars(regex(pattern = names::INSTANCE), extend("global" = "bootstrap_instance_name"))]
    pub instance_name: String,
    /// Interface on the internal network, inside the instance. Its addresses become the node's.
    #[default(names::INTERNAL_INTERFACE.into())]
    #[schemars(regex(pattern = names::INTERFACE), extend("global" = "guest_internal_ifname", "aliases" = ["ifname"]))]
    pub internal_ifname: String,
    /// Folder of the lab's programs and settings on the host.
    #[default(machine::OPT_ROOT.into())]
    #[schemars(extend("global" = "opt_root"))]
    pub opt_root: AbsolutePath,
    /// Folder of k3s on the host. If unset, C(bin) in O(opt_root).
    pub host_bin_dir: Option<AbsolutePath>,
    /// Name of k3s in that folder.
    #[default("k3s".into())]
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._+-]*$"))]
    pub host_k3s_filename: String,
    /// Path of k3s in the instance.
    #[default("/usr/local/bin/k3s".into())]
    pub container_bin_path: AbsolutePath,
    /// Mode of the k3s program in the instance.
    #[default("0755".into())]
    #[schemars(regex(pattern = "^0[1357][0-7]{2}$"))]
    pub bin_mode: String,
    /// Name of the service.
    #[default("k3s".into())]
    #[schemars(regex(pattern = "^[a-z][a-z0-9_-]{0,62}$"))]
    pub service_name: String,
    /// Path of the service's unit. If unset, a file in C(/etc/systemd/system) with the name of the service.
    pub unit_path: Option<AbsolutePath>,
    /// Mode of the unit.
    #[default("0644".into())]
    #[schemars(regex(pattern = file::MODE))]
    pub unit_mode: String,
    /// Path of the file with the service's environment. If unset, a file in C(/etc/default) with the name of the service.
    pub env_path: Option<AbsolutePath>,
    /// Environment variables of the service, such as those that name a proxy. The cluster's own ranges and the node's networks
    /// are added to C(NO_PROXY).
    #[serde(skip_serializing)]
    #[schemars(extend("key_pattern" = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub environment: BTreeMap<String, Secret>,
    /// Components of k3s to leave out, beside C(traefik) and C(servicelb).
    #[schemars(inner(regex(pattern = "^[a-z][a-z0-9-]*$")))]
    pub extra_disable_components: Vec<String>,
    /// Further names and addresses for the certificate of the API server.
    #[schemars(inner(regex(pattern = r"^[^\s,]+$")))]
    pub tls_san: Vec<String>,
    /// Mode of the administrator's kubeconfig in the instance.
    #[default("0600".into())]
    #[schemars(regex(pattern = file::MODE))]
    pub write_kubeconfig_mode: String,
    /// Secret with which further nodes can join. If unset, k3s makes one.
    #[serde(skip_serializing)]
    #[schemars(regex(pattern = r"^\S+$"))]
    pub token: Option<Secret>,
    /// Feature gates of the kubelet, beside C(KubeletInUserNamespace=true).
    #[schemars(inner(regex(pattern = "^[A-Za-z0-9]+=(true|false)$")))]
    pub extra_kubelet_feature_gates: Vec<String>,
    /// Further arguments of C(k3s server). A flag that the step sets itself is refused.
    #[schemars(inner(regex(pattern = r"^[^\x00-\x1f]+$")))]
    pub extra_args: Vec<String>,
    /// Content of the file C(registries.yaml), which has image registries and their credentials.
    #[serde(skip_serializing)]
    pub registries: Option<Secret>,
    /// Names that must resolve in the instance before k3s starts, unless its images come from a bundle.
    #[default(vec!["registry-1.docker.io".into()])]
    #[schemars(inner(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9.-]*$")))]
    pub required_names: Vec<String>,
    /// How long the node may take to become Ready, in seconds.
    #[default(360)]
    #[schemars(range(min = 1))]
    pub ready_timeout: u64,
    /// Go on even though the management cluster has taken over.
    pub allow_rebootstrap: bool,
    /// Where the images come from.
    #[serde(flatten)]
    pub bundle: bundle::Location,
    /// Where LXD listens.
    #[serde(flatten)]
    pub lxd: Connection,
}

/// What the step returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Facts {
    /// k3s as it is now.
    pub k3s: K3s,
}

/// k3s as it is now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct K3s {
    /// Version that k3s tells.
    pub version: Option<String>,
    /// SHA-256 of the k3s program in the instance.
    pub binary_sha256: Option<String>,
    /// This run wrote the unit.
    pub unit_changed: bool,
    /// This run started the service, or started it again.
    pub restarted: bool,
    /// The node; none while the service does not run.
    pub node: Option<String>,
    /// The node's addresses.
    pub node_ips: Vec<String>,
    /// How many seconds this run waited for the node.
    pub ready_seconds: u64,
}

impl Step for BootstrapK3s {
    const NAME: &'static str = "bootstrap_k3s";
    const SECTIONS: &'static [&'static str] = &[Install::NAME, Service::NAME];
    const EXAMPLES: &'static str = "\
- name: Run k3s in the bootstrap instance
  k8slab.capi.bootstrap_k3s:
  become: true

- name: Run k3s without any registry
  k8slab.capi.bootstrap_k3s:
    bundle: /srv/k8slab/bundle
  become: true
";
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        flags::refuse_own(&self.extra_args)?;
        let gates: BTreeMap<String, String> =
            self.extra_kubelet_feature_gates.iter().filter_map(|gate| gate.split_once('=')).map(owned).collect();
        OptionError::refuse_overrides("extra_kubelet_feature_gates", &gates, &lab::keys::set([flags::USER_NAMESPACE]))?;
        files::check_environment(&self.environment)?;
        Ok(())
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        let install = Install { step: self, payloads: self.payloads()? };
        // What cannot be looked at yet runs nothing.
        let before = self.running().await.unwrap_or_default();
        let installed = run.section(&install).await?.changes;
        let service = Service::new(self, install.paths(), before.filter(|_| !installed.is_empty()));
        let started = run.section(&service).await?.changes;
        let unit = self.unit_path();
        run.verify(async {
            let record = install.record().await?;
            let ready = service.ready_if_running().await?;
            Ok(Facts {
                k3s: K3s {
                    version: record.as_ref().and_then(|record| record.version.clone()),
                    binary_sha256: record.map(|record| record.sha256),
                    unit_changed: installed.iter().any(|change| change.path() == unit),
                    restarted: started.iter().any(service::Change::starts),
                    node: ready.as_ref().map(|ready| ready.node.clone()),
                    ready_seconds: ready.as_ref().map_or(0, |ready| ready.seconds),
                    node_ips: ready.map(|ready| ready.addresses.clone()).unwrap_or_default(),
                },
            })
        })
        .await
    }
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

impl BootstrapK3s {
    async fn client(&self) -> Result<Client, lxd::Error> {
        Ok(self.lxd.client().await?.in_project(&self.project))
    }

    /// A client, once it is sure that the instance may be worked in and runs.
    async fn instance(&self) -> Result<Client, Failure> {
        let client = self.client().await?;
        survey::may_bootstrap(&client, &self.project, self.allow_rebootstrap).await?;
        survey::running_instance(&client, &self.project, &self.instance_name).await?;
        Ok(client)
    }

    async fn running(&self) -> Result<Option<Invocation>, Failure> {
        Ok(process::running(&self.client().await?, self).await?)
    }

    fn host_binary(&self) -> PathBuf {
        let folder = self.host_bin_dir.as_ref().map_or_else(|| self.opt_root.join("bin"), |folder| folder.to_path_buf());
        folder.join(&self.host_k3s_filename)
    }

    fn binary_path(&self) -> String {
        self.container_bin_path.display().to_string()
    }

    fn unit_path(&self) -> String {
        let default = || format!("/etc/systemd/system/{}.service", self.service_name);
        self.unit_path.as_ref().map_or_else(default, |path| path.display().to_string())
    }

    fn env_path(&self) -> String {
        let default = || format!("/etc/default/{}", self.service_name);
        self.env_path.as_ref().map_or_else(default, |path| path.display().to_string())
    }

    /// The program, and the images of the bundle.
    fn payloads(&self) -> Result<Vec<Payload>, Failure> {
        let mut payloads = vec![Payload::binary(self.binary_path(), self.host_binary(), file::mode(&self.bin_mode))];
        if let Some(bundle) = self.bundle.open()? {
            payloads
                .extend(bundle.files(bundle::Role::Images, bundle::architecture()).map(|entry| Payload::images(&bundle, entry)));
        }
        Ok(payloads)
    }
}

#[cfg(test)]
mod tests;
