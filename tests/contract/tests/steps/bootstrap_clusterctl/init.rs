//! `clusterctl init`, and the wait for what it has installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use contract::trial;
use serde_json::{Value, json};

use super::{DEPLOYMENTS, INFRASTRUCTURE, ONE_AT_A_TIME, STANDING, Site, WEBHOOKS, scripted};

#[test]
fn installs_and_keeps() {
    let lxd = scripted();
    let site = Site::knowing(&lxd, &[DEPLOYMENTS]);
    let step = site.step().args(json!({"github_token": "ghp_hunter2", "extra_init_flags": ["--addon=helm:v0.1.0"]}));
    let foreseen = step.check().expect_changed();
    assert!(!site.bench.staged("").exists(), "check mode leaves no trace");
    assert_eq!(site.cluster.snapshot(), json!({}), "nor in the cluster");
    drop(foreseen);

    let lxd = scripted();
    let site = Site::new(&lxd);
    let step = site.step().args(json!({"github_token": "ghp_hunter2", "extra_init_flags": ["--addon=helm:v0.1.0"]}));
    let foreseen = step.check().expect_changed();
    let (done, call) = site.run(&step, Site::install_all, 0, "Fetching providers");
    let done = done.expect_changed();
    trial::assert_same(&json!(foreseen.diff()), &json!(done.diff()), "check mode foresees what a run does");
    assert_eq!(
        call.arguments,
        format!(
            "init --kubeconfig {} --core cluster-api:v1.12.5 --bootstrap kubeadm:v1.12.5 --control-plane kubeadm:v1.12.5 \
             --infrastructure incus:v0.8.5 --wait-providers --addon=helm:v0.1.0 --config {}",
            site.bench.staged("bootstrap.kubeconfig").display(),
            site.bench.staged("clusterctl.yaml").display(),
        )
    );
    for (name, value) in [
        ("CLUSTERCTL_DISABLE_VERSIONCHECK", "true"),
        ("CLUSTER_TOPOLOGY", "true"),
        ("GITHUB_TOKEN", "ghp_hunter2"),
        ("HOME", site.bench.staged("").to_str().expect("a path").trim_end_matches('/')),
    ] {
        assert_eq!(call.variable(name), value, "{name}");
    }
    assert!(!done.json.to_string().contains("hunter2"), "{:#}", done.json);
    assert_eq!([&done.json["init_ran"], &done.json["cert_manager_version"]], [&json!(true), &json!("v1.20.1")]);
    assert_eq!(done.json["providers"][3], json!({"type": "InfrastructureProvider", "name": "incus", "version": "v0.8.5"}));
    let manager = &site.cluster.get(INFRASTRUCTURE)["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(*manager, json!({"name": "manager", "args": ["--leader-elect", "--concurrency=1"]}));
    let kept = trial::changes_nothing(&lxd, &step);
    assert_eq!(kept.json["init_ran"], false);
    let other = step.args(json!({"cert_manager_version": "v1.19.0", "flow_control_config": false})).run().expect_unchanged();
    assert!(other.json["warnings"].to_string().contains("v1.20.1"), "{:#}", other.json);
}

#[test]
fn takes_up_what_was_killed_between_any_two_providers() {
    let lxd = scripted();
    let site = Site::new(&lxd);
    for (namespace, ..) in &STANDING[2..] {
        let running = site.step().spawn();
        let call = site.clusterctl.called();
        assert!(call.arguments.contains("--core cluster-api:v1.12.5"), "always the full command: {}", call.arguments);
        site.install(namespace);
        running.kill();
        // The orphan ends by itself.
        site.clusterctl.end(137, "");
    }
    assert_eq!(site.step().run().expect_changed().json["changes"], json!([ONE_AT_A_TIME]));
    site.step().run().expect_unchanged();
}

#[test]
fn goes_on_after_a_killed_run() {
    let lxd = scripted();
    let site = Site::new(&lxd);
    site.install("cert-manager");
    site.install("capi-system");
    let (done, _) = site.run(&site.step(), Site::install_all, 0, "");
    let done = done.expect_changed();
    let changes = done.json["changes"].as_array().expect("what was changed");
    assert_eq!((changes.len(), changes.last()), (5, Some(&json!(ONE_AT_A_TIME))), "{changes:#?}");
    trial::changes_nothing(&lxd, &site.step());
}

#[test]
fn refuses_another_version_before_anything_runs() {
    let lxd = scripted();
    let site = Site::new(&lxd);
    site.register("capi-system", "CoreProvider", "cluster-api", "v1.11.0");
    for outcome in [site.step().check(), site.step().run()] {
        outcome.expect_code("PROVIDER_VERSION_DRIFT").expect_words("cluster-api v1.11.0 instead of v1.12.5");
    }
    site.register("capi-system", "CoreProvider", "cluster-api", "v1.12.5");
    site.register("elsewhere", "CoreProvider", "cluster-api", "v1.12.5");
    site.step().run().expect_code("PROVIDER_TWICE");
}

#[test]
fn what_is_gone_is_made_again() {
    let lxd = scripted();
    let site = Site::new(&lxd);
    site.install_all();
    site.step().run().expect_changed();
    let kubeadm = "/apis/apps/v1/namespaces/capi-kubeadm-bootstrap-system/deployments/capi-kubeadm-bootstrap-controller-manager";
    site.cluster.remove(kubeadm);
    let foreseen = site.step().check().expect_changed();
    let again = |site: &Site<'_>| {
        let entry = "/apis/clusterctl.cluster.x-k8s.io/v1alpha3/namespaces/capi-kubeadm-bootstrap-system/providers/BootstrapProvider-kubeadm";
        assert_eq!(site.cluster.get(entry), Value::Null, "clusterctl installs what it does not know of");
        site.install("capi-kubeadm-bootstrap-system");
    };
    let (done, _) = site.run(&site.step(), again, 0, "");
    let done = done.expect_changed();
    assert_eq!(done.json["changes"], json!(["run clusterctl init again for bootstrap-kubeadm v1.12.5, whose Deployment is gone"]));
    assert_eq!(done.json["changes"], foreseen.json["changes"]);
    site.step().run().expect_unchanged();
}

