//! The vocabulary of converging, which every layer speaks: the clients of LXD and Kubernetes, the host's files, the steps, and the
//! programs of the offline lab.
//!
//! - An error implements [`Explain`]: it has a stable code and says what a person can do. [`Failure`] is what becomes of it at the
//!   edge.
//! - A [`Section`] is observed, planned and applied; what it plans are [`Change`]s. What one section leaves to the next is
//!   [`Known`] now, or once the changes are carried out.
//! - A [`Wait`] is a named condition with a deadline.
//! - A [`Secret`] cannot be printed or serialised by accident. An [`AbsolutePath`] starts at the root and does not climb.
//!
//! Nothing here knows of Ansible, LXD or Kubernetes, and nothing here does I/O.

mod explain;
mod failure;
mod path;
mod secret;
mod section;
pub mod stop;
mod wait;

pub use explain::{Explain, Explanation, cause};
pub use failure::Failure;
pub use path::AbsolutePath;
pub use secret::Secret;
pub use section::{Change, Foreseen, Known, Section};
pub use wait::{Wait, WaitError};
