//! `bootstrap_clusterctl` against every LXD, a scripted cluster, and a clusterctl that does what a test says.

#![allow(clippy::expect_used, clippy::panic)]

mod init;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use contract::{Backend, Kubernetes, Lxd, Outcome, Step, Stumble, Substrate};
use contract::{program, trial};
use serde_json::{Value, json};
use tempfile::TempDir;

contract::on_every_lxd!(
    keeps_a_kubeconfig,
    says_what_is_missing,
    refuses_to_start_over_after_the_pivot,
    needs_lxd,
    names_bad_options
);

const PROVIDERS: &str = "/apis/clusterctl.cluster.x-k8s.io/v1alpha3/providers";
const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";
const KINDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WEBHOOKS: [&str; 2] = [
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/cert-manager-webhook",
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/cert-manager-webhook",
];
const INFRASTRUCTURE: &str = "/apis/apps/v1/namespaces/capn-system/deployments/capn-controller-manager";
/// What an LXD 5.0, as the scripted one is, asks for once the infrastructure provider is installed.
const ONE_AT_A_TIME: &str =
    "have the infrastructure provider make 1 machine at a time instead of its own default, as LXD 5.0 needs";

/// A provider in clusterctl's inventory: kind, name and version.
type Registered = (&'static str, &'static str, &'static str);

/// What stands on the cluster when all is done: namespace, Deployment, and the provider that it is of.
const STANDING: [(&str, &str, Option<Registered>); 7] = [
    ("cert-manager", "cert-manager", None),
    ("cert-manager", "cert-manager-cainjector", None),
    ("cert-manager", "cert-manager-webhook", None),
    ("capi-system", "capi-controller-manager", Some(("CoreProvider", "cluster-api", "v1.12.5"))),
    (
        "capi-kubeadm-bootstrap-system",
        "capi-kubeadm-bootstrap-controller-manager",
        Some(("BootstrapProvider", "kubeadm", "v1.12.5")),
    ),
    (
        "capi-kubeadm-control-plane-system",
        "capi-kubeadm-control-plane-controller-manager",
        Some(("ControlPlaneProvider", "kubeadm", "v1.12.5")),
    ),
    ("capn-system", "capn-controller-manager", Some(("InfrastructureProvider", "incus", "v0.8.5"))),
];

/// The instance in a project of the test's own, and a folder for the lab's settings.
struct Bench<'a> {
    lxd: &'a Lxd,
    substrate: Substrate<'a>,
    folder: TempDir,
}

impl<'a> Bench<'a> {
    fn new(lxd: &'a Lxd) -> Self {
        let substrate = Substrate::for_instances(lxd);
        Self { lxd, substrate, folder: TempDir::with_prefix("lab-").expect("make a folder for the lab") }
    }

    fn start_instance(&self) -> String {
        let made = self.substrate.instance().run().expect_changed();
        made.json["instance"]["ipv4"].as_str().expect("the instance's address").to_owned()
    }

    /// What k3s would write.
    fn write_k3s_kubeconfig(&self, text: &str) {
        for folder in ["/etc/rancher", "/etc/rancher/k3s"] {
            self.lxd.rest().make_folder(&self.substrate.file(folder));
        }
        self.lxd.rest().upload(&self.substrate.file("/etc/rancher/k3s/k3s.yaml"), text.to_owned().into());
    }

    fn step(&self) -> Step {
        self.lxd.step("bootstrap_clusterctl").args(json!({
            "project": self.lxd.name("p"), "instance_name": "boot", "opt_root": self.folder.path(), "wait_timeout": 60,
        }))
    }

    fn staged(&self, file: &str) -> PathBuf {
        self.folder.path().join("etc/bootstrap_clusterctl").join(file)
    }
}

/// The cluster in the instance, which the scripted LXD alone can put where the test can serve it.
struct Site<'a> {
    bench: Bench<'a>,
    cluster: Kubernetes,
    clusterctl: Clusterctl,
}

impl<'a> Site<'a> {
    fn new(lxd: &'a Lxd) -> Self {
        Self::knowing(lxd, &[PROVIDERS, DEPLOYMENTS])
    }

