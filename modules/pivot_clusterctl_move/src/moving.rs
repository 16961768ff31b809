//! The move itself, begun or continued.

use std::fmt;

use converge::{Failure, Section};
use pivot::{Act, Foreign, Signature, Stage, Where};
use serde_json::{Value, json};

use crate::{
    clusters::Clusters,
    copying::{Copying, Live},
    error::Error,
};

/// The section: everything of the copy is on the target and reconciles there, and nothing is on the source.
pub(crate) struct Moving<'a>(pub &'a Clusters<'a>);

/// One thing on the way on.
pub(crate) struct Change {
    act: Act,
    /// What the move looks like when it begins, or goes on.
    signature: Signature,
}

impl Moving<'_> {
    fn foreign(&self, foreign: Foreign) -> Error {
        let namespace = self.0.step.target_cluster_namespace.clone();
        Error::Foreign { foreign, namespace, kubeconfigs: [Where::Source, Where::Target].map(|place| self.0.kubeconfig(place)) }
    }

    /// Runs clusterctl, and judges by what it has left behind, not by how it ended.
    async fn run(&self, arguments: &[&str], wanted: &[Signature]) -> Result<(), Failure> {
        let Some(copied) = Live::observe(self.0).await?.copy().map(|copy| copy.objects.clone()) else {
            return Err(Error::NoCopy.into());
        };
        self.0.await_target().await?;
        self.0.record(Stage::Moving)?;
        let ended = self.0.clusterctl(arguments).await?;
        let sides = self.0.sides().await?;
        let signature = Signature::of(&copied, &sides).map_err(|foreign| self.foreign(foreign))?;
        if wanted.contains(&signature) {
            return Ok(());
        }
        if signature == Signature::Ready {
            // It was refused before it did anything.
            self.0.record(Stage::Copied)?;
        }
        Err(Error::Stopped { signature, seen: sides.described(&copied), source: ended.err().map(Box::new) }.into())
    }
}

impl Section for Moving<'_> {
    const NAME: &'static str = "move";
    type Live = Live;
    type Change = Change;

    async fn observe(&self) -> Result<Live, Failure> {
        Live::observe(self.0).await
    }

    fn plan(&self, live: &Live) -> Result<Vec<Change>, Failure> {
        if live.is_finished {
            self.0.saw(Signature::Finished);
            return Ok(Vec::new());
        }
        let change = |act, signature| Change { act, signature };
        // The copy is made before; where it is only planned, so is the move.
        if Copying(self.0).is_due(live)? {
            self.0.saw(Signature::Ready);
            return Ok(vec![change(Act::Move, Signature::Ready)]);
        }
        let Some(copy) = live.copy() else { return Err(Error::NoCopy.into()) };
        let signature = Signature::of(&copy.objects, &live.sides).map_err(|foreign| self.foreign(foreign))?;
        let acts = signature.continuation(&copy.objects, &live.sides);
        self.0.refuse_paused_by_hand(&live.paused_by_hand(&acts))?;
        self.0.saw(signature);
        Ok(acts.into_iter().map(|act| change(act, signature)).collect())
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        let (clusters, namespace) = (self.0, &self.0.step.target_cluster_namespace);
        clusters.hold().await?;
        let path = |place| clusters.kubeconfig(place).display().to_string();
        let (source, target) = (path(Where::Source), path(Where::Target));
        match &change.act {
            Act::Move => {
                let arguments = ["--kubeconfig", &source, "--to-kubeconfig", &target, "--namespace", namespace];
                self.run(&arguments, &[Signature::Finished]).await
            }
            Act::Restore => {
                let objects = clusters.folder().objects().display().to_string();
                self.run(&["--to-kubeconfig", &target, "--from-directory", &objects], &[Signature::Restored]).await
            }
            act => clusters.act(act).await,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.act.fmt(f)
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        match &self.act {
            Act::Move | Act::Restore => "Cluster API's objects".to_owned(),
            Act::Unpause(place, handle) | Act::Pause(place, handle) => format!("{handle} on the {place}"),
            Act::Delete(handle) => format!("{handle} on the source"),
            Act::Annotate(handle, _) => format!("{handle} on the target"),
        }
    }

    fn before(&self) -> Value {
        match &self.act {
            Act::Move | Act::Restore => json!({"state": self.signature}),
            Act::Unpause(..) => json!({"paused": true}),
            Act::Pause(..) => json!({"paused": false}),
            Act::Delete(handle) => json!({"uid": handle.uid}),
            Act::Annotate(..) => json!({"annotations": "(replaced by a mark)"}),
        }
    }

    fn after(&self) -> Value {
        match &self.act {
            Act::Move => json!({"state": Signature::Finished}),
            Act::Restore => json!({"state": Signature::Restored}),
            Act::Unpause(..) => json!({"paused": false}),
            Act::Pause(..) => json!({"paused": true}),
            Act::Delete(_) => Value::Null,
            Act::Annotate(_, own) => json!({"annotations": own}),
        }
    }
}
