//! The machine that a step works on: its files, packages, kernel, services and network links.
//!
//! Everything is taken below a [`Root`], so that a step can work on an image or a chroot as well as on the running machine.

mod account;
pub mod archive;
mod beneath;
pub mod block;
#[cfg(feature = "download")]
pub mod download;
mod error;
mod execute;
pub mod file;
pub mod forwarding;
pub mod kernel;
mod layered;
pub mod link;
pub mod listener;
mod lock;
pub mod memory;
pub mod mount;
pub mod networkd;
mod os;
pub mod package;
pub mod redirection;
mod replacement;
mod root;
pub mod route;
pub mod signature;
pub mod sysctl;
pub mod unit;

pub use account::Owner;
pub use error::Error;
pub use execute::{Command, CommandError, Output};
pub use lock::HostLock;
pub use os::OsRelease;
pub use replacement::{Replacement, Sealed};
pub use root::Root;
