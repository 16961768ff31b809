//! Cluster API on a cluster: which providers it has, where their objects come from, and how clusterctl installs them.
//!
//! An [`Installer`] is the same for every cluster that manages others; what differs is whose kubeconfig it is given. Whether there is
//! anything to do is read from clusterctl's own inventory. A run of `clusterctl init` that was killed is taken up where it stopped.
//!
//! An infrastructure provider on LXD 5.0 is told to make one machine at a time.
//!
//! Limits: another version than the wanted one is refused, since upgrading is another operation.

mod cert_manager;
mod concurrency;
mod config;
mod error;
mod init;
mod options;
mod sources;

pub use config::Config;
pub use error::Error;
pub use init::{Installation, Installer, Live};
pub use options::{ExtraDeployment, ExtraProvider, Options};
pub use sources::Sources;

#[cfg(test)]
mod tests;