    fn knowing(lxd: &'a Lxd, kinds: &[&str]) -> Self {
        static SITES: AtomicU8 = AtomicU8::new(1);
        let bench = Bench::new(lxd);
        // Every address of this network is this machine's own, and no other test's.
        let process = std::process::id();
        let gateway = format!("127.{}.{}.1/24", 64 + process % 128, SITES.fetch_add(1, Ordering::Relaxed));
        let network = format!("/1.0/networks/{}", lxd.network_name(0));
        lxd.rest().write("PATCH", &network, &json!({"config": {"ipv4.address": gateway}}));
        let address = bench.start_instance();
        let cluster = Kubernetes::start_at(&format!("{address}:6443"), kinds);
        bench.write_k3s_kubeconfig(&cluster.kubeconfig().replace(&address, "127.0.0.1"));
        Self { clusterctl: Clusterctl::new(), bench, cluster }
    }

    fn step(&self) -> Step {
        self.bench.step().args(json!({"clusterctl_path": self.clusterctl.program()}))
    }

    /// The step where what it waits for does not come.
    fn impatient(&self) -> Step {
        self.step().args(json!({"wait_timeout": 5}))
    }

    /// What clusterctl installs: everything of this namespace.
    fn install(&self, namespace: &str) {
        self.install_as(namespace, "True");
    }

    fn install_as(&self, namespace: &str, available: &str) {
        for (namespace, name, provider) in STANDING.iter().filter(|(of, ..)| *of == namespace) {
            let annotations = json!({"cert-manager.clusterctl.cluster.x-k8s.io/version": "v1.20.1"});
            let condition = json!({"type": "Available", "status": available, "reason": "MinimumReplicas"});
            let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}");
            // What was told to one that is there already stays.
            let spec = match self.cluster.get(&path)["spec"].clone() {
                Value::Null => json!({"template": {"spec": {"containers": [{"name": "manager", "args": ["--leader-elect"]}]}}}),
                there => there,
            };
            self.cluster.put(
                &path,
                json!({
                    "metadata": {"generation": 1, "annotations": annotations},
                    "spec": spec,
                    "status": {"observedGeneration": 1, "conditions": [condition]},
                }),
            );
            if *namespace == "cert-manager" {
                self.define_cert_manager("cert-manager");
                for webhook in WEBHOOKS {
                    self.cluster.put(webhook, json!({"webhooks": []}));
                }
            }
            if let Some((kind, name, version)) = provider {
                self.register(namespace, kind, name, version);
            }
        }
    }

    /// One of cert-manager's kinds, and who has installed it.
    fn define_cert_manager(&self, by: &str) {
        let labels = json!({"clusterctl.cluster.x-k8s.io/core": by});
        self.cluster.put(&format!("{KINDS}/certificates.cert-manager.io"), json!({"metadata": {"labels": labels}}));
    }

    fn register(&self, namespace: &str, kind: &str, name: &str, version: &str) {
        let path = format!("/apis/clusterctl.cluster.x-k8s.io/v1alpha3/namespaces/{namespace}/providers/{kind}-{name}");
        self.cluster.put(&path, json!({"type": kind, "providerName": name, "version": version}));
    }

    fn install_all(&self) {
        for (namespace, ..) in STANDING {
            self.install(namespace);
        }
    }

    /// Runs the step, and clusterctl as a test says, once.
    fn run(&self, step: &Step, during: impl FnOnce(&Self), code: u8, words: &str) -> (Outcome, Call) {
        let running = step.spawn();
        let call = self.clusterctl.called();
        during(self);
        self.clusterctl.end(code, words);
        (running.wait(), call)
    }
}

/// A program that tells how it was called, and ends as it is told to.
struct Clusterctl {
    folder: TempDir,
}

/// A call of it.
struct Call {
    arguments: String,
    environment: String,
}

impl Clusterctl {
    fn new() -> Self {
        let folder = TempDir::with_prefix("clusterctl-").expect("make a folder for clusterctl");
        let place = folder.path().display();
        let script = format!(
            "#!/bin/sh\n{{ echo \"$@\"; env; }} > {place}/called\n{{ read code; cat >&2; }} < {place}/answer\nexit $code\n"
        );
        let program = folder.path().join("clusterctl");
        program::script(&program, &script);
        for pipe in ["called", "answer"] {
            let made = Command::new("mkfifo").arg(folder.path().join(pipe)).status();
            assert!(made.is_ok_and(|status| status.success()), "make a pipe to clusterctl");
        }
        Self { folder }
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("clusterctl")
    }

    /// Waits for the next call.
    fn called(&self) -> Call {
        let (tell, told) = mpsc::channel();
        let pipe = self.folder.path().join("called");
        std::thread::spawn(move || tell.send(fs::read_to_string(pipe)));
        let told = told.recv_timeout(Duration::from_secs(60)).expect("the step calls clusterctl").expect("hear the call");
        let (arguments, environment) = told.split_once('\n').expect("arguments and environment");
        Call { arguments: arguments.to_owned(), environment: environment.to_owned() }
    }

