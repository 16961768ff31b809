//! Why a test of a release has failed: Helm itself does not tell which of a Pod's containers it was.

use std::fmt;

use cluster::{Client, DynamicObject, resource};
use serde_json::Value;

use crate::{Error, Record, record::Hook};

/// A check of a gate that did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The Pod that it runs in.
    pub pod: String,
    /// The container, which is named for what it checks.
    pub name: String,
    /// Why it ended, or why it does not.
    pub reason: String,
    /// Its last words.
    pub message: String,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pod, name, reason, message } = self;
        write!(f, "check {name} of Pod {pod}: {reason}")?;
        if message.is_empty() { Ok(()) } else { write!(f, ": {message}") }
    }
}

/// The checks that did not pass, one for each Pod that the tests of a release consist of.
pub async fn failed(client: &Client, namespace: &str, record: &Record) -> Result<Vec<Check>, Error> {
    let mut checks = Vec::new();
    for Hook { name, .. } in record.tests().filter(|hook| hook.kind == "Pod") {
        if let Some(pod) = client.find(resource::POD, Some(namespace), name).await? {
            checks.extend(failed_in(&pod));
        }
    }
    Ok(checks)
}

/// The first container that ended badly, or else the one that has not ended.
fn failed_in(pod: &DynamicObject) -> Option<Check> {
    let status = &pod.data["status"];
    if status["phase"] == "Succeeded" {
        return None;
    }
    let name = pod.metadata.name.clone().unwrap_or_default();
    let containers = || {
        let lists = ["initContainerStatuses", "containerStatuses"].into_iter();
        lists.flat_map(|list| status[list].as_array().into_iter().flatten())
    };
    let check = |container: &Value, state: &Value, otherwise: &str| Check {
        pod: name.clone(),
        name: text(&container["name"]),
        reason: Some(text(&state["reason"])).filter(|reason| !reason.is_empty()).unwrap_or_else(|| otherwise.to_owned()),
        message: text(&state["message"]),
    };
    for container in containers() {
        let ended = &container["state"]["terminated"];
        if let Some(code) = ended["exitCode"].as_i64().filter(|code| *code != 0) {
            return Some(check(container, ended, &format!("exit code {code}")));
        }
    }
    for container in containers() {
        let state = &container["state"];
        if state["running"].is_object() {
            return Some(check(container, &state["running"], "still running"));
        }
        // Containers that wait for an earlier one to end say so; the others have a trouble of their own.
        if state["waiting"].is_object() && state["waiting"]["reason"] != "PodInitializing" {
            return Some(check(container, &state["waiting"], "waiting"));
        }
    }
    let whole = serde_json::json!({"name": "(all)"});
    let unscheduled = status["conditions"].as_array().into_iter().flatten();
    let unscheduled = unscheduled.into_iter().find(|it| it["type"] == "PodScheduled" && it["status"] == "False");
    Some(check(&whole, unscheduled.unwrap_or(status), "not started"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_check_is_named_by_its_container() {
        let done = |name: &str| json!({"name": name, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
        let bad =
            |name: &str| json!({"name": name, "state": {"terminated": {"exitCode": 1, "reason": "Error", "message": "TIMEOUT\n"}}});
        let waiting =
            |name: &str, reason: &str| json!({"name": name, "state": {"waiting": {"reason": reason, "message": "no route"}}});
        for (case, status, expected) in [
            ("passed", json!({"phase": "Succeeded", "containerStatuses": [done("verdict")]}), None),
            (
                "the second of three",
                json!({"phase": "Failed", "initContainerStatuses": [done("nodes"), bad("dns-ipv6"), waiting("egress", "PodInitializing")]}),
                Some("check dns-ipv6 of Pod gate: Error: TIMEOUT"),
            ),
            (
                "the last",
                json!({"initContainerStatuses": [done("nodes")], "containerStatuses": [bad("verdict")]}),
                Some("check verdict of Pod gate: Error: TIMEOUT"),
            ),
            (
                "one that hangs",
                json!({"initContainerStatuses": [done("nodes"), {"name": "egress", "state": {"running": {"startedAt": "x"}}}], "containerStatuses": [waiting("verdict", "PodInitializing")]}),
                Some("check egress of Pod gate: still running"),
            ),
            (
                "one without an image",
                json!({"initContainerStatuses": [waiting("nodes", "ImagePullBackOff")]}),
                Some("check nodes of Pod gate: ImagePullBackOff: no route"),
            ),
            (
                "no node for it",
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"}]}),
                Some("check (all) of Pod gate: Unschedulable: 0/2 nodes"),
            ),
            (
                "over its time",
                json!({"phase": "Failed", "reason": "DeadlineExceeded", "message": "too long"}),
                Some("check (all) of Pod gate: DeadlineExceeded: too long"),
            ),
        ] {
            let pod = resource::POD.object(Some("ns"), "gate", json!({"status": status}));
            assert_eq!(failed_in(&pod).map(|check| check.to_string()).as_deref(), expected, "{case}");
        }
    }
}
