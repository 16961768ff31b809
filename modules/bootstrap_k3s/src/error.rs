use std::path::PathBuf;

use ansible::{Explain, WaitError};

use crate::cause::Cause;

/// Why k3s does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no instance {name} in project {project}")]
    NoInstance { name: String, project: String },
    #[error("instance {name} is {status}")]
    NotRunning { name: String, status: String },
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
    #[error("{instance} has no global {family} address on {interface}: {seen}")]
    NoAddress { family: &'static str, instance: String, interface: String, seen: String },
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
    fn code(&self) -> &'static str {
        match self {
            Self::NoInstance { .. } => "INSTANCE_NOT_FOUND",
            Self::NotRunning { .. } => "INSTANCE_NOT_RUNNING",
            Self::NoSource { .. } => "K3S_BINARY_MISSING",
            Self::Unreadable { .. } => "K3S_BINARY_UNREADABLE",
            Self::BinaryDamaged { .. } => "K3S_BINARY_DAMAGED",
            Self::BinaryArchitecture { .. } => "K3S_BINARY_ARCHITECTURE",
            Self::BinaryUnusable { .. } => "K3S_BINARY_UNUSABLE",
            Self::NoAddress { family: "IPv4", .. } => "K3S_NO_IPV4",
            Self::NoAddress { .. } => "K3S_NO_IPV6",
            Self::NoName { .. } => "K3S_NO_DNS",
            Self::Command { .. } => "K3S_COMMAND_FAILED",
            Self::Crashed { cause, .. } => cause.code,
            Self::NoNode { .. } => "K3S_NO_NODE",
            Self::Lxd(error) => error.code(),
            Self::Wait(error) => error.code(),
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::NoInstance { .. } | Self::NotRunning { .. } => "run the role lxd_bootstrap_instance first",
            Self::NoSource { .. } => "run the role binary_fetch first; images come from the bundle",
            Self::Unreadable { .. } => "run the task with become: true",
            Self::BinaryDamaged { .. } => "fetch it again: remove it and run the role binary_fetch, or build the bundle anew",
            Self::BinaryArchitecture { .. } => "set binary_fetch's arch to that of the host",
            Self::BinaryUnusable { .. } => "look whether the instance's image is of the host's architecture",
            Self::NoAddress { .. } => "look whether the internal network hands out addresses of both families",
            Self::NoName { .. } => {
                "look at the host's name servers and at the network's NAT; with images from a mirror, name it in required_names"
            }
            Self::Command { .. } => "the instance's image must have systemd",
            Self::Crashed { cause, .. } => cause.hint,
            Self::NoNode { .. } => "run again; somebody has deleted it meanwhile",
            Self::Lxd(error) => return error.hints(),
            Self::Wait(error) => return error.hints(),
        };
        vec![hint.into()]
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Crashed { detail, .. } => Some(detail.clone()),
            _ => None,
        }
    }

    fn is_prerequisite(&self) -> bool {
        match self {
            Self::NoInstance { .. } | Self::NotRunning { .. } | Self::NoSource { .. } => true,
            Self::Lxd(error) => error.is_prerequisite(),
            _ => false,
        }
    }
}
