//! Which instances run on with what their profiles were before.

use std::{collections::BTreeMap, fmt, time::Duration};

use converge::Failure;
use lab::publication::CLUSTER_KEY;
use lxd::{Client, Error, Instance, ObjectChange, Power};
use serde_json::{Value, json};

use crate::{
    LxdProfiles, RestartPolicy,
    node::{self, Cluster},
};

/// On an instance: the first process of the run that has to end before its profiles are what it runs with. Where the process is
/// another the mark has no meaning any more; where there is none, a restart has left the instance stopped.
const MARK: &str = "user.k8slab.restart-pending";

/// One thing that this step does.
pub(crate) enum Change {
    /// A profile is made or updated.
    Profile(Box<ObjectChange>),
    /// A running instance is noted to be in need of a restart.
    Mark { instance: String },
    /// An instance is restarted, which may be a node.
    Restart { instance: String, cluster: Option<Cluster> },
    /// An instance is started that a restart has left stopped.
    Start { instance: String },
}

impl Change {
    pub(crate) fn profile(&self) -> Option<&ObjectChange> {
        if let Self::Profile(change) = self { Some(change) } else { None }
    }

    pub(crate) fn restarted(&self) -> Option<&str> {
        if let Self::Restart { instance, .. } | Self::Start { instance } = self { Some(instance) } else { None }
    }

    pub(crate) async fn apply(&self, step: &LxdProfiles, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Profile(change) => match change.apply(client).await {
                // What is saved and not in force is pending, until it is.
                Err(error) => {
                    if let Some(named) = error.not_in_force() {
                        mark_users(client, &change.name, &named).await?;
                    }
                    Err(error.into())
                }
                Ok(()) => Ok(()),
            },
            Self::Mark { instance } => {
                let process = client.instance_state(instance).await?.pid;
                Ok(set_mark(client, instance, &process.to_string()).await?)
            }
            Self::Restart { instance, cluster: Some(cluster) } => {
                let deadline = Duration::from_secs(step.restart_timeout);
                let api = cluster.whole(&step.opt_root, deadline).await?;
                restart(step, client, instance).await?;
                let started = client.get::<Instance>(&format!("instances/{instance}")).await?.object.last_used_at;
                node::ready_again(&api, instance, &started, deadline).await
            }
            Self::Restart { instance, cluster: None } | Self::Start { instance } => restart(step, client, instance).await,
        }
    }
}

/// Restarts an instance, and waits until it can be reached.
async fn restart(step: &LxdProfiles, client: &Client, instance: &str) -> Result<(), Failure> {
    client.restart_instance(instance).await?;
    survey::addresses(client, instance, &step.internal_ifname, &[], Duration::from_secs(step.restart_timeout)).await?;
    Ok(set_mark(client, instance, "").await?)
}

/// Notes on the running instances of a profile that they do not have what it says: those that the server names, or all.
async fn mark_users(client: &Client, profile: &str, named: &[String]) -> Result<(), Error> {
    for instance in client.list::<Instance>().await? {
        let affected =
            if named.is_empty() { instance.profiles.iter().any(|used| used == profile) } else { named.contains(&instance.name) };
        if affected && instance.power() != Power::Stopped {
            let process = client.instance_state(&instance.name).await?.pid;
            set_mark(client, &instance.name, &process.to_string()).await?;
        }
    }
    Ok(())
}

/// Notes something on an instance; nothing takes the note away.
async fn set_mark(client: &Client, instance: &str, mark: &str) -> Result<(), Error> {
    let path = format!("instances/{instance}");
    let live = client.get::<Instance>(&path).await?;
    // A merge without a description clears it on LXD 5.0.
    let body = json!({"description": live.object.description, "config": {MARK: mark}});
    client.patch(&path, &body, live.etag.as_deref()).await.map(drop)
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(change) => change.fmt(f),
            Self::Mark { instance } => write!(f, "instance {instance}: mark for a restart"),
            Self::Restart { instance, .. } => write!(f, "restart instance {instance}"),
            Self::Start { instance } => write!(f, "start instance {instance}, which a restart has left stopped"),
        }
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        match self {
            Self::Profile(change) => change.object(),
            Self::Mark { instance } | Self::Restart { instance, .. } | Self::Start { instance } => format!("instance {instance}"),
        }
    }

    fn before(&self) -> Value {
        match self {
            Self::Profile(change) => change.before(),
            Self::Mark { .. } => json!({"restart": "not needed"}),
            Self::Restart { .. } => json!({"restart": "pending"}),
            Self::Start { .. } => json!({"restart": "failed"}),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Profile(change) => change.after(),
            Self::Mark { .. } => json!({"restart": "pending"}),
            Self::Restart { .. } | Self::Start { .. } => json!({"restart": "done"}),
        }
    }
}

/// The instances of the project that run, or should.
#[derive(Clone, Debug, Default)]
pub(crate) struct Restarts(pub(crate) BTreeMap<String, Running>);

/// An instance that runs or should, as far as restarts go.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub profiles: Vec<String>,
    pub marked: bool,
    pub owner: Owner,
    pub power: Power,
    pub cluster: Option<Cluster>,
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
    pub(crate) async fn observe(client: &Client, instances: Vec<Instance>) -> Result<Self, Failure> {
        let mut running = BTreeMap::new();
        for instance in instances {
            let (owner, power, cluster) = (owner(&instance), instance.power(), Cluster::of(&instance));
            let marked = match instance.config.get(MARK) {
                Some(_) if power == Power::Stopped => true,
                Some(process) => *process == client.instance_state(&instance.name).await?.pid.to_string(),
                None => false,
            };
            if marked || power != Power::Stopped {
                running.insert(instance.name, Running { profiles: instance.profiles, marked, owner, power, cluster });
            }
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
            let instance = name.clone();
            match running.power {
                // One that somebody has frozen is not set going.
                _ if !allowed || !(affected || running.marked) => {}
                Power::Running => restarts.push(Change::Restart { instance, cluster: running.cluster.clone() }),
                Power::Stopped => restarts.push(Change::Start { instance }),
                Power::Frozen | Power::Broken | Power::Changing => {}
            }
        }
        (marks, restarts)
    }

    pub(crate) fn pending(&self) -> impl Iterator<Item = &str> {
        let pending = self.0.iter().filter(|(_, running)| running.marked && running.power != Power::Stopped);
        pending.map(|(name, _)| name.as_str())
    }
}

fn owner(instance: &Instance) -> Owner {
    if instance.config.contains_key(lab::names::OWNER_KEY) {
        Owner::Lab
    } else if instance.config.contains_key(CLUSTER_KEY) {
        Owner::ClusterApi
    } else {
        Owner::Other
    }
}
