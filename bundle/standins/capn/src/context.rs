//! What both reconcilers share: their connections, their errors, and how they write to Kubernetes.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::controller::Action,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{balancer, conditions::Verdict, identity, identity::Identities};

/// The pauses between attempts that failed grow from the first to the last. What can be watched is not waited for so.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Why an object is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Kubernetes does not answer as it should.
    #[error("Kubernetes: {0}")]
    Kube(#[from] kube::Error),
    /// There is no connection to LXD.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// LXD does not answer as it should.
    #[error(transparent)]
    Lxd(#[from] lxd::Error),
    /// The load balancer does not serve.
    #[error(transparent)]
    Balancer(#[from] balancer::Error),
}

impl Error {
    /// Whoever mends it has the object looked at again.
    pub fn is_watched(&self) -> bool {
        matches!(self, Self::Identity(error) if error.is_watched())
    }

    /// What is said of it on the object; nothing if only trying again helps.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Kube(_) => None,
            Self::Identity(error) => error.verdict(),
            Self::Lxd(error) => Some(identity::refusal(error)),
            Self::Balancer(error) => Some(error.verdict()),
        }
    }
}

/// What both reconcilers work with.
pub struct Context {
    /// Kubernetes.
    pub kube: Client,
    /// LXD.
    pub identities: Arc<Identities>,
    failures: Mutex<BTreeMap<String, u32>>,
}

impl Context {
    /// Nothing has failed yet.
    pub fn new(kube: Client, identities: Arc<Identities>) -> Self {
        Self { kube, identities, failures: Mutex::default() }
    }

    /// The objects of a kind in a namespace.
    pub fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.kube.clone(), namespace)
    }

    /// Nothing is wrong with the object any more.
    pub fn succeeded(&self, object: &impl ResourceExt) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&object.uid().unwrap_or_default());
    }

    /// When to try again; later each time.
    pub fn failed(&self, object: &impl ResourceExt) -> Action {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let times = failures.entry(object.uid().unwrap_or_default()).or_default();
        let pause = FIRST_PAUSE.saturating_mul(1 << (*times).min(6)).min(LAST_PAUSE);
        *times += 1;
        Action::requeue(pause)
    }
}

/// The finalizer of a kind.
pub fn finalizer<K: Resource<DynamicType = ()>>() -> String {
    format!("{}.{}", K::kind(&()).to_lowercase(), K::group(&()))
}

/// The object has our finalizer.
pub fn is_finalized<K: Resource<DynamicType = ()>>(object: &K) -> bool {
    object.finalizers().contains(&finalizer::<K>())
}

/// What a reconciler does next when LXD has no part in it.
#[derive(Debug, PartialEq)]
pub enum Step<R> {
    /// Change the object.
    Edit(Edit),
    /// Nothing, until something happens; what there is to say meanwhile.
    Rest(Option<R>),
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
    pub async fn apply<K>(&self, api: &Api<K>, object: &K) -> Result<K, kube::Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let patch = match self {
            Self::AddFinalizer => finalizers(object, true),
            Self::RemoveFinalizer => finalizers(object, false),
            Self::Merge(patch) => patch.clone(),
        };
        api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await
    }
}

/// Fails when somebody else has changed the object meanwhile, whose finalizer would be lost.
fn finalizers<K: Resource<DynamicType = ()>>(object: &K, present: bool) -> Value {
    let ours = finalizer::<K>();
    let others = object.finalizers().iter().filter(|name| **name != ours).cloned();
    let finalizers: Vec<_> = others.chain(present.then(|| ours.clone())).collect();
    json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": finalizers}})
}

/// Writes an object's status, if it is another than before, and gives the object as it is now.
pub async fn publish<K, S>(api: &Api<K>, object: &K, before: Option<&S>, status: &S) -> Result<K, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    S: Serialize + PartialEq,
{
    if before == Some(status) {
        return Ok(object.clone());
    }
    api.patch_status(&object.name_any(), &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await
}