#[test]
fn a_cert_manager_that_is_not_whole_is_installed_again() {
    let lxd = scripted();
    let site = Site::new(&lxd);
    // As a clusterctl leaves it that was killed: its kinds are there, and nothing is behind them.
    site.define_cert_manager("cert-manager");
    let lacks = "cert-manager, which lacks Deployment cert-manager, Deployment cert-manager-cainjector, \
                 Deployment cert-manager-webhook, MutatingWebhookConfiguration cert-manager-webhook, \
                 ValidatingWebhookConfiguration cert-manager-webhook";
    let foreseen = site.step().check().expect_changed();
    assert!(foreseen.json["changes"].to_string().contains(lacks), "{:#}", foreseen.json);
    assert_eq!(site.cluster.get(WEBHOOKS[1]), Value::Null, "check mode leaves no trace");
    let shut = |site: &Site<'_>| {
        let webhook = &site.cluster.get(WEBHOOKS[1])["webhooks"][0];
        assert_eq!(webhook["failurePolicy"], "Fail", "clusterctl sees that nothing answers: {webhook:#}");
        assert_eq!(webhook["clientConfig"]["service"]["name"], "nobody");
    };
    let install_all = |site: &Site<'_>| {
        shut(site);
        site.install_all();
    };
    let (done, _) = site.run(&site.step(), install_all, 0, "");
    assert!(done.expect_changed().json["changes"].to_string().contains(lacks));
    site.step().run().expect_unchanged();

    site.cluster.remove("/apis/apps/v1/namespaces/cert-manager/deployments/cert-manager-cainjector");
    let (failed, _) = site.run(&site.step(), shut, 1, "");
    failed.expect_code("CLUSTERCTL_FAILED");
    // What was put in place of the webhook is none.
    let again = "run clusterctl init again for cert-manager, which lacks Deployment cert-manager-cainjector, \
                 ValidatingWebhookConfiguration cert-manager-webhook";
    assert_eq!(site.step().check().expect_changed().json["changes"], json!([again]));
    let (done, _) = site.run(&site.step(), |site| site.install("cert-manager"), 0, "");
    assert_eq!(done.expect_changed().json["changes"], json!([again]));
    site.step().run().expect_unchanged();

    // Somebody else's is waited for, and not touched.
    site.define_cert_manager("");
    site.cluster.remove("/apis/apps/v1/namespaces/cert-manager/deployments/cert-manager-cainjector");
    let writes = site.cluster.writes().len();
    site.impatient().run().expect_code("WAIT_TIMEOUT").expect_words("cert-manager-cainjector");
    assert_eq!(site.cluster.writes().len(), writes);
}

