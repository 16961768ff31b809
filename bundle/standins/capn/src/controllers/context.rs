//! What every reconciliation has at hand: its connections, and its errors.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt, runtime::controller::Action};

use tokio::sync::Semaphore;

use crate::{
    api::conditions::{ConditionState, Contract},
    infrastructure::{
        action,
        identity::{self, Identities},
        load_balancer,
    },
};

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
    /// Something was not done in LXD.
    #[error(transparent)]
    Action(#[from] action::Error),
    /// The load balancer does not serve.
    #[error(transparent)]
    LoadBalancer(#[from] load_balancer::Error),
    /// What failed is not tried again yet.
    #[error("the pause after the last attempt is not over")]
    TooEarly,
}

impl Error {
    /// Whoever mends it has the object looked at again.
    pub fn is_watched(&self) -> bool {
        matches!(self, Self::Identity(error) if error.is_watched())
    }

    /// What is said of it on the object; nothing if only trying again helps.
    pub fn state(&self) -> Option<ConditionState> {
        match self {
            Self::Kube(_) | Self::TooEarly => None,
            Self::Identity(error) => error.state(),
            Self::Lxd(error) => Some(identity::refusal(error)),
            Self::Action(error) => Some(error.state()),
            Self::LoadBalancer(error) => Some(error.state()),
        }
    }
}

/// What both reconcilers work with.
pub struct Context {
    /// Kubernetes.
    pub kube: Client,
    /// LXD.
    pub identities: Arc<Identities>,
    /// The contract of Cluster API that is kept.
    pub contract: Contract,
    /// As many permits as instances may be made at once.
    pub creations: Semaphore,
    /// By the objects' UIDs.
    failures: Mutex<BTreeMap<String, Failures>>,
}

/// Attempts that failed, one after the other.
struct Failures {
    count: u32,
    /// When to try again.
    next: Instant,
}

impl Context {
    /// Nothing has failed yet.
    pub fn new(kube: Client, identities: Arc<Identities>, contract: Contract, concurrency: usize) -> Self {
        Self { kube, identities, contract, creations: Semaphore::new(concurrency), failures: Mutex::default() }
    }

    /// The objects of a kind in a namespace.
    pub fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.kube.clone(), namespace)
    }

    /// Nothing is wrong with the object any more.
    pub fn succeeded(&self, object: &impl ResourceExt) {
        self.failures().remove(&object.uid().unwrap_or_default());
    }

    /// The last attempt failed.
    pub fn has_failed(&self, object: &impl ResourceExt) -> bool {
        self.failures().contains_key(&object.uid().unwrap_or_default())
    }

    /// The pause after an attempt that failed is not over.
    pub fn is_early(&self, object: &impl ResourceExt) -> bool {
        self.failures().get(&object.uid().unwrap_or_default()).is_some_and(|failures| Instant::now() < failures.next)
    }

    /// When to try again; later each time.
    pub fn failed(&self, object: &impl ResourceExt, error: &Error) -> Action {
        let now = Instant::now();
        let mut known = self.failures();
        let failures = known.entry(object.uid().unwrap_or_default()).or_insert(Failures { count: 0, next: now });
        if !matches!(error, Error::TooEarly) {
            failures.next = now + FIRST_PAUSE.saturating_mul(1 << failures.count.min(6)).min(LAST_PAUSE);
            failures.count += 1;
        }
        Action::requeue(failures.next.saturating_duration_since(now))
    }

    fn failures(&self) -> MutexGuard<'_, BTreeMap<String, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
