//! How an object is brought to what it should be, whatever its kind.

use std::{fmt::Debug, sync::Arc, time::Duration};

use k8s_openapi::{NamespaceResourceScope, jiff::Timestamp};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::controller::Action,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::context::{Context, Error};
use crate::{
    api::conditions::{ConditionState, Contract},
    infrastructure::action::InstanceAction,
};

/// A kind of objects that the provider looks after.
pub trait Managed: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned {
    /// What is published of one.
    type Status: Serialize + PartialEq;
    /// What there is to say of one.
    type Report: From<ConditionState>;

    /// What was published last.
    fn published(&self) -> Option<&Self::Status>;

    /// The status with what is to be said.
    fn status(&self, report: &Self::Report, contract: Contract, now: Timestamp) -> Self::Status;

    /// Looks, and does one thing.
    async fn step(&mut self, context: &Context) -> Result<Step<Self::Report>, Error>;
}

/// What comes of a look.
#[derive(Debug, PartialEq)]
pub enum Step<R> {
    /// Something was done in LXD: look again.
    Again,
    /// Change the object, and look again.
    Edit(Edit),
    /// Nothing, until something happens; what there is to say meanwhile.
    Rest(Option<R>),
    /// The same, where nobody tells that it happens: look again after a while.
    RestFor(Duration, R),
}

/// A change of an object in Kubernetes.
#[derive(Debug, PartialEq)]
pub enum Edit {
    /// The object stays until its instance is gone.
    AddFinalizer,
    /// The object may go.
    RemoveFinalizer,
    /// Merge this into it.
    Merge(Value),
}

impl Edit {
    /// Carries it out, and gives the object as it is now.
    async fn apply<K: Managed>(&self, object: &K, context: &Context) -> Result<K, kube::Error> {
        let patch = match self {
            Self::AddFinalizer => finalizers(object, true),
            Self::RemoveFinalizer => finalizers(object, false),
            Self::Merge(patch) => patch.clone(),
        };
        api_of(object, context).patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await
    }
}

/// Brings an object to what it should be, as far as it can be brought now.
pub async fn reconcile<K: Managed>(object: Arc<K>, context: Arc<Context>) -> Result<Action, Error> {
    // What is at hand may be older than what was written last.
    let Some(mut object) = api_of(&*object, &context).get_opt(&object.name_any()).await? else {
        return Ok(Action::await_change());
    };
    match converge(&mut object, &context).await {
        Ok((report, pause)) => {
            if let Some(report) = report {
                publish(&mut object, &report, &context).await?;
            }
            context.succeeded(&object);
            Ok(pause.map_or_else(Action::await_change, Action::requeue))
        }
        Err(error) => {
            if let Some(state) = error.state() {
                publish(&mut object, &state.into(), &context).await?;
            }
            if error.is_watched() { Ok(Action::await_change()) } else { Err(error) }
        }
    }
}

/// Looks, does one thing, and looks again, until there is only something to say, and perhaps a time to come back. Whatever was done
/// when the manager was killed, the next look shows it.
async fn converge<K: Managed>(object: &mut K, context: &Context) -> Result<(Option<K::Report>, Option<Duration>), Error> {
    loop {
        match object.step(context).await? {
            Step::Again => {}
            Step::Edit(edit) => *object = edit.apply(object, context).await?,
            Step::Rest(report) => return Ok((report, None)),
            Step::RestFor(pause, report) => return Ok((Some(report), Some(pause))),
        }
    }
}

/// Does something to the object's instance, and says so meanwhile. Where the last attempt failed, why it did is worth more.
pub async fn perform<K: Managed>(
    object: &mut K,
    action: &InstanceAction,
    client: &lxd::Client,
    instance: &str,
    context: &Context,
) -> Result<Step<K::Report>, Error> {
    // LXD tells of the start and the end of an instance that ends at once, and each would have it started again.
    if matches!(action, InstanceAction::Seed(_) | InstanceAction::Start) && context.is_early(object) {
        return Err(Error::TooEarly);
    }
    if !context.has_failed(object) {
        publish(object, &action.progress().into(), context).await?;
    }
    action.carry_out(client, instance, &context.creations).await?;
    Ok(Step::Again)
}

/// Writes what there is to say of an object into its status, unless that says it already.
pub async fn publish<K: Managed>(object: &mut K, report: &K::Report, context: &Context) -> Result<(), kube::Error> {
    let status = object.status(report, context.contract, Timestamp::now());
    if object.published() != Some(&status) {
        let status = Patch::Merge(json!({"status": status}));
        *object = api_of(object, context).patch_status(&object.name_any(), &PatchParams::default(), &status).await?;
    }
    Ok(())
}

fn api_of<K: Managed>(object: &K, context: &Context) -> Api<K> {
    context.api(&object.namespace().unwrap_or_default())
}

/// The finalizer of a kind.
fn finalizer<K: Resource<DynamicType = ()>>() -> String {
    format!("{}.{}", K::kind(&()).to_lowercase(), K::group(&()))
}

/// The object has our finalizer.
pub fn is_finalized<K: Resource<DynamicType = ()>>(object: &K) -> bool {
    object.finalizers().contains(&finalizer::<K>())
}

/// Fails when somebody else has changed the object meanwhile, whose finalizer would be lost.
fn finalizers<K: Resource<DynamicType = ()>>(object: &K, present: bool) -> Value {
    let ours = finalizer::<K>();
    let others = object.finalizers().iter().filter(|name| **name != ours).cloned();
    let finalizers: Vec<_> = others.chain(present.then(|| ours.clone())).collect();
    json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": finalizers}})
}
