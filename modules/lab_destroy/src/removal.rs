//! Carries out what goes.

use std::{cell::RefCell, collections::BTreeSet, fmt};

use converge::{Failure, Section};
use helm::{Helm, Hold, Release, Secrets, Target};
use host::{HostLock, file};
use lab::{
    lifecycle::Owner,
    machine,
    publication::Publication,
    teardown::{self, ClusterName, Doomed, Of, Plan, Removal, Seen},
};
use lxd::Project;
use serde_json::{Value, json};

use crate::{LabDestroy, error::Error, instances, look, substrate::LISTENER_KEY};

/// The section: what is in the scope is gone.
pub(crate) struct Teardown<'a> {
    step: &'a LabDestroy,
    /// Clusters that their owner did not delete in time. They go after it.
    stuck: RefCell<Vec<ClusterName>>,
}

/// One thing that goes.
pub(crate) struct Change(Removal);

impl<'a> Teardown<'a> {
    pub(crate) fn new(step: &'a LabDestroy) -> Self {
        Self { step, stuck: RefCell::default() }
    }

    pub(crate) fn plan_for(&self, seen: &Seen) -> Result<Plan, Failure> {
        Ok(teardown::plan(&self.step.scope(), &self.step.management(), seen, self.step.force)?)
    }

    async fn clusters(&self, owner: Owner, doomed: &[Doomed], owner_goes: bool) -> Result<(), Failure> {
        let deleted = self.step.delete_clusters(owner, doomed).await;
        match deleted {
            Err(failure) if owner_goes && failure.code != "STOPPED" => {
                tracing::warn!("{failure}; the owner goes, and then LXD deletes what is left");
                self.stuck.borrow_mut().extend(doomed.iter().map(|doomed| doomed.cluster.clone()));
                return Ok(());
            }
            deleted => deleted?,
        }
        for doomed in doomed {
            instances::sweep(self.step, &Of::Cluster(doomed.cluster.clone())).await?;
        }
        Ok(())
    }

    async fn instances(&self, of: &Of, names: &[String]) -> Result<(), Failure> {
        instances::delete(self.step, of, names).await?;
        let stuck = self.stuck.take();
        for cluster in stuck {
            instances::sweep(self.step, &Of::Cluster(cluster)).await?;
        }
        Ok(())
    }

    async fn release(&self, namespace: &str, name: &str) -> Result<(), Failure> {
        let step = self.step;
        let release = Release::new(step.owner(Owner::Management)?, namespace, name);
        let server = release.client().server();
        let locks = step.opt_root.join(machine::HELM_LOCKS);
        let hold = Hold::take(&locks, server, &format!("{namespace}/{name}"), step.patience()).await?;
        if release.history().await?.is_empty() {
            return Ok(());
        }
        let target = Target {
            program: step.opt_root.join(machine::HELM),
            kubeconfig: step.management_kubeconfig(),
            server: server.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            timeout: step.patience(),
        };
        let (secrets, folder) = (Secrets::new(Vec::new(), &[]), hold.private_folder()?);
        Ok(Helm::new(&target, &secrets, folder.path()).uninstall(false).await?)
    }

    async fn class(&self, namespace: &str, release: &str) -> Result<(), Failure> {
        let client = self.step.owner(Owner::Management)?;
        // The clusters that were made of it are gone by now.
        let live = client.class_inventory(namespace).await?;
        for object in live.unused(release, &BTreeSet::new(), |_| false) {
            client.delete_unused(object).await?;
        }
        Ok(())
    }

    async fn ports(&self, cluster: &ClusterName, addresses: &[std::net::IpAddr]) -> Result<(), Failure> {
        let (client, network) = (self.step.lxd.client().await?, &self.step.internal_network_name);
        let mark =
            Publication { project: self.step.project.clone(), namespace: cluster.namespace.clone(), cluster: cluster.name.clone() };
        // LXD has no tags for forwards: one writer at a time on this host.
        let _alone = HostLock::acquire("lxd").await?;
        for address in addresses {
            let Some(live) = self.step.steadily("a forward", || client.find_forward(network, *address)).await? else { continue };
            let rest = live.without(&mark.to_string());
            let write = async || {
                if rest.is_spent() {
                    client.delete_forward(network, *address).await
                } else {
                    client.replace_forward(network, &rest).await
                }
            };
            match self.step.steadily("a forward", write).await {
                Err(failure) if failure.code == "LXD_NOT_FOUND" => return Err(Error::Overtaken { address: *address }.into()),
                written => written?,
            }
        }
        Ok(())
    }

