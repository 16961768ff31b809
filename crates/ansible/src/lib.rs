//! Ansible's JSON module protocol, once for every step.
//!
//! A [`Step`] is a struct of options and a list of [`Section`](converge::Section)s. Each section says what is there (`observe`), what should change
//! (`plan`, a pure function) and how to change it (`apply`). Everything a user of Ansible expects around that lives here and nowhere
//! else: coercion of options, check mode, diff, stages with their seconds, failure objects, progress, documentation.

mod alone;
mod attach;
mod cli;
mod interrupt;
mod job;
mod ledger;
mod options;
mod path;
mod progress;
mod reference;
mod report;
mod run;
mod step;
mod yaml;

pub use cli::{Entry, main, main_of};
pub use options::{Kind, OptionError, OptionSpec, OptionTable};
pub use reference::{Format, Reference, RoleTask};
pub use report::{Report, Stage};
pub use run::Run;
pub use step::{Converged, Step, seen};

/// The version that every step reports: the collection's own.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The collection that the steps belong to.
pub const COLLECTION: &str = "k8slab.capi";
