//! `bootstrap_k3s` against every LXD, as far as it goes without systemd; its service against the scripted one.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;

use contract::trial;
use contract::{Backend, Guests, Kubernetes, Lxd, Outcome, Step, Substrate, program};
use data_encoding::HEXLOWER;
use hyper::body::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

contract::on_every_lxd!(
    installs_and_keeps,
    repairs_what_was_changed,
    gives_k3s_its_execute_bit,
    keeps_its_token_to_itself,
    takes_the_images_of_a_bundle,
    says_what_is_missing,
    refuses_a_k3s_that_cannot_be_one,
    refuses_to_start_over_after_the_pivot,
    needs_lxd,
    names_bad_options,
);

const TOKEN: &str = "not-to-be-seen";
const VERSION: &str = "k3s version v1.35.3+k3s1 (a test's)\n";

/// An instance, and k3s on the host.
struct Bed<'a> {
    lxd: &'a Lxd,
    substrate: Substrate<'a>,
    host: TempDir,
}

impl<'a> Bed<'a> {
    fn make(lxd: &'a Lxd) -> Self {
        let substrate = Substrate::for_instances(lxd);
        substrate.instance().run().expect_changed();
        let host = TempDir::with_prefix("bin-").unwrap();
        program::saying(VERSION, &host.path().join("k3s"));
        Self { lxd, substrate, host }
    }

    /// The whole step.
    fn step(&self) -> Step {
        self.lxd.step("bootstrap_k3s").args(json!({
            "project": self.lxd.name("p"), "instance_name": "boot", "host_bin_dir": self.host.path(), "ready_timeout": 5,
        }))
    }

    /// Its files alone.
    fn install(&self) -> Step {
        self.step().args(json!({"flow_control_service": false}))
    }

    fn read(&self, file: &str) -> Option<String> {
        self.lxd.rest().download(&self.substrate.file(file)).map(|content| String::from_utf8_lossy(&content).into_owned())
    }

    fn write(&self, file: &str, content: &str) {
        self.lxd.rest().upload(&self.substrate.file(file), Bytes::from(content.to_owned()));
    }

    fn remove(&self, file: &str) {
        self.lxd.rest().write("DELETE", &self.substrate.file(file), &Value::Null);
    }
}

const UNIT: &str = "/etc/systemd/system/k3s.service";
const LAUNCHER: &str = "/usr/local/sbin/k3s-server-launcher";
const K3S: &str = "/usr/local/bin/k3s";

fn installs_and_keeps(lxd: &Lxd) {
    let bed = Bed::make(lxd);
    let made = trial::foresees_and_does(lxd, &bed.install());
    assert_eq!([&made.json["k3s"]["version"], &made.json["k3s"]["unit_changed"]], [&json!("v1.35.3+k3s1"), &json!(true)]);
    let kept = trial::changes_nothing(lxd, &bed.install());
    assert_eq!(kept.json["k3s"]["binary_sha256"], made.json["k3s"]["binary_sha256"]);
    let sent = |outcome: &Outcome| outcome.json["k3s"]["unit_changed"] == true;
    assert!(!sent(&kept));
    assert!(bed.read(UNIT).unwrap().contains("--disable-cloud-controller"));
    assert!(bed.read(LAUNCHER).unwrap().contains("--node-ip="));
    assert_eq!(bed.read("/etc/rancher/k3s/token"), None, "no token, no file");

    program::saying("k3s version v1.36.0+k3s1 (another)\n", &bed.host.path().join("k3s"));
    let upgraded = trial::foresees_and_does(lxd, &bed.install());
    assert_eq!(upgraded.json["k3s"]["version"], "v1.36.0+k3s1");
    assert_eq!(upgraded.diff().len(), 1, "nothing but the program: {:#?}", upgraded.diff());
    trial::changes_nothing(lxd, &bed.install());
}

