//! Installs Cluster API on the bootstrap cluster, and keeps the cluster's kubeconfig on the host.

mod error;
mod init;
mod kubeconfig;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use ansible::{Run, Step};
use cluster::{Clusterctl, DynamicObject, Kubeconfig, providers::Provider, resource};
use converge::{AbsolutePath, Failure};
use host::{
    Owner,
    file::{self, Declared},
};
use lab::{machine, names};
use lxd::Connection;
use providers::{Config, Installation, Options, Sources};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;
use survey::Family;
use tokio::sync::OnceCell;

use crate::error::Error;

/// On an object of cert-manager's: the version that clusterctl installed.
const CERT_MANAGER_VERSION: &str = "cert-manager.clusterctl.cluster.x-k8s.io/version";

/// Converge Cluster API on the bootstrap cluster.
///
/// The bootstrap cluster's kubeconfig is rebuilt for the host: its server is the instance's address, and its certificate is checked.
/// C(clusterctl init) then runs with every provider and cert-manager at its version, unless clusterctl's inventory has them all. A
/// run that was killed in the middle is taken up where it stopped, and a provider whose Deployment is gone is installed again; a
/// provider of another version is refused, as upgrading is another operation.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
pub struct BootstrapClusterctl {
    /// Project of the instance.
    #[default(names::PROJECT.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "project_name"))]
    pub project: String,
    /// Name of the instance that carries the bootstrap cluster.
    #[default(names::BOOTSTRAP_INSTANCE.into())]
    #[schemars(regex(pattern = names::INSTANCE), extend("global" = "bootstrap_instance_name"))]
    pub instance_name: String,
    /// Interface on the internal network, inside the instance. The cluster is reached by its IPv4 address.
    #[default(names::INTERNAL_INTERFACE.into())]
    #[schemars(
        regex(pattern = names::INTERFACE),
        extend("global" = "guest_internal_ifname", "aliases" = ["container_ifname"])
    )]
    pub internal_ifname: String,
    /// Folder of the lab's programs and settings.
    #[default(machine::OPT_ROOT.into())]
    #[schemars(extend("global" = "opt_root"))]
    pub opt_root: AbsolutePath,
    /// Folder of the lab's programs; C(bin) in O(opt_root) if unset.
    pub host_bin_dir: Option<AbsolutePath>,
    /// Path of clusterctl. If unset, C(clusterctl) in O(host_bin_dir).
    pub clusterctl_path: Option<AbsolutePath>,
    /// Folder for the files that this step and clusterctl write. If unset, C(etc/bootstrap_clusterctl) in O(opt_root).
    pub staging_dir: Option<AbsolutePath>,
    /// Where the kubeconfig is written; C(bootstrap.kubeconfig) in O(staging_dir) if unset.
    pub kubeconfig_path: Option<AbsolutePath>,
    /// Kubeconfig of another cluster that gets Cluster API instead, such as the management cluster once it has taken over. The
    /// step only reads this file.
    pub management_kubeconfig: Option<AbsolutePath>,
    /// Where clusterctl's configuration is written; C(clusterctl.yaml) in O(staging_dir) if unset.
    pub config_path: Option<AbsolutePath>,
    /// Mode of the folder.
    #[default("0750".into())]
    #[schemars(regex(pattern = file::MODE))]
    pub staging_mode_dir: String,
    /// Mode of the kubeconfig.
    #[default("0600".into())]
    #[schemars(regex(pattern = file::MODE))]
    pub staging_mode_kubeconfig: String,
    /// Mode of clusterctl's configuration.
    #[default("0600".into())]
    #[schemars(regex(pattern = file::MODE))]
    pub staging_mode_config: String,
    /// How long to wait for the cluster to answer, and for its Deployments to be available, in seconds.
    #[default(300)]
    #[schemars(range(min = 1))]
    pub wait_timeout: u64,
    /// Go on even though the management cluster has taken over.
    pub allow_rebootstrap: bool,
    /// What the cluster is to have.
    #[serde(flatten)]
    pub providers: Options,
    /// Where the bundle is.
    #[serde(flatten)]
    pub bundle: bundle::Location,
    /// Where LXD listens.
    #[serde(flatten)]
    pub lxd: Connection,
    /// The instance's kubeconfig as it was read in this run.
    #[serde(skip)]
    rebuilt: OnceCell<Kubeconfig>,
}

/// What the step returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Facts {
    /// Where the bootstrap cluster's kubeconfig is.
    pub kubeconfig_path: String,
    /// Where the bootstrap cluster answers.
    pub server: String,
    /// The providers that clusterctl's inventory has.
    pub providers: Vec<ProviderFacts>,
    /// The version of cert-manager; nothing if clusterctl did not install it.
    pub cert_manager_version: Option<String>,
    /// This run ran C(clusterctl init).
    pub init_ran: bool,
    /// The providers that are not what their names say, and what they are instead.
    pub standins: BTreeMap<String, String>,
}

/// A provider as it is now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProviderFacts {
    /// Type of the provider, as clusterctl names it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name of the provider.
    pub name: String,
    /// Version of the provider that is installed.
    pub version: String,
}

impl Step for BootstrapClusterctl {
    const NAME: &'static str = "bootstrap_clusterctl";
    const SECTIONS: &'static [&'static str] = &["kubeconfig", "config", "init"];
    const EXAMPLES: &'static str = "\
- name: Install Cluster API on the bootstrap cluster
  k8slab.capi.bootstrap_clusterctl:
  become: true