    fn end(&self, code: u8, words: &str) {
        fs::write(self.folder.path().join("answer"), format!("{code}\n{words}\n")).expect("answer clusterctl");
    }
}

impl Call {
    fn variable(&self, name: &str) -> &str {
        self.environment.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0, |file| file.permissions().mode() & 0o7777)
}

fn scripted() -> Lxd {
    Lxd::open(Backend::ScriptedSync)
}

const K3S: &str = r#"{"apiVersion":"v1","kind":"Config","current-context":"default",
    "clusters":[{"name":"default","cluster":{"server":"https://127.0.0.1:6443","certificate-authority-data":"QVVUSA=="}}],
    "contexts":[{"name":"default","context":{"cluster":"default","user":"default"}}],
    "users":[{"name":"default","user":{"client-certificate-data":"Q0VSVA==","client-key-data":"S0VZ"}}]}"#;

fn keeps_a_kubeconfig(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    let address = bench.start_instance();
    bench.write_k3s_kubeconfig(K3S);
    // Certificates that are none: the files are written, and the cluster is not spoken to.
    let step = bench.step().args(json!({"flow_control_init": false}));
    let foreseen = step.check().expect_changed();
    assert!(!bench.staged("").exists(), "check mode leaves no trace");
    let done = step.run();
    assert_eq!(done.code(), "KUBECONFIG_MALFORMED", "{:#}", done.json);
    trial::assert_same(&json!(foreseen.diff()), &json!(done.diff()), "check mode foresees what a run does");
    let shown = json!(done.diff()).to_string();
    assert!(shown.contains(&format!("https://{address}:6443")), "{shown}");
    for secret in ["QVVUSA", "Q0VSVA", "S0VZ"] {
        assert!(!done.json.to_string().contains(secret), "{secret} is told: {:#}", done.json);
    }
    let text = fs::read_to_string(bench.staged("bootstrap.kubeconfig")).expect("read the kubeconfig");
    for line in [&format!("server: https://{address}:6443"), "tls-server-name: kubernetes.default.svc", "client-key-data: S0VZ"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let modes = ["", "bootstrap.kubeconfig", "clusterctl.yaml"].map(|file| mode(&bench.staged(file)));
    assert_eq!(modes, [0o750, 0o600, 0o600]);
    let files = fs::read_dir(bench.staged("")).expect("list the folder").count();
    assert_eq!(files, 2, "nothing else is stored, the raw kubeconfig above all");
    assert_eq!(step.check().json["changed"], false, "it is written once");
    bench.write_k3s_kubeconfig(&K3S.replace("S0VZ", "T0xE"));
    let rewritten = step.check().expect_changed();
    assert_eq!(rewritten.json["changes"], json!([format!("write {}", bench.staged("bootstrap.kubeconfig").display())]));
}

fn says_what_is_missing(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    let missing = |code: &str, words: &str| {
        bench.step().run().expect_code(code).expect_words(words);
        let foreseen = bench.step().check().expect_changed();
        assert!(!foreseen.deferred().is_empty(), "check mode says what it could not look at: {:#}", foreseen.json);
    };
    missing("INSTANCE_NOT_FOUND", "lxd_bootstrap_instance");
    bench.substrate.instance().args(json!({"state": "stopped"})).run().expect_changed();
    missing("INSTANCE_NOT_RUNNING", "Stopped");
    bench.start_instance();
    missing("K3S_NOT_STARTED", "bootstrap_k3s");
    bench.write_k3s_kubeconfig("clusters: [{name: x");
    bench.step().run().expect_code("KUBECONFIG_MALFORMED");
    bench.write_k3s_kubeconfig(K3S);
    bench.step().args(json!({"container_ifname": "eth9"})).run().expect_code("INSTANCE_NO_ADDRESS").expect_words("eth9");
    let nowhere = bench.step().args(json!({"bundle": bench.folder.path()}));
    nowhere.run().expect_code("BUNDLE_MISSING").expect_words(&bench.folder.path().display().to_string());
    let no_project = bench.step().args(json!({"project": lxd.name("nowhere")}));
    no_project.run().expect_code("PROJECT_NOT_FOUND");
    assert!(!bench.staged("").exists(), "nothing is half-made");
}

fn refuses_to_start_over_after_the_pivot(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    bench.start_instance();
    bench.write_k3s_kubeconfig(K3S);
    lxd.configure_project("user.k8slab.phase", "pivoted");
    for step in [bench.step(), bench.step().args(json!({"flow_control_kubeconfig": false, "flow_control_config": false}))] {
        for outcome in [step.check(), step.run()] {
            outcome.expect_code("LIFECYCLE_PIVOTED").expect_words("allow_rebootstrap");
        }
    }
    assert!(!bench.staged("").exists(), "nothing is written");
    bench.step().args(json!({"allow_rebootstrap": true})).run().expect_code("KUBECONFIG_MALFORMED");
}

fn needs_lxd(lxd: &Lxd) {
    let folder = TempDir::with_prefix("lab-").expect("make a folder for the lab");
    trial::needs_lxd(lxd, &lxd.step("bootstrap_clusterctl").args(json!({"opt_root": folder.path()})));
}

fn names_bad_options(lxd: &Lxd) {
    trial::names_bad_options(
        lxd,
        &lxd.step("bootstrap_clusterctl"),
        &[
            (json!({"instance_name": "capi_bootstrap"}), "OPTION_INVALID", "instance_name"),
            (json!({"capi_version": "1.12.5"}), "OPTION_INVALID", "capi_version"),
            (json!({"capn_version": "v0.8.5; rm"}), "OPTION_INVALID", "capn_version"),
            (json!({"cert_manager_timeout": "0s"}), "OPTION_INVALID", "cert_manager_timeout"),
            (json!({"cert_manager_timeout": "soon"}), "OPTION_INVALID", "cert_manager_timeout"),
            (json!({"init_timeout": 600}), "OPTION_INVALID", "1800 s"),
            (json!({"staging_mode_kubeconfig": "600"}), "OPTION_INVALID", "staging_mode_kubeconfig"),
            (
                json!({"kubeconfig_path": "kubeconfig"}),
                "OPTION_INVALID",
                "option `kubeconfig_path`: `kubeconfig` is not an absolute path",
            ),
            (json!({"extra_providers": [{"name": "x", "url": "y", "type": "Provider"}]}), "OPTION_INVALID", "type"),
            (json!({"extra_init_flags": ["--config=other"]}), "OPTION_COLLISION", "--config"),
            (json!({"capi_versions": "v1.12.5"}), "OPTION_UNKNOWN", "capi_version"),
        ],
    );
}

#[test]
fn tells_clusters_that_cannot_be_used_apart() {
    let lxd = scripted();
    let site = Site::new(&lxd);
    site.install_all();
    for stumble in [Stumble::Closes, Stumble::Unavailable] {
        site.cluster.stumble(3, stumble);
        site.step().run().ok();
        site.cluster.stumble(10_000, stumble);
        site.impatient().run().expect_code("CLUSTER_NOT_SERVING");
        site.cluster.stumble(0, stumble);
    }
    let stored = site.impatient().args(json!({"flow_control_kubeconfig": false}));
    let kubeconfig = site.bench.staged("bootstrap.kubeconfig");
    for (text, code) in [
        (site.cluster.outdated_kubeconfig(), "CLUSTER_TLS"),
        (site.cluster.strange_kubeconfig(), "CLUSTER_UNAUTHORISED"),
        (site.cluster.kubeconfig().replace(":6443", ":1"), "CLUSTER_UNREACHABLE"),
        (site.cluster.kubeconfig().replace("certificate-authority-data", "other"), "KUBECONFIG_MALFORMED"),
    ] {
        fs::write(&kubeconfig, text).expect("write a kubeconfig");
        stored.run().expect_code(code).expect_words("");
    }
    fs::remove_file(&kubeconfig).expect("remove the kubeconfig");
    stored.run().expect_code("KUBECONFIG_MISSING");
    assert!(!stored.check().ok().deferred().is_empty());
    site.step().run().expect_changed();
}

#[test]
fn follows_the_cluster_when_the_instance_was_made_anew() {
    let lxd = scripted();
    let site = Site::new(&lxd);
    site.install_all();
    site.step().run().expect_changed();
    let before = fs::read_to_string(site.bench.staged("bootstrap.kubeconfig")).expect("read the kubeconfig");
    fs::write(site.bench.staged("bootstrap.kubeconfig"), before.replace(":6443", ":6444")).expect("age the kubeconfig");
    let rewritten = site.step().run().expect_changed();
    let diff = json!(rewritten.diff()).to_string();
    assert!(diff.contains(":6444") && diff.contains(":6443"), "{diff}");
    assert_eq!(fs::read_to_string(site.bench.staged("bootstrap.kubeconfig")).expect("read the kubeconfig"), before);
}
