//! What `clusterctl` installs, and what it wants to know of it.

use kube::CustomResourceExt;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    api::{LXCCluster, LXCClusterTemplate, LXCMachine, LXCMachineTemplate, conditions::Contract},
    health,
};

const NAMESPACE: &str = "capn-system";
/// The version of the custom resources.
const VERSION: &str = "v1alpha2";
const NAME: &str = "capn-controller-manager";
/// The provider's name with its kind, as Cluster API labels it.
const PROVIDER: &str = "infrastructure-incus";
/// The release series.
const SERIES: (u32, u32) = (0, 8);

/// The components, as a stream of YAML documents.
pub fn components(image: &str, contract: Contract) -> Result<String, serde_saphyr::ser::Error> {
    let mut documents = vec![namespace()];
    documents.extend(definitions(contract));
    documents.extend([service_account(), role(), role_binding(), deployment(image, contract)]);
    let documents: Result<Vec<String>, _> = documents.into_iter().map(|document| yaml(&labelled(document))).collect();
    Ok(documents?.join("---\n"))
}

/// The provider's metadata.
pub fn metadata(contract: Contract) -> Result<String, serde_saphyr::ser::Error> {
    let (major, minor) = SERIES;
    yaml(&json!({
        "apiVersion": "clusterctl.cluster.x-k8s.io/v1alpha3",
        "kind": "Metadata",
        "releaseSeries": [{"major": major, "minor": minor, "contract": contract.as_str()}],
    }))
}

fn yaml(document: &impl Serialize) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(document)
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {"control-plane": NAME}}})
}

/// The real provider's have no label for `clusterctl move` either: what nobody owns stays behind.
fn definitions(contract: Contract) -> impl Iterator<Item = Value> {
    let definitions = [LXCCluster::crd(), LXCClusterTemplate::crd(), LXCMachine::crd(), LXCMachineTemplate::crd()];
    definitions.into_iter().map(move |mut definition| {
        let labels = definition.metadata.labels.get_or_insert_default();
        labels.insert(format!("cluster.x-k8s.io/{}", contract.as_str()), VERSION.to_owned());
        json!(definition)
    })
}

fn service_account() -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": NAMESPACE}})
}

fn role() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": NAME},
        "rules": [
            {
                "apiGroups": ["infrastructure.cluster.x-k8s.io"],
                "resources": ["lxcclusters", "lxcmachines"],
                "verbs": ["get", "list", "watch", "patch"],
            },
            {
                "apiGroups": ["infrastructure.cluster.x-k8s.io"],
                "resources": ["lxcclusters/status", "lxcmachines/status"],
                "verbs": ["patch"],
            },
            {"apiGroups": ["cluster.x-k8s.io"], "resources": ["clusters"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["cluster.x-k8s.io"], "resources": ["machines"], "verbs": ["get", "list", "watch", "patch"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]},
        ],
    })
}

fn role_binding() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": NAME},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    })
}

fn deployment(image: &str, contract: Contract) -> Value {
    let selector = json!({"control-plane": NAME, "cluster.x-k8s.io/provider": PROVIDER});
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": "healthz"}, "periodSeconds": 2});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"control-plane": NAME}},
        "spec": {
            "replicas": 1,
            // Two managers at a time would do everything twice.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {"labels": selector},
                "spec": {
                    "serviceAccountName": NAME,
                    "terminationGracePeriodSeconds": 10,
                    "tolerations": [
                        {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
                        {"key": "node-role.kubernetes.io/master", "effect": "NoSchedule"},
                    ],
                    "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "manager",
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["/manager"],
                        // Labs that need a stand-in have Debian's LXD 5.0, which cannot make several containers at once.
                        "args": [
                            "run",
                            format!("--health-port={}", health::PORT),
                            format!("--contract={}", contract.as_str()),
                            "--concurrency=1",
                        ],
                        "ports": [{"name": "healthz", "containerPort": health::PORT}],
                        "livenessProbe": probe("/healthz"),
                        "readinessProbe": probe("/readyz"),
                        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }],
                },
            },
        },
    })
}

fn labelled(mut document: Value) -> Value {
    document["metadata"]["labels"]["cluster.x-k8s.io/provider"] = json!(PROVIDER);
    document
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_kind_says_which_contract_it_keeps_and_nothing_travels_that_nobody_owns() {
        for (contract, other) in [("v1beta1", "v1beta2"), ("v1beta2", "v1beta1")] {
            for definition in definitions(Contract::from_str(contract, false).unwrap()) {
                let labels = &definition["metadata"]["labels"];
                assert_eq!(labels[format!("cluster.x-k8s.io/{contract}")], "v1alpha2", "{labels}");
                assert_eq!(labels.get(format!("cluster.x-k8s.io/{other}")), None, "{labels}");
                assert_eq!(labels.get("clusterctl.cluster.x-k8s.io/move"), None, "{labels}");
                assert_eq!(definition["spec"]["scope"], "Namespaced");
                assert_eq!(definition["spec"]["versions"][0]["name"], VERSION);
            }
        }
    }

    #[test]
    fn the_older_contract_is_the_default() {
        assert_eq!(Contract::default(), Contract::V1beta1);
        assert!(metadata(Contract::default()).unwrap().contains("contract: v1beta1"));
        let args = &deployment("x", Contract::V1beta2)["spec"]["template"]["spec"]["containers"][0]["args"];
        assert_eq!((&args[2], &args[3]), (&json!("--contract=v1beta2"), &json!("--concurrency=1")));
    }

    #[test]
    fn a_cluster_has_exactly_one_load_balancer() {
        let spec = json!(LXCCluster::crd());
        let spec = &spec["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let balancer = &spec["properties"]["loadBalancer"];
        assert_eq!((&balancer["minProperties"], &balancer["maxProperties"]), (&json!(1), &json!(1)), "{balancer:#}");
        let modes: Vec<_> = balancer["properties"].as_object().unwrap().keys().collect();
        assert_eq!(modes, ["external", "kubeVIP", "lxc", "oci", "ovn"]);
        // An instance of a load balancer takes neither devices nor configuration keys.
        let instance = &balancer["properties"]["lxc"]["properties"]["instanceSpec"]["properties"];
        let fields: Vec<_> = instance.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["flavor", "image", "profiles", "target"]);
        assert_eq!(spec["required"], json!(["loadBalancer"]));
    }

    #[test]
    fn components_are_the_providers_and_hold_nothing_to_substitute() {
        let components = components("registry.example/capn:v0.8.5", Contract::default()).unwrap();
        assert_eq!(components.matches("\n---\n").count() + 1, 9);
        assert_eq!(components.matches("cluster.x-k8s.io/provider: infrastructure-incus").count(), 9 + 2);
        assert!(components.contains("registry.example/capn:v0.8.5"));
        assert!(!components.contains("${"));
    }
}
