//! `export_artifacts`: its half on the host against every LXD, and its half on the runner in folders of all kinds.

#![allow(clippy::expect_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use contract::{Lxd, Outcome, Step, Substrate, trial};
use serde_json::{Value, json};
use tempfile::TempDir;

contract::on_every_lxd!(reads_what_the_host_has, follows_the_pivot, needs_lxd, names_bad_options);

const SOMEBODY: u32 = 65_533;
const BOOTSTRAP: &str = "etc/bootstrap_clusterctl/bootstrap.kubeconfig";
const MANAGEMENT: &str = "etc/clusters/capi-clusters/mgmt-1.kubeconfig";

fn kubeconfig(server: &str) -> String {
    let cluster = json!({"server": server, "certificate-authority-data": "Q0E="});
    let user = json!({"client-certificate-data": "Q0VSVA==", "client-key-data": "S0VZ"});
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "admin"}}],
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "admin", "user": user}],
    })
    .to_string()
}

/// A lab's folder on the host.
struct Host<'a> {
    lxd: &'a Lxd,
    folder: TempDir,
}

impl<'a> Host<'a> {
    fn new(lxd: &'a Lxd) -> Self {
        Self { lxd, folder: TempDir::with_prefix("lab-").expect("make a folder for the lab") }
    }

    fn put(&self, file: &str, server: &str) {
        let path = self.folder.path().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("make the kubeconfig's folder");
        fs::write(path, kubeconfig(server)).expect("write the kubeconfig");
    }

    fn step(&self) -> Step {
        self.lxd.step("export_artifacts").args(json!({
            "mode": "read", "root": "/nowhere/artifacts", "project": self.lxd.name("p"), "opt_root": self.folder.path(),
        }))
    }

    /// What reading tells, which changes nothing.
    fn read(&self) -> Outcome {
        self.lxd.relay().reset();
        let before = self.lxd.snapshot();
        self.step().check().expect_unchanged();
        let outcome = self.step().run().expect_unchanged();
        assert_eq!(self.lxd.relay().writes(), Vec::<String>::new());
        trial::assert_same(&before, &self.lxd.snapshot(), "reading changes nothing");
        outcome
    }
}

fn reads_what_the_host_has(lxd: &Lxd) {
    Substrate::make(lxd);
    let host = Host::new(lxd);
    host.step().run().expect_code("KUBECONFIG_MISSING").expect_words(BOOTSTRAP);
    host.put(BOOTSTRAP, "https://10.77.0.5:6443");
    let told = host.read();
    assert_eq!(told.json["server"], "https://10.77.0.5:6443");
    assert!(told.json["kubeconfig"].as_str().is_some_and(|text| text.contains("S0VZ")), "the runner has to get the key");
    let elsewhere = host.step().args(json!({"mgmt_api_server_url": "https://lab.example.org"})).run().expect_unchanged();
    assert_eq!(elsewhere.json["server"], "https://lab.example.org");
    host.put(BOOTSTRAP, "https://127.0.0.1:6443");
    host.step().run().expect_code("ARTIFACTS_SERVER_LOOPBACK").expect_words("mgmt_api_server_url");
    assert_eq!(
        host.step().args(json!({"mgmt_kubeconfig_enabled": false})).run().expect_unchanged().json["kubeconfig"],
        Value::Null
    );
}

fn follows_the_pivot(lxd: &Lxd) {
    Substrate::make(lxd);
    let host = Host::new(lxd);
    host.put(BOOTSTRAP, "https://10.77.0.5:6443");
    lxd.configure_project("user.k8slab.phase", "pivoted");
    host.step().run().expect_code("KUBECONFIG_MISSING").expect_words(MANAGEMENT);
    host.put(MANAGEMENT, "https://10.77.0.9:6443");
    assert_eq!(host.read().json["server"], "https://10.77.0.9:6443");
    let old = host.step().args(json!({"mgmt_kubeconfig_source": host.folder.path().join(BOOTSTRAP)}));
    old.run().expect_code("LIFECYCLE_PIVOTED").expect_words("allow_rebootstrap");
    assert_eq!(old.args(json!({"allow_rebootstrap": true})).run().expect_unchanged().json["server"], "https://10.77.0.5:6443");
}

fn needs_lxd(lxd: &Lxd) {
    let host = Host::new(lxd);
    host.put(BOOTSTRAP, "https://10.77.0.5:6443");
    host.step().args(json!({"lxd_socket_path": "/nowhere/unix.socket"})).run().expect_code("LXD_UNREACHABLE");
}

fn names_bad_options(lxd: &Lxd) {
    let step = lxd.step("export_artifacts").args(json!({"root": "/srv/artifacts"}));
    trial::names_bad_options(
        lxd,
        &step,
        &[
            (json!({"root": ""}), "OPTION_MISSING", "root"),
            (json!({"root": null}), "OPTION_MISSING", "root"),
            (json!({"root": "artifacts"}), "OPTION_INVALID", "option `root`"),
            (json!({"root": "/srv/../etc"}), "OPTION_INVALID", "option `root`"),
            (json!({"mode": "copy"}), "OPTION_INVALID", "mode"),
            (json!({"workload_controlplane_count": 2}), "OPTION_INVALID", "majority"),
            (json!({"mgmt_api_server_url": "http://lab"}), "OPTION_INVALID", "mgmt_api_server_url"),
            (json!({"mgmt_api_server_url": "https://2001:db8::5:6443"}), "OPTION_INVALID", "mgmt_api_server_url"),
            (json!({"tfvars_extra": {"a b": 1}}), "OPTION_INVALID", "tfvars_extra"),
            (json!({"rot": "/srv"}), "OPTION_UNKNOWN", "root"),
        ],
    );
    step.args(json!({"root": null, "enabled": false})).run().expect_unchanged();
}

