//! The domain, without I/O: what the lab is made of, what its objects are called, and which keys they carry.

pub mod address;
pub mod capi;
mod isolation;
pub mod keys;
pub mod lifecycle;
pub mod machine;
pub mod names;
pub mod plan;
pub mod profiles;
pub mod project;
pub mod publication;
pub mod subnet;
pub mod teardown;
pub mod versions;

pub use isolation::Isolation;
pub use keys::{Devices, Keys};
