//! What there is of a lab. Nothing is changed here.

use std::{collections::BTreeSet, fs, io, path::PathBuf};

use cluster::class;
use converge::Failure;
use helm::Release;
use lab::{
    lifecycle::{Owner, PHASE_KEY},
    machine,
    publication::Publication,
    teardown::{Api, ClusterName, Instance, Of, Scope, Seen},
};
use lxd::{Client, Forward, Project};

use crate::LabDestroy;

/// Looks at a lab, as far as the scope needs it.
pub(crate) async fn look(step: &LabDestroy) -> Result<Seen, Failure> {
    let client = step.lxd.client().await?;
    let within = step.project_client().await?;
    let project = step.steadily("the project", || client.find::<Project>(&step.project)).await?.map(|found| found.object);
    let live: Vec<lxd::Instance> = match project {
        Some(_) => step.steadily("its instances", || within.list()).await?,
        None => Vec::new(),
    };
    let (bootstrap, management) = (step.ask(Owner::Bootstrap, &live).await, step.ask(Owner::Management, &live).await);
    let owned = |clusters: Vec<ClusterName>, owner| clusters.into_iter().map(move |cluster| (cluster, owner));
    let (ports, foreign_forwards) = ports(step, client).await?;
    let pivot = step.opt_root.join(machine::PIVOT);
    let mut seen = Seen {
        instances: live.iter().map(|live| Instance { name: live.name.clone(), of: Of::by_keys(&live.config) }).collect(),
        bootstrap: bootstrap.api,
        management: management.api,
        objects: owned(management.clusters, Owner::Management).chain(owned(bootstrap.clusters, Owner::Bootstrap)).collect(),
        releases: Vec::new(),
        classes: Vec::new(),
        ports,
        kubeconfigs: kubeconfigs(step)?,
        bootstrap_files: existing([step.bootstrap_kubeconfig()]),
        is_pivot_open: machine::open_pivot(&step.opt_root).exists(),
        pivot_files: existing([pivot]),
        phase: project.as_ref().and_then(|project| project.config.get(PHASE_KEY).cloned()),
        substrate: step.substrate(project.as_ref(), foreign_forwards).await?,
    };
    let leaving = leaving(step, &seen);
    if !leaving.is_empty() {
        let client = step.owner(Owner::Management)?;
        (seen.releases, seen.classes) = (releases(&client, &leaving).await?, classes(&client, &leaving).await?);
    }
    Ok(seen)
}

/// Those of the paths where something is.
fn existing<const N: usize>(paths: [PathBuf; N]) -> Vec<PathBuf> {
    paths.into_iter().filter(|path| path.symlink_metadata().is_ok()).collect()
}

/// The clusters whose APIs are published, with the addresses; and what is forwarded beside and is not the lab's.
async fn ports(step: &LabDestroy, client: &Client) -> Result<(Vec<(ClusterName, std::net::IpAddr)>, Vec<String>), Failure> {
    if !client.has_forwards() {
        return Ok(Default::default());
    }
    let network = &step.internal_network_name;
    let forwards: Vec<Forward> = match step.steadily("forwards", || client.forwards(network)).await {
        // There is no such network, or LXD does not manage it.
        Err(failure) if ["LXD_NOT_FOUND", "LXD_REFUSED"].contains(&failure.code) => Vec::new(),
        forwards => forwards?,
    };
    let mut published = Vec::new();
    for forward in &forwards {
        let marks = forward.ports.iter().filter_map(|port| port.description.parse::<Publication>().ok());
        let own = marks.filter(|mark| mark.project == step.project);
        published.extend(own.map(|mark| (ClusterName::new(&mark.namespace, &mark.cluster), forward.listen_address)));
    }
    published.sort();
    published.dedup();
    Ok((published, forwards.iter().flat_map(|forward| forward.unclaimed(Publication::marks)).collect()))
}

/// The kubeconfigs on the host, by the folder of the namespace and the name of the file.
fn kubeconfigs(step: &LabDestroy) -> Result<Vec<(ClusterName, PathBuf)>, Failure> {
    let mut found = Vec::new();
    for namespace in entries(step.opt_root.join(machine::CLUSTERS))? {
        let Some(name) = namespace.file_name().and_then(|name| name.to_str()) else { continue };
        for file in entries(namespace.clone())? {
            let cluster = file.file_name().and_then(|file| file.to_str()).and_then(machine::cluster_of_kubeconfig);
            found.extend(cluster.map(|cluster| (ClusterName::new(name, cluster), file.clone())));
        }
    }
    found.sort();
    Ok(found)
}

/// What is in a folder; nothing if there is no folder.
fn entries(folder: PathBuf) -> Result<Vec<PathBuf>, Failure> {
    match fs::read_dir(&folder) {
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => Ok(Vec::new()),
        Err(source) => Err(host::Error::Io { act: "read", path: folder, source }.into()),
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
    }
}

/// The workload clusters that go, where the management cluster outlives them and can be asked.
fn leaving(step: &LabDestroy, seen: &Seen) -> Vec<ClusterName> {
    match step.scope() {
        _ if seen.management != Api::Answers => Vec::new(),
        Scope::Workload(cluster) => vec![cluster],
        Scope::Workloads => seen.clusters().into_iter().filter(|cluster| **cluster != step.management()).cloned().collect(),
        _ => Vec::new(),
    }
}

/// Helm's releases of clusters.
async fn releases(client: &cluster::Client, clusters: &[ClusterName]) -> Result<Vec<(ClusterName, String)>, Failure> {
    let mut found = Vec::new();
    for cluster in clusters {
        for name in [cluster.name.clone(), class_release(cluster)] {
            if !Release::new(client.clone(), &cluster.namespace, &name).history().await?.is_empty() {
                found.push((cluster.clone(), name));
            }
        }
    }
    Ok(found)
}

/// What the classes' releases of clusters have made and nobody else needs.
async fn classes(client: &cluster::Client, clusters: &[ClusterName]) -> Result<Vec<(ClusterName, String, Vec<String>)>, Failure> {
    let mut found = Vec::new();
    for cluster in clusters {
        let (live, release) = (client.class_inventory(&cluster.namespace).await?, class_release(cluster));
        let goes = |object: &cluster::DynamicObject| clusters.iter().any(|of| is_object_of(object, of));
        let objects: Vec<_> = live.unused(&release, &BTreeSet::new(), goes).into_iter().map(class::label).collect();
        if !objects.is_empty() {
            found.push((cluster.clone(), release, objects));
        }
    }
    Ok(found)
}

/// The release of a cluster's class.
fn class_release(cluster: &ClusterName) -> String {
    format!("{}-class", cluster.name)
}

fn is_object_of(object: &cluster::DynamicObject, of: &ClusterName) -> bool {
    let metadata = &object.metadata;
    metadata.name.as_deref() == Some(of.name.as_str()) && metadata.namespace.as_deref() == Some(of.namespace.as_str())
}