#[test]
fn waits_for_the_deployments_by_watch() {
    let lxd = scripted();
    let site = Site::new(&lxd);
    site.install_all();
    site.step().run().expect_changed();
    site.install_as("capn-system", "False");
    let pod = json!({"status": {"phase": "Pending", "containerStatuses": [{
        "name": "manager", "image": "ghcr.io/lxc/cluster-api-provider-incus:v0.8.5",
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no route to host"}},
    }]}});
    site.cluster.put("/api/v1/namespaces/capn-system/pods/manager-1", pod);
    let impatient = site.impatient().run().expect_code("WAIT_TIMEOUT").expect_words("capn-system/capn-controller-manager");
    impatient.expect_words("ghcr.io/lxc/cluster-api-provider-incus:v0.8.5: ImagePullBackOff: no route to host");
    let running = site.step().spawn();
    // Whether it looks before or after: it sees it.
    site.install("capn-system");
    running.wait().expect_unchanged();
    let extra = json!({"extra_wait_deployments": [{"namespace": "helm", "deployment": "addon"}]});
    site.impatient().args(extra).run().expect_code("WAIT_TIMEOUT").expect_words("helm/addon Available: not there");
}

#[test]
fn says_why_clusterctl_failed() {
    let lxd = scripted();
    let site = Site::new(&lxd);
    for (words, code) in [
        ("Error: rate limit for github api has been reached", "GITHUB_RATE_LIMIT"),
        ("Error: Get \"https://api.github.com/x\": dial tcp: no such host", "GITHUB_UNREACHABLE"),
        ("Waiting for cert-manager to be available...\nError: context deadline exceeded", "CERT_MANAGER_TIMEOUT"),
        ("Error: deployment \"x\" is not ready after 5m0s: context deadline exceeded", "PROVIDER_TIMEOUT"),
        ("Error: namespace capi-system is being terminated", "NAMESPACE_TERMINATING"),
        ("Error: something else", "CLUSTERCTL_FAILED"),
    ] {
        let (failed, _) = site.run(&site.step(), |site| site.install_as("capi-system", "False"), 1, words);
        let failed = failed.expect_code(code).expect_words(words.rsplit("Error: ").next().unwrap_or_default().trim_end());
        failed.expect_words("Deployment capi-system/capi-controller-manager Available: Available=False");
        site.cluster.remove("/apis/clusterctl.cluster.x-k8s.io/v1alpha3/namespaces/capi-system/providers/CoreProvider-cluster-api");
    }
}

#[test]
fn runs_again_until_the_webhooks_answer() {
    let lxd = scripted();
    let site = Site::new(&lxd);
    let running = site.step().spawn();
    site.clusterctl.called();
    site.clusterctl.end(1, "Error: Internal error occurred: failed calling webhook \"x\": connection refused");
    site.clusterctl.called();
    site.install_all();
    site.clusterctl.end(0, "");
    assert_eq!(running.wait().expect_changed().json["init_ran"], true);
}

#[test]
fn waits_until_no_namespace_is_being_deleted() {
    let lxd = scripted();
    let site = Site::new(&lxd);
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    for namespace in ["capi-system", "cert-manager-test"] {
        site.cluster.put(&format!("/api/v1/namespaces/{namespace}"), going.clone());
        site.impatient().run().expect_code("NAMESPACE_TERMINATING").expect_words(namespace);
        let running = site.step().spawn();
        site.cluster.remove(&format!("/api/v1/namespaces/{namespace}"));
        site.clusterctl.called();
        running.kill();
        site.clusterctl.end(137, "");
    }
}

#[test]
fn needs_clusterctl() {
    let lxd = scripted();
    let site = Site::new(&lxd);
    let absent = site.step().args(json!({"clusterctl_path": "/nowhere/clusterctl"}));
    absent.run().expect_code("CLUSTERCTL_MISSING").expect_words("binary_fetch");
    assert!(!absent.check().ok().deferred().is_empty());
    fs::set_permissions(site.clusterctl.program(), fs::Permissions::from_mode(0o644)).expect("take the execute bit away");
    site.step().run().expect_code("CLUSTERCTL_NOT_EXECUTABLE");
    site.install_all();
    assert_eq!(absent.run().expect_changed().json["changes"], json!([ONE_AT_A_TIME]), "clusterctl has no part in it");
    absent.run().expect_unchanged();
}
