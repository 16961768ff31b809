//! Clusters of Cluster API and the machines that they are made of, judged by Cluster API's own objects alone: what a provider says of
//! its own differs from one to the next.

use kube::core::DynamicObject;
use serde_json::Value;

use crate::{
    Client, Condition, Error,
    condition::{Look, Test},
    resource::{CLUSTER, MACHINE, NODE},
};

/// On everything of a cluster: its name.
pub const CLUSTER_NAME: &str = "cluster.x-k8s.io/cluster-name";
/// On Machines of the control plane.
const CONTROL_PLANE_MACHINE: &str = "cluster.x-k8s.io/control-plane";
/// On Nodes of the control plane.
const CONTROL_PLANE_NODE: &str = "node-role.kubernetes.io/control-plane";

/// How many machines a cluster has, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of the control plane.
    pub control_plane: u64,
    /// All others.
    pub workers: u64,
}

impl Counts {
    /// As many as the Cluster itself is to have; nothing where it does not say.
    #[must_use]
    pub fn of(cluster: &DynamicObject) -> Option<Self> {
        let topology = &cluster.data["spec"]["topology"];
        if topology.is_object() {
            let replicas = |of: &Value| of["replicas"].as_u64().unwrap_or(1);
            let pools = ["machineDeployments", "machinePools"].into_iter();
            let pools = pools.flat_map(|kind| topology["workers"][kind].as_array().into_iter().flatten());
            return Some(Self { control_plane: replicas(&topology["controlPlane"]), workers: pools.map(replicas).sum() });
        }
        let desired = |part: &str| cluster.data["status"][part]["desiredReplicas"].as_u64();
        Some(Self { control_plane: desired("controlPlane")?, workers: desired("workers").unwrap_or_default() })
    }
}

/// A machine of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// The provider's object for it, by whose name the provider calls the machine.
    pub infrastructure: Option<String>,
    /// It belongs to the control plane.
    pub is_control_plane: bool,
    /// The node that it has become.
    pub node: Option<String>,
    /// Its version of Kubernetes.
    pub version: Option<String>,
    /// It is as it should be.
    pub is_ready: bool,
    /// What it still waits for: condition, reason and message, a line each.
    pub waits_for: Vec<String>,
    /// Why it will never come, if that is so.
    pub failure: Option<String>,
}

impl From<&DynamicObject> for Machine {
    fn from(object: &DynamicObject) -> Self {
        let (spec, status) = (&object.data["spec"], &object.data["status"]);
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let waits_for = conditions.clone().filter(|condition| {
            // These are the sum of others, or are false where all is well.
            let is_sum =
                ["Ready", "Available", "Deleting", "Paused", "UpToDate", "Updating"].iter().any(|sum| condition["type"] == *sum);
            condition["status"] != "True" && !is_sum
        });
        let old = &status["deprecated"]["v1beta1"];
        let failure = [word(&old["failureReason"]), word(&old["failureMessage"])];
        let failure: Vec<_> = failure.into_iter().filter(|word| !word.is_empty()).collect();
        Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            infrastructure: spec["infrastructureRef"]["name"].as_str().map(str::to_owned),
            is_control_plane: has_label(object, CONTROL_PLANE_MACHINE),
            node: status["nodeRef"]["name"].as_str().map(str::to_owned),
            version: spec["version"].as_str().map(str::to_owned),
            is_ready: holds(object, "Ready"),
            waits_for: waits_for.map(said).collect(),
            failure: (!failure.is_empty()).then(|| failure.join(": ")),
        }
    }
}

impl Client {
    /// The machines of a cluster, sorted by name.
    pub async fn machines(&self, namespace: &str, cluster: &str) -> Result<Vec<Machine>, Error> {
        let objects = self.list(MACHINE, Some(namespace)).await?;
        let is_own = |object: &&DynamicObject| {
            let labels = object.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(CLUSTER_NAME)).is_some_and(|name| name == cluster)
        };
        let mut machines: Vec<_> = objects.iter().filter(is_own).map(Machine::from).collect();
        machines.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(machines)
    }
}

impl Condition {
    /// A condition of a Cluster holds for its current form.
    #[must_use]
    pub fn cluster(namespace: &str, name: &str, status: &str) -> Self {
        Self::of(CLUSTER, Some(namespace), name, Test::observed().and(Test::status(status)).named(status))
    }

