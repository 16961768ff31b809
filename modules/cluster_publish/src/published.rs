//! What the step promises, tried out: the API answers at every published address.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cluster::{Client, Kubeconfig, TLS_SERVER_NAME, resource};
use converge::{Failure, Wait, WaitError};
use lab::publication::Publication;
use lxd::Forward;

use crate::{
    ClusterPublish, Facts, LoadBalancerFacts, Mode, PublishedFacts, State, error::Error, load_balancer, proxy, wanted::Wanted,
};

/// How long one look at an address may take.
const LOOK: Duration = Duration::from_secs(5);
/// What an API server answers to somebody whom it does not know.
const ANSWERS: [u16; 3] = [200, 401, 403];

/// The facts, and what the user should know beside.
pub(crate) async fn facts(step: &ClusterPublish) -> Result<(Facts, Vec<String>), Failure> {
    let mut warnings = Vec::new();
    let (foreign_forwards, stale_forwards) = others(step).await?;
    for port in &foreign_forwards {
        warnings.push(format!(
            "network {}: {port} is no forward of the lab's; it takes this port from the host",
            step.internal_network_name
        ));
    }
    for port in &stale_forwards {
        warnings.push(format!("network {}: {port} leads to nobody; withdraw it with state: absent", step.internal_network_name));
    }
    let mut facts =
        Facts { published: Vec::new(), port: None, mode: step.mode, load_balancer: None, foreign_forwards, stale_forwards };
    if step.state == State::Absent {
        return Ok((facts, warnings));
    }
    let wanted = step.wanted().await?;
    if let Some(annotated) = wanted.annotated {
        let port = wanted.port;
        warnings.push(format!("the Cluster's annotation names port {annotated}, and it is published at {port}: whoever reads the annotation is led astray"));
    }
    let own = own_kubeconfig(step).await?;
    for address in &wanted.addresses {
        facts.published.push(ask(step, wanted, *address, own.as_ref(), &mut warnings).await?);
    }
    facts.port = Some(wanted.port);
    let balancer = &wanted.load_balancer;
    let addresses = balancer.addresses.iter().map(ToString::to_string).collect();
    facts.load_balancer = Some(LoadBalancerFacts { name: balancer.name.clone(), addresses });
    Ok((facts, warnings))
}

/// Ports of the internal network's forwards that are not the lab's, and those that are and lead to no load balancer.
async fn others(step: &ClusterPublish) -> Result<(Vec<String>, Vec<String>), Failure> {
    let client = step.lxd.client().await?;
    let forwards = if client.has_forwards() { client.forwards(&step.internal_network_name).await } else { Ok(Vec::new()) };
    let forwards: Vec<Forward> = lxd::if_there(forwards)?.unwrap_or_default();
    let clusters = load_balancer::clusters(&load_balancer::instances(step).await?);
    Ok((foreign(&forwards), stale(&forwards, &step.project, &clusters)))
}

/// Ports that nobody has marked as the lab's, and addresses that lead elsewhere as a whole.
pub(crate) fn foreign(forwards: &[Forward]) -> Vec<String> {
    let is_ours = |description: &str| description.parse::<Publication>().is_ok();
    forwards.iter().flat_map(|forward| forward.unclaimed(is_ours)).collect()
}

fn stale(forwards: &[Forward], project: &str, clusters: &[String]) -> Vec<String> {
    let ports = forwards.iter().flat_map(|forward| forward.ports.iter().map(move |port| (forward.listen_address, port)));
    let stale = ports.filter_map(|(address, port)| {
        let publication: Publication = port.description.parse().ok()?;
        let cluster = format!("{}/{}", publication.namespace, publication.cluster);
        let is_stale = publication.project == project && !clusters.contains(&cluster);
        is_stale.then(|| {
            format!("{}, once of cluster {cluster}", SocketAddr::new(address, port.listen_port.parse().unwrap_or_default()))
        })
    });
    stale.collect()
}

