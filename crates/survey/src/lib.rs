//! Reads a lab and says what it saw.
//!
//! The parts that several steps look at are looked at here, in one way: the project and its recorded phase ([`project`],
//! [`may_bootstrap`]), the bootstrap instance ([`running_instance`], [`Addresses`]), the kubeconfig in it (`kubeconfig`), and the lab
//! as a whole (`Survey`). What follows from it is judged in `lab`, which does no I/O.
//!
//! Nothing is changed here. A look that fails is an error with a code; only [`addresses`] waits, up to its deadline.
//!
//! Clusters are looked at only with the feature `clusters`.

mod addresses;
mod error;
mod instance;
#[cfg(feature = "clusters")]
mod kubeconfig;
mod project;
#[cfg(feature = "clusters")]
mod whole;

pub use addresses::{Addresses, Family, addresses};
pub use error::Error;
pub use instance::{instance_state, running_instance};
#[cfg(feature = "clusters")]
pub use kubeconfig::{kubeconfig, rebuilt};
pub use project::{forget, may_bootstrap, project, record, recorded_phase};
#[cfg(feature = "clusters")]
pub use whole::{Cluster, Scope, Survey};
