//! That instances are gone.

use converge::{Failure, Wait};
use futures_util::future::join_all;
use lab::{
    publication::{LOAD_BALANCER, ROLE_KEY},
    teardown::Of,
};
use lxd::{Client, Instance, Power};

use crate::{LabDestroy, error::Error};

/// How long LXD waits for the end of an instance that it stops by force, in seconds.
const STOPPING: u64 = 30;

/// A load balancer alone carries no cluster.
pub(crate) fn is_load_balancer(instance: &Instance) -> bool {
    instance.config.get(ROLE_KEY).is_some_and(|role| role == LOAD_BALANCER)
}

/// Deletes every instance that is somebody's, also one that has come since it was looked at.
pub(crate) async fn sweep(step: &LabDestroy, whose: &Of) -> Result<(), Failure> {
    let client = step.project_client().await?;
    let found = match step.steadily("its instances", || client.list::<Instance>()).await {
        Err(failure) if failure.code == "LXD_NOT_FOUND" => Vec::new(),
        found => found?,
    };
    let names: Vec<_> =
        found.iter().filter(|instance| Of::by_keys(&instance.config) == *whose).map(|instance| instance.name.clone()).collect();
    delete(step, whose, &names).await
}

/// Deletes instances side by side.
pub(crate) async fn delete(step: &LabDestroy, whose: &Of, names: &[String]) -> Result<(), Failure> {
    let client = step.project_client().await?;
    let deleted = join_all(names.iter().map(|name| delete_one(step, &client, whose, name))).await;
    Ok(deleted.into_iter().collect::<Result<(), Error>>()?)
}

async fn delete_one(step: &LabDestroy, client: &Client, whose: &Of, name: &str) -> Result<(), Error> {
    let wait = Wait::for_condition(format!("instance {name}: gone"), step.patience());
    let look = async || match attempt(client, whose, name).await {
        // LXD 5.0 gives up waiting for the end of an instance on a busy machine; asked again, it finds it stopped. What another run is at,
        // or what a restart of LXD has cut off, is seen by the next look.
        Err(Error::Lxd(error))
            if error.is_passing()
                || error.is_not_found()
                || matches!(error, lxd::Error::Failed { .. } | lxd::Error::Slow { .. } | lxd::Error::Conflict { .. }) =>
        {
            Ok(Err(error))
        }
        done => done.map(Ok),
    };
    wait.until(look).await?;
    tracing::info!("instance {name} is gone");
    Ok(())
}

async fn attempt(client: &Client, whose: &Of, name: &str) -> Result<(), Error> {
    client.settle("instances", name).await?;
    let Some(found) = client.find::<Instance>(name).await? else { return Ok(()) };
    if Of::by_keys(&found.object.config) != *whose {
        return Err(Error::Exchanged { name: name.to_owned() });
    }
    if found.object.power() != Power::Stopped {
        // Nothing on an instance that goes is worth a shutdown that may hang.
        client.stop_instance_at_once(name, STOPPING).await?;
    }
    Ok(client.delete_instance(name).await?)
}
