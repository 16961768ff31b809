//! What earlier versions of a ClusterClass leave behind: classes that no Cluster is made of, and templates that no class refers to.
//!
//! A template cannot be changed, so a release of a class brings new ones, and Helm keeps the old ones, since clusters may be made of
//! them. Cluster API deletes neither by itself.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{DynamicObject, GroupVersionKind};
use serde_json::Value;

use crate::{Client, Error, ObjectMeta, api_resource, capi::CLUSTER_NAME, client, if_there, resource};

/// On an object: Helm's release that made it.
const RELEASE: &str = "meta.helm.sh/release-name";

/// On a template that Cluster API has made for a cluster: what it is a copy of.
const CLONED_FROM: &str = "cluster.x-k8s.io/cloned-from-name";

/// A reference to a class or to a template: its kind and its name.
pub type Reference = (String, String);

/// The ClusterClasses of a namespace and their templates, with what the Clusters are made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    clusters: Vec<DynamicObject>,
    classes: Vec<DynamicObject>,
    templates: Vec<DynamicObject>,
}

impl Client {
    /// The ClusterClasses of a namespace, and all that is of the same kinds as their templates. Where there is no Cluster API, there
    /// is nothing.
    pub async fn class_inventory(&self, namespace: &str) -> Result<Inventory, Error> {
        let listed = self.list_of(&resource::CLUSTER_CLASS.api(), namespace).await;
        let Some(classes) = if_there(listed)? else { return Ok(Inventory::default()) };
        let kinds: BTreeMap<_, _> = classes
            .iter()
            .flat_map(|class| templates_of(&class.data))
            .map(|it| ((it.kind.group.clone(), it.kind.kind.clone()), it.kind))
            .collect();
        // Other namespaces may use a class of this one.
        let clusters = self.list(resource::CLUSTER, None).await?;
        let mut templates = Vec::new();
        for GroupVersionKind { group, version, kind } in kinds.into_values() {
            templates.extend(self.list_of(&api_resource(&group, &version, &kind), namespace).await?);
        }
        Ok(Inventory { clusters, classes, templates })
    }

    /// Deletes a class or a template, if it is still that one.
    pub async fn delete_unused(&self, object: &DynamicObject) -> Result<(), Error> {
        let (namespace, name) = named(object);
        self.delete_of(&client::kind_of(object)?, &namespace, &name, object.metadata.uid.as_deref().unwrap_or_default()).await
    }
}

impl Inventory {
    /// What a release of Helm's has made and nothing needs, classes before their templates. Needed is what is `kept`, what a Cluster
    /// uses that does not go, and what a class refers to that stays.
    #[must_use]
    pub fn unused(&self, release: &str, kept: &BTreeSet<Reference>, goes: impl Fn(&DynamicObject) -> bool) -> Vec<&DynamicObject> {
        let used: BTreeSet<_> = self.clusters.iter().filter(|cluster| !goes(cluster)).filter_map(class_of).collect();
        let is_spent = |object: &&DynamicObject| {
            let is_own = object.metadata.annotations.as_ref().and_then(|notes| notes.get(RELEASE)).is_some_and(|of| of == release);
            is_own && !is_of_cluster(object) && object.metadata.deletion_timestamp.is_none() && !kept.contains(&reference(object))
        };
        let (spent, staying): (Vec<_>, Vec<_>) =
            self.classes.iter().partition(|class| is_spent(class) && !used.contains(&named(class)));
        let referred: BTreeSet<_> =
            staying.iter().flat_map(|class| templates_of(&class.data)).map(|it| (it.kind.kind, it.name)).collect();
        let templates = self.templates.iter().filter(is_spent).filter(|template| !referred.contains(&reference(template)));
        spent.into_iter().chain(templates).collect()
    }
}

/// What an object is, and what it is called.
#[must_use]
pub fn reference(object: &DynamicObject) -> Reference {
    let kind = object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
    (kind, object.metadata.name.clone().unwrap_or_default())
}

/// The same in words.
#[must_use]
pub fn label(object: &DynamicObject) -> String {
    let (kind, name) = reference(object);
    format!("{kind} {name}")
}

/// Whether an object is a cluster's own. Cluster API copies templates for each cluster, and with them all that Helm has noted on them.
fn is_of_cluster(object: &DynamicObject) -> bool {
    let ObjectMeta { labels, annotations, owner_references, .. } = &object.metadata;
    labels.as_ref().is_some_and(|labels| labels.contains_key(CLUSTER_NAME))
        || annotations.as_ref().is_some_and(|notes| notes.contains_key(CLONED_FROM))
        || owner_references.as_ref().is_some_and(|owners| owners.iter().any(|owner| owner.kind != resource::CLUSTER_CLASS.kind))
}

/// A template that a class refers to.
struct Template {
    kind: GroupVersionKind,
    name: String,
}

/// The templates that a class refers to, wherever in it.
fn templates_of(value: &Value) -> Vec<Template> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("templateRef").and_then(template);
            own.into_iter().chain(fields.values().flat_map(templates_of)).collect()
        }
        Value::Array(items) => items.iter().flat_map(templates_of).collect(),
        _ => Vec::new(),
    }
}

fn template(reference: &Value) -> Option<Template> {
    let (group, version) = reference["apiVersion"].as_str()?.split_once('/')?;
    let kind = GroupVersionKind::gvk(group, version, reference["kind"].as_str()?);
    Some(Template { kind, name: reference["name"].as_str()?.to_owned() })
}

/// The class that a Cluster is made of: its namespace and its name.
fn class_of(cluster: &DynamicObject) -> Option<(String, String)> {
    let class = &cluster.data["spec"]["topology"]["classRef"];
    let own = || cluster.metadata.namespace.clone().unwrap_or_default();
    let namespace = class["namespace"].as_str().map_or_else(own, str::to_owned);
    Some((namespace, class["name"].as_str()?.to_owned()))
}

