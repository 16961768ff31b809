//! Reading what objects are called and labelled, without what is in them: many or secret ones cost little this way.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;

use crate::{Client, Error, Resource};

impl Client {
    /// The metadata of the objects that a label selector chooses, without what they carry.
    pub async fn list_metadata(&self, resource: Resource, namespace: Option<&str>, labels: &str) -> Result<Vec<ObjectMeta>, Error> {
        let objects = self.objects(resource, namespace);
        let chosen = ListParams::default().labels(labels);
        let listed = self.once_served(&format!("kind {}", resource.kind), || objects.list_metadata(&chosen)).await?;
        Ok(listed.items.into_iter().map(|object| object.metadata).collect())
    }
}
