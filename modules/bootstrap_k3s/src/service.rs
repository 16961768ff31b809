//! k3s as a service. It is started again only when something that it reads has changed.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use converge::{Failure, Section, Wait};
use lxd::Client;
use serde_json::{Value, json};
use survey::Family;
use tokio::sync::OnceCell;

use crate::{
    BootstrapK3s,
    error::Error,
    node::{self, Ready},
    process::{Invocation, run, running},
};

/// How long the instance may take to have its addresses again, and systemd to take up what it is told.
const SOON: Duration = Duration::from_secs(15);

/// k3s as a service that runs with what is installed.
pub(crate) struct Service<'a> {
    step: &'a BootstrapK3s,
    /// What k3s reads when it starts.
    paths: Vec<String>,
    /// What was running when this run replaced some of that.
    outdated: Option<Invocation>,
    ready: OnceCell<Ready>,
}

#[derive(Default)]
pub(crate) struct Live {
    enabled: bool,
    running: Option<Invocation>,
    /// Something that k3s reads was written since it was started: an earlier run did not come to its end.
    is_older: bool,
}

pub(crate) enum Change {
    Enable(String),
    Start(String),
    Restart(String),
}

impl<'a> Service<'a> {
    pub(crate) fn new(step: &'a BootstrapK3s, paths: Vec<String>, outdated: Option<Invocation>) -> Self {
        Self { step, paths, outdated, ready: OnceCell::new() }
    }

    /// The node; none where the service does not run, because the section was left out.
    pub(crate) async fn ready_if_running(&self) -> Result<Option<&Ready>, Failure> {
        if self.ready.get().is_none() && running(&self.step.client().await?, self.step).await?.is_none() {
            return Ok(None);
        }
        self.ready(SystemTime::now()).await.map(Some)
    }

    async fn ready(&self, since: SystemTime) -> Result<&Ready, Failure> {
        self.ready.get_or_try_init(|| Box::pin(node::ready(self.step, since))).await
    }

    async fn start(&self, client: &Client, verb: &str) -> Result<(), Failure> {
        self.check_network(client).await?;
        let (service, since) = (&self.step.service_name, SystemTime::now());
        let before = self.last_invocation(client).await?;
        // Without waiting until k3s is ready, which it may never be.
        self.systemctl(client, &["--no-block", verb, service]).await?;
        let wait = Wait::for_condition(format!("{}: systemd starts {service}", self.step.instance_name), self.soon());
        let look = async || {
            let last = self.last_invocation(client).await?;
            Ok::<_, Error>(if last == before { Err("not started yet") } else { Ok(()) })
        };
        wait.until(look).await?;
        self.ready(since).await.map(drop)
    }

    fn soon(&self) -> Duration {
        SOON.min(Duration::from_secs(self.step.ready_timeout))
    }

    /// The last run of the service, also one that has ended.
    async fn last_invocation(&self, client: &Client) -> Result<String, Error> {
        self.systemctl(client, &["show", "--property=InvocationID", "--value", &self.step.service_name]).await
    }

    async fn systemctl(&self, client: &Client, arguments: &[&str]) -> Result<String, Error> {
        run(client, &self.step.instance_name, &[&["systemctl"], arguments].concat()).await
    }

    /// Without addresses of both families, or a way to its images, k3s fails late and says little.
    async fn check_network(&self, client: &Client) -> Result<(), Error> {
        let (instance, interface) = (&self.step.instance_name, &self.step.internal_ifname);
        survey::addresses(client, instance, interface, &Family::BOTH, self.soon()).await?;
        if self.step.bundle.bundle.is_none() {
            for name in &self.step.required_names {
                let answer = client.exec(instance, &["getent", "ahosts", name]).await?;
                if answer.code != 0 {
                    return Err(Error::NoName { name: name.clone(), instance: instance.clone() });
                }
            }
        }
        Ok(())
    }
}

impl Section for Service<'_> {
    const NAME: &'static str = "service";
    type Live = Live;
    type Change = Change;

    async fn observe(&self) -> Result<Live, Failure> {
        let (client, instance) = (self.step.instance().await?, &self.step.instance_name);
        let wanted = format!("/etc/systemd/system/multi-user.target.wants/{}.service", self.step.service_name);
        let enabled = client.stat_file(instance, &wanted).await?.is_some();
        let running = running(&client, self.step).await?;
        let mut is_older = false;
        if let Some(running) = &running {
            for path in &self.paths {
                let written = client.stat_file(instance, path).await?.map(|info| info.modified);
                is_older |= written.is_some_and(|written| written > running.since);
            }
        }
        Ok(Live { enabled, running, is_older })
    }

    fn plan(&self, live: &Live) -> Result<Vec<Change>, Failure> {
        let name = || self.step.service_name.clone();
        let enable = (!live.enabled).then(|| Change::Enable(name()));
        let is_outdated = live.is_older || live.running == self.outdated;
        let start = match live.running {
            None => Some(Change::Start(name())),
            Some(_) => is_outdated.then(|| Change::Restart(name())),
        };
        Ok(enable.into_iter().chain(start).collect())
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        let client = self.step.client().await?;
        self.systemctl(&client, &["daemon-reload"]).await?;
        match change {
            Change::Enable(name) => Ok(self.systemctl(&client, &["enable", name]).await.map(drop)?),
            Change::Start(_) => self.start(&client, "start").await,
            Change::Restart(_) => self.start(&client, "restart").await,
        }
    }
}

impl Change {
    pub(crate) fn starts(&self) -> bool {
        !matches!(self, Self::Enable(_))
    }

    fn service(&self) -> &str {
        let (Self::Enable(name) | Self::Start(name) | Self::Restart(name)) = self;
        name
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self {
            Self::Enable(_) => "enable",
            Self::Start(_) => "start",
            Self::Restart(_) => "restart",
        };
        write!(f, "{verb} {}", self.service())
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        format!("service {}", self.service())
    }

    fn before(&self) -> Value {
        match self {
            Self::Enable(_) => json!({"enabled": false}),
            Self::Start(_) => json!({"status": "stopped"}),
            Self::Restart(_) => json!({"status": "running with what was replaced"}),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Enable(_) => json!({"enabled": true}),
            Self::Start(_) | Self::Restart(_) => json!({"status": "running"}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(id: &str) -> Invocation {
        Invocation { id: id.into(), since: "2026-01-01 00:00:00 +0000 UTC".into() }
    }

    #[test]
    fn plans() {
        let step = BootstrapK3s::default();
        for (case, outdated, live, expected) in [
            ("never started", None, Live::default(), "enable k3s; start k3s"),
            ("stopped", None, Live { enabled: true, ..Live::default() }, "start k3s"),
            ("replaced while it was stopped", None, Live { enabled: true, ..Live::default() }, "start k3s"),
            ("as desired", None, Live { enabled: true, running: Some(invocation("a")), is_older: false }, ""),
            ("disabled", None, Live { running: Some(invocation("a")), ..Live::default() }, "enable k3s"),
            (
                "replaced by this run",
                Some(invocation("a")),
                Live { enabled: true, running: Some(invocation("a")), is_older: false },
                "restart k3s",
            ),
            (
                "started again by this run",
                Some(invocation("a")),
                Live { enabled: true, running: Some(invocation("b")), is_older: false },
                "",
            ),
            (
                "replaced by a run that did not come to its end",
                None,
                Live { enabled: true, running: Some(invocation("a")), is_older: true },
                "restart k3s",
            ),
        ] {
            let section = Service::new(&step, Vec::new(), outdated);
            let changes = section.plan(&live).unwrap();
            assert_eq!(changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), expected, "{case}");
        }
    }
}