    /// Nothing of a Cluster is being replaced, and nothing of its current form has yet to be.
    #[must_use]
    pub fn rollout_ended(namespace: &str, name: &str) -> Self {
        let judge = |cluster: &DynamicObject| {
            let of_kind = |kind: &str| {
                let mut conditions = cluster.data["status"]["conditions"].as_array().into_iter().flatten();
                conditions.find(|condition| condition["type"] == kind)
            };
            let unmet = |condition: &Value| Look { holds: false, seen: said(condition) };
            let generation = cluster.metadata.generation;
            // Clusters without a topology have no such condition.
            match (of_kind("TopologyReconciled"), of_kind("RollingOut")) {
                (Some(topology), _) if topology["status"] != "True" => unmet(topology),
                (Some(topology), _) if topology["observedGeneration"].as_i64().is_some_and(|seen| Some(seen) < generation) => {
                    Look { holds: false, seen: "its topology is not reconciled in its current form".into() }
                }
                (_, Some(rolling)) if rolling["status"] == "True" => unmet(rolling),
                _ => Look { holds: true, seen: "rolled out".into() },
            }
        };
        Self::of(CLUSTER, Some(namespace), name, Test::new("rollout ended", judge))
    }

    /// Every Machine of a cluster is as it would be made now.
    #[must_use]
    pub fn machines_up_to_date(namespace: &str, cluster: &str) -> Self {
        let judge = |machines: &[&DynamicObject]| {
            // Where nobody says, as under older contracts, nobody can be asked.
            let outdated = machines.iter().filter(|machine| says(machine, "UpToDate", "False"));
            let names: Vec<_> = outdated.filter_map(|machine| machine.metadata.name.as_deref()).collect();
            Look { holds: names.is_empty(), seen: format!("to be replaced: {}", names.join(", ")) }
        };
        Self::among(MACHINE, Some(namespace), Some((CLUSTER_NAME, cluster)), Test::of_all("up to date", judge))
    }

    /// A cluster has all its Machines, and each of them is Ready.
    #[must_use]
    pub fn machines_ready(namespace: &str, cluster: &str, wanted: Counts) -> Self {
        Self::machines(namespace, cluster, wanted, "Ready", |machine| holds(machine, "Ready"))
    }

    /// Every Machine of a cluster has become a node.
    #[must_use]
    pub fn nodes_registered(namespace: &str, cluster: &str, wanted: Counts) -> Self {
        Self::machines(namespace, cluster, wanted, "registered", |machine| machine.data["status"]["nodeRef"]["name"].is_string())
    }

    /// The node of every Machine of a cluster is Ready, as Cluster API sees it.
    #[must_use]
    pub fn machines_nodes_ready(namespace: &str, cluster: &str, wanted: Counts) -> Self {
        Self::machines(namespace, cluster, wanted, "with nodes that are Ready", |machine| holds(machine, "NodeReady"))
    }

    /// A Machine of a cluster will never come.
    #[must_use]
    pub fn machine_failed(namespace: &str, cluster: &str) -> Self {
        let judge = |objects: &[&DynamicObject]| {
            let failed: Vec<_> = objects
                .iter()
                .map(|object| Machine::from(*object))
                .filter_map(|machine| Some(format!("{}: {}", machine.name, machine.failure?)))
                .collect();
            Look { holds: !failed.is_empty(), seen: failed.join("; ") }
        };
        Self::among(MACHINE, Some(namespace), Some((CLUSTER_NAME, cluster)), Test::of_all("failed", judge))
    }

    /// A cluster has no Machines any more.
    #[must_use]
    pub fn machines_gone(namespace: &str, cluster: &str) -> Self {
        let judge = |objects: &[&DynamicObject]| {
            let names: Vec<_> = objects.iter().filter_map(|object| object.metadata.name.as_deref()).collect();
            Look { holds: names.is_empty(), seen: format!("still there: {}", names.join(", ")) }
        };
        Self::among(MACHINE, Some(namespace), Some((CLUSTER_NAME, cluster)), Test::of_all("gone", judge))
    }

    /// A cluster has all its nodes, and each of them is Ready; asked of the cluster itself.
    #[must_use]
    pub fn nodes_ready(wanted: Counts) -> Self {
        let judge = move |objects: &[&DynamicObject]| {
            counted(objects, wanted, CONTROL_PLANE_NODE, |node| holds(node, "Ready"), not_ready, "Ready")
        };
        Self::among(NODE, None, None, Test::of_all("Ready", judge))
    }

