//! The objects of a rendered chart, and those that differ between two renderings.

use converge::Secret;
use serde::Deserialize;
use serde_json::{Map, Value};

/// An object of a release, as its chart renders it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// Its group and version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name, and the like.
    pub metadata: Metadata,
    /// All the rest.
    #[serde(flatten)]
    pub data: serde_json::Map<String, Value>,
}

/// By what an object is found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// Its namespace, where the chart sets one.
    pub namespace: Option<String>,
}

/// The objects of a rendered manifest. What is no object is left out, as Helm leaves it out.
#[must_use]
pub fn objects(manifest: &str) -> Vec<Object> {
    let documents = documents(manifest);
    documents.iter().filter_map(|text| serde_saphyr::from_str(text).ok()).collect()
}

/// The objects that differ between two manifests, by their names, as a diff may show them: those of the one, and those of the other.
/// What a Secret holds is replaced by a mark.
#[must_use]
pub fn differing(before: &str, after: &str) -> (Value, Value) {
    let [mut before, mut after] = [before, after].map(|manifest| {
        let named = objects(manifest).into_iter().map(|object| (object.label(), object.shown()));
        named.collect::<Map<_, _>>()
    });
    let same: Vec<_> =
        before.iter().filter(|(name, object)| after.get(*name) == Some(*object)).map(|(name, _)| name.clone()).collect();
    for name in same {
        before.remove(&name);
        after.remove(&name);
    }
    (before.into(), after.into())
}

impl Object {
    fn label(&self) -> String {
        match &self.metadata.namespace {
            Some(namespace) => format!("{} {namespace}/{}", self.kind, self.metadata.name),
            None => format!("{} {}", self.kind, self.metadata.name),
        }
    }

    fn shown(mut self) -> Value {
        if self.kind == "Secret" {
            for part in ["data", "stringData"] {
                for value in self.data.get_mut(part).and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
                    *value = Secret::from(value.to_string()).redacted().into();
                }
            }
        }
        self.data.into()
    }
}

/// Documents one by one, so that an odd one costs none of the others.
fn documents(manifest: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in manifest.lines() {
        if line.trim_end() == "---" {
            documents.push(String::new());
        } else if let Some(current) = documents.last_mut() {
            current.push_str(line);
            current.push('\n');
        }
    }
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown_and_no_secret() {
        let object = |kind: &str, name: &str, value: &str| {
            format!("---\napiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}}}\ndata: {{key: {value}}}\n")
        };
        let before =
            [object("ConfigMap", "same", "x"), object("ConfigMap", "other", "x"), object("Secret", "s", "hunter2")].concat();
        let after =
            [object("ConfigMap", "other", "z"), object("ConfigMap", "same", "x"), object("Secret", "s", "hunter3")].concat();
        let (before, after) = differing(&before, &after);
        assert_eq!(
            (&before["ConfigMap other"]["data"]["key"], &after["ConfigMap other"]["data"]["key"]),
            (&"x".into(), &"z".into())
        );
        assert_eq!(before.as_object().unwrap().len(), 2);
        assert_ne!(before["Secret s"], after["Secret s"]);
        assert!(!format!("{before} {after}").contains("hunter"), "{before} {after}");
    }

    #[test]
    fn objects_are_read_one_by_one() {
        let manifest = "---\n# Source: demo/templates/a.yaml\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  \
                        namespace: other\nspec: {replicas: 2}\n---\n# Source: demo/templates/empty.yaml\n---\napiVersion: v1\nkind: \
                        ConfigMap\nmetadata: {name: text}\ndata:\n  key: |\n    ----\n    --- no end\n";
        let found: Vec<_> = objects(manifest).into_iter().map(|it| (it.kind, it.metadata.name, it.metadata.namespace)).collect();
        assert_eq!(found, [("Deployment".into(), "web".into(), Some("other".into())), ("ConfigMap".into(), "text".into(), None)]);
        assert_eq!(objects(manifest)[0].data["spec"]["replicas"], 2);
    }
}
