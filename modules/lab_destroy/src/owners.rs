//! Those who own clusters: the bootstrap cluster and the management cluster, as their own APIs tell.

use std::{path::PathBuf, time::Duration};

use cluster::{Client, Condition, Kubeconfig, resource};
use converge::Failure;
use lab::{
    lifecycle::Owner,
    teardown::{Api, ClusterName, Doomed, Of, Scope},
};
use lxd::{Instance, Power};

use crate::{LabDestroy, error::Error, instances};

/// How long an API may be away that is needed, and one that is not.
const NEEDED: Duration = Duration::from_secs(60);
const DISPENSABLE: Duration = Duration::from_secs(5);

/// What an owner said.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) api: Api,
    /// The Clusters that it has.
    pub(crate) clusters: Vec<ClusterName>,
}

impl LabDestroy {
    fn kubeconfig(&self, owner: Owner) -> PathBuf {
        match owner {
            Owner::Bootstrap => self.bootstrap_kubeconfig(),
            Owner::Management => self.management_kubeconfig(),
        }
    }

    /// A connection to an owner.
    pub(crate) fn owner(&self, owner: Owner) -> Result<Client, cluster::Error> {
        Client::connect(&Kubeconfig::read(&self.kubeconfig(owner))?)
    }

    /// Asks an owner for its Clusters, if there are instances of it.
    pub(crate) async fn ask(&self, owner: Owner, all: &[Instance]) -> Asked {
        let whose = match owner {
            Owner::Bootstrap => Of::Bootstrap,
            Owner::Management => Of::Cluster(self.management()),
        };
        let own: Vec<_> = all
            .iter()
            .filter(|instance| Of::by_keys(&instance.config) == whose && !instances::is_load_balancer(instance))
            .collect();
        if own.is_empty() {
            return Asked::default();
        }
        if own.iter().all(|instance| instance.power() != Power::Running) {
            let reason = own.iter().map(|instance| format!("instance {} is {}", instance.name, instance.status));
            return Asked { api: Api::Silent(reason.collect::<Vec<_>>().join(", ")), clusters: Vec::new() };
        }
        match self.clusters(owner).await {
            Ok(clusters) => Asked { api: Api::Answers, clusters },
            Err(failure) => Asked { api: Api::Silent(failure.msg), clusters: Vec::new() },
        }
    }

    async fn clusters(&self, owner: Owner) -> Result<Vec<ClusterName>, Failure> {
        let client = self.owner(owner)?;
        let is_needed = match owner {
            Owner::Bootstrap => matches!(self.scope(), Scope::Management),
            Owner::Management => matches!(self.scope(), Scope::Workload(_) | Scope::Workloads),
        };
        client.answers(if is_needed { NEEDED.min(self.patience()) } else { DISPENSABLE }).await?;
        // Where Cluster API has never been, there is no such kind.
        let clusters = cluster::if_there(client.list(resource::CLUSTER, None).await)?.unwrap_or_default();
        let name = |object: &cluster::DynamicObject| {
            Some(ClusterName::new(object.metadata.namespace.as_deref()?, object.metadata.name.as_deref()?))
        };
        Ok(clusters.iter().filter_map(name).collect())
    }

    /// Has an owner delete Clusters, all at once, and waits until they are gone.
    pub(crate) async fn delete_clusters(&self, owner: Owner, doomed: &[Doomed]) -> Result<(), Failure> {
        let clusters: Vec<_> = doomed.iter().map(|doomed| doomed.cluster.clone()).collect();
        let outcome = async {
            let client = self.owner(owner)?;
            let mut gone = Vec::new();
            for ClusterName { namespace, name } in &clusters {
                let Some(found) = client.find(resource::CLUSTER, Some(namespace), name).await? else { continue };
                client.delete(resource::CLUSTER, Some(namespace), name).await?;
                let uid = found.metadata.uid.unwrap_or_default();
                gone.push(Condition::gone(resource::CLUSTER, Some(namespace), name, &uid));
                // Cluster API lets the Cluster go after them; they tell how far it has come.
                gone.push(Condition::machines_gone(namespace, name));
            }
            client.wait_for("clusters are gone", &gone, self.patience()).await
        };
        outcome.await.map_err(|source| Error::NotDeleted { clusters, source }.into())
    }
}
