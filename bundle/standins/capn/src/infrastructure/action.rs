//! What is done to an instance. Each action can be done again: whoever looks afterwards sees whether there is still something to do.

use std::{pin::pin, time::Duration};

use converge::{Wait, WaitError};
use lxd::{Client, Instance};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{identity, instance};
use crate::api::conditions::{Cause, ConditionState};

/// How long LXD may take for each.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long an instance that runs may go without any address, and without the one that it had before.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(60);
const KNOWN_ADDRESS_PATIENCE: Duration = Duration::from_secs(20);
/// Where LXD notes the first of an instance's ids.
const IDS_KEY: &str = "volatile.idmap.base";
/// How long LXD may take to give a new instance its ids.
const IDS_PATIENCE: Duration = Duration::from_secs(10);
/// How long LXD may take to stop an instance by force, in seconds.
const STOPPING: u32 = 30;

/// It was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// LXD does not answer as it should, or not in time.
    #[error(transparent)]
    Lxd(#[from] lxd::Error),
    /// What runs in the instance ends at once.
    #[error(
        "the instance {0} stops by itself once it is started: `lxc console {0} --show-log` has its last words; \
         where many instances run, fs.inotify.max_user_instances of the host may be too small for one more"
    )]
    Halted(String),
    /// The address that clients know did not come back.
    #[error("{0}; clients know the control plane by that address")]
    AddressLost(WaitError),
}

impl Error {
    /// What is said of it on the object.
    pub fn state(&self) -> ConditionState {
        match self {
            Self::Lxd(error) => identity::refusal(error),
            Self::Halted(_) | Self::AddressLost(_) => ConditionState::new(Cause::Failed, self.to_string()),
        }
    }
}

impl From<WaitError> for Error {
    fn from(error: WaitError) -> Self {
        Self::Lxd(error.into())
    }
}

/// Something to do to an instance.
#[derive(Debug, PartialEq)]
pub enum InstanceAction {
    /// Make it.
    Create {
        /// What LXD wants to hear.
        body: Value,
        /// The member of LXD's cluster that is to carry it.
        target: Option<String>,
    },
    /// Write a file into it, before it is started, and start it.
    Seed(SeedFile),
    /// Start it.
    Start,
    /// Wait until it has the address by which it is known; any at all, if there is none yet.
    AwaitAddress(Option<String>),
    /// Stop it without asking it: whatever it still does is not wanted any more.
    Stop,
    /// Delete it.
    Delete,
}

/// A file that an instance has from its first start on.
#[derive(Debug, PartialEq, Eq)]
pub struct SeedFile {
    /// Its absolute path.
    pub path: &'static str,
    /// Its mode.
    pub mode: u32,
    /// Its content.
    pub content: &'static str,
}

impl InstanceAction {
    /// What is said while it takes its time.
    pub fn progress(&self) -> ConditionState {
        let (reason, message) = match self {
            Self::Create { body, .. } => ("CreatingInstance", format!("LXD makes the instance of {}", body["source"])),
            Self::Seed(_) | Self::Start => ("CreatingInstance", "LXD starts the instance".to_owned()),
            Self::AwaitAddress(None) => ("CreatingInstance", "the instance runs and has no address yet".to_owned()),
            Self::AwaitAddress(Some(address)) => {
                ("CreatingInstance", format!("the instance runs and does not have the address {address} yet"))
            }
            Self::Stop | Self::Delete => ("Deleting", "LXD deletes the instance".to_owned()),
        };
        ConditionState::new(Cause::Waiting(reason), message)
    }

    /// Does it. There are as many permits as instances may be made at once.
    pub async fn carry_out(&self, client: &Client, name: &str, creations: &Semaphore) -> Result<(), Error> {
        let client = client.patient(PATIENCE);
        match self {
            Self::Create { body, target } => {
                let path = target.as_ref().map_or_else(|| "instances".to_owned(), |target| format!("instances?target={target}"));
                create(&client, &path, body, name, creations).await?;
            }
            Self::Seed(file) => {
                client.settle("instances", name).await?;
                client.create_file(name, file.path, file.mode, file.content.as_bytes()).await?;
                client.start_instance(name).await?;
            }
            Self::Start => client.start_instance(name).await?,
            Self::AwaitAddress(address) => await_address(&client, name, address.as_deref()).await?,
            Self::Stop => {
                client.settle("instances", name).await?;
                let stop = json!({"action": "stop", "force": true, "timeout": STOPPING});
                client.put(&format!("instances/{name}/state"), &stop, None).await?;
            }
            Self::Delete => {
                client.delete(&format!("instances/{name}")).await?;
            }
        }
        Ok(())
    }
}

/// An instance is being made until LXD has given it its ids. LXD 5.0 takes one that has none yet for the owner of the first 65,536,
/// and gives the next one those that follow, which no container may have: so there it has to be one at a time.
async fn create(client: &Client, path: &str, body: &Value, name: &str, creations: &Semaphore) -> Result<(), lxd::Error> {
    let mut making = pin!(client.post(path, body));
    {
        // The permits are never taken away.
        let _permit = creations.acquire().await.ok();
        if body["type"] == "virtual-machine" {
            return making.await.map(drop);
        }
        tokio::select! {
            made = &mut making => return made.map(drop),
            // Whatever became of that, the making itself tells how it ended.
            _ = has_ids(client, name) => {}
        }
    }
    making.await.map(drop)
}

/// No event tells that an instance has its ids, so LXD is asked.
async fn has_ids(client: &Client, name: &str) -> Result<(), lxd::Error> {
    let wait = Wait::for_condition(format!("{name}: ids of its own"), IDS_PATIENCE);
    wait.until(async || {
        let found = client.find::<Instance>(name).await?;
        Ok(if found.is_some_and(|found| found.object.config.contains_key(IDS_KEY)) { Ok(()) } else { Err("none yet") })
    })
    .await
}

/// LXD tells of no address, so it is asked.
async fn await_address(client: &Client, name: &str, known: Option<&str>) -> Result<(), Error> {
    let (what, patience) = known.map_or(("an address", ADDRESS_PATIENCE), |known| (known, KNOWN_ADDRESS_PATIENCE));
    let look = async || {
        let state = client.instance_state(name).await?;
        if state.status == "Stopped" {
            return Err(Error::Halted(name.to_owned()));
        }
        let addresses = instance::addresses(&state);
        let there = known.map_or(!addresses.is_empty(), |known| addresses.iter().any(|address| address == known));
        Ok(if there { Ok(()) } else { Err(format!("the instance is {} and has [{}]", state.status, addresses.join(", "))) })
    };
    match Wait::for_condition(format!("{name}: {what}"), patience).until(look).await {
        Err(Error::Lxd(lxd::Error::Wait(wait))) if known.is_some() => Err(Error::AddressLost(wait)),
        outcome => outcome,
    }
}
