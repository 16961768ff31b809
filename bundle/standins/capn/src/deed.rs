//! What is done to an instance. Each deed can be done again: whoever looks afterwards sees whether there is still something to do.

use std::{pin::pin, time::Duration};

use converge::{Wait, WaitError};
use lxd::{Client, Instance};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{conditions::Verdict, identity, instance::addresses};

/// How long LXD may take for each.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long an instance that runs may go without an address.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(60);
/// Where LXD notes the first of an instance's ids.
const IDS_KEY: &str = "volatile.idmap.base";
/// How long LXD may take to give a new instance its ids.
const IDS_PATIENCE: Duration = Duration::from_secs(10);
/// How long LXD may take to stop an instance by force, in seconds.
const STOPPING: u32 = 30;

/// Held while LXD gives a new instance its ids. LXD 5.0 takes an instance that has none yet for the owner of the first 65,536, and
/// gives the next one those that follow, which no container may have: it could never be started.
static GIVING_IDS: Mutex<()> = Mutex::const_new(());

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
}

impl Error {
    /// What is said of it on the object.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Lxd(error) => identity::refusal(error),
            Self::Halted(_) => Verdict::no("InstanceStops", self.to_string()),
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
pub enum Deed {
    /// Make it.
    Create {
        /// What LXD wants to hear.
        body: Value,
        /// The member of LXD's cluster that is to carry it.
        target: Option<String>,
    },
    /// Start it.
    Start,
    /// Wait until it has an address.
    AwaitAddress,
    /// Stop it without asking it: whatever it still does is not wanted any more.
    Stop,
    /// Delete it.
    Delete,
}

impl Deed {
    /// What is said while it takes its time.
    pub fn progress(&self) -> Verdict {
        let (reason, message) = match self {
            Self::Create { body, .. } => ("Creating", format!("LXD makes the instance of {}", body["source"])),
            Self::Start => ("Starting", "LXD starts the instance".to_owned()),
            Self::AwaitAddress => ("WaitingForAddress", "the instance runs and has no address yet".to_owned()),
            Self::Stop | Self::Delete => ("Deleting", "LXD deletes the instance".to_owned()),
        };
        Verdict::no(reason, message)
    }

    /// Does it.
    pub async fn carry_out(&self, client: &Client, name: &str) -> Result<(), Error> {
        let client = client.patient(PATIENCE);
        match self {
            Self::Create { body, target } => {
                let path = target.as_ref().map_or_else(|| "instances".to_owned(), |target| format!("instances?target={target}"));
                create(&client, &path, body, name).await?;
            }
            Self::Start => client.start_instance(name).await?,
            Self::AwaitAddress => await_address(&client, name).await?,
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

/// Side by side with others, but for the giving of ids.
async fn create(client: &Client, path: &str, body: &Value, name: &str) -> Result<(), lxd::Error> {
    let mut making = pin!(client.post(path, body));
    if body["type"] != "virtual-machine" {
        let _alone = GIVING_IDS.lock().await;
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
async fn await_address(client: &Client, name: &str) -> Result<(), Error> {
    let wait = Wait::for_condition(format!("{name}: an address"), ADDRESS_PATIENCE);
    wait.until(async || {
        let state = client.instance_state(name).await?;
        match state.status.as_str() {
            "Stopped" => Err(Error::Halted(name.to_owned())),
            status if addresses(&state).is_empty() => Ok(Err(format!("the instance is {status} and has none"))),
            _ => Ok(Ok(())),
        }
    })
    .await
}
