//! The kinds of objects that LXD keeps by name.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Configuration keys as LXD has them: text on both sides.
pub type Config = BTreeMap<String, String>;
/// Devices by name.
pub type Devices = BTreeMap<String, Config>;

/// A kind of object that LXD keeps by name.
pub trait Object: Clone + DeserializeOwned {
    /// What a person calls it.
    const KIND: &'static str;
    /// Where it lives below `/1.0`.
    const COLLECTION: &'static str;
    /// Whether it is updated by PATCH, which keeps what it is not told; else by PUT of the whole.
    const MERGES: bool;
    /// Whether it has devices.
    const HAS_DEVICES: bool = false;

    /// Its configuration.
    fn config(&self) -> &Config;
    /// Its description.
    fn description(&self) -> &str;
    /// Its devices; none for a kind that has none.
    fn devices(&self) -> Devices {
        Devices::new()
    }
    /// What can be written of it beyond description, configuration and devices.
    fn fields(&self) -> Map<String, Value> {
        Map::new()
    }
}

macro_rules! object {
    ($type:ty, $kind:literal, $collection:literal, merges: $merges:literal $(, $devices:ident: own)? $(, fields: |$self:ident| $fields:expr)?) => {
        impl crate::Object for $type {
            const KIND: &'static str = $kind;
            const COLLECTION: &'static str = $collection;
            const MERGES: bool = $merges;

            fn config(&self) -> &crate::Config {
                &self.config
            }

            fn description(&self) -> &str {
                &self.description
            }

            $(const HAS_DEVICES: bool = true;

            fn devices(&self) -> crate::Devices {
                self.$devices.clone()
            })?

            $(fn fields(&self) -> serde_json::Map<String, serde_json::Value> {
                let $self = self;
                $fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            })?
        }
    };
}
pub(crate) use object;

/// The server itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Server {
    /// What it knows beyond the API's first version.
    pub api_extensions: Vec<String>,
    /// Its daemon configuration, for those who may see it.
    pub config: Option<BTreeMap<String, Value>>,
    /// Facts about it.
    pub environment: Environment,
    /// `trusted` or `untrusted`.
    pub auth: String,
}

/// Facts about a server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Environment {
    /// `lxd` or `incus`.
    pub server: String,
    /// Its version, to be shown and never compared.
    pub server_version: String,
    /// It is a member of a cluster.
    pub server_clustered: bool,
    /// Its certificate as PEM.
    pub certificate: String,
}

/// A project.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its features and restrictions.
    pub config: Config,
    /// The paths of what lives in it.
    pub used_by: Vec<String>,
}
object!(Project, "project", "projects", merges: false);

/// A storage pool.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its driver, such as `btrfs`.
    pub driver: String,
    /// Its description.
    pub description: String,
    /// `Created`, `Pending` or `Errored`.
    pub status: String,
    /// Its configuration.
    pub config: Config,
    /// The paths of what uses it.
    pub used_by: Option<Vec<String>>,
}
object!(Pool, "storage pool", "storage-pools", merges: true);

/// A network, or an interface of the host that LXD knows of.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its type, such as `bridge`.
    #[serde(rename = "type")]
    pub kind: String,
    /// LXD made it.
    pub managed: bool,
    /// Its description.
    pub description: String,
    /// `Created`, `Pending` or `Errored`; empty for an interface of the host.
    pub status: String,
    /// Its configuration.
    pub config: Config,
    /// The paths of what uses it.
    pub used_by: Option<Vec<String>>,
}
object!(Network, "network", "networks", merges: true);

/// A profile.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its configuration.
    pub config: Config,
    /// Its devices.
    pub devices: Devices,
    /// The paths of what uses it.
    pub used_by: Vec<String>,
}
object!(Profile, "profile", "profiles", merges: false, devices: own);
