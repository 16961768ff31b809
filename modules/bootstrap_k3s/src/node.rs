//! The one node of the bootstrap cluster.

use std::{
    net::IpAddr,
    time::{Duration, Instant, SystemTime},
};

use cluster::{
    Condition, DynamicObject, Kubeconfig, TLS_SERVER_NAME,
    condition::{Look, Test},
    resource,
};
use converge::{Failure, Wait};

use lab::capi::{API_PORT, K3S_KUBECONFIG};

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
        let text = client.read_file(instance, K3S_KUBECONFIG).await?.map(|(_, text)| text).unwrap_or_default();
        // While k3s writes it, it is not whole.
        let kubeconfig = Kubeconfig::parse(&String::from_utf8_lossy(&text)).map_err(|error| error.to_string());
        let running = process::running(&client, step).await?.ok_or_else(|| "k3s does not run".to_owned());
        let address = client.instance_state(instance).await?.global_addresses(&step.ifname).next();
        let address = address.ok_or_else(|| format!("no global address on {}", step.ifname));
        Ok::<_, Failure>(kubeconfig.and_then(|kubeconfig| Ok((kubeconfig, running?, address?))))
    };
    let (kubeconfig, running, address) = wait.until(look).await?;

    let server = reached_at(kubeconfig.server(), address);
    let api = cluster::Client::connect(&kubeconfig.with_server(&server).with_tls_server_name(TLS_SERVER_NAME))?;
    let ready = ready_since(&running.since);
    let condition = Condition::any(resource::NODE, ready);
    api.wait_for(&format!("{instance}: node Ready"), &[condition], deadline.saturating_sub(start.elapsed())).await?;
    let nodes = api.list(resource::NODE, None).await?;
    let node = nodes.first().ok_or_else(|| Error::NoNode { instance: instance.clone() })?;
    Ok((node.metadata.name.clone().unwrap_or_default(), addresses(node)))
}

/// The API server's address as others than the node itself reach it.
fn reached_at(server: &str, address: IpAddr) -> String {
    let port = server.trim_end_matches('/').rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(API_PORT);
    match address {
        IpAddr::V4(address) => format!("https://{address}:{port}"),
        IpAddr::V6(address) => format!("https://[{address}]:{port}"),
    }
}

/// A node that said it is Ready after a point in time. Until the kubelet of a k3s that was started again speaks for itself, the
/// node is as the one before left it.
fn ready_since(point: &str) -> Test {
    // As `2026-11-21 14:42:19 +0000 UTC` is written by LXD, and `2026-11-21T14:42:19Z` by Kubernetes.
    let point = point.get(..19).unwrap_or_default().replacen(' ', "T", 1);
    let has_spoken = Test::new("reported by its kubelet", move |node| {
        let conditions = node.data["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
        let spoken = ready.and_then(|ready| ready["lastHeartbeatTime"].as_str()).unwrap_or_default();
        Look { holds: spoken.get(..19).unwrap_or_default() >= point.as_str(), seen: format!("last heard of at {spoken}") }
    });
    Test::status("Ready").and(has_spoken)
}

fn addresses(node: &DynamicObject) -> Vec<String> {
    let addresses = node.data["status"]["addresses"].as_array().into_iter().flatten();
    let internal = addresses.filter(|address| address["type"] == "InternalIP");
    internal.filter_map(|address| address["address"].as_str()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_reached_where_the_node_is() {
        for (server, address, expected) in [
            ("https://127.0.0.1:6443", "10.77.0.5", "https://10.77.0.5:6443"),
            ("https://127.0.0.1:6444/", "10.77.0.5", "https://10.77.0.5:6444"),
            ("https://[::1]:6443", "fd42:77:1::5", "https://[fd42:77:1::5]:6443"),
        ] {
            assert_eq!(reached_at(server, address.parse().unwrap()), expected);
        }
    }
}
