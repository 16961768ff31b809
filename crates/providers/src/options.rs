//! The options of every step that puts Cluster API on a cluster.

use cluster::{
    Condition,
    providers::{Kind, Provider},
};
use converge::Secret;
use lab::{capi, versions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use crate::{Error, init::OWN_FLAGS};

/// The form of a version.
const VERSION: &str = r"^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$";
/// How long clusterctl waits for each provider, and for cert-manager unless it is told otherwise, in seconds.
const PROVIDER_TIMEOUT: u64 = 300;
const CERT_MANAGER_TIMEOUT: u64 = 600;

/// What a step lets its user say of Cluster API.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
pub struct Options {
    /// Version of Cluster API: of its core, bootstrap and control plane providers.
    #[default(versions::CLUSTERCTL.into())]
    #[schemars(regex(pattern = VERSION), extend("global" = "clusterctl_version"))]
    pub capi_version: String,
    /// Version of the infrastructure provider.
    #[default(versions::CAPN.into())]
    #[schemars(regex(pattern = VERSION), extend("global" = "capn_provider_version"))]
    pub capn_version: String,
    /// URL of the infrastructure provider's objects, in a form that clusterctl takes. If unset, they come from the bundle, or
    /// without a bundle from the provider's release.
    #[schemars(length(min = 1))]
    pub capn_provider_url: Option<String>,
    /// Version of cert-manager.
    #[default(versions::CERT_MANAGER.into())]
    #[schemars(regex(pattern = VERSION))]
    pub cert_manager_version: String,
    /// How long clusterctl waits for cert-manager, such as V(15m). If unset, it waits ten minutes.
    #[schemars(regex(pattern = r"^[1-9]\d*[smh]$"))]
    pub cert_manager_timeout: Option<String>,
    /// Whether Cluster API can make clusters from a ClusterClass.
    #[default(true)]
    #[schemars(extend("global" = "cluster_topology_enabled"))]
    pub cluster_topology_enabled: bool,
    /// Further providers for clusterctl, beside those that it knows itself and those of the lab.
    pub extra_providers: Vec<ExtraProvider>,
    /// Flags to add to those of C(clusterctl init).
    #[schemars(inner(length(min = 1)))]
    pub extra_init_flags: Vec<String>,
    /// How long C(clusterctl init) may take, in seconds. It must not be less than clusterctl itself waits, which is
    /// O(cert_manager_timeout) and 300 seconds for each provider.
    #[default(1800)]
    #[schemars(range(min = 1))]
    pub init_timeout: u64,
    /// Further Deployments to wait for, beside those of cert-manager and of the providers.
    pub extra_wait_deployments: Vec<ExtraDeployment>,
    /// Token for GitHub. With a token, clusterctl may send more requests to GitHub.
    #[serde(skip_serializing)]
    pub github_token: Option<Secret>,
}

/// A provider that clusterctl does not know by itself.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub struct ExtraProvider {
    /// Name of the provider.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9-]*$"))]
    pub name: String,
    /// URL of the provider's objects, in a form that clusterctl takes.
    #[schemars(length(min = 1))]
    pub url: String,
    /// Type of the provider, as clusterctl names it.
    #[serde(rename = "type")]
    #[schemars(regex(pattern = "^(Core|Bootstrap|ControlPlane|Infrastructure|IPAM|RuntimeExtension|Addon)Provider$"))]
    pub kind: String,
}

/// A Deployment to wait for.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
pub struct ExtraDeployment {
    /// Namespace of the Deployment.
    #[schemars(length(min = 1))]
    pub namespace: String,
    /// Name of the Deployment.
    #[schemars(length(min = 1))]
    pub deployment: String,
    /// Condition that must be true in the status of the Deployment.
    #[serde(default = "available")]
    #[default(available())]
    #[schemars(length(min = 1))]
    pub condition: String,
}

fn available() -> String {
    "Available".to_owned()
}

impl Options {
    /// Fails where options contradict each other or the lab.
    pub fn check(&self) -> Result<(), Error> {
        let providers = self.wanted().len() + self.extra_providers.len();
        let budget = self.cert_manager_seconds() + providers as u64 * PROVIDER_TIMEOUT;
        if self.init_timeout < budget {
            return Err(Error::Impatient { budget, providers });
        }
        for extra in &self.extra_providers {
            if let Some(own) = self.wanted().iter().find(|own| own.name == extra.name && own.kind.name() == extra.kind) {
                return Err(Error::OwnProvider { own: own.clone() });
            }
        }
        let own_flag = |flag: &&str| OWN_FLAGS.contains(flag);
        match self.extra_init_flags.iter().map(|flag| flag.split('=').next().unwrap_or_default()).find(own_flag) {
            Some(flag) => Err(Error::OwnFlag { flag: flag.to_owned() }),
            None => Ok(()),
        }
    }

    /// The providers that have to be there.
    #[must_use]
    pub fn wanted(&self) -> [Provider; 4] {
        [
            Provider::new(Kind::Core, "cluster-api", &self.capi_version),
            Provider::new(Kind::Bootstrap, "kubeadm", &self.capi_version),
            Provider::new(Kind::ControlPlane, "kubeadm", &self.capi_version),
            Provider::new(Kind::Infrastructure, capi::INFRASTRUCTURE, &self.capn_version),
        ]
    }

    /// What Cluster API stands on.
    #[must_use]
    pub fn deployments(&self) -> Vec<Condition> {
        let own = capi::DEPLOYMENTS.iter().map(|(namespace, name)| Condition::deployment_available(namespace, name));
        let extra = self.extra_wait_deployments.iter();
        own.chain(extra.map(|extra| Condition::deployment(&extra.namespace, &extra.deployment, &extra.condition))).collect()
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
}
