//! The one node of the bootstrap cluster.

use std::time::{Duration, Instant, SystemTime};

use cluster::{Condition, DynamicObject, condition::Test, resource};
use converge::{Failure, Wait};
use lab::capi::K3S_KUBECONFIG;
use survey::Addresses;

use crate::{BootstrapK3s, crash, error::Error, process};

/// A node that takes pods.
#[derive(Debug)]
pub(crate) struct Ready {
    pub node: String,
    pub addresses: Vec<String>,
    /// How long it took.
    pub seconds: u64,
}

/// Waits until the node is Ready, unless k3s ends, of which it may have spoken since some time.
pub(crate) async fn ready(step: &BootstrapK3s, since: SystemTime) -> Result<Ready, Failure> {
    let start = Instant::now();
    let (node, addresses) = tokio::select! {
        node = watch(step, start) => node?,
        failure = crash::watch(step, since) => return Err(failure),
    };
    Ok(Ready { node, addresses, seconds: start.elapsed().as_secs() })
}

async fn watch(step: &BootstrapK3s, start: Instant) -> Result<(String, Vec<String>), Failure> {
    let deadline = Duration::from_secs(step.ready_timeout);
    let instance = &step.instance_name;
    let client = step.client().await?;
    let wait = Wait::for_condition(format!("{instance}: {K3S_KUBECONFIG} and a run of {}", step.service_name), deadline);
    let look = async || {
        let state = survey::running_instance(&client, &step.project, instance).await?;
        let Some(address) = Addresses::of(&state, &step.internal_ifname).first() else {
            return Ok(Err(state.describe(&step.internal_ifname)));
        };
        let kubeconfig = match survey::kubeconfig(&client, instance, address).await {
            Ok(Some(kubeconfig)) => kubeconfig,
            Ok(None) => return Ok(Err(format!("no {K3S_KUBECONFIG}"))),
            // While k3s writes it, it is not whole.
            Err(survey::Error::Cluster(error)) => return Ok(Err(error.to_string())),
            Err(error) => return Err(Failure::from(error)),
        };
        let running = process::running(&client, step).await?;
        Ok(running.map(|running| (kubeconfig, running)).ok_or_else(|| "k3s does not run".to_owned()))
    };
    let (kubeconfig, running) = wait.until(look).await?;

    let api = cluster::Client::connect(&kubeconfig)?;
    let condition = Condition::any(resource::NODE, Test::ready_since(&running.since));
    api.wait_for(&format!("{instance}: node Ready"), &[condition], deadline.saturating_sub(start.elapsed())).await?;
    let nodes = api.list(resource::NODE, None).await?;
    let node = nodes.first().ok_or_else(|| Error::NoNode { instance: instance.clone() })?;
    Ok((node.metadata.name.clone().unwrap_or_default(), addresses(node)))
}

fn addresses(node: &DynamicObject) -> Vec<String> {
    let addresses = node.data["status"]["addresses"].as_array().into_iter().flatten();
    let internal = addresses.filter(|address| address["type"] == "InternalIP");
    internal.filter_map(|address| address["address"].as_str()).map(str::to_owned).collect()
}