fn named(object: &DynamicObject) -> (String, String) {
    (object.metadata.namespace.clone().unwrap_or_default(), object.metadata.name.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEMPLATE: resource::Resource =
        resource::Resource { group: "infrastructure.cluster.x-k8s.io", version: "v1alpha2", kind: "LXCMachineTemplate" };

    fn of_release(release: &str, mut object: DynamicObject) -> DynamicObject {
        object.metadata.annotations = Some([(RELEASE.to_owned(), release.to_owned())].into());
        object
    }

    fn class(release: &str, name: &str, templates: &[&str]) -> DynamicObject {
        let refer = |name: &&str| {
            let kind = TEMPLATE.kind;
            json!({"templateRef": {"apiVersion": "infrastructure.cluster.x-k8s.io/v1alpha2", "kind": kind, "name": name}})
        };
        let workers: Vec<_> = templates.iter().map(|name| json!({"infrastructure": refer(name)})).collect();
        let spec = json!({"spec": {"workers": {"machineDeployments": workers}}});
        of_release(release, resource::CLUSTER_CLASS.object(Some("ns"), name, spec))
    }

    fn template(release: &str, name: &str) -> DynamicObject {
        of_release(release, TEMPLATE.object(Some("ns"), name, json!({})))
    }

    fn cluster(namespace: &str, name: &str, class: &Value) -> DynamicObject {
        resource::CLUSTER.object(Some(namespace), name, json!({"spec": {"topology": {"classRef": class}}}))
    }

    #[test]
    fn what_nothing_needs_goes() {
        let both = vec![class("c-class", "c-1", &["t-1", "t-both"]), class("c-class", "c-2", &["t-2", "t-both"])];
        let templates = ["t-0", "t-1", "t-2", "t-both"].map(|name| template("c-class", name)).to_vec();
        let own = json!({"name": "c-2"});
        let kept =
            |names: &[(&str, &str)]| names.iter().map(|(kind, name)| ((*kind).into(), (*name).into())).collect::<BTreeSet<_>>();
        let current = kept(&[("ClusterClass", "c-2"), (TEMPLATE.kind, "t-2"), (TEMPLATE.kind, "t-both")]);
        let all = ["c-1", "c-2", "t-0", "t-1", "t-2", "t-both"];
        for (case, clusters, kept, goes, expected) in [
            ("the class of before", vec![cluster("ns", "c", &own)], current.clone(), "", vec!["c-1", "t-0", "t-1"]),
            ("a class that is not used yet", vec![], current.clone(), "", vec!["c-1", "t-0", "t-1"]),
            (
                "a Cluster that has not followed",
                vec![cluster("ns", "c", &json!({"name": "c-1"}))],
                current.clone(),
                "",
                vec!["t-0"],
            ),
            (
                "one of another namespace",
                vec![cluster("other", "c", &json!({"name": "c-1", "namespace": "ns"}))],
                current.clone(),
                "",
                vec!["t-0"],
            ),
            ("a namesake elsewhere", vec![cluster("other", "c", &json!({"name": "c-1"}))], current, "", vec!["c-1", "t-0", "t-1"]),
            ("the release is gone", vec![cluster("ns", "c", &own)], kept(&[]), "", vec!["c-1", "t-0", "t-1"]),
            ("and so is the Cluster", vec![], kept(&[]), "", all.to_vec()),
            ("which goes", vec![cluster("ns", "c", &own)], kept(&[]), "c", all.to_vec()),
        ] {
            let classes = Inventory { clusters, classes: both.clone(), templates: templates.clone() };
            let unused = classes.unused("c-class", &kept, |cluster| cluster.metadata.name.as_deref() == Some(goes));
            let names: Vec<_> = unused.iter().map(|object| reference(object).1).collect();
            assert_eq!(names, expected, "{case}");
        }
    }

    #[test]
    fn what_cluster_api_has_copied_for_a_cluster_stays() {
        let owned_by = |kind: &str, mut object: DynamicObject| {
            let owner = json!([{"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": kind, "name": "x", "uid": "x"}]);
            object.metadata.owner_references = serde_json::from_value(owner).unwrap();
            object
        };
        let mut labelled = template("c-class", "labelled");
        labelled.metadata.labels = Some([(CLUSTER_NAME.to_owned(), "c".to_owned())].into());
        let mut cloned = template("c-class", "cloned");
        cloned.metadata.annotations.as_mut().unwrap().insert(CLONED_FROM.to_owned(), "t".to_owned());
        let templates = vec![
            labelled,
            cloned,
            owned_by("Cluster", template("c-class", "owned")),
            owned_by("ClusterClass", template("c-class", "of-the-class")),
        ];
        let inventory = Inventory { templates, ..Inventory::default() };
        let unused = inventory.unused("c-class", &BTreeSet::new(), |_| false);
        let names: Vec<_> = unused.into_iter().map(|object| reference(object).1).collect();
        assert_eq!(names, ["of-the-class"]);
    }

    #[test]
    fn what_is_not_of_the_release_stays() {
        let classes = Inventory {
            clusters: Vec::new(),
            // Another release's class uses a template of this one.
            classes: vec![class("other", "o-1", &["t-1"])],
            templates: vec![
                template("c-class", "t-1"),
                template("other", "o-t"),
                TEMPLATE.object(Some("ns"), "by-hand", json!({})),
            ],
        };
        assert_eq!(classes.unused("c-class", &BTreeSet::new(), |_| false), Vec::<&DynamicObject>::new());
    }
}
