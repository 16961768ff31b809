//! REST client for LXD and Incus.
//!
//! Nothing here looks at a version. An answer says by its type whether it is final, and a server says by its extensions what it
//! knows.

mod client;
mod connection;
mod declared;
mod error;
#[cfg(feature = "events")]
mod events;
mod exchange;
mod file;
mod forward;
mod image;
mod instance;
mod object;
mod operation;
mod power;
#[cfg(feature = "https")]
mod tls;
mod trust;

pub use client::{Client, Tagged};
pub use connection::{Connection, SOCKETS};
pub use declared::{Added, Declared, ObjectChange};
pub use error::{Error, if_there};
#[cfg(feature = "events")]
pub use events::{Event, Notice};
pub use file::{FileInfo, FileKind, Source, StagedFile};
pub use forward::{Forward, ForwardPort};
pub use image::{Image, ImageAlias, ImageFiles};
pub use instance::{Address, Exec, Instance, InstanceState, Interface};
pub use object::{Config, Devices, Network, Object, Pool, Profile, Project, Server};
pub use power::Power;
#[cfg(feature = "https")]
pub use tls::{Identity, listens};
pub use trust::{AuthGroup, Permission, TlsIdentity, TrustEntry};
