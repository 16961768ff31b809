//! What the contract tests are made of: the steps' built binaries, an LXD of either kind, and the faults between the two.
//!
//! A test opens an [`Lxd`], runs a [`Step`] against its socket, and looks at LXD itself for what happened.

// Everything here is test code: a broken expectation ends the test, and a test may drop what it need not look at.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use
)]

mod authority;
mod disk;
mod docker;
pub mod image;
mod impostor;
mod inside;
mod kubernetes;
mod lent;
mod listener;
mod lxd;
mod machine;
pub mod program;
mod relay;
mod rest;
mod scripted;
mod snapd;
mod step;
mod substrate;
pub mod trial;
mod web;

pub use authority::SelfSigned;
pub use disk::{Disk, Mounted};
pub use docker::Docker;
pub use impostor::{Impostor, Speech};
pub use inside::listen_inside;
pub use kubernetes::{Kubernetes, Stumble};
pub use lent::Lent;
pub use lxd::{Backend, Lxd};
pub use machine::{FullDisk, Machine};
pub use relay::{Held, Recorded, Relay, Trigger};
pub use rest::{Answer, Rest};
pub use scripted::{Guests, Personality, Scripted};
pub use snapd::Snapd;
pub use step::{Outcome, Running, Step};
pub use substrate::Substrate;
pub use web::{Page, Web};
