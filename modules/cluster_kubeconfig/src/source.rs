//! What Cluster API has of a cluster.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cluster::{
    Client, Condition, DynamicObject, Kubeconfig, TLS_SERVER_NAME,
    condition::{Look, Test},
    resource,
};
use lab::publication::PORT_ANNOTATION;

use crate::error::Error;

/// The Secret's key that holds the kubeconfig.
const KEY: &str = "value";

/// A Cluster, and the kubeconfig that there is for it.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The port at which it is published.
    pub port: Option<u16>,
    /// The administrator's, checked.
    pub kubeconfig: Option<Kubeconfig>,
}

/// Reads what there is.
pub(crate) async fn read(client: &Client, namespace: &str, name: &str) -> Result<Source, Error> {
    let label = || format!("{namespace}/{name}");
    let cluster = client.find(resource::CLUSTER, Some(namespace), name).await?;
    let cluster = cluster.ok_or_else(|| Error::NoCluster { cluster: label() })?;
    let port = cluster.metadata.annotations.and_then(|notes| notes.get(PORT_ANNOTATION)?.parse().ok());
    let secret = client.find(resource::SECRET, Some(namespace), &secret_name(name)).await?;
    let kubeconfig =
        secret.map(|secret| parse(&secret).map_err(|reason| Error::Odd { secret: format!("{}-kubeconfig", label()), reason }));
    Ok(Source { port, kubeconfig: kubeconfig.transpose()? })
}

/// Waits until the Secret is there.
pub(crate) async fn wait(client: &Client, namespace: &str, name: &str, deadline: Duration) -> Result<(), Error> {
    let is_there = Test::new("there", |_| Look { holds: true, seen: "there".into() });
    let secret = Condition::of(resource::SECRET, Some(namespace), &secret_name(name), is_there);
    let what = format!("Cluster {namespace}/{name}: its kubeconfig is there");
    match client.wait_for(&what, &[secret], deadline).await {
        Err(cluster::Error::Wait(source) | cluster::Error::Unmet { source, .. }) => {
            Err(Error::NotInTime { cluster: format!("{namespace}/{name}"), source })
        }
        outcome => Ok(outcome?),
    }
}

fn secret_name(cluster: &str) -> String {
    format!("{cluster}-kubeconfig")
}

fn parse(secret: &DynamicObject) -> Result<Kubeconfig, String> {
    let value =
        secret.data["data"][KEY].as_str().filter(|value| !value.is_empty()).ok_or_else(|| format!("it has no key {KEY}"))?;
    let text = BASE64_STANDARD.decode(value).map_err(|_| "its value is no base64".to_owned())?;
    let kubeconfig = Kubeconfig::parse(&String::from_utf8_lossy(&text)).map_err(|error| error.to_string())?;
    kubeconfig.travels().map_err(|error| error.to_string())?;
    // A kubeconfig that no client can be made of is found out now, not by whoever is given it.
    Client::connect(&kubeconfig).map_err(|error| error.to_string())?;
    Ok(kubeconfig.current().with_tls_server_name(TLS_SERVER_NAME))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_kubeconfig_says_why_and_quotes_nothing() {
        let encoded = |text: &str| json!(BASE64_STANDARD.encode(text));
        for (value, words) in [
            (json!(null), "no key value"),
            (json!(""), "no key value"),
            (json!("hunter2!"), "no base64"),
            (encoded("hunter2"), "no cluster"),
            (
                encoded(
                    "clusters: [{name: x, cluster: {server: 'https://10.0.0.1:6443'}}]\nusers: [{name: y, user: {token: hunter2}}]",
                ),
                "cannot be used",
            ),
        ] {
            let secret = resource::SECRET.object(Some("ns"), "x-kubeconfig", json!({"data": {"value": value}}));
            let reason = parse(&secret).unwrap_err();
            assert!(reason.contains(words) && !reason.contains("hunter2"), "{reason}");
        }
    }
}
