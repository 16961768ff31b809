//! What has to hold before anything is moved. clusterctl finds some of it out by itself, later and in other words.

use cluster::{Client, Condition, DynamicObject, condition::Test, resource};
use converge::Failure;
use lab::capi;
use pivot::{Sides, Where, object};

use crate::clusters::Clusters;

/// Whatever does not hold, a line each.
pub(crate) async fn unmet(clusters: &Clusters<'_>, sides: &Sides) -> Result<Vec<String>, Failure> {
    let (source, target) = (clusters.client(Where::Source).await?, clusters.client(Where::Target).await?);
    let mut lines = of_sides(sides, &clusters.step.target_cluster_namespace, &clusters.step.infrastructure_secret_name);
    lines.extend(source.unmet(&of_source(sides)).await?.into_iter().map(|line| format!("source: {line}")));
    let nodes = target.list(resource::NODE, None).await?;
    let names = nodes.into_iter().filter_map(|node| node.metadata.name);
    let nodes: Vec<_> = names.map(|name| Condition::of(resource::NODE, None, &name, Test::status("Ready"))).collect();
    lines.extend(target.unmet(&nodes).await?.into_iter().map(|line| format!("target: {line}")));
    let here = Some(clusters.step.target_cluster_namespace.as_str());
    let elsewhere = source.list(resource::CLUSTER, None).await?;
    lines.extend(
        elsewhere.iter().filter(|cluster| cluster.metadata.namespace.as_deref() != here).filter_map(|cluster| uses(cluster, here)),
    );
    lines.extend(gates(topology(source).await?, topology(target).await?));
    Ok(lines)
}

/// A Cluster of another namespace whose class would be moved away from it.
fn uses(cluster: &DynamicObject, here: Option<&str>) -> Option<String> {
    let class = cluster.data.pointer("/spec/topology/classRef")?;
    let name = [cluster.metadata.namespace.as_deref()?, cluster.metadata.name.as_deref()?].join("/");
    (class["namespace"].as_str() == here).then(|| format!("source: Cluster {name} uses a class of the namespace that is moved"))
}

/// What the source's controllers have to say of everything that is moved.
fn of_source(sides: &Sides) -> Vec<Condition> {
    let moved = sides.source.moved();
    let condition = |object: &pivot::Object| {
        let of = |resource, test| Condition::of(resource, Some(&object.key.namespace), &object.key.name, test);
        match &object.key {
            key if key.is_cluster() => vec![
                of(resource::CLUSTER, Test::status("InfrastructureReady")),
                of(resource::CLUSTER, Test::status("ControlPlaneInitialized")),
                of(resource::CLUSTER, Test::status("Available")),
            ],
            key if key.is("Machine") => vec![of(resource::MACHINE, Test::status("NodeReady"))],
            _ => Vec::new(),
        }
    };
    moved.flat_map(condition).collect()
}

fn of_sides(sides: &Sides, namespace: &str, identity: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for object in sides.source.moved().filter(|object| object.going) {
        lines.push(format!("source: {} is being deleted", object.key));
    }
    for object in sides.source.moved() {
        match &object.class {
            Some((of, name)) if of != namespace => {
                lines.push(format!("source: {} uses the ClusterClass {of}/{name} of another namespace", object.key));
            }
            _ => {}
        }
    }
    let is_identity = |key: &&pivot::Key| key.is_secret() && key.namespace == namespace && key.name == identity;
    let on_target = sides.target.objects.keys().any(|key| is_identity(&key));
    match sides.source.objects.values().find(|object| is_identity(&&object.key)) {
        Some(secret) if !secret.labels.contains_key(object::MOVES) && !on_target => lines.push(format!(
            "source: {} has no label {}, so it would stay behind; run the role bootstrap_capn_secret with pivot_enabled: true",
            secret.key,
            object::MOVES
        )),
        None if !on_target => {
            lines.push(format!("source: there is no Secret {namespace}/{identity}, by which the provider reaches LXD"));
        }
        _ => {}
    }
    lines
}