- name: Look after it once the management cluster has taken over
  k8slab.capi.bootstrap_clusterctl:
    management_kubeconfig: /opt/capi-lab/etc/clusters/capi-clusters/mgmt-1.kubeconfig
  become: true

- name: Install it without the internet
  k8slab.capi.bootstrap_clusterctl:
    bundle: /srv/k8slab-bundle
  become: true
";
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        Ok(self.providers.check()?)
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        let sources = Sources::of(&self.providers, &self.bundle)?;
        let is_bootstrap = self.management_kubeconfig.is_none();
        if is_bootstrap {
            run.section(&kubeconfig::Section(self)).await?;
        }
        // Where the kubeconfig is left out, nothing else makes the folder.
        let folder = (!is_bootstrap || !run.is_on("kubeconfig")).then(|| self.folder());
        let config = Config::file(self.config_path(), &sources.config(&self.providers), file::mode(&self.staging_mode_config));
        run.section(&Config { declared: folder.into_iter().chain([config]).collect() }).await?;
        let installed = run.section(&init::Section { step: self, sources: &sources }).await?.changes;
        let init_ran = installed.iter().any(|change| matches!(change, Installation::Init(_)));
        let facts = run.verify(self.facts(&sources, init_ran)).await?;
        if let Some(live) = facts.as_ref().and_then(|facts| facts.cert_manager_version.as_ref())
            && *live != self.providers.cert_manager_version
        {
            run.warn(format!(
                "cert-manager is {live}, and {} is wanted; upgrading is another operation",
                self.providers.cert_manager_version
            ));
        }
        Ok(facts)
    }
}

impl BootstrapClusterctl {
    fn clusterctl(&self) -> Clusterctl {
        let folder = || self.host_bin_dir.as_ref().map_or_else(|| self.opt_root.join("bin"), |folder| folder.to_path_buf());
        let program = self.clusterctl_path.as_ref().map_or_else(|| folder().join("clusterctl"), |path| path.to_path_buf());
        let github_token = self.providers.github_token.clone();
        Clusterctl { program, config: self.config_path(), home: self.staging_dir(), github_token, lock: None }
    }

    fn staging_dir(&self) -> PathBuf {
        self.staging_dir.as_ref().map_or_else(|| self.opt_root.join("etc").join(Self::NAME), |path| path.to_path_buf())
    }

    fn kubeconfig_path(&self) -> PathBuf {
        if let Some(management) = &self.management_kubeconfig {
            return management.to_path_buf();
        }
        let default = || self.staging_dir().join("bootstrap.kubeconfig");
        self.kubeconfig_path.as_ref().map_or_else(default, |path| path.to_path_buf())
    }

    fn config_path(&self) -> PathBuf {
        self.config_path.as_ref().map_or_else(|| self.staging_dir().join("clusterctl.yaml"), |path| path.to_path_buf())
    }

    fn folder(&self) -> Declared {
        Declared::folder(self.staging_dir(), Owner::default(), file::mode(&self.staging_mode_dir))
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.wait_timeout)
    }

    /// What the instance has, rebuilt for the host.
    async fn rebuild(&self) -> Result<&Kubeconfig, Failure> {
        self.rebuilt.get_or_try_init(async || self.read_from_instance().await).await
    }

    async fn read_from_instance(&self) -> Result<Kubeconfig, Failure> {
        let (client, instance) = (self.lxd.client().await?.in_project(&self.project), &self.instance_name);
        survey::may_bootstrap(&client, &self.project, self.allow_rebootstrap).await?;
        survey::running_instance(&client, &self.project, instance).await?;
        let found = survey::addresses(&client, instance, &self.internal_ifname, &[Family::Ipv4], Duration::ZERO).await?;
        let kubeconfig = match found.first() {
            Some(address) => survey::kubeconfig(&client, instance, address).await?,
            None => None,
        };
        Ok(kubeconfig.ok_or_else(|| Error::NoCluster { name: instance.clone() })?)
    }

    /// The cluster, as this run found it or else as the last one left it on the host.
    async fn cluster(&self) -> Result<cluster::Client, Failure> {
        let client = if let Some(rebuilt) = self.rebuilt.get() {
            cluster::Client::connect(rebuilt)?
        } else if self.management_kubeconfig.is_some() {
            cluster::Client::connect(&Kubeconfig::read(&self.kubeconfig_path())?)?
        } else {
            survey::may_bootstrap(self.lxd.client().await?, &self.project, self.allow_rebootstrap).await?;
            cluster::Client::connect(&Kubeconfig::read(&self.kubeconfig_path())?)?
        };
        client.answers(self.patience()).await?;
        Ok(client)
    }

    async fn facts(&self, sources: &Sources, init_ran: bool) -> Result<Facts, Failure> {
        let cluster = self.cluster().await?;
        cluster.wait_for("Cluster API: its Deployments are available", &self.providers.deployments(), self.patience()).await?;
        let fact = |provider: Provider| ProviderFacts {
            kind: provider.kind.name().to_owned(),
            name: provider.name,
            version: provider.version,
        };
        let cert_manager = cluster.find(resource::DEPLOYMENT, Some("cert-manager"), "cert-manager").await?;
        let version = |object: DynamicObject| object.metadata.annotations?.remove(CERT_MANAGER_VERSION);
        Ok(Facts {
            kubeconfig_path: self.kubeconfig_path().display().to_string(),
            server: cluster.server().to_owned(),
            providers: cluster.providers().await?.into_iter().map(fact).collect(),
            cert_manager_version: cert_manager.and_then(version),
            init_ran,
            standins: sources.standins(),
        })
    }
}

#[cfg(test)]
mod tests;
