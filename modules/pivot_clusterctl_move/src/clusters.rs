//! Both clusters, as this run sees them, and what is done on them.

use std::{cell::OnceCell as Once, collections::BTreeMap, fs::File, path::PathBuf, sync::Arc, time::Duration};

use cluster::{Client, Clusterctl, Kubeconfig, api_resource, clusterctl, if_there, resource};
use converge::{Explain as _, Failure, Wait};
use lab::{capi, lifecycle::Phase};
use lxd::{Instance, Project, Tagged};
use pivot::{Act, Direction, Folder, Handle, Object, Open, Side, Sides, Signature, Stage, Where, object};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    PivotClusterctlMove,
    error::{Error, PausedByHand},
};

/// How long an API server that starts anew, or has too much to do, may say so.
const SERVING: Duration = Duration::from_secs(60);

pub(crate) struct Clusters<'a> {
    pub step: &'a PivotClusterctlMove,
    source: OnceCell<Client>,
    target: OnceCell<Client>,
    /// Ended for as long as this run may change anything; clusterctl holds it, too, and longer if this run is killed.
    lock: OnceCell<Arc<File>>,
    began_as: Once<Signature>,
}

impl<'a> Clusters<'a> {
    pub(crate) fn of(step: &'a PivotClusterctlMove) -> Self {
        Self { step, source: OnceCell::new(), target: OnceCell::new(), lock: OnceCell::new(), began_as: Once::new() }
    }

    pub(crate) fn folder(&self) -> Folder {
        Folder::of(&self.step.staging_dir(), self.step.direction)
    }

    /// What was seen first.
    pub(crate) fn began_as(&self) -> Option<Signature> {
        self.began_as.get().copied()
    }

    pub(crate) fn saw(&self, signature: Signature) {
        // What is seen later is what this run has made of it.
        let _ = self.began_as.set(signature);
    }

    pub(crate) fn kubeconfig(&self, place: Where) -> PathBuf {
        match (self.step.direction, place) {
            (Direction::ToManagement, Where::Source) | (Direction::ToBootstrap, Where::Target) => self.step.bootstrap_kubeconfig(),
            _ => self.step.management_kubeconfig(),
        }
    }

    pub(crate) async fn client(&self, place: Where) -> Result<&Client, Error> {
        let (cell, path) = match place {
            Where::Source => (&self.source, self.kubeconfig(place)),
            Where::Target => (&self.target, self.kubeconfig(place)),
        };
        let connect = async || {
            let failed = |source| Error::Cluster { place, path: path.clone(), source };
            let client = Client::connect(&Kubeconfig::read(&path).map_err(failed)?).map_err(failed)?;
            // One that has only just started, or starts anew, is waited for; one that is gone is not.
            client.serves(SERVING).await.map_err(failed)?;
            Ok(client)
        };
        cell.get_or_try_init(connect).await
    }

    async fn side(&self, place: Where) -> Result<Side, Error> {
        let client = self.client(place).await?;
        let side = Side::observe(client, &self.step.target_cluster_namespace, capi::INFRASTRUCTURE_NAMESPACE).await;
        side.map_err(|source| self.failed(place, source))
    }

    pub(crate) async fn sides(&self) -> Result<Sides, Error> {
        let (source, target) = tokio::try_join!(Box::pin(self.side(Where::Source)), Box::pin(self.side(Where::Target)))?;
        Ok(Sides { source, target })
    }

    fn failed(&self, place: Where, source: cluster::Error) -> Error {
        Error::Cluster { place, path: self.kubeconfig(place), source }
    }

    pub(crate) async fn project(&self) -> Result<Option<Tagged<Project>>, Failure> {
        Ok(self.step.lxd.client().await?.find(&self.step.project).await?)
    }

    pub(crate) fn open(&self) -> Result<Option<Open>, Failure> {
        Ok(Open::read(&self.step.staging_dir())?)
    }

    pub(crate) fn record(&self, stage: Stage) -> Result<(), Failure> {
        let (direction, namespace) = (self.step.direction, self.step.target_cluster_namespace.clone());
        Ok(Open { direction, namespace, stage }.write(&self.step.staging_dir())?)
    }