/// Whether a cluster's Cluster API knows classes; nothing if its Deployment does not say.
async fn topology(client: &Client) -> Result<Option<bool>, Failure> {
    let (namespace, name) = capi::CORE_DEPLOYMENT;
    let deployment = client.find(resource::DEPLOYMENT, Some(namespace), name).await?;
    Ok(deployment.as_ref().and_then(gate))
}

fn gate(deployment: &DynamicObject) -> Option<bool> {
    let containers = deployment.data.pointer("/spec/template/spec/containers")?.as_array()?;
    let arguments = containers.iter().filter_map(|container| container["args"].as_array()).flatten().filter_map(|it| it.as_str());
    let gates = arguments.filter_map(|argument| argument.strip_prefix("--feature-gates="));
    gates.flat_map(|gates| gates.split(',')).find_map(|gate| gate.strip_prefix("ClusterTopology=")?.parse().ok())
}

fn gates(source: Option<bool>, target: Option<bool>) -> Option<String> {
    let word = |gate: Option<bool>| gate.map_or_else(|| "unset".to_owned(), |gate| gate.to_string());
    (source != target)
        .then(|| format!("target: the feature gate ClusterTopology is {} there and {} on the source", word(target), word(source)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pivot::{Object, Side, graph::Moving};
    use serde_json::{Value, json};

    use super::*;

    fn object(value: Value) -> Object {
        Object::of(&serde_json::from_value(value).unwrap()).unwrap()
    }

    fn identity(labels: &Value) -> Object {
        object(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "incus-identity", "namespace": "n", "labels": labels}}),
        )
    }

    fn cluster(class: &str) -> Object {
        let topology = json!({"classRef": {"name": "class", "namespace": class}});
        let metadata = json!({"name": "m", "namespace": "n"});
        object(
            json!({"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "metadata": metadata, "spec": {"topology": topology}}),
        )
    }

    fn side(objects: Vec<Object>) -> Side {
        let heads = BTreeMap::from([((object::CORE.to_owned(), "Cluster".to_owned()), true)]);
        Side::of("https://10.77.0.5:6443", "uid", objects, &Moving { kinds: heads })
    }

    #[test]
    fn what_would_go_wrong_later_is_told_before() {
        let labelled = || identity(&json!({object::MOVES: "true"}));
        for (case, source, target, words) in [
            ("all well", vec![cluster("n"), labelled()], vec![], ""),
            ("the Secret is there already", vec![cluster("n"), identity(&json!({}))], vec![labelled()], ""),
            ("a Secret without its label", vec![cluster("n"), identity(&json!({}))], vec![], "has no label"),
            ("no Secret", vec![cluster("n")], vec![], "there is no Secret n/incus-identity"),
            (
                "a class of another namespace",
                vec![cluster("other"), labelled()],
                vec![],
                "ClusterClass other/class of another namespace",
            ),
        ] {
            let lines = of_sides(&Sides { source: side(source), target: side(target) }, "n", "incus-identity").join("; ");
            assert!(if words.is_empty() { lines.is_empty() } else { lines.contains(words) }, "{case}: {lines}");
        }
    }

    #[test]
    fn both_clusters_know_classes_or_neither_does() {
        for (arguments, expected) in [
            (json!(["--leader-elect", "--feature-gates=MachinePool=true,ClusterTopology=true"]), Some(true)),
            (json!(["--feature-gates=ClusterTopology=false"]), Some(false)),
            (json!(["--leader-elect"]), None),
        ] {
            let spec = json!({"template": {"spec": {"containers": [{"args": arguments}]}}});
            assert_eq!(gate(&resource::DEPLOYMENT.object(Some("capi-system"), "x", json!({"spec": spec}))), expected);
        }
        assert_eq!(gates(Some(true), Some(true)), None);
        assert!(gates(Some(true), Some(false)).unwrap().contains("ClusterTopology is false there and true on the source"));
    }
}
