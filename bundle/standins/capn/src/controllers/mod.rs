//! Which events have which objects looked at, and how each is brought to what it should be.

mod cluster;
mod context;
mod machine;
mod reconcile;

use std::{fmt::Debug, sync::Arc};

use futures_util::{Stream, StreamExt, future, stream};
use k8s_openapi::{NamespaceResourceScope, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        Controller,
        controller::Error as ControllerError,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use tokio::sync::mpsc;

use self::{
    context::{Context, Error},
    reconcile::reconcile,
};
use crate::{
    Settings,
    api::{
        LXCCluster, LXCMachine,
        core::{self, CLUSTER_LABEL, CONTROL_PLANE_LABEL, Cluster, Machine},
    },
    health::Readiness,
    infrastructure::{
        identity::{Identities, Trigger},
        load_balancer,
    },
};

/// Reconciles the clusters and machines of a namespace, or of all, until the manager is told to end.
pub async fn run(kube: Client, settings: &Settings, readiness: Readiness) {
    let namespace = settings.namespace.as_str();
    let (cluster_triggers, for_clusters) = mpsc::unbounded_channel();
    let (machine_triggers, for_machines) = mpsc::unbounded_channel();
    let identities = Arc::new(Identities::new(kube.clone(), vec![cluster_triggers, machine_triggers]));
    let context = Arc::new(Context::new(kube.clone(), identities, settings.contract, settings.concurrency.get().into()));

    let clusters = Controller::new(within::<LXCCluster>(&kube, namespace), watcher::Config::default());
    let machines = Controller::new(within::<LXCMachine>(&kube, namespace), watcher::Config::default());
    let (cluster_store, machine_store) = (clusters.store(), machines.store());
    let ready = declare(readiness, cluster_store.clone(), machine_store.clone());

    let any = watcher::Config::default;
    let clusters = clusters
        .watches(within::<Cluster>(&kube, namespace), any(), {
            let store = cluster_store.clone();
            move |cluster: Cluster| {
                let name = cluster.name_any();
                select(&store, |known| {
                    known.namespace() == cluster.namespace() && core::owner::<Cluster>(&known.metadata) == Some(&name)
                })
            }
        })
        .watches(within::<LXCMachine>(&kube, namespace), any(), {
            let store = cluster_store.clone();
            move |machine: LXCMachine| select(&store, |known| has(known, &machine.metadata))
        })
        .watches(within::<Machine>(&kube, namespace), any().labels(CONTROL_PLANE_LABEL), {
            let store = cluster_store.clone();
            move |machine: Machine| select(&store, |known| has(known, &machine.metadata))
        })
        .watches(within::<PartialObjectMeta<Secret>>(&kube, namespace), any(), {
            let store = cluster_store.clone();
            move |secret: PartialObjectMeta<Secret>| {
                let (namespace, name) = (secret.namespace(), secret.name_any());
                select(&store, |known| {
                    known.namespace() == namespace && known.spec.secret_ref.as_ref().is_some_and(|named| named.name == name)
                })
            }
        })
        .reconcile_on({
            let (store, machines) = (cluster_store.clone(), machine_store.clone());
            triggered(
                for_clusters,
                move |namespace, name| {
                    let key = ObjectRef::<LXCMachine>::new(name).within(namespace);
                    let machine = machines.get(&key);
                    select(&store, |known| {
                        known.namespace().as_deref() == Some(namespace)
                            && (load_balancer::name(&known.name_any(), namespace) == name
                                || machine.as_ref().is_some_and(|machine| has(known, &machine.metadata)))
                    })
                },
                cluster_store.clone(),
            )
        })
        .shutdown_on_signal()
        .run(reconcile, |object, error, context| context.failed(&*object, error), context.clone());
    let machines = machines
        .watches(within::<Machine>(&kube, namespace), any(), |machine: Machine| {
            let reference = &machine.spec.infrastructure_ref;
            let ours = reference.kind == LXCMachine::kind(&());
            ours.then(|| ObjectRef::new(&reference.name).within(&machine.namespace().unwrap_or_default()))
        })
        .watches(within::<Cluster>(&kube, namespace), any(), {
            let store = machine_store.clone();
            move |cluster: Cluster| {
                let name = cluster.name_any();
                select(&store, |known| {
                    known.namespace() == cluster.namespace() && core::cluster_label(&known.metadata) == Some(&name)
                })
            }
        })
        .watches(within::<LXCCluster>(&kube, namespace), any(), {
            let store = machine_store.clone();
            move |cluster: LXCCluster| select(&store, |known| has(&cluster, &known.metadata))
        })
        .watches(within::<PartialObjectMeta<Secret>>(&kube, namespace), any().labels(CLUSTER_LABEL), {
            let store = machine_store.clone();
            // Bootstrap data: a Machine names the Secret, an LXCMachine does not.
            move |secret: PartialObjectMeta<Secret>| {
                let name = core::cluster_label(&secret.metadata);
                select(&store, |known| {
                    known.namespace() == secret.namespace() && name.is_some() && core::cluster_label(&known.metadata) == name
                })
            }
        })
        .reconcile_on({
            let store = machine_store.clone();
            triggered(
                for_machines,
                move |namespace, name| {
                    let key = ObjectRef::new(name).within(namespace);
                    store.get(&key).map(|_| key).into_iter().collect()
                },
                machine_store.clone(),
            )
        })
        .shutdown_on_signal()
        .run(reconcile, |object, error, context| context.failed(&*object, error), context);
    future::join3(ready, clusters.for_each(report), machines.for_each(report)).await;
}

/// Tells once all that is there has been seen.
async fn declare(readiness: Readiness, clusters: Store<LXCCluster>, machines: Store<LXCMachine>) {
    if clusters.wait_until_ready().await.is_ok() && machines.wait_until_ready().await.is_ok() {
        readiness.declare();
    }
}

fn within<K>(kube: &Client, namespace: &str) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    if namespace.is_empty() { Api::all(kube.clone()) } else { Api::namespaced(kube.clone(), namespace) }
}

/// The known objects that something happened to.
fn select<K>(store: &Store<K>, concerned: impl Fn(&K) -> bool) -> Vec<ObjectRef<K>>
where
    K: Resource<DynamicType = ()> + Clone,
{
    store.state().iter().filter(|known| concerned(known)).map(|known| ObjectRef::from_obj(&**known)).collect()
}

/// The machine is one of the cluster's.
fn has(cluster: &LXCCluster, machine: &ObjectMeta) -> bool {
    let name = core::cluster_label(machine);
    name.is_some() && cluster.metadata.namespace == machine.namespace && core::owner::<Cluster>(&cluster.metadata) == name
}

/// What LXD tells, as the objects that it concerns.
fn triggered<K>(
    mut triggers: mpsc::UnboundedReceiver<Trigger>,
    concerned: impl Fn(&str, &str) -> Vec<ObjectRef<K>> + Send + 'static,
    store: Store<K>,
) -> impl Stream<Item = ObjectRef<K>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    stream::poll_fn(move |task| triggers.poll_recv(task)).flat_map(move |trigger| {
        stream::iter(match trigger {
            Trigger::Instance { namespace, name } => concerned(&namespace, &name),
            Trigger::Anything => select(&store, |_| true),
        })
    })
}

async fn report<K: Debug>(outcome: Result<K, ControllerError<Error, watcher::Error>>) {
    match outcome {
        Ok(_) | Err(ControllerError::ObjectNotFound(_) | ControllerError::ReconcilerFailed(Error::TooEarly, _)) => {}
        Err(error) => tracing::warn!("{error}"),
    }
}