    /// Whether the target has the Cluster and reconciles it, and no move is open. The source is asked only where the record does not
    /// say so: after the pivot there may be none.
    pub(crate) async fn is_finished(&self) -> Result<bool, Failure> {
        if self.open()?.is_some() || !self.holds(Where::Target).await? {
            return Ok(false);
        }
        let phase = self.project().await?.and_then(|project| survey::recorded_phase(&project.object));
        if self.step.direction == Direction::ToManagement && phase >= Some(Phase::Pivoted) {
            return Ok(true);
        }
        match self.holds(Where::Source).await {
            Ok(holds) => Ok(!holds),
            Err(Error::Cluster { source, .. }) if source.is_passing() || source.is_prerequisite() => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a side has the Cluster; the target has to reconcile it, too.
    async fn holds(&self, place: Where) -> Result<bool, Error> {
        let client = self.client(place).await?;
        let namespace = Some(self.step.target_cluster_namespace.as_str());
        match client.find(resource::CLUSTER, namespace, &self.step.target_cluster_name).await {
            Ok(Some(cluster)) => Ok(place == Where::Source || cluster.data.pointer("/spec/paused") != Some(&Value::Bool(true))),
            Ok(None) => Ok(false),
            Err(error) => Err(self.failed(place, error)),
        }
    }

    /// The instances of the namespace's Clusters, with their uuids.
    pub(crate) async fn instances(&self, side: &Side) -> Result<BTreeMap<String, String>, Failure> {
        let clusters: Vec<_> = side.clusters().map(|(key, _)| key.name.as_str()).collect();
        let instances: Vec<Instance> = self.step.lxd.client().await?.in_project(&self.step.project).list().await?;
        let is_ours = |instance: &Instance| {
            let told = |key: &str| instance.config.get(key).map(String::as_str);
            told("user.cluster-namespace").is_none_or(|namespace| namespace == self.step.target_cluster_namespace)
                && told("user.cluster-name").is_some_and(|name| clusters.contains(&name))
        };
        let uuid = |instance: &Instance| instance.config.get("volatile.uuid").cloned().unwrap_or_default();
        Ok(instances.iter().filter(|instance| is_ours(instance)).map(|instance| (instance.name.clone(), uuid(instance))).collect())
    }

    /// Lets nobody else work on the same move, which another run on this host may do, or a clusterctl that has outlived its run.
    pub(crate) async fn hold(&self) -> Result<&Arc<File>, Failure> {
        let folder = self.step.staging_dir();
        let take = async || {
            let wait = Wait::for_condition(format!("the end of the run that holds {}", folder.display()), self.step.move_limit());
            let look = async || match host::file::try_lock(&folder).map_err(Failure::from) {
                Ok(Some(lock)) => Ok(Ok(Arc::new(lock))),
                Ok(None) => Ok(Err("it goes on")),
                Err(failure) => Err(Ended::Failed(failure)),
            };
            wait.until(look).await.map_err(Failure::from)
        };
        self.lock.get_or_try_init(take).await
    }

    /// The same, where there can be anything to be held.
    pub(crate) async fn hold_if_there(&self) -> Result<(), Failure> {
        if self.step.staging_dir().is_dir() {
            self.hold().await?;
        }
        Ok(())
    }

    /// Runs `clusterctl move`. How it ended is told, and to be trusted by nobody.
    pub(crate) async fn clusterctl(&self, arguments: &[&str]) -> Result<Result<(), clusterctl::Error>, Failure> {
        let arguments: Vec<_> = ["move"].iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
        let mut servers = Vec::new();
        for place in [Where::Source, Where::Target] {
            servers.push(self.client(place).await?.server());
        }
        let clusterctl = Clusterctl { lock: Some(Arc::clone(self.hold().await?)), ..self.step.clusterctl() };
        Ok(clusterctl.execute(&arguments, &[], &servers, self.step.move_limit()).await)
    }

    /// Fails where anything is to reconcile again that somebody has paused.
    pub(crate) fn refuse_paused_by_hand(&self, paused: &[(Where, &Object)]) -> Result<(), Error> {
        if paused.is_empty() {
            return Ok(());
        }
        let by_hand = |(place, object): &(Where, &Object)| {
            let who = object.paused_by.as_ref().map(|manager| format!(" by {manager}")).unwrap_or_default();
            PausedByHand {
                told: format!("{} on the {place} is paused{who}", object.key),
                command: self.unpause_command(*place, object),
            }
        };
        Err(Error::PausedByHand { paused: paused.iter().map(by_hand).collect() })
    }

    /// What a person types to let an object reconcile again.
    fn unpause_command(&self, place: Where, object: &Object) -> String {
        let (kubeconfig, key) = (self.kubeconfig(place), &object.key);
        let kubectl = format!("kubectl --kubeconfig {} --namespace {}", kubeconfig.display(), key.namespace);
        let kind = key.kind.to_lowercase();
        if object.annotations.contains_key(object::PAUSED) {
            format!("{kubectl} annotate {kind} {} {}-", key.name, object::PAUSED)
        } else {
            format!("{kubectl} patch {kind} {} --type merge --patch '{{\"spec\":{{\"paused\":null}}}}'", key.name)
        }
    }

    /// Waits until the target's controllers and their webhooks serve.
    pub(crate) async fn await_target(&self) -> Result<(), Failure> {
        let target = self.client(Where::Target).await?;
        let deployments = self.step.providers.deployments();
        Ok(target.wait_for("the target's Deployments are available", &deployments, self.step.patience()).await?)
    }

    /// Changes one object. Whoever has done it already has done it right.
    pub(crate) async fn act(&self, act: &Act) -> Result<(), Failure> {
        match act {
            Act::Unpause(place, handle) => self.merge(*place, handle, &pause(handle, None)).await,
            Act::Pause(place, handle) => self.merge(*place, handle, &pause(handle, Some(()))).await,
            Act::Annotate(handle, own) => {
                let mut annotations = json!(own);
                annotations[object::MARK] = Value::Null;
                self.merge(Where::Target, handle, &json!({"metadata": {"annotations": annotations}})).await
            }
            Act::Delete(handle) => {
                let mark = json!({"metadata": {"annotations": {object::MARK: ""}}});
                self.merge(Where::Source, handle, &mark).await?;
                let client = self.client(Where::Source).await?;
                let (kind, key) = (kind(handle), &handle.key);
                let deleted = client.delete_of(&kind, &key.namespace, &key.name, &handle.uid).await;
                deleted.map_err(|source| self.failed(Where::Source, source))?;
                self.merge(Where::Source, handle, &json!({"metadata": {"finalizers": []}})).await
            }
            Act::Move | Act::Restore => Ok(()),
        }
    }

    async fn merge(&self, place: Where, handle: &Handle, patch: &Value) -> Result<(), Failure> {
        let (client, key) = (self.client(place).await?, &handle.key);
        let merged = if_there(client.merge_of(&kind(handle), &key.namespace, &key.name, patch).await);
        Ok(merged.map(drop).map_err(|source| self.failed(place, source))?)
    }
}

fn kind(handle: &Handle) -> cluster::ApiResource {
    api_resource(&handle.key.group, &handle.version, &handle.key.kind)
}

/// As clusterctl does it: a Cluster by its field, a class by an annotation without a value.
fn pause(handle: &Handle, paused: Option<()>) -> Value {
    if handle.key.is_cluster() {
        json!({"spec": {"paused": paused.map(|()| true)}})
    } else {
        json!({"metadata": {"annotations": {object::PAUSED: paused.map(|()| "")}}})
    }
}

/// Why a wait ended without what was waited for.
pub(crate) enum Ended {
    Over(converge::WaitError),
    Failed(Failure),
}

impl From<converge::WaitError> for Ended {
    fn from(error: converge::WaitError) -> Self {
        Self::Over(error)
    }
}

impl From<Ended> for Failure {
    fn from(held: Ended) -> Self {
        match held {
            Ended::Over(error) => error.into(),
            Ended::Failed(failure) => failure,
        }
    }
}
