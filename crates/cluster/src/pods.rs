//! What holds pods up, in words that lead somewhere.

use kube::core::DynamicObject;
use serde_json::Value;

/// A line for each container of a pod that does not run, with its image; none where all is well.
#[must_use]
pub fn held_up(pod: &DynamicObject) -> Vec<String> {
    let name =
        format!("{}/{}", pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default());
    let status = &pod.data["status"];
    match word(&status["phase"]) {
        "Succeeded" => return Vec::new(),
        "Failed" => return vec![format!("pod {name}: {}", words(status))],
        _ => {}
    }
    let list = |field: &str| status[field].as_array().cloned().unwrap_or_default();
    let unscheduled = list("conditions").into_iter().filter(|it| it["type"] == "PodScheduled" && it["status"] == "False");
    let unscheduled = unscheduled.map(|condition| format!("pod {name}: {}", words(&condition)));
    let containers = list("initContainerStatuses").into_iter().chain(list("containerStatuses"));
    let waiting = containers.filter_map(|container| {
        let state =
            ["waiting", "terminated"].into_iter().map(|state| &container["state"][state]).find(|state| state.is_object())?;
        // A container that has done its work is in nobody's way.
        let why = (state["exitCode"] != 0).then(|| words(state))?;
        Some(format!("pod {name}, container {}, image {}: {why}", word(&container["name"]), word(&container["image"])))
    });
    unscheduled.chain(waiting).collect()
}

fn words(state: &Value) -> String {
    let words = [word(&state["reason"]), word(&state["message"])];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(": ")
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource;

    #[test]
    fn a_line_for_each_container_that_does_not_run() {
        let container = |name: &str, state: Value| json!({"name": name, "image": "registry/x:v1", "state": state});
        for (case, status, expected) in [
            ("running", json!({"containerStatuses": [container("manager", json!({"running": {}}))]}), &[][..]),
            (
                "pulling",
                json!({"containerStatuses": [container("manager", json!({"waiting": {"reason": "ImagePullBackOff", "message": "no route"}}))]}),
                &["pod ns/pod, container manager, image registry/x:v1: ImagePullBackOff: no route"],
            ),
            (
                "dead",
                json!({
                    "initContainerStatuses": [container("prepare", json!({"terminated": {"reason": "Completed", "exitCode": 0}}))],
                    "containerStatuses": [container("manager", json!({"terminated": {"reason": "Error", "exitCode": 1}}))],
                }),
                &["pod ns/pod, container manager, image registry/x:v1: Error"],
            ),
            (
                "done",
                json!({"phase": "Succeeded", "containerStatuses": [container("x", json!({"terminated": {"exitCode": 0}}))]}),
                &[],
            ),
            (
                "evicted",
                json!({
                    "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage.",
                    "containerStatuses": [container("x", json!({"terminated": {"exitCode": 137, "reason": "Unknown"}}))],
                }),
                &["pod ns/pod: Evicted: The node was low on resource: ephemeral-storage."],
            ),
            (
                "no room",
                json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]}),
                &["pod ns/pod: Unschedulable: 0/1 nodes"],
            ),
        ] {
            let pod = resource::POD.object(Some("ns"), "pod", json!({"status": status}));
            assert_eq!(held_up(&pod), expected, "{case}");
        }
    }
}
