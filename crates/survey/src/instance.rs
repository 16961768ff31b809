//! The instance that carries the bootstrap cluster.

use lxd::{Client, InstanceState, Power};

use crate::Error;

/// What an instance of the client's project is doing; it is an error if there is none.
pub async fn instance_state(client: &Client, project: &str, instance: &str) -> Result<InstanceState, Error> {
    let none = || Error::NoInstance { instance: instance.to_owned(), project: project.to_owned() };
    lxd::if_there(client.instance_state(instance).await)?.ok_or_else(none)
}

/// What an instance is doing; it is an error unless it runs.
pub async fn running_instance(client: &Client, project: &str, instance: &str) -> Result<InstanceState, Error> {
    let state = instance_state(client, project, instance).await?;
    if state.power() == Power::Running {
        return Ok(state);
    }
    Err(Error::NotRunning { instance: instance.to_owned(), status: state.status })
}
