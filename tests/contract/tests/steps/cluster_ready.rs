//! `cluster_ready` against a scripted cluster that has the Cluster's objects, and one that is the cluster itself.

#![allow(clippy::expect_used, clippy::panic)]

use std::fs;

use contract::{Backend, Kubernetes, Lxd, Step};
use serde_json::{Value, json};
use tempfile::TempDir;

const KINDS: [&str; 2] = ["/apis/cluster.x-k8s.io/v1beta2/clusters", "/apis/cluster.x-k8s.io/v1beta2/machines"];
const OWN_KINDS: [&str; 3] = ["/api/v1/nodes", "/api/v1/pods", "/apis/apps/v1/deployments"];
const CLUSTER: &str = "/apis/cluster.x-k8s.io/v1beta2/namespaces/capi-clusters/clusters/mgmt-1";
const MACHINES: &str = "/apis/cluster.x-k8s.io/v1beta2/namespaces/capi-clusters/machines";

struct Bench {
    folder: TempDir,
    management: Kubernetes,
    own: Kubernetes,
}

impl Bench {
    fn new() -> Self {
        let folder = TempDir::with_prefix("lab-").expect("make a folder for the lab");
        let (management, own) = (Kubernetes::start(&KINDS), Kubernetes::start(&OWN_KINDS));
        for (name, cluster) in [("management", &management), ("own", &own)] {
            fs::write(folder.path().join(name), cluster.kubeconfig()).expect("write a kubeconfig");
        }
        Self { folder, management, own }
    }

    fn step(&self) -> Step {
        let lxd = self.folder.path().join("no-lxd");
        let kubeconfig = self.folder.path().join("management");
        Step::new("cluster_ready")
            .args(json!({"name": "mgmt-1", "kubeconfig_path": kubeconfig, "timeout": 60, "lxd_socket_path": lxd}))
    }

    fn put_cluster(&self, condition: &str, status: &str) {
        let topology =
            json!({"version": "v1.35.0", "controlPlane": {"replicas": 1}, "workers": {"machineDeployments": [{"replicas": 1}]}});
        let conditions = json!([{"type": condition, "status": status, "reason": "Why", "message": "so it is"}]);
        self.management.put(
            CLUSTER,
            json!({
                "metadata": {"generation": 1},
                "spec": {"topology": topology, "controlPlaneEndpoint": {"host": "10.77.0.9", "port": 6443}},
                "status": {"observedGeneration": 1, "conditions": conditions},
            }),
        );
    }

    fn put_machine(&self, name: &str, is_control_plane: bool, status: &Value) {
        let mut labels = json!({"cluster.x-k8s.io/cluster-name": "mgmt-1"});
        if is_control_plane {
            labels["cluster.x-k8s.io/control-plane"] = json!("");
        }
        let spec = json!({"version": "v1.35.0", "infrastructureRef": {"name": name}});
        self.management.put(&format!("{MACHINES}/{name}"), json!({"metadata": {"labels": labels}, "spec": spec, "status": status}));
    }

    fn put_node(&self, name: &str, is_control_plane: bool, ready: &str) {
        let labels = if is_control_plane { json!({"node-role.kubernetes.io/control-plane": ""}) } else { json!({}) };
        let conditions = json!([{"type": "Ready", "status": ready, "reason": "KubeletNotReady", "message": "no CNI"}]);
        self.own
            .put(&format!("/api/v1/nodes/{name}"), json!({"metadata": {"labels": labels}, "status": {"conditions": conditions}}));
    }
}

fn registered(name: &str) -> Value {
    json!({"nodeRef": {"name": name}, "conditions": [{"type": "Ready", "status": "True"}, {"type": "NodeReady", "status": "True"}]})
}

fn waiting() -> Value {
    json!({"conditions": [{"type": "InfrastructureReady", "status": "False", "reason": "NotReady", "message": "no image kubeadm/v1.35.9"}]})
}

#[test]
fn waits_until_the_api_has_answered() {
    let bench = Bench::new();
    bench.put_cluster("ControlPlaneInitialized", "False");
    let running = bench.step().args(json!({"until": ["control_plane_initialized"]})).spawn();
    bench.put_cluster("ControlPlaneInitialized", "True");
    let facts = running.wait().expect_unchanged().json;
    assert_eq!(facts["cluster"]["endpoint"], "10.77.0.9:6443");
    assert_eq!((&facts["cluster"]["control_plane_count"], &facts["cluster"]["worker_count"]), (&json!(1), &json!(1)));
}

