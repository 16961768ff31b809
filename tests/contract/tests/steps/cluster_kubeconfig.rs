//! `cluster_kubeconfig` against a scripted cluster that has the Cluster's objects.

#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use contract::trial::assert_same;
use contract::{Kubernetes, Step};
use serde_json::json;
use tempfile::TempDir;

const CLUSTERS: &str = "/apis/cluster.x-k8s.io/v1beta2/clusters";
const CLUSTER: &str = "/apis/cluster.x-k8s.io/v1beta2/namespaces/capi-clusters/clusters/mgmt-1";
const SECRET: &str = "/api/v1/namespaces/capi-clusters/secrets/mgmt-1-kubeconfig";

struct Bench {
    folder: TempDir,
    management: Kubernetes,
}

impl Bench {
    fn new(kinds: &[&str]) -> Self {
        let bench =
            Self { folder: TempDir::with_prefix("lab-").expect("make a folder for the lab"), management: Kubernetes::start(kinds) };
        fs::write(bench.folder.path().join("management"), bench.management.kubeconfig()).expect("write the kubeconfig");
        bench
    }

    fn with_cluster() -> Self {
        let bench = Self::new(&[CLUSTERS]);
        bench.management.put(CLUSTER, json!({"metadata": {"annotations": {"k8s-lab.io/api-proxy-port": "25060"}}}));
        bench
    }

    fn step(&self) -> Step {
        let (opt_root, kubeconfig) = (self.folder.path(), self.folder.path().join("management"));
        Step::new("cluster_kubeconfig")
            .args(json!({"name": "mgmt-1", "opt_root": opt_root, "kubeconfig_path": kubeconfig, "timeout": 60}))
    }

    fn put_secret(&self, kubeconfig: &str) {
        self.management.put(SECRET, json!({"data": {"value": BASE64_STANDARD.encode(kubeconfig)}}));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("etc/clusters/capi-clusters").join(name)
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0, |file| file.permissions().mode() & 0o7777)
}

#[test]
fn waits_for_the_secret_and_writes_it_for_both() {
    let (bench, own) = (Bench::with_cluster(), Kubernetes::start(&[]));
    let step = bench.step().args(json!({"external_address": "192.0.2.10"}));
    let foreseen = step.check().expect_changed();
    assert!(!bench.path("").exists(), "check mode leaves no trace");
    let running = step.spawn();
    bench.put_secret(&own.kubeconfig());
    let done = running.wait().expect_changed();
    assert_same(&foreseen.json["changes"], &done.json["changes"], "check mode foresees what a run does");
    let modes = ["", "mgmt-1.kubeconfig", "mgmt-1.external.kubeconfig"].map(|file| mode(&bench.path(file)));
    assert_eq!(modes, [0o700, 0o600, 0o600]);
    let server = done.json["server"].as_str().expect("the server is told");
    assert!(server.starts_with("https://127.0.0.1:"), "{server}");
    assert_eq!(done.json["external_server"], "https://192.0.2.10:25060");
    assert!(done.json["certificate_expires"].is_string(), "{:#}", done.json);
    let text = fs::read_to_string(bench.path("mgmt-1.external.kubeconfig")).expect("read the kubeconfig for others");
    for line in ["server: https://192.0.2.10:25060", "tls-server-name: kubernetes.default.svc", "certificate-authority-data: "] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!done.json.to_string().contains("LS0tLS1CRUdJTi"), "no key and no certificate is told: {:#}", done.json);
    step.run().expect_unchanged();
}

/// Nobody can tell from two reports that a secret was the same, or try short ones out.
#[test]
fn no_two_runs_mark_a_secret_alike() {
    let (bench, own) = (Bench::with_cluster(), Kubernetes::start(&[]));
    bench.put_secret(&own.kubeconfig());
    let marks = || {
        let text = bench.step().check().expect_changed().json["diff"].to_string();
        text.split("<redacted:").skip(1).map(|rest| rest[..16].to_owned()).collect::<Vec<_>>()
    };
    let (first, second) = (marks(), marks());
    assert!(!first.is_empty(), "the diff has marks");
    assert!(first.iter().all(|mark| !second.contains(mark)), "{first:?} and {second:?}");
}

#[test]
fn follows_the_secret_and_goes() {
    let (bench, first, second) = (Bench::with_cluster(), Kubernetes::start(&[]), Kubernetes::start(&[]));
    bench.put_secret(&first.kubeconfig());
    bench.step().run().expect_changed();
    bench.put_secret(&second.kubeconfig());
    let (foreseen, done) = (bench.step().check().expect_changed(), bench.step().run().expect_changed());
    assert_same(&json!(foreseen.diff()), &json!(done.diff()), "check mode foresees what a run does");
    assert_eq!(done.json["changes"], json!([format!("write {}", bench.path("mgmt-1.kubeconfig").display())]));
    bench.step().run().expect_unchanged();
    let absent =
        Step::new("cluster_kubeconfig").args(json!({"name": "mgmt-1", "opt_root": bench.folder.path(), "state": "absent"}));
    absent.run().expect_changed();
    assert!(!bench.path("mgmt-1.kubeconfig").exists());
    absent.run().expect_unchanged();
}

#[test]
fn says_what_is_missing_or_odd() {
    for bench in [Bench::new(&[]), Bench::new(&[CLUSTERS])] {
        bench.step().run().expect_code("CLUSTER_OBJECT_NOT_FOUND").expect_words("helm_release");
        let foreseen = bench.step().check().expect_changed();
        assert!(!foreseen.deferred().is_empty(), "check mode says what it could not look at: {:#}", foreseen.json);
    }
    let bench = Bench::with_cluster();
    let hurried = bench.step().args(json!({"timeout": 1}));
    hurried.run().expect_code("KUBECONFIG_SECRET_TIMEOUT").expect_words("capi-clusters/mgmt-1");
    for odd in ["no kubeconfig", "{}"] {
        bench.put_secret(odd);
        bench.step().run().expect_code("KUBECONFIG_SECRET_ODD");
    }
    let own = Kubernetes::start(&[]);
    let bound = own.kubeconfig().replace("client-key-data", "client-key");
    bench.put_secret(&bound);
    bench.step().run().expect_code("KUBECONFIG_SECRET_ODD").expect_words("client-key");
    assert!(!bench.path("mgmt-1.kubeconfig").exists(), "nothing is half-made");
    bench.step().args(json!({"kubeconfig_path": "/nowhere"})).run().expect_code("KUBECONFIG_MISSING");
    Step::new("cluster_kubeconfig").args(json!({"name": "Mgmt_1"})).run().expect_code("OPTION_INVALID");
    Step::new("cluster_kubeconfig").args(json!({"name": "mgmt-1"})).run().expect_code("OPTION_MISSING");
    Step::new("cluster_kubeconfig").run().expect_code("OPTION_MISSING").expect_words("`name`");
}
