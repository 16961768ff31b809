use serde::Deserialize;
use serde_json::Value;

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
    fn objects_are_read_one_by_one() {
        let manifest = "---\n# Source: demo/templates/a.yaml\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  \
                        namespace: other\nspec: {replicas: 2}\n---\n# Source: demo/templates/empty.yaml\n---\napiVersion: v1\nkind: \
                        ConfigMap\nmetadata: {name: text}\ndata:\n  key: |\n    ----\n    --- no end\n";
        let found: Vec<_> = objects(manifest).into_iter().map(|it| (it.kind, it.metadata.name, it.metadata.namespace)).collect();
        assert_eq!(found, [("Deployment".into(), "web".into(), Some("other".into())), ("ConfigMap".into(), "text".into(), None)]);
        assert_eq!(objects(manifest)[0].data["spec"]["replicas"], 2);
    }
}
