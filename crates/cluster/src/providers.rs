//! Cluster API's providers, as clusterctl keeps book of them.

use std::fmt;

use kube::core::DynamicObject;
use serde::Deserialize;

use crate::{Client, Error, if_there, resource};

/// An entry of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Provider {
    /// What it does.
    pub kind: Kind,
    /// Its name: `kubeadm`.
    pub name: String,
    /// Its version: `v1.12.5`.
    pub version: String,
}

/// What a provider does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Kind {
    /// Cluster API itself.
    #[serde(rename = "CoreProvider")]
    Core,
    /// Turns machines into nodes.
    #[serde(rename = "BootstrapProvider")]
    Bootstrap,
    /// Keeps the machines of a control plane.
    #[serde(rename = "ControlPlaneProvider")]
    ControlPlane,
    /// Makes machines.
    #[serde(rename = "InfrastructureProvider")]
    Infrastructure,
    /// Gives addresses out.
    #[serde(rename = "IPAMProvider")]
    Ipam,
    /// Is asked at certain points of a cluster's life.
    #[serde(rename = "RuntimeExtensionProvider")]
    RuntimeExtension,
    /// Installs software into clusters.
    #[serde(rename = "AddonProvider")]
    Addon,
}

impl Kind {
    /// clusterctl's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "CoreProvider",
            Self::Bootstrap => "BootstrapProvider",
            Self::ControlPlane => "ControlPlaneProvider",
            Self::Infrastructure => "InfrastructureProvider",
            Self::Ipam => "IPAMProvider",
            Self::RuntimeExtension => "RuntimeExtensionProvider",
            Self::Addon => "AddonProvider",
        }
    }

    /// The flag of `clusterctl init` that asks for such a provider.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::Core => "--core",
            Self::Bootstrap => "--bootstrap",
            Self::ControlPlane => "--control-plane",
            Self::Infrastructure => "--infrastructure",
            Self::Ipam => "--ipam",
            Self::RuntimeExtension => "--runtime-extension",
            Self::Addon => "--addon",
        }
    }
}

impl Provider {
    /// A provider.
    pub fn new(kind: Kind, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { kind, name: name.into(), version: version.into() }
    }

    /// clusterctl's own name of it, by which repositories name their folders: `bootstrap-kubeadm`.
    #[must_use]
    pub fn label(&self) -> String {
        let prefix = self.kind.flag().trim_start_matches("--");
        if self.kind == Kind::Core { self.name.clone() } else { format!("{prefix}-{}", self.name) }
    }

    /// Another entry for the same provider.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.kind, &self.name) == (other.kind, &other.name)
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.label(), self.version)
    }
}

/// The fields of an entry; they are at its top level.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "type")]
    kind: Kind,
    provider_name: String,
    version: String,
}

impl Client {
    /// The inventory, sorted; empty where clusterctl has never been.
    pub async fn providers(&self) -> Result<Vec<Provider>, Error> {
        let entries = if_there(self.list(resource::PROVIDER, None).await)?.unwrap_or_default();
        let mut providers = entries.into_iter().map(|entry| self.read(entry)).collect::<Result<Vec<_>, _>>()?;
        providers.sort();
        Ok(providers)
    }

    /// Takes a provider out of the inventory, so that clusterctl installs it again. What it has installed stays.
    pub async fn forget_provider(&self, provider: &Provider) -> Result<(), Error> {
        for entry in self.list(resource::PROVIDER, None).await? {
            let (namespace, name) = (entry.metadata.namespace.clone(), entry.metadata.name.clone().unwrap_or_default());
            if self.read(entry)?.is_same(provider) {
                self.delete(resource::PROVIDER, namespace.as_deref(), &name).await?;
            }
        }
        Ok(())
    }

    fn read(&self, entry: DynamicObject) -> Result<Provider, Error> {
        let entry: Entry = serde_json::from_value(entry.data).map_err(|error| Error::NotKubernetes {
            server: self.server().to_owned(),
            reason: format!("an entry of clusterctl's inventory: {error}"),
        })?;
        Ok(Provider::new(entry.kind, entry.provider_name, entry.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_have_clusterctls_names() {
        for (kind, name, label, written) in [
            (Kind::Core, "cluster-api", "cluster-api", "CoreProvider"),
            (Kind::Bootstrap, "kubeadm", "bootstrap-kubeadm", "BootstrapProvider"),
            (Kind::ControlPlane, "kubeadm", "control-plane-kubeadm", "ControlPlaneProvider"),
            (Kind::Infrastructure, "incus", "infrastructure-incus", "InfrastructureProvider"),
            (Kind::Ipam, "in-cluster", "ipam-in-cluster", "IPAMProvider"),
            (Kind::RuntimeExtension, "x", "runtime-extension-x", "RuntimeExtensionProvider"),
            (Kind::Addon, "helm", "addon-helm", "AddonProvider"),
        ] {
            assert_eq!(Provider::new(kind, name, "v1").label(), label);
            assert_eq!(kind.name(), written);
            assert_eq!(serde_json::from_value::<Kind>(written.into()).unwrap(), kind);
        }
    }
}
