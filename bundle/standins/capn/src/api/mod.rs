//! The objects that the provider works with: its own kinds, and those of Cluster API as far as it reads them.
//!
//! The provider's own kinds follow version 0.8 of the real provider, so that what one accepts the other accepts.

mod cluster;
pub mod conditions;
pub mod core;
mod machine;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{cluster::*, machine::*};

/// An image of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Image {
    /// Its alias. `VERSION` in it stands for the Machine's version; `capi:`, `images:`, `debian:` and `ubuntu:` name public servers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its fingerprint.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// The server that has it, where it is not LXD itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server: String,
    /// The server's protocol: `simplestreams`, `lxd` or `incus`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub protocol: String,
}

impl Image {
    /// Nothing is said about it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Labels and annotations of what is made from a template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct TemplateMetadata {
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}
