//! Moving Cluster API's objects from one cluster to another, so that whatever is killed on the way, it can be finished.
//!
//! `clusterctl move` does the work and says little: it ends well although it has left everything paused, and when it is begun anew at
//! the wrong moment it makes machines twice. So a copy is made first ([`copy`]), both clusters are looked at ([`Side`]), and what is
//! found is one of the states that a move can be stopped in ([`Signature`]), each with the one continuation that is known to be
//! right. Everything else is [`Foreign`] and is left alone.
//!
//! Limits: one namespace is moved, with classes of the same namespace. Objects that belong to no namespace are not counted.

pub mod copy;
mod error;
pub mod graph;
pub mod object;
pub mod open;
mod settled;
mod side;
mod signature;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use copy::{Copy, Folder, Found, Manifest};
pub use error::Error;
pub use object::{Handle, Key, Object};
pub use open::{Open, Stage};
pub use settled::{Instance, conditions, lost, unsettled};
pub use side::{Side, Sides, Where};
pub use signature::{Act, Foreign, Signature, unpause};

/// Which way the objects go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the bootstrap cluster to the management cluster.
    #[default]
    ToManagement,
    /// Back to the bootstrap cluster.
    ToBootstrap,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ToManagement => "to_management",
            Self::ToBootstrap => "to_bootstrap",
        })
    }
}

#[cfg(test)]
mod tests;
