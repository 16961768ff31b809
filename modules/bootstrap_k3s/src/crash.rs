//! The end of k3s, watched for while it starts.

use std::{
    cell::RefCell,
    convert::Infallible,
    future,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use converge::{Failure, Wait};
use lxd::Client;

use crate::{
    BootstrapK3s,
    cause::{Cause, UNKNOWN},
    error::Error,
    process,
};

/// How often k3s may end for a reason that is not known: the first start of a slow machine sometimes takes two.
const PATIENCE: u32 = 3;

/// As much of the journal as a failure shows.
const JOURNAL_LINES: &str = "100";

/// Returns once k3s has ended for good, or for a reason that will not go away.
pub(crate) async fn watch(step: &BootstrapK3s, since: SystemTime) -> Failure {
    match look_on(step, since).await {
        // Whoever waits for the node has the better words.
        Err(Error::Wait(_)) => future::pending().await,
        Err(error) => error.into(),
        Ok(never) => match never {},
    }
}

async fn look_on(step: &BootstrapK3s, since: SystemTime) -> Result<Infallible, Error> {
    let client = step.client().await?;
    let known = RefCell::new(None);
    let wait = Wait::for_condition(format!("{}: the end of k3s", step.instance_name), Duration::from_secs(step.ready_timeout));
    wait.until(async || {
        let now = process::running(&client, step).await?;
        let before = known.replace(now.clone());
        let ends = now.is_none() || before.is_some() && now != before;
        if ends { look_closer(&client, step, since).await.map(Err) } else { Ok(Err("k3s runs".to_owned())) }
    })
    .await
}

/// k3s has ended: fails if it will do so again, else says how often it has.
async fn look_closer(client: &Client, step: &BootstrapK3s, since: SystemTime) -> Result<String, Error> {
    let (instance, unit) = (step.instance_name.clone(), step.service_name.as_str());
    survey::running_instance(client, &step.project, &instance).await?;
    let show = ["systemctl", "show", "--property=NRestarts,ActiveState,SubState,Result,ExecMainStatus", unit];
    let state = process::run(client, &instance, &show).await?;
    let since = format!("--since=@{}", since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    let lines = format!("--lines={JOURNAL_LINES}");
    // From a time on, journalctl gives the first lines, unless it gives the last one first.
    let journal = ["journalctl", "--no-pager", "--output=cat", "--reverse", "--unit", unit, &since, &lines];
    let journal = process::run(client, &instance, &journal).await?;
    let journal = journal.lines().rev().collect::<Vec<_>>().join("\n");
    let value = |key: &str| state.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
    let restarts: u32 = value("NRestarts").parse().unwrap_or_default();
    let is_over = restarts >= PATIENCE || ["failed", "inactive"].contains(&value("ActiveState"));
    match Cause::told_by(&journal) {
        None if !is_over => Ok(format!("k3s was started again {restarts} times")),
        cause => {
            let detail = format!("{state}\n{journal}");
            Err(Error::Crashed { instance, cause: cause.unwrap_or(&UNKNOWN), detail })
        }
    }
}
