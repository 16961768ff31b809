//! Installs Cluster API on the bootstrap cluster, and keeps the cluster's kubeconfig on the host.

mod config;
mod error;
mod init;
mod kubeconfig;
mod sources;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use ansible::{OptionError, Run, Step};
use cluster::{
    Clusterctl, Condition, DynamicObject, Kubeconfig,
    providers::{Kind, Provider},
    resource,
};
use converge::{AbsolutePath, Failure, Secret};
use host::{
    Owner,
    file::{self, Declared},
};
use lab::{capi, machine, names, versions};
use lxd::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;
use survey::Family;
use tokio::sync::OnceCell;

use crate::{error::Error, sources::Sources};

/// The form of a version.
const VERSION: &str = r"^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$";
/// How long clusterctl waits for each provider, and for cert-manager unless it is told otherwise, in seconds.
const PROVIDER_TIMEOUT: u64 = 300;
const CERT_MANAGER_TIMEOUT: u64 = 600;
/// On an object of cert-manager's: the version that clusterctl installed.
const CERT_MANAGER_VERSION: &str = "cert-manager.clusterctl.cluster.x-k8s.io/version";

/// Converge Cluster API on the bootstrap cluster.
///
/// The bootstrap cluster's kubeconfig is rebuilt for the host: its server is the instance's address, and its certificate is checked.
/// C(clusterctl init) then runs with every provider and cert-manager at its version, unless clusterctl's inventory has them all. A
/// run that was killed in the middle is taken up where it stopped; a provider of another version is refused, as upgrading is another
/// operation.
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
    /// Interface of the instance whose IPv4 address the cluster is reached by.
    #[default(names::INTERNAL_INTERFACE.into())]
    #[schemars(regex(pattern = "^[a-z][a-z0-9]{0,14}$"), extend("global" = "guest_internal_ifname"))]
    pub container_ifname: String,
    /// Folder of the lab's programs and settings.
    #[default(machine::OPT_ROOT.into())]
    #[schemars(extend("global" = "opt_root"))]
    pub opt_root: AbsolutePath,
    /// Folder of the lab's programs; C(bin) in O(opt_root) if unset.
    pub host_bin_dir: Option<AbsolutePath>,
    /// clusterctl itself; C(clusterctl) in O(host_bin_dir) if unset.
    pub clusterctl_path: Option<AbsolutePath>,
    /// Folder of what this step writes, and of what clusterctl keeps; C(etc/bootstrap_clusterctl) in O(opt_root) if unset.
    pub staging_dir: Option<AbsolutePath>,
    /// Where the kubeconfig is written; C(bootstrap.kubeconfig) in O(staging_dir) if unset.
    pub kubeconfig_path: Option<AbsolutePath>,
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
    /// Version of Cluster API: of its core, bootstrap and control plane providers.
    #[default(versions::CLUSTERCTL.into())]
    #[schemars(regex(pattern = VERSION), extend("global" = "clusterctl_version"))]
    pub capi_version: String,
    /// Version of the infrastructure provider.
    #[default(versions::CAPN.into())]
    #[schemars(regex(pattern = VERSION), extend("global" = "capn_provider_version"))]
    pub capn_version: String,
    /// Where the infrastructure provider's objects are: an URL that clusterctl takes. If unset, the bundle, or its release.
    #[schemars(length(min = 1))]
    pub capn_provider_url: Option<String>,
    /// Version of cert-manager.
    #[default(versions::CERT_MANAGER.into())]
    #[schemars(regex(pattern = VERSION))]
    pub cert_manager_version: String,
    /// How long clusterctl waits for cert-manager, such as V(15m); ten minutes if unset.
    #[schemars(regex(pattern = r"^[1-9]\d*[smh]$"))]
    pub cert_manager_timeout: Option<String>,
    /// Whether Cluster API knows ClusterClasses.
    #[default(true)]
    #[schemars(extend("global" = "cluster_topology_enabled"))]
    pub cluster_topology_enabled: bool,
    /// Providers that clusterctl is to know beside its own and the lab's.
    pub extra_providers: Vec<ExtraProvider>,
    /// Flags to add to those of C(clusterctl init).
    #[schemars(inner(length(min = 1)))]
    pub extra_init_flags: Vec<String>,
    /// How long C(clusterctl init) may take, in seconds. Not less than what it waits for by itself: O(cert_manager_timeout) and 300
    /// seconds for each provider.
    #[default(1800)]
    #[schemars(range(min = 1))]
    pub init_timeout: u64,
    /// How long to wait for the cluster to answer, and for its Deployments to be available, in seconds.
    #[default(300)]
    #[schemars(range(min = 1))]
    pub wait_timeout: u64,
    /// Deployments to wait for beside those of cert-manager and of the providers.
    pub extra_wait_deployments: Vec<ExtraDeployment>,
    /// Token for GitHub, which lets clusterctl ask it more often.
    #[serde(skip_serializing)]
    pub github_token: Option<Secret>,
    /// Go on even though the management cluster has taken over.
    pub allow_rebootstrap: bool,
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

/// A provider that clusterctl does not know by itself.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub struct ExtraProvider {
    /// Its name.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9-]*$"))]
    pub name: String,
    /// Where its objects are.
    #[schemars(length(min = 1))]
    pub url: String,
    /// What it does, as clusterctl calls it.
    #[serde(rename = "type")]
    #[schemars(regex(pattern = "^(Core|Bootstrap|ControlPlane|Infrastructure|IPAM|RuntimeExtension|Addon)Provider$"))]
    pub kind: String,
}

