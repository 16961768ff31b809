//! Which instances run on with what their profiles were before.

use std::{collections::BTreeMap, fmt, time::Duration};

use converge::{Failure, Wait};
use lxd::{Client, Error, Instance, ObjectChange, State};
use serde_json::{Value, json};

use crate::{LxdProfiles, RestartPolicy};

/// On an instance: the first process of the run that has to end before its profiles are what it runs with. After a restart the
/// process is another, and the mark has no meaning any more.
const MARK: &str = "user.k8slab.restart-pending";

/// One thing that this step does.
pub(crate) enum Change {
    /// A profile is made or updated.
    Profile(Box<ObjectChange>),
    /// A running instance is noted to be in need of a restart.
    Mark { instance: String },
    /// An instance is restarted.
    Restart { instance: String },
}

impl Change {
    pub(crate) fn profile(&self) -> Option<&ObjectChange> {
        if let Self::Profile(change) = self { Some(change) } else { None }
    }

    pub(crate) fn restarted(&self) -> Option<&str> {
        if let Self::Restart { instance } = self { Some(instance) } else { None }
    }

    pub(crate) async fn apply(&self, step: &LxdProfiles, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Profile(change) => Ok(change.apply(client).await?),
            Self::Mark { instance } => {
                let process = client.instance_state(instance).await?.pid;
                let path = format!("instances/{instance}");
                let live = client.get::<Instance>(&path).await?;
                // A merge without a description clears it on LXD 5.0.
                let body = json!({"description": live.object.description, "config": {MARK: process.to_string()}});
                client.patch(&path, &body, live.etag.as_deref()).await?;
                Ok(())
            }
            Self::Restart { instance } => {
                client.set_instance_state(instance, State::Restart).await?;
                let interface = &step.internal_ifname;
                let wait = Wait::for_condition(
                    format!("{instance}: an address on {interface} after the restart"),
                    Duration::from_secs(step.restart_timeout),
                );
                let look = async || {
                    let state = client.instance_state(instance).await?;
                    let there = state.global_addresses(interface).next().is_some();
                    Ok::<_, Error>(if there { Ok(()) } else { Err(state.describe(interface)) })
                };
                Ok(wait.until(look).await?)
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(change) => change.fmt(f),
            Self::Mark { instance } => write!(f, "instance {instance}: mark for a restart"),
            Self::Restart { instance } => write!(f, "restart instance {instance}"),
        }
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        match self {
            Self::Profile(change) => change.object(),
            Self::Mark { instance } | Self::Restart { instance } => format!("instance {instance}"),
        }
    }

    fn before(&self) -> Value {
        match self {
            Self::Profile(change) => change.before(),
            Self::Mark { .. } => json!({"restart": "not needed"}),
            Self::Restart { .. } => json!({"restart": "pending"}),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Profile(change) => change.after(),
            Self::Mark { .. } => json!({"restart": "pending"}),
            Self::Restart { .. } => json!({"restart": "done"}),
        }
    }
}

/// The running instances of the project.
#[derive(Clone, Debug, Default)]
pub(crate) struct Restarts(pub(crate) BTreeMap<String, Running>);

/// A running instance, as far as restarts go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    pub profiles: Vec<String>,
    pub marked: bool,
    pub owner: Owner,
}

/// Who made an instance, which decides whether a restart is this step's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Owner {
    Lab,
    ClusterApi,
    #[default]
    Other,
}

impl Restarts {
    pub(crate) async fn observe(client: &Client) -> Result<Self, Failure> {
        let mut running = BTreeMap::new();
        let instances = match client.list::<Instance>().await {
            Err(error) if error.is_not_found() => Vec::new(),
            listed => listed?,
        };
        for instance in instances.into_iter().filter(|instance| instance.status == "Running") {
            let owner = owner(&instance);
            let marked = match instance.config.get(MARK) {
                Some(process) => *process == client.instance_state(&instance.name).await?.pid.to_string(),
                None => false,
            };
            running.insert(instance.name, Running { profiles: instance.profiles, marked, owner });
        }
        Ok(Self(running))
    }

    /// Marks for the instances that use a profile about to change, and the restarts that the policy allows.
    pub(crate) fn plan(&self, changing: &[&str], policy: RestartPolicy) -> (Vec<Change>, Vec<Change>) {
        let (mut marks, mut restarts) = (Vec::new(), Vec::new());
        for (name, running) in &self.0 {
            let affected = running.profiles.iter().any(|profile| changing.contains(&profile.as_str()));
            if affected && !running.marked {
                marks.push(Change::Mark { instance: name.clone() });
            }
            let allowed = match running.owner {
                Owner::Lab => policy != RestartPolicy::Never,
                Owner::ClusterApi => policy == RestartPolicy::Nodes,
                Owner::Other => false,
            };
            if allowed && (affected || running.marked) {
                restarts.push(Change::Restart { instance: name.clone() });
            }
        }
        (marks, restarts)
    }

    pub(crate) fn pending(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, running)| running.marked).map(|(name, _)| name.as_str())
    }
}

fn owner(instance: &Instance) -> Owner {
    if instance.config.contains_key(lab::names::OWNER_KEY) {
        Owner::Lab
    } else if instance.config.contains_key("user.cluster-name") {
        Owner::ClusterApi
    } else {
        Owner::Other
    }
}
