//! A host on which Docker has been started.

use tempfile::TempDir;

use crate::{Step, program};

/// Docker's mark, which only the step sees: in a mount namespace of its own.
const SOCKET: &str = "mount -t tmpfs none /run && touch /run/docker.sock";

/// Docker, which has the host drop what it does not forward itself.
pub struct Docker {
    programs: TempDir,
}

impl Docker {
    /// Docker as it is after it was started.
    pub fn start() -> Self {
        let docker = Self { programs: TempDir::with_prefix("docker-").expect("make a folder for iptables") };
        docker.set_policy("DROP");
        docker
    }

    /// What becomes of packets that no rule is about.
    pub fn set_policy(&self, policy: &str) {
        program::script(&self.programs.path().join("iptables"), &format!("#!/bin/sh\necho '-P FORWARD {policy}'\n"));
    }

    /// The step on this host.
    pub fn host(&self, step: Step) -> Step {
        let path = std::env::var("PATH").unwrap_or_default();
        step.env("PATH", format!("{}:{path}", self.programs.path().display())).prepared_by(SOCKET)
    }
}
