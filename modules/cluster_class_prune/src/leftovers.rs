//! What a release of a ClusterClass has made, and has no longer.

use std::{collections::BTreeSet, fmt};

use cluster::{
    Client, DynamicObject, Kubeconfig,
    class::{self, Inventory, Reference},
};
use converge::{Failure, Section};
use helm::Release;
use lab::{lifecycle::PivotOpen, machine};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::ClusterClassPrune;

pub(crate) struct Leftovers<'a> {
    step: &'a ClusterClassPrune,
    client: OnceCell<Client>,
}

#[derive(Clone, Default)]
pub(crate) struct Live {
    pub inventory: Inventory,
    /// What the release has now.
    pub kept: BTreeSet<Reference>,
    pub pivot_is_open: bool,
}

/// An object that goes.
pub(crate) struct Change(DynamicObject);

impl<'a> Leftovers<'a> {
    pub(crate) fn new(step: &'a ClusterClassPrune) -> Self {
        Self { step, client: OnceCell::new() }
    }

    async fn client(&self) -> Result<&Client, cluster::Error> {
        self.client.get_or_try_init(async || Client::connect(&Kubeconfig::read(&self.step.kubeconfig_path)?)).await
    }

    /// What the release has by its last revision. One that is under way or has failed may have made everything or nothing, so what
    /// there was before counts, too.
    async fn kept(&self, client: &Client) -> Result<BTreeSet<Reference>, Failure> {
        let release = Release::new(client.clone(), &self.step.namespace, &self.step.release);
        let (last, deployed) = release.standing(&release.history().await?).await?;
        let objects = last.into_iter().chain(deployed).flat_map(|record| helm::objects(&record.manifest));
        Ok(objects.map(|object| (object.kind, object.metadata.name)).collect())
    }
}

impl Section for Leftovers<'_> {
    const NAME: &'static str = "leftovers";
    type Live = Live;
    type Change = Change;

    async fn observe(&self) -> Result<Live, Failure> {
        let client = self.client().await?;
        // The classes first: one that comes with a revision meanwhile is then not among them.
        let inventory = client.class_inventory(&self.step.namespace).await?;
        let kept = self.kept(client).await?;
        let pivot_is_open = machine::open_pivot(&self.step.opt_root).exists();
        Ok(Live { inventory, kept, pivot_is_open })
    }

    fn plan(&self, live: &Live) -> Result<Vec<Change>, Failure> {
        let unused = live.inventory.unused(&self.step.release, &live.kept, |_| false);
        if live.pivot_is_open && !unused.is_empty() {
            return Err(PivotOpen { refused: "none of them may be deleted" }.into());
        }
        Ok(unused.into_iter().cloned().map(Change).collect())
    }

    async fn apply(&self, Change(object): &Change) -> Result<(), Failure> {
        Ok(self.client().await?.delete_unused(object).await?)
    }
}

impl Change {
    /// The kind and the name.
    pub(crate) fn label(&self) -> String {
        class::label(&self.0)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delete {}, which nothing needs any more", self.label())
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        self.label()
    }

    fn before(&self) -> Value {
        json!("(there)")
    }

    fn after(&self) -> Value {
        Value::Null
    }
}
