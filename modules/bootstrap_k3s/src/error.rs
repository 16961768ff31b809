//! Why k3s does not run.

use std::path::PathBuf;

use converge::{Explain, Explanation, WaitError};
use survey::Family;

use crate::cause::Cause;

/// Why k3s does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no file {}", path.display())]
    NoSource { path: PathBuf },
    #[error("{} cannot be read", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} cannot be used: {reason}", path.display())]
    BinaryDamaged { path: PathBuf, reason: String },
    #[error("{} is for {machine} machines, and this one is {wanted}", path.display())]
    BinaryArchitecture { path: PathBuf, machine: &'static str, wanted: String },
    #[error("k3s cannot be run in the instance: {words}")]
    BinaryUnusable { words: String },
    #[error(transparent)]
    Survey(#[from] survey::Error),
    #[error("{instance} cannot resolve {name}")]
    NoName { name: String, instance: String },
    #[error("`{command}` failed in {instance}: {words}")]
    Command { command: String, instance: String, words: String },
    #[error("k3s in {instance} ends again and again: {}", cause.sentence)]
    Crashed { instance: String, cause: &'static Cause, detail: String },
    #[error("the cluster in {instance} lost its node")]
    NoNode { instance: String },
    #[error(transparent)]
    Lxd(#[from] lxd::Error),
    #[error(transparent)]
    Wait(#[from] WaitError),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoSource { .. } => Explanation::new("K3S_BINARY_MISSING")
                .hint("run the role binary_fetch first; images come from the bundle")
                .prerequisite(),
            Self::Unreadable { .. } => Explanation::new("K3S_BINARY_UNREADABLE").hint("run the task with become: true"),
            Self::BinaryDamaged { .. } => Explanation::new("K3S_BINARY_DAMAGED")
                .hint("fetch it again: remove it and run the role binary_fetch, or build the bundle anew"),
            Self::BinaryArchitecture { .. } => {
                Explanation::new("K3S_BINARY_ARCHITECTURE").hint("set binary_fetch's arch to that of the host")
            }
            Self::BinaryUnusable { .. } => {
                Explanation::new("K3S_BINARY_UNUSABLE").hint("look whether the instance's image is of the host's architecture")
            }
            Self::NoName { .. } => Explanation::new("K3S_NO_DNS").hint(
                "look at the host's name servers and at the network's NAT; with images from a mirror, name it in required_names",
            ),
            Self::Command { .. } => Explanation::new("K3S_COMMAND_FAILED").hint("the instance's image must have systemd"),
            Self::Crashed { cause, detail, .. } => Explanation::new(cause.code).hint(cause.hint).detail(detail.as_str()),
            Self::NoNode { .. } => Explanation::new("K3S_NO_NODE").hint("run again; somebody has deleted it meanwhile"),
            // What k3s needs it for is known here.
            Self::Survey(error @ survey::Error::NoAddress { family, .. }) => error
                .explain()
                .with_code(if *family == Some(Family::Ipv6) { "K3S_NO_IPV6" } else { "K3S_NO_IPV4" })
                .with_hint("look whether the internal network hands out addresses of both families"),
            Self::Survey(error) => error.explain(),
            Self::Lxd(error) => error.explain(),
            Self::Wait(error) => error.explain(),
        }
    }
}
