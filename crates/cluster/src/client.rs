//! A client of one cluster's API server, which reads, applies and deletes objects of any kind.
//!
//! Every request has a limit. An API server that is starting, or is out of reach for a moment, is asked again until that limit; a
//! refusal is final. Writes are server-side applies under one name, so that fields of others stay theirs.

use std::{cell::Cell, future::Future, time::Duration};

use converge::Wait;
use kube::{
    Api, Config,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::Value;

use crate::{Error, Kubeconfig, Resource, if_there};

/// In whose name fields are applied.
pub const FIELD_MANAGER: &str = "k8slab";

const CONNECTING: Duration = Duration::from_secs(10);
const ANSWERING: Duration = Duration::from_secs(30);
/// How long an API server that answers may lack what it serves.
const STARTING: Duration = Duration::from_secs(20);

/// A connection to a cluster's API.
#[derive(Clone)]
pub struct Client {
    pub(crate) api: kube::Client,
    server: String,
}

impl Client {
    /// A client of the kubeconfig's cluster. It looks at nothing yet: an address where nobody is comes out at the first request.
    pub fn connect(kubeconfig: &Kubeconfig) -> Result<Self, Error> {
        // Fails when there is a provider already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let unusable = |error: kube::config::KubeconfigError| Error::malformed(error.to_string());
        // The parser's own words may quote a key.
        let parsed: kube::config::Kubeconfig = serde_json::from_value(kubeconfig.document().clone())
            .map_err(|_| Error::malformed("a field of it is not of the form it should have".into()))?;
        if parsed.auth_infos.iter().filter_map(|user| user.auth_info.as_ref()).any(|user| user.exec.is_some()) {
            return Err(Error::malformed("its user is found out by a program, which is not run".into()));
        }
        let mut config = Config::try_from(parsed).map_err(unusable)?;
        if config.root_cert.is_none() {
            return Err(Error::malformed("it names no certificate authority".into()));
        }
        config.accept_invalid_certs = false;
        config.proxy_url = None;
        config.connect_timeout = Some(CONNECTING);
        // Whoever waits for a cluster has to see that it does not serve.
        config.default_retry = false;
        let api = kube::Client::try_from(config).map_err(|error| Error::malformed(error.to_string()))?;
        Ok(Self { api, server: kubeconfig.server().to_owned() })
    }

    /// Where the cluster is.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The version of Kubernetes that the cluster runs.
    pub async fn version(&self) -> Result<String, Error> {
        Ok(self.answer("its version", self.api.apiserver_version()).await?.git_version)
    }

    /// Waits until the cluster answers, and gives its version. By the deadline the last thing that kept it from answering is told.
    pub async fn answers(&self, deadline: Duration) -> Result<String, Error> {
        self.patiently("its API answers", deadline, Error::is_passing, || self.version()).await
    }

    /// The same for one that is there: what starts anew is waited for, and what is gone is not.
    pub async fn serves(&self, deadline: Duration) -> Result<String, Error> {
        self.patiently("its API serves", deadline, Error::is_starting, || self.version()).await
    }

    /// Asks until the answer is another than such an error, or gives the last one.
    async fn patiently<T, F>(
        &self,
        condition: &str,
        deadline: Duration,
        is_passing: impl Fn(&Error) -> bool,
        ask: impl Fn() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let last = Cell::new(None);
        let wait = Wait::for_condition(format!("{}: {condition}", self.server), deadline);
        let look = async || match ask().await {
            Err(error) if is_passing(&error) => {
                let seen = error.to_string();
                last.set(Some(error));
                Ok(Err(seen))
            }
            answer => answer.map(Ok),
        };
        match wait.until(look).await {
            Err(Error::Wait(over)) => Err(last.take().unwrap_or(Error::Wait(over))),
            answer => answer,
        }
    }

    /// An API server that has just started serves custom resources a little later than it says.
    pub(crate) async fn once_served<T, F>(&self, what: &str, ask: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        self.patiently(&format!("it serves {what}"), STARTING, Error::is_starting, || self.answer(what, ask())).await
    }

    /// An object that may not be there. Before Cluster API is installed, a cluster knows none of its kinds; so the kind may not be
    /// there either.
    pub async fn find(&self, resource: Resource, namespace: Option<&str>, name: &str) -> Result<Option<DynamicObject>, Error> {
        let objects = self.objects(resource, namespace);
        if_there(self.once_served(&what(resource.kind, namespace, name), || objects.get(name)).await)
    }

    /// The objects of a kind, in one namespace or in all. A kind that the cluster does not know is [`Error::NotFound`].
    pub async fn list(&self, resource: Resource, namespace: Option<&str>) -> Result<Vec<DynamicObject>, Error> {
        let objects = self.objects(resource, namespace);
        let everything = ListParams::default();
        Ok(self.once_served(&format!("kind {}", resource.kind), || objects.list(&everything)).await?.items)
    }

    /// Sets the fields that the object has, and drops those that were set this way before and are no more. Fields of another
    /// manager are not taken over.
    pub async fn apply(&self, object: &DynamicObject) -> Result<DynamicObject, Error> {
        self.patch(object, &PatchParams::apply(FIELD_MANAGER)).await
    }

    /// Sets the fields that the object has, and takes those of another manager over: for objects that are the lab's own.
    pub async fn take_over(&self, object: &DynamicObject) -> Result<DynamicObject, Error> {
        self.patch(object, &PatchParams::apply(FIELD_MANAGER).force()).await
    }

    async fn patch(&self, object: &DynamicObject, how: &PatchParams) -> Result<DynamicObject, Error> {
        let kind = kind_of(object)?;
        let (namespace, name) = (object.metadata.namespace.as_deref(), object.metadata.name.as_deref().unwrap_or_default());
        let objects = api(&self.api, &kind, namespace);
        self.answer(&what(&kind.kind, namespace, name), objects.patch(name, how, &Patch::Apply(object))).await
    }

    /// Merges into an object; a null removes, whoever set it.
    pub async fn merge(&self, resource: Resource, namespace: Option<&str>, name: &str, patch: &Value) -> Result<(), Error> {
        self.merge_in(&self.objects(resource, namespace), &what(resource.kind, namespace, name), name, patch).await
    }

    pub(crate) async fn merge_in(&self, objects: &Api<DynamicObject>, what: &str, name: &str, patch: &Value) -> Result<(), Error> {
        let how = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.answer(what, objects.patch(name, &how, &Patch::Merge(patch))).await.map(drop)
    }

    /// Deletes an object; that it is not there is as good.
    pub async fn delete(&self, resource: Resource, namespace: Option<&str>, name: &str) -> Result<(), Error> {
        let objects = self.objects(resource, namespace);
        if_there(self.answer(&what(resource.kind, namespace, name), objects.delete(name, &DeleteParams::default())).await).map(drop)
    }

    pub(crate) fn objects(&self, resource: Resource, namespace: Option<&str>) -> Api<DynamicObject> {
        api(&self.api, &resource.api(), namespace)
    }

    pub(crate) fn error(&self, error: kube::Error, what: &str) -> Error {
        Error::of(error, &self.server, what)
    }

    pub(crate) async fn answer<T>(&self, what: &str, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
        let Ok(answer) = tokio::time::timeout(ANSWERING, request).await else {
            let reason = format!("no answer within {} s", ANSWERING.as_secs());
            return Err(Error::NotServing { server: self.server.clone(), reason });
        };
        answer.map_err(|error| self.error(error, what))
    }
}

pub(crate) fn api(client: &kube::Client, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

/// What an object says that it is.
pub(crate) fn kind_of(object: &DynamicObject) -> Result<ApiResource, Error> {
    let types = object.types.clone().unwrap_or_default();
    let kind = GroupVersionKind::try_from(&types).map_err(|error| Error::NotFound { what: error.to_string() })?;
    Ok(ApiResource::from_gvk(&kind))
}

/// An object as a person names it.
pub(crate) fn what(kind: &str, namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}
