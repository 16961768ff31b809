//! How far what runs in the lab may reach.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far instances and the infrastructure provider's certificate may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Nothing that leads to the host; the host loads kernel modules, and a network forward publishes the API.
    #[default]
    Strict,
    /// The shape of the reference roles, for labs that need host devices, low-level keys or proxy devices.
    Reference,
}