    async fn forget(&self, project: &str) -> Result<(), Failure> {
        let client = self.step.lxd.client().await?;
        let Some(project) = self.step.steadily("the project", || client.find::<Project>(project)).await? else { return Ok(()) };
        match survey::forget(&project) {
            Some(change) => Ok(change.apply(client).await?),
            None => Ok(()),
        }
    }

    /// Deletes an object of LXD's; that it is not there is as good.
    async fn delete(&self, client: &lxd::Client, path: &str) -> Result<(), Failure> {
        self.step.steadily(path, async || lxd::if_there(client.delete(path).await).map(drop)).await
    }
}

impl Section for Teardown<'_> {
    const NAME: &'static str = "teardown";
    type Live = Seen;
    type Change = Change;

    async fn observe(&self) -> Result<Seen, Failure> {
        look::look(self.step).await
    }

    fn plan(&self, seen: &Seen) -> Result<Vec<Change>, Failure> {
        Ok(self.plan_for(seen)?.removals.into_iter().map(Change).collect())
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        let (client, within) = (self.step.lxd.client().await?, self.step.project_client().await?);
        match &change.0 {
            Removal::Clusters { owner, clusters, owner_goes } => self.clusters(*owner, clusters, *owner_goes).await,
            Removal::Instances { of, names } => self.instances(of, names).await,
            Removal::Release { namespace, name } => self.release(namespace, name).await,
            Removal::Class { cluster, release, .. } => self.class(&cluster.namespace, release).await,
            Removal::Ports { cluster, addresses } => self.ports(cluster, addresses).await,
            Removal::File(path) => Ok(file::remove(path)?),
            Removal::Phase(project) => self.forget(project).await,
            Removal::Trust(fingerprint) => self.delete(client, &format!("certificates/{fingerprint}")).await,
            Removal::Identity(fingerprint) => self.delete(client, &format!("auth/identities/tls/{fingerprint}")).await,
            Removal::Group(name) => self.delete(client, &format!("auth/groups/{name}")).await,
            Removal::Image(fingerprint) => self.delete(&within, &format!("images/{fingerprint}")).await,
            Removal::Profile(name) => self.delete(&within, &format!("profiles/{name}")).await,
            Removal::Project(name) => self.delete(client, &format!("projects/{name}")).await,
            Removal::Listener(_) => {
                let nowhere = json!({"config": {LISTENER_KEY: ""}});
                self.step.steadily("its listener", || client.patch("", &nowhere, None)).await.map(drop)
            }
            Removal::Network(name) => self.delete(client, &format!("networks/{name}")).await,
            Removal::Pool(name) => self.delete(client, &format!("storage-pools/{name}")).await,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        match &self.0 {
            Removal::Clusters { clusters, .. } => {
                let names = clusters.iter().map(|doomed| doomed.cluster.to_string());
                format!("clusters {}", names.collect::<Vec<_>>().join(", "))
            }
            Removal::Instances { names, .. } => format!("instances {}", names.join(", ")),
            Removal::Release { namespace, name } => format!("release {namespace}/{name}"),
            Removal::Class { cluster, .. } => format!("class of cluster {cluster}"),
            Removal::Ports { cluster, .. } => format!("API of {cluster}"),
            Removal::File(path) => path.display().to_string(),
            Removal::Phase(project) => format!("phase of project {project}"),
            Removal::Trust(fingerprint) => format!("certificate {fingerprint}"),
            Removal::Identity(fingerprint) => format!("identity {fingerprint}"),
            Removal::Group(name) => format!("group {name}"),
            Removal::Image(fingerprint) => format!("image {fingerprint}"),
            Removal::Profile(name) => format!("profile {name}"),
            Removal::Project(name) => format!("project {name}"),
            Removal::Listener(address) => format!("listener {address}"),
            Removal::Network(name) => format!("network {name}"),
            Removal::Pool(name) => format!("storage pool {name}"),
        }
    }

    fn before(&self) -> Value {
        match &self.0 {
            Removal::Clusters { clusters, .. } => {
                clusters.iter().map(|doomed| (doomed.cluster.to_string(), json!({"instances": doomed.instances}))).collect()
            }
            Removal::Instances { names, .. } => json!({"instances": names}),
            Removal::Class { objects, .. } => json!({"objects": objects}),
            Removal::Ports { addresses, .. } => json!({"published at": addresses}),
            _ => json!("(there)"),
        }
    }

    fn after(&self) -> Value {
        Value::Null
    }
}