/// A runner, and its step.
struct Runner {
    folder: TempDir,
}

impl Runner {
    fn new() -> Self {
        Self { folder: TempDir::with_prefix("runner-").expect("make a folder for the runner") }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("lab/.artifacts")
    }

    fn step(&self) -> Step {
        Step::new("export_artifacts").args(json!({
            "mode": "write", "root": self.root(), "host": "lab", "kubeconfig": kubeconfig("https://10.77.0.5:6443"),
        }))
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("the file is there").permissions().mode() & 0o7777
}

#[test]
fn writes_what_only_its_owner_reads() {
    let runner = Runner::new();
    let foreseen = runner.step().check().expect_changed();
    assert!(!runner.root().exists(), "check mode leaves no trace");
    let done = runner.step().run().expect_changed();
    assert_eq!(foreseen.diff(), done.diff());
    assert!(!done.json.to_string().contains("S0VZ"), "no key in what is shown");
    assert_eq!([mode(&runner.root()), mode(&runner.root().join("clusters"))], [0o700, 0o700]);
    for file in ["mgmt.kubeconfig", "mgmt.auto.tfvars.json"] {
        assert_eq!(mode(&runner.root().join(file)), 0o600, "{file}");
    }
    runner.step().check().expect_unchanged();
    runner.step().run().expect_unchanged();

    // Whoever opens it or points it elsewhere has it put right.
    fs::set_permissions(runner.root().join("mgmt.kubeconfig"), fs::Permissions::from_mode(0o644)).expect("open it");
    fs::set_permissions(runner.root(), fs::Permissions::from_mode(0o755)).expect("open the folder");
    let foreseen = runner.step().check().expect_changed();
    assert_eq!(foreseen.diff(), runner.step().run().expect_changed().diff());
    assert_eq!([mode(&runner.root()), mode(&runner.root().join("mgmt.kubeconfig"))], [0o700, 0o600]);

    // After the pivot, the variables follow.
    let moved = runner.step().args(json!({"kubeconfig": kubeconfig("https://10.77.0.9:6443")}));
    moved.run().expect_changed();
    let tfvars = fs::read_to_string(runner.root().join("mgmt.auto.tfvars.json")).expect("the variables");
    assert!(tfvars.contains("https://10.77.0.9:6443"), "{tfvars}");
}

#[test]
fn belongs_to_the_user_who_runs_ansible() {
    let runner = Runner::new();
    fs::create_dir(runner.folder.path().join("lab")).expect("make a home");
    for folder in [runner.folder.path().to_owned(), runner.folder.path().join("lab")] {
        chown(&folder, Some(SOMEBODY), Some(SOMEBODY)).expect("give it to the user");
    }
    runner.step().user(SOMEBODY).run().expect_changed();
    let owner = |file: &str| fs::metadata(runner.root().join(file)).expect("the file is there").uid();
    assert_eq!([owner("."), owner("mgmt.kubeconfig"), owner("mgmt.auto.tfvars.json")], [SOMEBODY; 3]);
    // Not even root takes it over.
    for outcome in [runner.step().check(), runner.step().run()] {
        outcome.expect_code("ARTIFACTS_ROOT_FOREIGN").expect_words(&SOMEBODY.to_string());
    }
}

#[test]
fn keeps_out_of_folders_that_are_not_its_own() {
    let linked = Runner::new();
    let real = linked.folder.path().join("real");
    fs::create_dir_all(&real).expect("make a folder");
    fs::create_dir(linked.folder.path().join("lab")).expect("make a folder");
    symlink(&real, linked.root()).expect("make a link");
    for outcome in [linked.step().check(), linked.step().run()] {
        outcome.expect_code("ARTIFACTS_ROOT_SYMLINK");
    }
    assert_eq!(fs::read_dir(&real).expect("the folder").count(), 0);

    let shared = Runner::new();
    shared.step().run().expect_changed();
    let before = fs::read(shared.root().join("mgmt.kubeconfig")).expect("the kubeconfig");
    let other = shared.step().args(json!({"host": "another", "kubeconfig": kubeconfig("https://192.0.2.1:6443")}));
    for outcome in [other.check(), other.run()] {
        outcome.expect_code("ARTIFACTS_ROOT_SHARED").expect_words("another");
    }
    assert_eq!(fs::read(shared.root().join("mgmt.kubeconfig")).expect("the kubeconfig"), before);
}

#[test]
fn says_that_nothing_was_read() {
    let runner = Runner::new();
    runner.step().args(json!({"kubeconfig": ""})).run().expect_code("ARTIFACTS_NOT_READ");
    runner.step().args(json!({"kubeconfig": "not: [a kubeconfig"})).run().expect_code("KUBECONFIG_MALFORMED");
    let loopback = kubeconfig("https://[::1]:6443");
    runner.step().args(json!({"kubeconfig": loopback})).run().expect_code("ARTIFACTS_SERVER_LOOPBACK");
    assert!(!runner.root().join("mgmt.kubeconfig").exists());
}