/// The cluster's own kubeconfig, as Cluster API keeps it beside the Cluster.
async fn own_kubeconfig(step: &ClusterPublish) -> Result<Option<Kubeconfig>, Failure> {
    let Some(path) = &step.kubeconfig_path else { return Ok(None) };
    let cluster = Client::connect(&Kubeconfig::read(path)?)?;
    let secret = cluster.find(resource::SECRET, Some(&step.namespace), &secret_name(step)).await?;
    let Some(encoded) = secret.as_ref().and_then(|secret| secret.data["data"]["value"].as_str()) else { return Ok(None) };
    let text = BASE64_STANDARD.decode(encoded).unwrap_or_default();
    Ok(Some(Kubeconfig::parse(&String::from_utf8_lossy(&text))?))
}

fn secret_name(step: &ClusterPublish) -> String {
    format!("{}-kubeconfig", step.name)
}

/// Asks at a published address, as somebody beyond the host would.
async fn ask(
    step: &ClusterPublish,
    wanted: &Wanted,
    address: IpAddr,
    own: Option<&Kubeconfig>,
    warnings: &mut Vec<String>,
) -> Result<PublishedFacts, Failure> {
    let reached_at = if step.mode == Mode::Proxy { proxy::reached_at(address) } else { address };
    let url = format!("https://{}", SocketAddr::new(reached_at, wanted.port));
    let mut facts = PublishedFacts { address: address.to_string(), url: url.clone(), verified: false, in_certificate: false };
    let Some(own) = own else {
        anybody_answers(step, &url).await?;
        let lacking = match step.kubeconfig_path {
            Some(_) => format!("there is no Secret {}/{}", step.namespace, secret_name(step)),
            None => "no kubeconfig_path was given".to_owned(),
        };
        warnings.push(format!("{url} answers as an API server does, and whose it is was not checked: {lacking}"));
        return Ok(facts);
    };
    facts.verified = true;
    let at = own.clone().with_server(&url);
    match Client::connect(&at)?.answers(step.patience()).await {
        Ok(_) => facts.in_certificate = true,
        Err(cluster::Error::Tls { .. }) => {
            // Another name in the certificate, or another authority: the name that every such certificate has tells them apart.
            let answer = Client::connect(&at.with_tls_server_name(TLS_SERVER_NAME))?.answers(step.patience()).await;
            answer.map_err(|error| told(error, &url))?;
            warnings.push(format!(
                "the API's certificate does not carry {reached_at}: kubeconfigs for {url} need tls-server-name: {TLS_SERVER_NAME}, \
                 or the Cluster this address among its certSANs"
            ));
        }
        Err(error) => return Err(told(error, &url)),
    }
    Ok(facts)
}

fn told(error: cluster::Error, url: &str) -> Failure {
    let url = url.to_owned();
    match error {
        cluster::Error::Tls { reason, .. } => Error::OtherCluster { url, reason }.into(),
        cluster::Error::Unauthorised { .. } => {
            Error::OtherCluster { url, reason: "it does not know the user of the cluster's own kubeconfig".into() }.into()
        }
        cluster::Error::Unreachable { reason, .. } | cluster::Error::NotServing { reason, .. } => {
            Error::NotAnswering { url, seen: reason }.into()
        }
        error => error.into(),
    }
}

/// Waits until anything answers as an API server does; whose it is cannot be told.
async fn anybody_answers(step: &ClusterPublish, url: &str) -> Result<(), Failure> {
    let setup = |error: reqwest::Error| Error::NotAnswering { url: url.to_owned(), seen: converge::cause(&error) };
    let client = transport::client().no_proxy().tls_danger_accept_invalid_certs(true).timeout(LOOK).build().map_err(setup)?;
    let look = async || {
        Ok::<_, WaitError>(match client.get(format!("{url}/livez")).send().await {
            Ok(answer) if ANSWERS.contains(&answer.status().as_u16()) => Ok(()),
            Ok(answer) => Err(format!("status {}", answer.status())),
            Err(error) => Err(converge::cause(&error)),
        })
    };
    let wait = Wait::for_condition(format!("{url}: answers as an API server does"), step.patience());
    wait.until(look).await.map_err(|over| Error::NotAnswering { url: url.to_owned(), seen: over.to_string() }.into())
}
