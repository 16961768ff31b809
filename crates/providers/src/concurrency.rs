//! How many machines the infrastructure provider makes at once: no more than the kind of server can.

use std::fmt;

use cluster::{Client, DynamicObject, resource};
use converge::Change;
use lab::capi;
use serde_json::{Value, json};

/// The manager is told to make fewer machines at once.
#[derive(Debug)]
pub struct Concurrency {
    before: Option<String>,
    wanted: u16,
}

impl Concurrency {
    /// What is to be told, if the kind of server asks for it and the manager's arguments do not say so.
    pub(crate) fn plan(wanted: Option<u16>, arguments: &[String]) -> Option<Self> {
        let (wanted, before) = (wanted?, capi::concurrency_of(arguments));
        (before != Some(wanted.to_string().as_str())).then(|| Self { before: before.map(str::to_owned), wanted })
    }

    pub(crate) async fn apply(&self, cluster: &Client) -> Result<(), cluster::Error> {
        let (namespace, name) = capi::INFRASTRUCTURE_DEPLOYMENT;
        let Some(deployment) = deployment(cluster).await? else { return Ok(()) };
        let mut containers = containers(&deployment).clone();
        let arguments = capi::with_concurrency(&arguments_of(&containers), self.wanted);
        let Some(manager) = containers.get_mut(0).and_then(Value::as_object_mut) else { return Ok(()) };
        manager.insert("args".to_owned(), json!(arguments));
        let patch = json!({
            // Somebody else may change the list of containers meanwhile, and it is written whole.
            "metadata": {"resourceVersion": deployment.metadata.resource_version},
            "spec": {"template": {"spec": {"containers": containers}}},
        });
        cluster.merge(resource::DEPLOYMENT, Some(namespace), name, &patch).await
    }
}

/// The arguments of the manager; none if it is not there.
pub(crate) async fn arguments(cluster: &Client) -> Result<Vec<String>, cluster::Error> {
    Ok(deployment(cluster).await?.map(|found| arguments_of(containers(&found))).unwrap_or_default())
}

async fn deployment(cluster: &Client) -> Result<Option<DynamicObject>, cluster::Error> {
    let (namespace, name) = capi::INFRASTRUCTURE_DEPLOYMENT;
    cluster.find(resource::DEPLOYMENT, Some(namespace), name).await
}

/// The manager's is the first.
fn containers(deployment: &DynamicObject) -> &Value {
    &deployment.data["spec"]["template"]["spec"]["containers"]
}

fn arguments_of(containers: &Value) -> Vec<String> {
    let arguments = containers[0]["args"].as_array().into_iter().flatten();
    arguments.filter_map(|argument| argument.as_str().map(str::to_owned)).collect()
}

impl fmt::Display for Concurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.before.as_deref().unwrap_or("its own default");
        write!(f, "have the infrastructure provider make {} machine at a time instead of {before}, as LXD 5.0 needs", self.wanted)
    }
}

impl Change for Concurrency {
    fn object(&self) -> String {
        "concurrency of the infrastructure provider".to_owned()
    }

    fn before(&self) -> Value {
        json!(self.before)
    }

    fn after(&self) -> Value {
        json!(self.wanted.to_string())
    }
}
