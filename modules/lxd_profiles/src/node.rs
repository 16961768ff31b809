//! A node of a cluster that Cluster API made: its neighbours have to hold up the cluster while it restarts.

use std::{path::Path, time::Duration};

use cluster::{Client, Condition, Kubeconfig, condition::Test, resource};
use converge::Failure;
use lab::{
    machine, names,
    publication::{CLUSTER_KEY, NAMESPACE_KEY},
};
use lxd::Instance;

/// The cluster that an instance is a node of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    namespace: String,
    name: String,
}

impl Cluster {
    /// By what Cluster API's provider writes on its instances.
    pub(crate) fn of(instance: &Instance) -> Option<Self> {
        let name = instance.config.get(CLUSTER_KEY)?.clone();
        let namespace = instance.config.get(NAMESPACE_KEY).map_or(names::CLUSTERS_NAMESPACE, String::as_str).to_owned();
        Some(Self { namespace, name })
    }

    /// Its API, once all its nodes are Ready. One that cannot be asked is an error, so that no node goes down unseen.
    pub(crate) async fn whole(&self, opt_root: &Path, deadline: Duration) -> Result<Client, Failure> {
        let client = Client::connect(&Kubeconfig::read(&machine::cluster_kubeconfig(opt_root, &self.namespace, &self.name))?)?;
        let what = format!("cluster {}: all nodes Ready before one is restarted", self.name);
        client.wait_for(&what, &[Condition::all_nodes_ready()], deadline).await?;
        Ok(client)
    }
}

/// Waits until a node is Ready again that was started at some time.
pub(crate) async fn ready_again(client: &Client, node: &str, started: &str, deadline: Duration) -> Result<(), Failure> {
    let ready = Condition::of(resource::NODE, None, node, Test::ready_since(started));
    Ok(client.wait_for(&format!("{node}: Ready after the restart"), &[ready], deadline).await?)
}
