//! cert-manager, which clusterctl installs beside the providers.
//!
//! clusterctl takes cert-manager for installed once the API server takes one of its objects. That is so as soon as its kinds are
//! defined, and until its webhook is registered nobody refuses an object. So clusterctl leaves an installation half-done that was
//! killed in between, and one of which a part was deleted later. Where parts are missing, the webhook is therefore registered first, with
//! nobody behind it: clusterctl then sees that cert-manager does not work, installs all of it, and puts its own in that place.

use cluster::{Client, Error, Resource, resource};
use futures_util::future::try_join_all;
use lab::capi;
use serde_json::json;

/// On what clusterctl installs: what it is of.
const CORE: &str = "clusterctl.cluster.x-k8s.io/core";
/// One of its kinds, by which it is known whether cert-manager is there, and who has installed it.
const KIND: &str = "certificates.cert-manager.io";
/// On a webhook with nobody behind it.
const SHUT: &str = "k8slab.capi/shut";

/// What there has to be of cert-manager beside its kinds.
fn parts() -> Vec<(Resource, Option<&'static str>, &'static str)> {
    let deployments = capi::DEPLOYMENTS.into_iter().filter(|(namespace, _)| *namespace == capi::CERT_MANAGER);
    let webhooks = [resource::MUTATING_WEBHOOKS, resource::VALIDATING_WEBHOOKS];
    let webhooks = webhooks.map(|kind| (kind, None, capi::CERT_MANAGER_WEBHOOK));
    deployments.map(|(namespace, name)| (resource::DEPLOYMENT, Some(namespace), name)).chain(webhooks).collect()
}

/// The parts that are not there of a cert-manager that clusterctl has begun to install. Of somebody else's nothing is expected.
pub(crate) async fn missing(cluster: &Client) -> Result<Vec<String>, Error> {
    let kind = cluster.find(resource::CUSTOM_RESOURCE_DEFINITION, None, KIND).await?;
    let is_clusterctls =
        |labels: &std::collections::BTreeMap<String, String>| labels.get(CORE).is_some_and(|of| of == capi::CERT_MANAGER);
    if !kind.and_then(|kind| kind.metadata.labels).is_some_and(|labels| is_clusterctls(&labels)) {
        return Ok(Vec::new());
    }
    let look = async |(kind, namespace, name): (Resource, Option<&str>, &str)| {
        let found = cluster.find(kind, namespace, name).await?;
        let is_whole = found.is_some_and(|it| !it.metadata.annotations.is_some_and(|notes| notes.contains_key(SHUT)));
        Ok::<_, Error>((!is_whole).then(|| format!("{} {name}", kind.kind)))
    };
    Ok(try_join_all(parts().into_iter().map(look)).await?.into_iter().flatten().collect())
}

/// Has the API server refuse every object of cert-manager's until clusterctl has installed it.
pub(crate) async fn shut(cluster: &Client) -> Result<(), Error> {
    let rule =
        json!({"apiGroups": ["cert-manager.io"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["*/*"]});
    let webhook = json!({
        "name": "webhook.cert-manager.io", "rules": [rule], "failurePolicy": "Fail", "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "clientConfig": {"service": {"namespace": capi::CERT_MANAGER, "name": "nobody"}},
    });
    let mut shut = resource::VALIDATING_WEBHOOKS.object(None, capi::CERT_MANAGER_WEBHOOK, json!({"webhooks": [webhook]}));
    shut.metadata.annotations = Some([(SHUT.to_owned(), "true".to_owned())].into());
    cluster.take_over(&shut).await.map(drop)
}
