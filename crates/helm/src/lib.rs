//! Helm, as the lab's steps deal with it.
//!
//! The engine is the `helm` executable, through [`Helm`]; nothing of it is done again here. Whether anything is to be done is read
//! from Helm's own [`record`]s by the Kubernetes client. A record has no digest of the chart and no subcharts, so the digest of all
//! [`inputs`] is kept in the description of the release: a revision that somebody else made does not have it.
//!
//! A run that was killed leaves a release with which Helm itself does not go on. [`Recovery`] is the way out of each such state.

pub mod chart;
mod error;
pub mod gate;
mod hold;
pub mod inputs;
mod manifest;
mod program;
pub mod record;
mod recovery;
mod secrets;

pub use chart::{Chart, Source};
pub use error::Error;
pub use hold::Hold;
pub use inputs::Inputs;
pub use manifest::{Object, differing, objects};
pub use program::{Helm, Target, Upgrade};
pub use record::{Record, Release, Revision, Status};
pub use recovery::Recovery;
pub use secrets::Secrets;
