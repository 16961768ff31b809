//! What runs inside the instance.

use lxd::Client;

use crate::{BootstrapK3s, error::Error};

/// A run of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub id: String,
    /// When it began, in the form that [`lxd::FileInfo`] has.
    pub since: String,
}

/// The run of the service that goes on, if one does. systemd keeps a link for it, which can be read without running anything.
pub(crate) async fn running(client: &Client, step: &BootstrapK3s) -> Result<Option<Invocation>, Error> {
    let link = format!("/run/systemd/units/invocation:{}.service", step.service_name);
    let found = client.read_file(&step.instance_name, &link).await?;
    Ok(found.map(|(info, leads_to)| {
        let leads_to = String::from_utf8_lossy(&leads_to).into_owned();
        Invocation { id: leads_to.rsplit('/').next().unwrap_or_default().to_owned(), since: info.modified }
    }))
}

/// Runs a command inside an instance to a good end.
pub(crate) async fn run(client: &Client, instance: &str, command: &[&str]) -> Result<String, Error> {
    let answer = client.exec(instance, command).await?;
    if answer.code == 0 {
        return Ok(answer.stdout.trim().to_owned());
    }
    Err(Error::Command { command: command.join(" "), instance: instance.to_owned(), words: answer.words() })
}