    fn machines(namespace: &str, cluster: &str, wanted: Counts, word: &'static str, is_good: fn(&DynamicObject) -> bool) -> Self {
        let judge = move |objects: &[&DynamicObject]| counted(objects, wanted, CONTROL_PLANE_MACHINE, is_good, first_wait, word);
        Self::among(MACHINE, Some(namespace), Some((CLUSTER_NAME, cluster)), Test::of_all(word, judge))
    }
}

/// Holds when there are as many of each role as are wanted, no more, and all are good. Tells of each that is not what it waits for.
fn counted(
    objects: &[&DynamicObject],
    wanted: Counts,
    control_plane: &str,
    is_good: impl Fn(&DynamicObject) -> bool,
    why: impl Fn(&DynamicObject) -> Option<String>,
    word: &str,
) -> Look {
    let of_role = |role: bool| objects.iter().filter(move |object| has_label(object, control_plane) == role).collect::<Vec<_>>();
    let (controllers, workers) = (of_role(true), of_role(false));
    let good = |of: &[&&DynamicObject]| of.iter().filter(|object| is_good(object)).count() as u64;
    let tally = |of: &[&&DynamicObject], wanted: u64, role: &str| {
        let (good, all) = (good(of), of.len() as u64);
        let beyond = if all > wanted { format!(" ({all} there)") } else { String::new() };
        (good == wanted && all == wanted, format!("{good} of {wanted} {role} {word}{beyond}"))
    };
    let (first, controllers) = tally(&controllers, wanted.control_plane, "control plane");
    let (second, workers) = tally(&workers, wanted.workers, "workers");
    let trouble = objects.iter().filter(|object| !is_good(object)).filter_map(|object| {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        Some(format!("{name}: {}", why(object)?))
    });
    let seen = [format!("{controllers}, {workers}")].into_iter().chain(trouble).collect::<Vec<_>>().join("; ");
    Look { holds: first && second, seen }
}

/// What a machine waits for first.
fn first_wait(object: &DynamicObject) -> Option<String> {
    Machine::from(object).waits_for.into_iter().next()
}