#[test]
fn waits_for_machines_and_for_the_nodes_themselves() {
    let bench = Bench::new();
    bench.put_cluster("Available", "True");
    let own = bench.folder.path().join("own");
    let step = bench.step().args(json!({
        "until": ["nodes_registered", "nodes_ready"], "cluster_kubeconfig_path": own,
        "deployments": [{"namespace": "kube-system", "name": "coredns"}],
    }));
    let running = step.spawn();
    bench.put_machine("cp", true, &registered("cp"));
    bench.put_machine("w", false, &registered("w"));
    bench.put_node("cp", true, "True");
    bench.put_node("w", false, "True");
    bench.own.put(
        "/apis/apps/v1/namespaces/kube-system/deployments/coredns",
        json!({"metadata": {"generation": 1}, "spec": {"replicas": 1},
            "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}}),
    );
    let facts = running.wait().expect_unchanged().json;
    assert_eq!(facts["cluster"]["machines"][1]["node"], "w", "{facts:#}");
    bench.put_node("w", false, "False");
    step.args(json!({"timeout": 1})).run().expect_code("CLUSTER_NOT_READY").expect_words("w: Ready: KubeletNotReady: no CNI");
}

#[test]
fn waits_for_the_end_of_a_rollout() {
    let bench = Bench::new();
    bench.put_machine("cp", true, &registered("cp"));
    bench.put_machine("w", false, &registered("w"));
    for until in ["machines_ready", "nodes_ready"] {
        bench.put_cluster("RollingOut", "True");
        let step = bench.step().args(json!({"until": [until]}));
        step.clone().args(json!({"timeout": 1})).run().expect_code("CLUSTER_NOT_READY").expect_words("RollingOut: Why: so it is");
        let running = step.spawn();
        bench.put_cluster("RollingOut", "False");
        running.wait().expect_unchanged();
    }
    bench.put_cluster("RollingOut", "True");
    bench.step().args(json!({"until": ["nodes_registered"]})).run().expect_unchanged();
}

#[test]
fn names_the_machine_that_does_not_come() {
    let bench = Bench::new();
    bench.put_cluster("Available", "True");
    bench.put_machine("cp", true, &registered("cp"));
    bench.put_machine("w", false, &waiting());
    let late = bench.step().args(json!({"timeout": 1, "until": ["nodes_registered"]})).run().expect_code("CLUSTER_NOT_READY");
    for words in
        ["0 of 1 workers registered", "machine w: InfrastructureReady: NotReady: no image kubeadm/v1.35.9", "LXD does not tell"]
    {
        late.clone().expect_words(words);
    }
    let lxd = Lxd::open(Backend::ScriptedSync);
    let with_lxd = lxd.step("cluster_ready").args(json!({
        "name": "mgmt-1", "kubeconfig_path": bench.folder.path().join("management"), "timeout": 1, "until": ["nodes_registered"],
    }));
    with_lxd.run().expect_code("CLUSTER_NOT_READY").expect_words("instance w: there is none");
}

#[test]
fn gives_up_on_what_will_never_come() {
    let bench = Bench::new();
    bench.put_cluster("Available", "True");
    bench.put_machine("cp", true, &registered("cp"));
    let failure = json!({"failureReason": "CreateError", "failureMessage": "no such profile"});
    bench.put_machine("w", false, &json!({"deprecated": {"v1beta1": failure}}));
    bench.step().args(json!({"timeout": 600})).run().expect_code("MACHINE_FAILED").expect_words("w: CreateError: no such profile");
}

#[test]
fn says_what_is_missing() {
    let bench = Bench::new();
    bench.step().run().expect_code("CLUSTER_OBJECT_NOT_FOUND").expect_words("capi-clusters/mgmt-1");
    assert!(!bench.step().check().ok().deferred().is_empty(), "check mode says what it could not look at");
    bench.management.put(CLUSTER, json!({"metadata": {"generation": 1}, "spec": {}}));
    bench.step().run().expect_code("CLUSTER_COUNTS_UNKNOWN").expect_words("worker_count");
    bench.step().args(json!({"until": ["ready"]})).run().expect_code("OPTION_INVALID");
    bench.step().args(json!({"deployments": [{"namespace": "a", "name": "b"}]})).run().expect_code("OPTION_MISSING");
    for option in ["name", "kubeconfig_path"] {
        bench.step().args(json!({option: null})).run().expect_code("OPTION_MISSING").expect_words(&format!("`{option}`"));
    }
}