fn repairs_what_was_changed(lxd: &Lxd) {
    let bed = Bed::make(lxd);
    let step = bed.install().args(json!({"token": TOKEN, "registries": "mirrors: {}"}));
    step.run().expect_changed();
    let original = bed.read(UNIT).unwrap();
    for (file, damage) in [
        (UNIT, Some("[Service]\nExecStart=/bin/true\n")),
        (UNIT, None),
        (LAUNCHER, Some("#!/bin/sh\n")),
        ("/etc/default/k3s", Some("A=b\n")),
        ("/etc/rancher/k3s/token", None),
        ("/etc/rancher/k3s/registries.yaml", Some("mirrors: {x: {}}\n")),
        (K3S, None),
    ] {
        match damage {
            Some(text) => bed.write(file, text),
            None => bed.remove(file),
        }
        let repaired = trial::foresees_and_does(lxd, &step);
        assert_eq!(repaired.diff().len(), 1, "{file}: {:#?}", repaired.diff());
        trial::changes_nothing(lxd, &step);
    }
    assert_eq!(bed.read(UNIT).unwrap(), original);
    // A record that nobody can read, or none, is no proof of what is there.
    for damage in [Some("{"), None] {
        match damage {
            Some(text) => bed.write("/var/lib/k8slab/k3s.json", text),
            None => bed.remove("/var/lib/k8slab/k3s.json"),
        }
        trial::foresees_and_does(lxd, &step);
        trial::changes_nothing(lxd, &step);
    }
}

fn gives_k3s_its_execute_bit(lxd: &Lxd) {
    let bed = Bed::make(lxd);
    fs::set_permissions(bed.host.path().join("k3s"), fs::Permissions::from_mode(0o644)).unwrap();
    let mode = || lxd.rest().header(&bed.substrate.file(K3S), "x-lxd-mode");
    trial::foresees_and_does(lxd, &bed.install());
    assert_eq!(mode(), "0755");

    let program = lxd.rest().download(&bed.substrate.file(K3S)).unwrap();
    bed.remove(K3S);
    lxd.rest().upload(&bed.substrate.file(K3S), program);
    assert_eq!(mode(), "0644");
    trial::foresees_and_does(lxd, &bed.install());
    assert_eq!(mode(), "0755");
    trial::changes_nothing(lxd, &bed.install());
}

fn keeps_its_token_to_itself(lxd: &Lxd) {
    let bed = Bed::make(lxd);
    let with_token = bed.install().args(json!({"token": TOKEN, "environment": {"HTTPS_PROXY": TOKEN}, "registries": TOKEN}));
    let made = trial::foresees_and_does(lxd, &with_token);
    assert!(!made.json.to_string().contains(TOKEN), "{:#}", made.json);
    assert_eq!(bed.read("/etc/rancher/k3s/token").unwrap(), format!("{TOKEN}\n"));
    assert!(!bed.read(UNIT).unwrap().contains(TOKEN));
    for file in ["/etc/rancher/k3s/token", "/etc/rancher/k3s/registries.yaml", "/etc/default/k3s"] {
        assert_eq!(lxd.rest().header(&bed.substrate.file(file), "x-lxd-mode"), "0600", "{file}");
    }
    let without = trial::foresees_and_does(lxd, &bed.install());
    assert!(!without.json.to_string().contains(TOKEN), "{:#}", without.json);
    assert_eq!([bed.read("/etc/rancher/k3s/token"), bed.read("/etc/rancher/k3s/registries.yaml")], [None, None]);
    assert!(!bed.read("/etc/default/k3s").unwrap().contains(TOKEN), "an old token stays nowhere");
    // What somebody else says of registries is left alone.
    bed.write("/etc/rancher/k3s/registries.yaml", "mirrors: {}\n");
    trial::changes_nothing(lxd, &bed.install());
}

fn takes_the_images_of_a_bundle(lxd: &Lxd) {
    let bed = Bed::make(lxd);
    let bundle = TempDir::with_prefix("bundle-").unwrap();
    let images = "as if it were an archive of images";
    fs::create_dir(bundle.path().join("images")).unwrap();
    fs::write(bundle.path().join("images/bootstrap.tar"), images).unwrap();
    let list = |sha256: &str| {
        let file = json!({
            "path": "images/bootstrap.tar", "role": "images", "name": "bootstrap", "version": "v1.35.0", "origin": "here",
            "sha256": sha256, "images": ["registry.k8s.io/pause:3.10.1"],
        });
        fs::write(bundle.path().join("bundle.json"), json!({"schema": 1, "source": "modules", "files": [file]}).to_string())
            .unwrap();
    };
    let step = bed.install().args(json!({"bundle": bundle.path()}));
    list("00");
    step.run().expect_code("K3S_BINARY_DAMAGED").expect_words("bootstrap.tar");
    list(&HEXLOWER.encode(&Sha256::digest(images)));
    trial::foresees_and_does(lxd, &step);
    assert_eq!(bed.read("/var/lib/rancher/k3s/agent/images/bootstrap.tar").as_deref(), Some(images));
    trial::changes_nothing(lxd, &step);
    fs::remove_file(bundle.path().join("images/bootstrap.tar")).unwrap();
    step.run().expect_code("K3S_BINARY_MISSING").expect_words("bootstrap.tar");
    fs::remove_file(bundle.path().join("bundle.json")).unwrap();
    step.run().expect_code("BUNDLE_MISSING");
}

