//! Whether workloads run in their current form, as `kubectl rollout status` judges it.

use kube::core::DynamicObject;
use serde_json::Value;

use crate::{
    Condition, Resource,
    condition::{Look, Test},
    resource::{DAEMON_SET, DEPLOYMENT, JOB, STATEFUL_SET},
};

type Judge = fn(&DynamicObject) -> Look;

/// Kinds of objects that are rolled out.
const KINDS: [(Resource, Judge); 4] =
    [(DEPLOYMENT, deployment), (DAEMON_SET, daemon_set), (STATEFUL_SET, stateful_set), (JOB, job)];

impl Condition {
    /// All Pods of a workload run, in its current form; nothing for a kind that has none.
    #[must_use]
    pub fn rolled_out(kind: &str, namespace: &str, name: &str) -> Option<Self> {
        let (resource, judge) = KINDS.into_iter().find(|(resource, _)| resource.kind == kind)?;
        let test = if resource == JOB {
            Test::new("complete", judge)
        } else {
            Test::observed().and(Test::new("", judge)).named("rolled out")
        };
        Some(Self::of(resource, Some(namespace), name, test))
    }
}

fn deployment(object: &DynamicObject) -> Look {
    let (spec, status) = (&object.data["spec"], &object.data["status"]);
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    replicas(
        wanted,
        &[("updated", count(status, "updatedReplicas")), ("available", count(status, "availableReplicas"))],
        count(status, "replicas"),
    )
}

fn daemon_set(object: &DynamicObject) -> Look {
    let status = &object.data["status"];
    let wanted = count(status, "desiredNumberScheduled");
    replicas(
        wanted,
        &[("updated", count(status, "updatedNumberScheduled")), ("available", count(status, "numberAvailable"))],
        wanted,
    )
}

fn stateful_set(object: &DynamicObject) -> Look {
    let (spec, status) = (&object.data["spec"], &object.data["status"]);
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let updated = if status["currentRevision"] == status["updateRevision"] { wanted } else { count(status, "updatedReplicas") };
    replicas(wanted, &[("updated", updated), ("ready", count(status, "readyReplicas"))], count(status, "replicas"))
}

/// Holds when as many as are wanted are in each state, and no more than those are there.
fn replicas(wanted: i64, states: &[(&str, i64)], all: i64) -> Look {
    let counted: Vec<_> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let of_old = all - wanted;
    let holds = states.iter().all(|(_, count)| *count >= wanted) && of_old <= 0;
    let leaving = if of_old > 0 { format!(", {of_old} of old still there") } else { String::new() };
    Look { holds, seen: format!("{} of {wanted}{leaving}", counted.join(", ")) }
}

fn job(object: &DynamicObject) -> Look {
    let status = &object.data["status"];
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let is = |kind: &str| conditions.clone().find(|condition| condition["type"] == kind && condition["status"] == "True");
    if is("Complete").is_some() {
        return Look { holds: true, seen: "complete".into() };
    }
    let seen = match is("Failed") {
        Some(failed) => format!("failed: {}", failed["message"].as_str().unwrap_or_default()),
        None => format!("{} active, {} failed", count(status, "active"), count(status, "failed")),
    };
    Look { holds: false, seen }
}

fn count(status: &Value, field: &str) -> i64 {
    status[field].as_i64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn workloads_run_in_their_current_form() {
        for (case, judge, data, holds, seen) in [
            ("fresh", deployment as Judge, json!({"spec": {"replicas": 2}, "status": {}}), false, "0 updated, 0 available of 2"),
            (
                "half",
                deployment,
                json!({"spec": {"replicas": 2}, "status": {"replicas": 3, "updatedReplicas": 2, "availableReplicas": 3}}),
                false,
                "2 updated, 3 available of 2, 1 of old still there",
            ),
            (
                "whole",
                deployment,
                json!({"spec": {"replicas": 2}, "status": {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}}),
                true,
                "2 updated, 2 available of 2",
            ),
            ("none wanted", deployment, json!({"spec": {"replicas": 0}}), true, "0 updated, 0 available of 0"),
            (
                "on three nodes",
                daemon_set,
                json!({"status": {"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 2}}),
                false,
                "3 updated, 2 available of 3",
            ),
            (
                "in order",
                stateful_set,
                json!({"spec": {"replicas": 1}, "status": {"replicas": 1, "readyReplicas": 1, "currentRevision": "a", "updateRevision": "a"}}),
                true,
                "1 updated, 1 ready of 1",
            ),
            (
                "at work",
                stateful_set,
                json!({"spec": {"replicas": 1}, "status": {"replicas": 1, "readyReplicas": 1, "currentRevision": "a", "updateRevision": "b"}}),
                false,
                "0 updated, 1 ready of 1",
            ),
            ("job", job, json!({"status": {"active": 1, "failed": 2}}), false, "1 active, 2 failed"),
            ("job done", job, json!({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}), true, "complete"),
            (
                "job failed",
                job,
                json!({"status": {"conditions": [{"type": "Failed", "status": "True", "message": "too often"}]}}),
                false,
                "failed: too often",
            ),
        ] {
            let object = DEPLOYMENT.object(Some("ns"), "x", data);
            assert_eq!(judge(&object), Look { holds, seen: seen.into() }, "{case}");
        }
    }

    #[test]
    fn only_workloads_are_rolled_out() {
        let name = |kind: &str| Condition::rolled_out(kind, "ns", "x").map(|condition| condition.name());
        assert_eq!(name("Deployment").as_deref(), Some("Deployment ns/x rolled out"));
        assert_eq!(name("Job").as_deref(), Some("Job ns/x complete"));
        assert_eq!(name("ConfigMap"), None);
    }
}
