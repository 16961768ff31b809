//! The kinds of objects that the providers of Cluster API have brought, and their objects.

use std::collections::BTreeMap;

use kube::{
    api::{DeleteParams, ListParams, Preconditions},
    core::{ApiResource, DynamicObject, GroupVersionKind, TypeMeta},
};
use serde_json::Value;

use crate::{Client, Error, client, if_there, resource};

/// On the definition of a kind that clusterctl has installed.
const INSTALLED: &str = "clusterctl.cluster.x-k8s.io";

/// A kind, as the cluster defines it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// What it is called, in the version in which its objects are kept.
    pub api: ApiResource,
    /// Its objects belong to namespaces.
    pub is_namespaced: bool,
    /// The labels of its definition.
    pub labels: BTreeMap<String, String>,
}

/// What an object's kind is called by those who ask for it.
#[must_use]
pub fn api_resource(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

impl Client {
    /// The kinds that clusterctl has installed.
    pub async fn kinds_of_providers(&self) -> Result<Vec<Kind>, Error> {
        let definitions = self.objects(resource::CUSTOM_RESOURCE_DEFINITION, None);
        let installed = ListParams::default().labels(INSTALLED);
        let listed = self.once_served("definitions of kinds", || definitions.list(&installed)).await?;
        Ok(listed.items.iter().filter_map(kind).collect())
    }

    /// The objects of a kind in a namespace.
    pub async fn list_of(&self, kind: &ApiResource, namespace: &str) -> Result<Vec<DynamicObject>, Error> {
        let objects = client::api(&self.api, kind, Some(namespace));
        let everything = ListParams::default();
        let mut listed = self.once_served(&format!("kind {}", kind.kind), || objects.list(&everything)).await?;
        // A list says once what all of its objects are.
        for object in &mut listed.items {
            object.types.get_or_insert_with(|| TypeMeta { api_version: kind.api_version.clone(), kind: kind.kind.clone() });
        }
        Ok(listed.items)
    }

    /// Merges into an object of a kind; a null removes, whoever set it.
    pub async fn merge_of(&self, kind: &ApiResource, namespace: &str, name: &str, patch: &Value) -> Result<(), Error> {
        let (objects, what) = (client::api(&self.api, kind, Some(namespace)), client::what(&kind.kind, Some(namespace), name));
        self.merge_in(&objects, &what, name, patch).await
    }

    /// Begins to delete that object which has this uid; that it is not there is as good.
    pub async fn delete_of(&self, kind: &ApiResource, namespace: &str, name: &str, uid: &str) -> Result<(), Error> {
        let objects = client::api(&self.api, kind, Some(namespace));
        let this = Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() };
        let how = DeleteParams { preconditions: Some(this), ..DeleteParams::default() };
        if_there(self.answer(&client::what(&kind.kind, Some(namespace), name), objects.delete(name, &how)).await).map(drop)
    }
}

fn kind(definition: &DynamicObject) -> Option<Kind> {
    let spec = &definition.data["spec"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let kept = spec["versions"].as_array()?.iter().find(|version| version["storage"] == true)?;
    let (group, version) = (text(&spec["group"])?, text(&kept["name"])?);
    let (kind, plural) = (text(&spec["names"]["kind"])?, text(&spec["names"]["plural"])?);
    Some(Kind {
        api: ApiResource { api_version: format!("{group}/{version}"), group, version, kind, plural },
        is_namespaced: spec["scope"] == "Namespaced",
        labels: definition.metadata.labels.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kind_is_read_in_the_version_in_which_it_is_kept() {
        let spec = json!({
            "group": "cluster.x-k8s.io", "scope": "Namespaced", "names": {"kind": "ClusterClass", "plural": "clusterclasses"},
            "versions": [{"name": "v1beta1", "storage": false}, {"name": "v1beta2", "storage": true}],
        });
        let definition =
            resource::CUSTOM_RESOURCE_DEFINITION.object(None, "clusterclasses.cluster.x-k8s.io", json!({"spec": spec}));
        let read = kind(&definition).unwrap();
        assert_eq!((read.api.api_version.as_str(), read.api.plural.as_str()), ("cluster.x-k8s.io/v1beta2", "clusterclasses"));
        assert!(read.is_namespaced);
        assert_eq!(kind(&resource::CUSTOM_RESOURCE_DEFINITION.object(None, "x", json!({}))), None);
    }
}