/// A Deployment to wait for.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
pub struct ExtraDeployment {
    /// Its namespace.
    #[schemars(length(min = 1))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1))]
    pub deployment: String,
    /// The condition of its status that has to hold.
    #[serde(default = "available")]
    #[default(available())]
    #[schemars(length(min = 1))]
    pub condition: String,
}

fn available() -> String {
    "Available".to_owned()
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
    /// What it does, as clusterctl calls it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Step for BootstrapClusterctl {
    const NAME: &'static str = "bootstrap_clusterctl";
    const SECTIONS: &'static [&'static str] = &["kubeconfig", "config", "init"];
    const EXAMPLES: &'static str = "\
- name: Install Cluster API on the bootstrap cluster
  k8slab.capi.bootstrap_clusterctl:
  become: true

- name: Install it without the internet
  k8slab.capi.bootstrap_clusterctl:
    bundle: /srv/k8slab-bundle
  become: true
";
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        let providers = self.wanted().len() + self.extra_providers.len();
        let budget = self.cert_manager_seconds() + providers as u64 * PROVIDER_TIMEOUT;
        if self.init_timeout < budget {
            let reason = format!("clusterctl itself waits up to {budget} s, for cert-manager and {providers} providers");
            return Err(OptionError::invalid("init_timeout", reason).into());
        }
        for extra in &self.extra_providers {
            if let Some(own) = self.wanted().iter().find(|own| own.name == extra.name && own.kind.name() == extra.kind) {
                let (option, key) = ("extra_providers".to_owned(), own.label());
                return Err(OptionError::Collision { option, key, required: own.version.clone() }.into());
            }
        }
        for flag in &self.extra_init_flags {
            let name = flag.split('=').next().unwrap_or_default();
            if init::OWN_FLAGS.contains(&name) {
                let option = "extra_init_flags".to_owned();
                return Err(OptionError::Collision { option, key: name.to_owned(), required: "the step's own".into() }.into());
            }
        }
        Ok(())
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        let sources = Sources::of(self)?;
        run.section(&kubeconfig::Section(self)).await?;
        let makes_folder = !run.is_on("kubeconfig");
        run.section(&config::Section { step: self, sources: &sources, makes_folder }).await?;
        let init_ran = !run.section(&init::Section { step: self, sources: &sources }).await?.changes.is_empty();
        let facts = run.verify(self.facts(&sources, init_ran)).await?;
        if let Some(live) = facts.as_ref().and_then(|facts| facts.cert_manager_version.as_ref())
            && *live != self.cert_manager_version
        {
            run.warn(format!(
                "cert-manager is {live}, and {} is wanted; upgrading is another operation",
                self.cert_manager_version
            ));
        }
        Ok(facts)
    }
}

impl BootstrapClusterctl {
    /// The providers that have to be there.
    fn wanted(&self) -> [Provider; 4] {
        [
            Provider::new(Kind::Core, "cluster-api", &self.capi_version),
            Provider::new(Kind::Bootstrap, "kubeadm", &self.capi_version),
            Provider::new(Kind::ControlPlane, "kubeadm", &self.capi_version),
            Provider::new(Kind::Infrastructure, capi::INFRASTRUCTURE, &self.capn_version),
        ]
    }

    fn cert_manager_seconds(&self) -> u64 {
        let Some(text) = &self.cert_manager_timeout else { return CERT_MANAGER_TIMEOUT };
        let (number, unit) = text.split_at(text.len().saturating_sub(1));
        let seconds = match unit {
            "h" => 3600,
            "m" => 60,
            _ => 1,
        };
        number.parse().unwrap_or(CERT_MANAGER_TIMEOUT).saturating_mul(seconds)
    }

    fn clusterctl(&self) -> Clusterctl {
        let folder = || self.host_bin_dir.as_ref().map_or_else(|| self.opt_root.join("bin"), |folder| folder.to_path_buf());
        let program = self.clusterctl_path.as_ref().map_or_else(|| folder().join("clusterctl"), |path| path.to_path_buf());
        Clusterctl { program, config: self.config_path(), home: self.staging_dir(), github_token: self.github_token.clone() }
    }

    fn staging_dir(&self) -> PathBuf {
        self.staging_dir.as_ref().map_or_else(|| self.opt_root.join("etc").join(Self::NAME), |path| path.to_path_buf())
    }

    fn kubeconfig_path(&self) -> PathBuf {
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
        let found = survey::addresses(&client, instance, &self.container_ifname, &[Family::Ipv4], Duration::ZERO).await?;
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
        } else {
            survey::may_bootstrap(self.lxd.client().await?, &self.project, self.allow_rebootstrap).await?;
            cluster::Client::connect(&Kubeconfig::read(&self.kubeconfig_path())?)?
        };
        client.answers(self.patience()).await?;
        Ok(client)
    }

    /// What Cluster API stands on.
    fn deployments(&self) -> Vec<Condition> {
        let own = capi::DEPLOYMENTS.iter().map(|(namespace, name)| Condition::deployment_available(namespace, name));
        let extra = self.extra_wait_deployments.iter();
        own.chain(extra.map(|extra| Condition::deployment(&extra.namespace, &extra.deployment, &extra.condition))).collect()
    }

    async fn facts(&self, sources: &Sources, init_ran: bool) -> Result<Facts, Failure> {
        let cluster = self.cluster().await?;
        cluster.wait_for("Cluster API: its Deployments are available", &self.deployments(), self.patience()).await?;
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