fn says_what_is_missing(lxd: &Lxd) {
    let bed = Bed::make(lxd);
    let cases = [
        (json!({"project": lxd.name("nowhere")}), "PROJECT_NOT_FOUND", "lxd_project"),
        (json!({"instance_name": "nobody"}), "INSTANCE_NOT_FOUND", "nobody"),
        (json!({"host_k3s_filename": "k3x"}), "K3S_BINARY_MISSING", "binary_fetch"),
    ];
    for (options, code, words) in cases {
        let step = bed.step().args(options);
        step.run().expect_code(code).expect_words(words);
        assert!(!step.check().expect_changed().deferred().is_empty(), "{code}");
    }
    bed.substrate.write("PUT", "instances/boot/state", &json!({"action": "stop", "force": true, "timeout": 30}));
    bed.step().run().expect_code("INSTANCE_NOT_RUNNING").expect_words("Stopped");
    assert!(!bed.step().check().expect_changed().deferred().is_empty());
}

fn refuses_a_k3s_that_cannot_be_one(lxd: &Lxd) {
    let bed = Bed::make(lxd);
    let path = bed.host.path().join("k3s");
    let whole = fs::read(&path).unwrap();
    let with = |place: usize, byte: u8| {
        let mut program = whole.clone();
        program[place] = byte;
        program
    };
    for (case, content, code) in [
        ("not found", b"404 page not found".to_vec(), "K3S_BINARY_DAMAGED"),
        ("a script", [b"#!/bin/sh\n".as_slice(), &whole].concat(), "K3S_BINARY_DAMAGED"),
        // Its table of sections is said to be where the file has ended.
        ("cut off", with(44, 1), "K3S_BINARY_DAMAGED"),
        ("of another machine", with(18, 183), "K3S_BINARY_ARCHITECTURE"),
    ] {
        fs::write(&path, content).unwrap();
        assert_eq!(bed.install().run().code(), code, "{case}");
        assert_eq!(bed.read(K3S), None, "{case}");
    }
    // What it says is looked at before it gets its name.
    if lxd.scripted().is_none() {
        program::saying("busybox\n", &path);
        bed.install().run().expect_code("K3S_BINARY_UNUSABLE").expect_words("busybox");
        assert_eq!(bed.read(K3S), None);
    }
    fs::write(&path, &whole).unwrap();
    fs::write(bed.host.path().join(".k3s.json"), r#"{"sha256": "00"}"#).unwrap();
    bed.install().run().expect_code("K3S_BINARY_DAMAGED").expect_words("SHA-256");
    fs::remove_file(bed.host.path().join(".k3s.json")).unwrap();
    trial::foresees_and_does(lxd, &bed.install());
}

fn refuses_to_start_over_after_the_pivot(lxd: &Lxd) {
    let bed = Bed::make(lxd);
    lxd.relay().reset();
    lxd.configure_project("user.k8slab.phase", "pivoted");
    for outcome in [bed.step().check(), bed.step().run()] {
        outcome.expect_code("LIFECYCLE_PIVOTED").expect_words("allow_rebootstrap");
    }
    assert_eq!(lxd.relay().writes(), Vec::<String>::new());
    trial::foresees_and_does(lxd, &bed.install().args(json!({"allow_rebootstrap": true})));
}

fn needs_lxd(lxd: &Lxd) {
    trial::needs_lxd(lxd, &lxd.step("bootstrap_k3s"));
}

fn names_bad_options(lxd: &Lxd) {
    trial::names_bad_options(
        lxd,
        &lxd.step("bootstrap_k3s"),
        &[
            (json!({"instance_name": "capi_bootstrap"}), "OPTION_INVALID", "instance_name"),
            (json!({"bin_mode": "0644"}), "OPTION_INVALID", "bin_mode"),
            (json!({"ready_timeout": 0}), "OPTION_INVALID", "ready_timeout"),
            (json!({"container_bin_path": "bin/k3s"}), "OPTION_INVALID", "bin/k3s"),
            (json!({"tls_san": ["a,b"]}), "OPTION_INVALID", "tls_san"),
            (json!({"extra_args": ["--cluster-cidr=10.0.0.0/8"]}), "OPTION_COLLISION", "--cluster-cidr"),
            (json!({"extra_args": ["--token=x"]}), "OPTION_COLLISION", "--token"),
            (
                json!({"extra_kubelet_feature_gates": ["KubeletInUserNamespace=false"]}),
                "OPTION_COLLISION",
                "KubeletInUserNamespace",
            ),
            (json!({"extra_kubelet_feature_gates": ["X"]}), "OPTION_INVALID", "extra_kubelet_feature_gates"),
            (json!({"environment": {"K3S_TOKEN": "x"}}), "OPTION_INVALID", "K3S_TOKEN"),
            (json!({"token": "two words"}), "OPTION_INVALID", "token"),
            (json!({"host_staging_dir": "/x"}), "OPTION_UNKNOWN", "host_staging_dir"),
        ],
    );
}

const NODE: &str = "/api/v1/nodes/boot";

/// A cluster whose one node is Ready or not.
fn cluster(ready: bool) -> Kubernetes {
    let cluster = Kubernetes::start(&["/api/v1/nodes"]);
    let status = if ready { "True" } else { "False" };
    let condition =
        json!({"type": "Ready", "status": status, "reason": "KubeletReady", "lastHeartbeatTime": "2026-02-01T00:00:00Z"});
    let addresses = json!([{"type": "InternalIP", "address": "10.77.0.5"}, {"type": "Hostname", "address": "boot"}]);
    cluster.put(NODE, json!({"apiVersion": "v1", "kind": "Node", "status": {"conditions": [condition], "addresses": addresses}}));
    cluster
}

/// Instances in which k3s runs as this cluster.
fn runs(cluster: &Kubernetes) -> Guests {
    let output = ("/etc/rancher/k3s/k3s.yaml".to_owned(), cluster.kubeconfig());
    Guests { address: Some(Ipv4Addr::LOCALHOST), output: Some(output), ..Guests::default() }
}

#[test]
fn starts_once_and_again_only_when_something_was_replaced() {
    let lxd = Lxd::open(Backend::ScriptedSync);
    let bed = Bed::make(&lxd);
    let cluster = cluster(true);
    lxd.scripted().unwrap().guests(runs(&cluster));
    let made = trial::foresees_and_does(&lxd, &bed.step());
    assert_eq!(made.json["k3s"]["node"], "boot");
    assert_eq!(made.json["k3s"]["node_ips"], json!(["10.77.0.5"]));
    assert_eq!(made.json["k3s"]["restarted"], true);
    let kept = trial::changes_nothing(&lxd, &bed.step());
    assert_eq!(kept.json["k3s"]["restarted"], false);

    bed.write(UNIT, "[Service]\n");
    let repaired = trial::foresees_and_does(&lxd, &bed.step());
    assert_eq!(repaired.json["changes"], json!(["write /etc/systemd/system/k3s.service", "restart k3s"]));
    trial::changes_nothing(&lxd, &bed.step());

    bed.remove("/etc/systemd/system/multi-user.target.wants/k3s.service");
    let enabled = trial::foresees_and_does(&lxd, &bed.step());
    assert_eq!(enabled.json["changes"], json!(["enable k3s"]));

    bed.substrate.write("PUT", "instances/boot/state", &json!({"action": "restart", "force": true, "timeout": 30}));
    bed.remove("/run/systemd/units/invocation:k3s.service");
    let started = trial::foresees_and_does(&lxd, &bed.step());
    assert_eq!(started.json["changes"], json!(["start k3s"]));
    trial::changes_nothing(&lxd, &bed.step());
}

/// Killed after every program that it runs in the instance: those that give a file its name, and those that start k3s.
#[test]
fn goes_on_after_it_was_killed() {
    let lxd = Lxd::open(Backend::ScriptedSync);
    let bed = Bed::make(&lxd);
    let cluster = cluster(true);
    lxd.scripted().unwrap().guests(runs(&cluster));
    let files = [K3S, "/var/lib/k8slab/k3s.json", "/etc/default/k3s", LAUNCHER, UNIT];
    let start_over = || files.iter().filter(|file| bed.read(file).is_some()).for_each(|file| bed.remove(file));
    bed.step().run().expect_changed();
    start_over();
    lxd.relay().reset();
    bed.step().run().expect_changed();
    let programs = lxd.relay().writes().iter().filter(|write| write.ends_with("/exec")).count();
    assert!(programs > 8, "{:#?}", lxd.relay().writes());
    for nth in 1..=programs {
        start_over();
        lxd.relay().reset();
        let held = lxd.relay().on("POST", "/1.0/instances/boot/exec").nth(nth).hold_after();
        let running = bed.step().spawn();
        held.wait();
        running.kill();
        lxd.relay().reset();
        let outcome = bed.step().run().ok();
        // Whatever was replaced, k3s was started after it.
        let is_started = outcome.json["changes"].as_array().unwrap().is_empty();
        assert!(is_started || outcome.json["k3s"]["restarted"] == true, "killed after program {nth}: {:#}", outcome.json);
        assert_eq!(bed.step().run().expect_unchanged().json["k3s"]["node"], "boot", "killed after program {nth}");
    }
}

#[test]
fn a_crash_loop_ends_early_and_says_why() {
    let lxd = Lxd::open(Backend::ScriptedSync);
    let bed = Bed::make(&lxd);
    for (journal, code) in [
        ("flannel exited: IPv6 was enabled but no IPv6 address was found on node", "K3S_NO_IPV6"),
        ("configmaps \"extension-apiserver-authentication\" is forbidden", "K3S_CCM_RACE"),
        ("kubelet exited: open /dev/kmsg: no such file or directory", "K3S_NO_KMSG"),
        ("something that nobody has seen before", "K3S_CRASH_LOOP"),
    ] {
        lxd.scripted().unwrap().guests(Guests { crash: Some(format!("before\n{journal}\nafter")), ..Guests::default() });
        bed.step().run().expect_code(code).expect_words(journal).expect_words("NRestarts=3");
    }
}

#[test]
fn looks_at_the_network_before_it_starts() {
    let lxd = Lxd::open(Backend::ScriptedSync);
    let bed = Bed::make(&lxd);
    lxd.scripted().unwrap().guests(Guests { ipv4_only: true, ..Guests::default() });
    bed.step().args(json!({"ready_timeout": 1})).run().expect_code("K3S_NO_IPV6").expect_words("fe80::");
    lxd.scripted().unwrap().guests(Guests { without_names: true, ..Guests::default() });
    bed.step().run().expect_code("K3S_NO_DNS").expect_words("registry-1.docker.io");
    let cluster = cluster(true);
    lxd.scripted().unwrap().guests(Guests { without_names: true, ..runs(&cluster) });
    bed.step().args(json!({"required_names": []})).run().expect_changed();
}

#[test]
fn gives_up_on_a_node_that_never_gets_ready() {
    let lxd = Lxd::open(Backend::ScriptedSync);
    let bed = Bed::make(&lxd);
    let cluster = cluster(false);
    lxd.scripted().unwrap().guests(runs(&cluster));
    bed.step().args(json!({"ready_timeout": 2})).run().expect_words("KubeletReady").expect_words("boot: node Ready");
}

#[test]
fn an_instance_that_is_stopped_meanwhile_ends_the_wait() {
    let lxd = Lxd::open(Backend::ScriptedSync);
    let bed = Bed::make(&lxd);
    let cluster = cluster(false);
    lxd.scripted().unwrap().guests(runs(&cluster));
    lxd.relay().reset();
    let path = bed.substrate.path("instances/boot/state");
    // It looks twice before it installs and twice when that is verified, then at the service, at the addresses, and where the API is.
    let stop = json!({"action": "stop", "force": true, "timeout": 30});
    let stopping = move |rest: &contract::Rest| drop(rest.write("PUT", &path, &stop));
    lxd.relay().on("GET", "/1.0/instances/boot/state").nth(7).meanwhile(stopping);
    bed.step().args(json!({"ready_timeout": 30})).run().expect_code("INSTANCE_NOT_RUNNING").expect_words("Stopped");
}
