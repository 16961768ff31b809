//! `lab_plan` on this machine, whose routes it reads. It needs no LXD.

#![allow(clippy::expect_used)]

use contract::{Outcome, Step, image};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Addresses that no test machine has a route to.
fn step() -> Step {
    Step::new("lab_plan").args(json!({
        "internal_ipv4_subnet": "198.18.77.0/24", "external_ipv6_prefix": "2001:db8:77:100::/64", "opt_root": "/srv/lab",
        "management_cluster": {"name": "mgmt-1", "vip_range": "2001:db8:77:100::200-2001:db8:77:100::2ff"},
        "workload_clusters": [{"name": "lab-default", "control_plane_count": "3", "worker_count": "2", "port": ""}],
    }))
}

fn clusters(outcome: &Outcome) -> Vec<Value> {
    outcome.json["clusters"].as_array().cloned().unwrap_or_default()
}

#[test]
fn the_list_has_everything_that_follows() {
    for outcome in [step().check().expect_unchanged(), step().run().expect_unchanged()] {
        let listed = clusters(&outcome);
        assert_eq!(listed.len(), 2);
        assert_eq!(
            listed[1],
            json!({
                "name": "lab-default", "namespace": "capi-clusters", "purpose": "workload",
                "pod_cidrs": ["10.244.0.0/16", "fd42:77:2::/56"], "service_cidrs": ["10.96.0.0/16", "fd42:77:3::/112"],
                "vip_range": null, "kubernetes_version": "v1.35.0", "control_plane_count": 3, "worker_count": 2, "port": 26818,
                "kubeconfig_path": "/srv/lab/etc/clusters/capi-clusters/lab-default.kubeconfig",
                "node_image": "kubeadm/v1.35.0", "load_balancer_image": "haproxy",
            })
        );
        assert_eq!(outcome.json["management_cluster"]["port"], 25060);
        assert_eq!(outcome.json["workload_clusters"][0], listed[1]);
    }
}

#[test]
fn values_of_charts_are_not_shown() {
    let secret = json!({"name": "a", "cni": "flannel", "vip_range": "", "cluster_values": {"token": "hunter2"}});
    let planned = step().args(json!({"workload_clusters": [secret]})).run().expect_unchanged();
    assert_eq!(clusters(&planned)[1]["name"], "a");
    assert!(!planned.json.to_string().contains("hunter2"), "{:#}", planned.json);
}

#[test]
fn what_does_not_go_together_is_refused_with_all_of_it() {
    for (options, code, words) in [
        (json!({"internal_ipv4_subnet": "10.42.0.0/24"}), "ADDRESSES_OVERLAP", "Pods of cluster bootstrap (10.42.0.0/16)"),
        (json!({"internal_ipv4_subnet": "127.0.0.0"}), "OPTION_INVALID", "internal_ipv4_subnet"),
        (json!({"internal_ipv6_subnet": "fd42::/80"}), "SUBNET_UNFIT", "narrower than a /64"),
        (json!({"management_cluster": {"name": "mgmt-1", "vip_range": "2001:db8::1-2001:db8::9"}}), "POOL_UNFIT", "not within"),
        (json!({"workload_clusters": [{"name": "lab-default", "control_plane_count": 2}]}), "OPTION_INVALID", "majority"),
        (json!({"workload_clusters": [{"name": "mgmt-1"}]}), "OPTION_INVALID", "two clusters capi-clusters/mgmt-1"),
        (json!({"workload_clusters": [{"name": "b", "port": 25060}]}), "PORT_SHARED", "clusters mgmt-1 and b"),
        (json!({"workload_clusters": [{"nam": "b"}]}), "OPTION_UNKNOWN", "name"),
        (json!({"workload_clusters": [{}]}), "OPTION_MISSING", "name"),
        (json!({"workload_clusters": [{"name": "b", "cni": "cilium"}]}), "OPTION_INVALID", "flannel"),
        (json!({"workload_clusters": [{"name": "b", "class_values": "no"}]}), "OPTION_INVALID", "class_values"),
    ] {
        for outcome in [step().args(options.clone()).check(), step().args(options.clone()).run()] {
            outcome.expect_code(code).expect_words(words);
        }
    }
}

#[test]
fn a_version_without_an_image_is_refused_and_a_bundle_to_come_is_awaited() {
    let folder = TempDir::with_prefix("bundle-").expect("make a folder for the bundle");
    let with_bundle = step().args(json!({"bundle": folder.path()}));
    let foreseen = with_bundle.check().expect_unchanged();
    assert!(foreseen.deferred()[0].as_str().is_some_and(|reason| reason.contains("no bundle")), "{:#}", foreseen.json);
    with_bundle.run().expect_code("BUNDLE_MISSING");
    image::bundle(folder.path(), "kubeadm/v1.34.4", "1");
    for outcome in [with_bundle.check(), with_bundle.run()] {
        outcome.expect_code("VERSION_NOT_IN_BUNDLE").expect_words("it has v1.34.4");
    }
}