/// What a node says of itself.
fn not_ready(object: &DynamicObject) -> Option<String> {
    let mut conditions = object.data["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|condition| condition["type"] == "Ready" && condition["status"] != "True").map(said)
}

fn holds(object: &DynamicObject, kind: &str) -> bool {
    says(object, kind, "True")
}

fn says(object: &DynamicObject, kind: &str, status: &str) -> bool {
    let mut conditions = object.data["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == kind && condition["status"] == status)
}

fn has_label(object: &DynamicObject, label: &str) -> bool {
    object.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(label))
}

/// A condition that does not hold, in one line.
fn said(condition: &Value) -> String {
    let words = [word(&condition["type"]), word(&condition["reason"]), word(&condition["message"])];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(": ").replace('\n', " ")
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn machine(name: &str, is_control_plane: bool, status: &Value) -> DynamicObject {
        let mut labels = json!({"cluster.x-k8s.io/cluster-name": "mgmt-1"});
        if is_control_plane {
            labels["cluster.x-k8s.io/control-plane"] = json!("");
        }
        let spec = json!({"version": "v1.35.0", "infrastructureRef": {"name": name}});
        let object = json!({"metadata": {"name": name, "namespace": "ns", "labels": labels}, "spec": spec, "status": status});
        serde_json::from_value(object).unwrap()
    }

    fn ready() -> Value {
        json!({"nodeRef": {"name": "node"}, "conditions": [{"type": "Ready", "status": "True"}]})
    }

    fn waiting() -> Value {
        json!({"conditions": [
            {"type": "Available", "status": "False"},
            {"type": "InfrastructureReady", "status": "False", "reason": "NotReady", "message": "no image kubeadm/v1.35.9"},
        ]})
    }

    #[test]
    fn machines_are_counted_by_role() {
        let wanted = Counts { control_plane: 1, workers: 2 };
        let control = machine("cp", true, &ready());
        let worker = |name: &str| machine(name, false, &ready());
        for (case, machines, holds, seen) in [
            ("none", vec![], false, "0 of 1 control plane Ready, 0 of 2 workers Ready"),
            ("all", vec![control.clone(), worker("a"), worker("b")], true, "1 of 1 control plane Ready, 2 of 2 workers Ready"),
            (
                "one that does not come",
                vec![control.clone(), worker("a"), machine("b", false, &waiting())],
                false,
                "1 of 1 control plane Ready, 1 of 2 workers Ready; b: InfrastructureReady: NotReady: no image kubeadm/v1.35.9",
            ),
            (
                "one too many",
                vec![control.clone(), worker("a"), worker("b"), worker("c")],
                false,
                "1 of 1 control plane Ready, 3 of 2 workers Ready (3 there)",
            ),
        ] {
            let objects: Vec<_> = machines.iter().collect();
            let look = counted(&objects, wanted, CONTROL_PLANE_MACHINE, |it| super::holds(it, "Ready"), first_wait, "Ready");
            assert_eq!(look, Look { holds, seen: seen.into() }, "{case}");
        }
    }

    #[test]
    fn a_rollout_has_ended_when_nothing_is_replaced_and_nothing_has_yet_to_be() {
        let condition = |kind: &str, status: &str, generation: u64| json!({"type": kind, "status": status, "reason": "Why", "observedGeneration": generation});
        let (reconciled, still) = (condition("TopologyReconciled", "True", 2), condition("RollingOut", "False", 2));
        for (case, conditions, expected) in [
            ("nobody says", json!([]), None),
            ("all is still", json!([reconciled, still]), None),
            ("without a topology", json!([still]), None),
            ("an upgrade waits", json!([condition("TopologyReconciled", "False", 2), still]), Some("TopologyReconciled: Why")),
            (
                "not seen yet",
                json!([condition("TopologyReconciled", "True", 1), still]),
                Some("its topology is not reconciled in its"),
            ),
            ("machines are replaced", json!([reconciled, condition("RollingOut", "True", 2)]), Some("RollingOut: Why")),
        ] {
            let mut cluster = CLUSTER.object(Some("ns"), "mgmt-1", json!({"status": {"conditions": conditions}}));
            cluster.metadata.generation = Some(2);
            let look = Condition::rollout_ended("ns", "mgmt-1").look(&[Arc::new(cluster)]);
            assert_eq!(look.holds, expected.is_none(), "{case}: {look:?}");
            assert!(look.seen.starts_with(expected.unwrap_or("rolled out")), "{case}: {look:?}");
        }
        let outdated = machine("b", false, &json!({"conditions": [{"type": "UpToDate", "status": "False", "message": "version"}]}));
        let up_to_date = Condition::machines_up_to_date("ns", "mgmt-1");
        let look = up_to_date.look(&[Arc::new(outdated), Arc::new(machine("c", false, &ready()))]);
        assert_eq!((look.holds, look.seen.as_str()), (false, "to be replaced: b"));
        assert!(up_to_date.look(&[Arc::new(machine("c", false, &ready()))]).holds);
    }

    #[test]
    fn the_cluster_says_how_many() {
        let cluster = |data: Value| CLUSTER.object(Some("ns"), "mgmt-1", data);
        let topology = json!({"spec": {"topology": {
            "controlPlane": {"replicas": 3}, "workers": {"machineDeployments": [{"replicas": 2}, {"name": "md-1"}]},
        }}});
        let status = json!({"status": {"controlPlane": {"desiredReplicas": 1}, "workers": {"desiredReplicas": 0}}});
        for (data, expected) in [
            (topology, Some(Counts { control_plane: 3, workers: 3 })),
            (json!({"spec": {"topology": {}}}), Some(Counts { control_plane: 1, workers: 0 })),
            (status, Some(Counts { control_plane: 1, workers: 0 })),
            (json!({"spec": {}}), None),
        ] {
            assert_eq!(Counts::of(&cluster(data.clone())), expected, "{data}");
        }
    }

    #[test]
    fn a_machine_says_why_it_will_never_come() {
        let failure = json!({"failureReason": "CreateError", "failureMessage": "no such profile"});
        let failed = Machine::from(&machine("b", false, &json!({"deprecated": {"v1beta1": failure}})));
        assert_eq!(failed.failure.as_deref(), Some("CreateError: no such profile"));
        let waiting = Machine::from(&machine("b", false, &waiting()));
        assert_eq!((waiting.failure, waiting.infrastructure.as_deref()), (None, Some("b")));
        assert_eq!(waiting.waits_for, ["InfrastructureReady: NotReady: no image kubeadm/v1.35.9"]);
    }
}
