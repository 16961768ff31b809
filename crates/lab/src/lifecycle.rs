//! The phases of a lab.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a lab has come. Live state decides; what a run records on the project is a hint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing, or not all, of the substrate is there.
    #[default]
    Absent,
    /// Project, pool, network and profiles are there and the bootstrap instance runs.
    Substrate,
    /// The bootstrap cluster carries the providers.
    Bootstrapped,
    /// The runner holds the management kubeconfig.
    Exported,
    /// The management cluster owns the Cluster API objects.
    Pivoted,
    /// The bootstrap instance is gone.
    Cleaned,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "absent",
            Self::Substrate => "substrate",
            Self::Bootstrapped => "bootstrapped",
            Self::Exported => "exported",
            Self::Pivoted => "pivoted",
            Self::Cleaned => "cleaned",
        })
    }
}

/// The project key that records the phase that was last proved.
pub const PHASE_KEY: &str = "user.k8slab.phase";
