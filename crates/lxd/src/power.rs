//! Starting and stopping instances, whatever they are doing.

use std::time::Duration;

use converge::{Explain as _, Wait};
use serde_json::json;

use crate::{Client, Error, Instance, InstanceState, error::if_there};

/// How long an instance may take to start, with the time in which one that has ended may still be busy with its end.
const STOPPING: Duration = Duration::from_secs(90);
/// How long an instance may take to shut down before it is stopped by force, in seconds.
const SHUTDOWN: u64 = 60;

/// What an instance is doing, as far as that decides what can be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// It runs.
    Running,
    /// It does not run.
    Stopped,
    /// Its processes are there and do nothing.
    Frozen,
    /// The server has lost hold of it.
    Broken,
    /// It is on its way from one to another.
    Changing,
}

impl Power {
    fn of(status: &str) -> Self {
        match status {
            "Running" | "Ready" | "Thawed" => Self::Running,
            "Stopped" => Self::Stopped,
            "Frozen" => Self::Frozen,
            "Error" => Self::Broken,
            _ => Self::Changing,
        }
    }
}

impl Instance {
    /// What it is doing.
    #[must_use]
    pub fn power(&self) -> Power {
        Power::of(&self.status)
    }
}

impl InstanceState {
    /// What the instance is doing.
    #[must_use]
    pub fn power(&self) -> Power {
        Power::of(&self.status)
    }
}

impl Client {
    /// Has an instance run: one that is frozen goes on, one that is in an error starts anew. A run that was killed may have left LXD
    /// still making it; and why one does not start is in the log, not in the answer.
    pub async fn start_instance(&self, name: &str) -> Result<(), Error> {
        self.settle("instances", name).await?;
        match self.instance_state(name).await?.power() {
            Power::Running => return Ok(()),
            Power::Frozen => return self.act(name, "unfreeze", false).await,
            Power::Broken => self.act(name, "stop", true).await?,
            Power::Stopped | Power::Changing => {}
        }
        let wait = Wait::for_condition(format!("{name}: not about to stop"), STOPPING);
        let start = async || {
            Ok(match self.act(name, "start", false).await {
                Err(refusal) if refusal.is_conflict() => Err(refusal),
                outcome => Ok(outcome),
            })
        };
        let Err(refusal) = wait.until::<_, _, Error, _>(start).await? else { return Ok(()) };
        // Somebody else may have started it meanwhile.
        self.settle("instances", name).await?;
        if self.instance_state(name).await?.power() == Power::Running {
            return Ok(());
        }
        let log = self.last_words(name).await;
        Err(Error::NotStarted { name: name.to_owned(), refusal: Box::new(refusal), log })
    }

    /// Has an instance not run: it shuts down, or is stopped by force when that takes too long. An ephemeral one is gone then.
    pub async fn stop_instance(&self, name: &str) -> Result<(), Error> {
        match self.power(name).await? {
            None | Some(Power::Stopped) => return Ok(()),
            // What is frozen cannot shut down.
            Some(Power::Frozen) => self.act(name, "unfreeze", false).await?,
            Some(Power::Broken) => return self.act(name, "stop", true).await,
            Some(Power::Running | Power::Changing) => {}
        }
        match self.act(name, "stop", false).await {
            Err(Error::Failed { .. }) if matches!(self.power(name).await?, None | Some(Power::Stopped)) => Ok(()),
            Err(Error::Failed { .. }) => {
                tracing::info!("{name} does not shut down; stopping it by force");
                self.act(name, "stop", true).await
            }
            outcome => outcome,
        }
    }

    /// Has an instance not run, at once: what it was at is lost. LXD waits for its end so many seconds.
    pub async fn stop_instance_at_once(&self, name: &str, seconds: u64) -> Result<(), Error> {
        self.act_within(name, "stop", true, seconds).await
    }

    /// Has an instance shut down and start again. Where it does not start, that is the error: it is left stopped then.
    pub async fn restart_instance(&self, name: &str) -> Result<(), Error> {
        if self.instance_state(name).await?.power() != Power::Running {
            return self.start_instance(name).await;
        }
        for force in [false, true] {
            match self.act(name, "restart", force).await {
                Err(Error::Failed { .. }) => {}
                outcome => return outcome,
            }
            if self.instance_state(name).await?.power() == Power::Stopped {
                return self.start_instance(name).await;
            }
            tracing::info!("{name} does not shut down; restarting it by force");
        }
        self.stop_instance(name).await?;
        self.start_instance(name).await
    }

    /// Deletes an instance; that it is gone is as good.
    pub async fn delete_instance(&self, name: &str) -> Result<(), Error> {
        if_there(self.delete(&format!("instances/{name}")).await).map(drop)
    }

    async fn power(&self, name: &str) -> Result<Option<Power>, Error> {
        Ok(if_there(self.instance_state(name).await)?.map(|state| state.power()))
    }

    async fn act(&self, name: &str, action: &str, force: bool) -> Result<(), Error> {
        self.act_within(name, action, force, SHUTDOWN).await
    }

    async fn act_within(&self, name: &str, action: &str, force: bool, seconds: u64) -> Result<(), Error> {
        let body = json!({"action": action, "timeout": seconds, "force": force});
        self.put(&format!("instances/{name}/state"), &body, None).await.map(drop)
    }

    /// The ends of what LXD keeps of an instance's start: its log, and its console.
    async fn last_words(&self, instance: &str) -> String {
        let mut words = Vec::new();
        for (title, path) in [("log", "logs/lxc.log"), ("console", "console")] {
            // Not every server keeps both, and why the instance does not start is known without them.
            let kept = self.raw(&format!("instances/{instance}/{path}")).await.ok().flatten().unwrap_or_default();
            let end = tail(&String::from_utf8_lossy(&kept));
            if !end.is_empty() {
                words.push(format!("{title}:\n{end}"));
            }
        }
        words.join("\n")
    }
}

fn tail(text: &str) -> String {
    const LINES: usize = 20;
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_meaning() {
        for (status, power) in [
            ("Running", Power::Running),
            ("Ready", Power::Running),
            ("Frozen", Power::Frozen),
            ("Error", Power::Broken),
            ("Stopping", Power::Changing),
            ("", Power::Changing),
        ] {
            assert_eq!(Power::of(status), power, "{status}");
        }
    }
}
