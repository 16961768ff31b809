//! Why a lab cannot be looked at, or is not as the caller needs it.

use converge::{Explain, Explanation, WaitError};
use lab::lifecycle::Phase;

use crate::Family;

/// Why a lab cannot be looked at, or is not as the caller needs it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such project.
    #[error("there is no project {project}")]
    NoProject {
        /// Its name.
        project: String,
    },
    /// The management cluster has taken over.
    #[error(
        "project {project} is recorded as {phase}: its management cluster has taken over, and what is bootstrapped now would be a second one"
    )]
    Pivoted {
        /// The project.
        project: String,
        /// The recorded phase.
        phase: Phase,
    },
    /// There is no such instance.
    #[error("there is no instance {instance} in project {project}")]
    NoInstance {
        /// Its name.
        instance: String,
        /// Where it was looked for.
        project: String,
    },
    /// The instance does not run.
    #[error("instance {instance} is {status}")]
    NotRunning {
        /// Its name.
        instance: String,
        /// Its status, as LXD says it.
        status: String,
    },
    /// The instance did not get an address in time.
    #[error("instance {instance} has no global {}address on {interface}: {seen}", family.map(|family| format!("{family} ")).unwrap_or_default())]
    NoAddress {
        /// Its name.
        instance: String,
        /// The interface that was looked at.
        interface: String,
        /// The family of which there is none; nothing where either would do.
        family: Option<Family>,
        /// What was there.
        seen: String,
        /// All interfaces with their addresses.
        interfaces: String,
    },
    /// LXD did not say.
    #[error(transparent)]
    Lxd(#[from] lxd::Error),
    /// A wait did not end well.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// A cluster did not say, or its kubeconfig cannot be used.
    #[cfg(feature = "clusters")]
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        const INSTANCE: &str = "run the role lxd_bootstrap_instance first";
        match self {
            Self::NoProject { .. } => Explanation::new("PROJECT_NOT_FOUND").hint("run the role lxd_project first").prerequisite(),
            Self::Pivoted { .. } => {
                Explanation::new("LIFECYCLE_PIVOTED").hint("set allow_rebootstrap: true if the lab is to start over")
            }
            Self::NoInstance { .. } => Explanation::new("INSTANCE_NOT_FOUND").hint(INSTANCE).prerequisite(),
            Self::NotRunning { .. } => Explanation::new("INSTANCE_NOT_RUNNING").hint(INSTANCE).prerequisite(),
            Self::NoAddress { interfaces, .. } => Explanation::new("INSTANCE_NO_ADDRESS")
                .hint("look at internal_ifname, and whether the network hands out such addresses")
                .detail(interfaces.as_str()),
            Self::Lxd(error) => error.explain(),
            Self::Wait(error) => error.explain(),
            #[cfg(feature = "clusters")]
            Self::Cluster(error) => error.explain(),
        }
    }
}
