//! That nothing needs the bootstrap cluster any more. Nothing is ever changed for it.

use std::convert::Infallible;

use cluster::{Client, Condition, Kubeconfig, if_there, resource};
use converge::{Failure, Section};
use lab::{
    capi,
    publication::{CLUSTER_KEY, LOAD_BALANCER, NAMESPACE_KEY, ROLE_KEY},
};
use pivot::{Found, Open, Side, conditions, lost};

use crate::{CleanupBootstrap, error::Error, instance::BootstrapInstance};

/// The section: it fails where anything is missing for the proof.
pub(crate) struct Proof<'a>(pub &'a CleanupBootstrap);

#[derive(Default)]
pub(crate) struct Live {
    /// There is an instance, or a copy, that the proof is about.
    is_asked: bool,
    /// What contradicts it, a line each.
    against: Vec<String>,
    /// The management cluster was seen to have everything.
    pub is_taken_over: bool,
}

impl Proof<'_> {
    async fn look(&self) -> Result<Vec<String>, Failure> {
        let step = self.0;
        if Open::read(&step.staging_dir())?.is_some() {
            return Ok(vec!["a move is open; run the role pivot_clusterctl_move to its end".into()]);
        }
        let copy = match step.folder().read()? {
            Found::Whole(copy) => copy,
            Found::Nothing => return Ok(vec!["there is no copy that says what was moved; nothing was, as far as is known".into()]),
            Found::Damaged(what) => return Ok(vec![format!("the copy is damaged: {what}")]),
        };
        let target = Client::connect(&Kubeconfig::read(&step.management_kubeconfig())?)?;
        let side = Side::observe(&target, &step.target_cluster_namespace, capi::INFRASTRUCTURE_NAMESPACE).await?;
        let mut lines = lost(&copy, &side, &step.target_cluster_name, &self.instances().await?);
        let deployments = capi::DEPLOYMENTS.iter().map(|(namespace, name)| Condition::deployment_available(namespace, name));
        let conditions: Vec<_> = deployments.chain(conditions(side.staying())).collect();
        lines.extend(target.unmet(&conditions).await?.into_iter().map(|line| format!("on the management cluster {line}")));
        lines.extend(self.left().await?);
        Ok(lines)
    }

    /// The instances of the namespace's Clusters.
    async fn instances(&self) -> Result<Vec<pivot::Instance>, Failure> {
        let client = self.0.lxd.client().await?.in_project(&self.0.project);
        let found = lxd::if_there(client.list::<lxd::Instance>().await)?.unwrap_or_default();
        let is_here = |config: &lxd::Config| config.get(NAMESPACE_KEY) == Some(&self.0.target_cluster_namespace);
        let owned = |it: lxd::Instance| {
            let cluster = it.config.get(CLUSTER_KEY).filter(|_| is_here(&it.config))?.clone();
            let is_load_balancer = it.config.get(ROLE_KEY).is_some_and(|role| role == LOAD_BALANCER);
            Some(pivot::Instance { name: it.name, cluster, is_load_balancer })
        };
        Ok(found.into_iter().filter_map(owned).collect())
    }

    /// What the bootstrap cluster still has. One that does not answer cannot be seen to have nothing.
    async fn left(&self) -> Result<Vec<String>, Failure> {
        if BootstrapInstance(self.0).find().await?.is_none() {
            return Ok(Vec::new());
        }
        let asked = async {
            let source = Client::connect(&Kubeconfig::read(&self.0.bootstrap_kubeconfig())?)?;
            if_there(source.list(resource::CLUSTER, None).await).map(Option::unwrap_or_default)
        };
        Ok(match asked.await {
            Ok(clusters) => clusters
                .iter()
                .map(|cluster| {
                    let name = |name: &Option<String>| name.clone().unwrap_or_default();
                    format!(
                        "the bootstrap cluster has Cluster {}/{}",
                        name(&cluster.metadata.namespace),
                        name(&cluster.metadata.name)
                    )
                })
                .collect(),
            Err(error) => vec![format!("the bootstrap cluster cannot be seen to have nothing: {error}")],
        })
    }
}

impl Section for Proof<'_> {
    const NAME: &'static str = "proof";
    type Live = Live;
    type Change = Infallible;

    async fn observe(&self) -> Result<Live, Failure> {
        let has_instance = BootstrapInstance(self.0).find().await?.is_some();
        let has_copy = !matches!(self.0.folder().read()?, Found::Nothing);
        let is_asked = has_instance || has_copy;
        if !is_asked || self.0.force {
            return Ok(Live { is_asked, ..Live::default() });
        }
        let against = self.look().await?;
        Ok(Live { is_asked, is_taken_over: against.is_empty(), against })
    }

    fn plan(&self, live: &Live) -> Result<Vec<Infallible>, Failure> {
        if live.is_asked && !live.against.is_empty() {
            return Err(Error::NotTakenOver { against: live.against.clone() }.into());
        }
        Ok(Vec::new())
    }

    async fn apply(&self, change: &Infallible) -> Result<(), Failure> {
        match *change {}
    }
}
