//! `binary_fetch` against a folder and an https server.

#![allow(clippy::unwrap_used)]

mod download;

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use contract::{Machine, Page, Step, Web};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Something that says its version as a tool does.
fn program(version: &str) -> Vec<u8> {
    format!("#!/bin/sh\necho \"gitVersion: {version}\"\n").into_bytes()
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

const KUBECTL: &str = "v1.35.3";
const K3S: &str = "v1.35.3+k3s1";
const CLUSTERCTL: &str = "v1.12.5";
const HELM: &str = "v4.3.1";

/// A release of Helm, with this program.
fn release(program: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("linux-amd64")).unwrap();
    let path = folder.path().join("linux-amd64/helm");
    std::fs::write(&path, program).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let packed =
        Command::new("tar").args(["--create", "--gzip", "--directory"]).arg(folder.path()).arg("linux-amd64").output().unwrap();
    assert!(packed.status.success());
    packed.stdout
}

/// A server that has all tools, and a folder for them.
struct Mirror {
    web: Web,
    machine: Machine,
}

impl Mirror {
    fn new() -> Self {
        let web = Web::start();
        for (path, bytes) in [("/kubectl", program(KUBECTL)), ("/clusterctl", program(CLUSTERCTL)), ("/k3s", program(K3S))] {
            web.put(&format!("{path}.sha256"), Page::Bytes(format!("{}\n", sha256(&bytes)).into_bytes()));
            web.put(path, Page::Bytes(bytes));
        }
        let list = format!("{}  k3s-airgap.tar\n{}  k3s\n", sha256(b"x"), sha256(&program(K3S)));
        web.put("/sha256sum-amd64.txt", Page::Bytes(list.into_bytes()));
        let mirror = Self { web, machine: Machine::bare() };
        mirror.put_helm(&release(&program(HELM)));
        mirror
    }

    fn step(&self) -> Step {
        self.only_kubectl().args(json!({
            "clusterctl_enabled": true,
            "clusterctl_url": self.web.url("/clusterctl"),
            "clusterctl_checksum_sha256": sha256(&program(CLUSTERCTL)),
            "helm_enabled": true,
            "helm_url": self.web.url("/helm.tar.gz"),
            "k3s_enabled": true,
            "k3s_url": self.web.url("/k3s"),
            "k3s_checksum_url": self.web.url("/sha256sum-amd64.txt"),
        }))
    }

    fn only_kubectl(&self) -> Step {
        Step::new("binary_fetch").env("SSL_CERT_FILE", self.web.authority()).env("no_proxy", "localhost").args(json!({
            "opt_root": self.machine.at("/opt/capi-lab"),
            "kubectl_url": self.web.url("/kubectl"),
            "clusterctl_enabled": false,
            "helm_enabled": false,
            "k3s_enabled": false,
        }))
    }

    fn only_helm(&self) -> Step {
        self.only_kubectl().args(json!({"kubectl_enabled": false, "helm_enabled": true, "helm_url": self.web.url("/helm.tar.gz")}))
    }

    fn put_helm(&self, release: &[u8]) {
        self.web.put("/helm.tar.gz.sha256", Page::Bytes(sha256(release).into_bytes()));
        self.web.put("/helm.tar.gz", Page::Bytes(release.to_vec()));
    }

    fn put_kubectl(&self, bytes: &[u8]) {
        self.web.put("/kubectl", Page::Bytes(bytes.to_vec()));
        self.web.put("/kubectl.sha256", Page::Bytes(sha256(bytes).into_bytes()));
    }

    fn bin(&self) -> Vec<String> {
        self.machine.list("/opt/capi-lab/bin")
    }
}

/// A bundle with all tools, of which k3s is a stand-in.
fn bundle() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let entries: Vec<Value> = [("kubectl", "v1.35.0"), ("clusterctl", CLUSTERCTL), ("helm", HELM), ("k3s", "v1.35.0+k3s0")]
        .iter()
        .map(|(name, version)| {
            std::fs::write(folder.path().join(name), program(version)).unwrap();
            json!({
                "path": name, "role": "executable", "name": name, "version": version, "architecture": "amd64",
                "origin": "a test", "sha256": sha256(&program(version)), "standin": *name == "k3s", "differs": "a script",
            })
        })
        .collect();
    let manifest = json!({"schema": 1, "source": "modules", "files": entries});
    std::fs::write(folder.path().join("bundle.json"), manifest.to_string()).unwrap();
    folder
}

#[test]
fn a_bundle_decides_on_versions_and_names_its_standins() {
    let (machine, bundle) = (Machine::bare(), bundle());
    let step = Step::new("binary_fetch").args(json!({"opt_root": machine.at("/opt/capi-lab"), "bundle": bundle.path()}));
    step.check().expect_changed();
    let done = step.run().expect_changed();
    assert_eq!(done.json["tools"]["k3s"]["version"], "v1.35.0+k3s0");
    assert_eq!(done.json["standins"], json!({"k3s": "a script"}));
    step.run().expect_unchanged();

    std::fs::write(bundle.path().join("k3s"), program("v1.35.0+k3s1")).unwrap();
    std::fs::remove_file(machine.at("/opt/capi-lab/bin/k3s")).unwrap();
    step.run().expect_code("CHECKSUM_MISMATCH").expect_words("k3s");
    assert!(!machine.at("/opt/capi-lab/bin/k3s").exists(), "nothing of it is left");
    std::fs::remove_file(bundle.path().join("k3s")).unwrap();
    step.run().expect_words("there is no file").expect_words("k3s");
    step.args(json!({"arch": "arm64"})).run().expect_code("BUNDLE_NOT_LISTED").expect_words("arm64");
}

#[test]
fn a_tool_that_is_several_programs_is_tried_under_its_own_name() {
    let mirror = Mirror::new();
    // BusyBox does what it is called, and knows nothing by the name of a temporary file.
    mirror.put_kubectl(&std::fs::read("/bin/busybox").unwrap());
    mirror.only_kubectl().run().expect_code("COMMAND_FAILED").expect_words("kubectl: applet not found");
}

#[test]
fn tools_are_placed_once_and_then_need_no_network() {
    let mirror = Mirror::new();
    let step = mirror.step();
    let planned = step.check().expect_changed();
    assert!(!mirror.machine.at("/opt").exists(), "check mode leaves no trace");
    assert_eq!(
        mirror.web.requests(),
        ["/kubectl.sha256", "/helm.tar.gz.sha256", "/sha256sum-amd64.txt"],
        "and reads only what is small"
    );

    let done = step.run().expect_changed();
    assert_eq!(planned.json["changes"], done.json["changes"], "check mode said what the run does");
    assert_eq!(planned.diff(), done.diff());
    assert_eq!(
        done.json["tools"]["k3s"],
        json!({"path": mirror.machine.at("/opt/capi-lab/bin/k3s"), "version": K3S, "sha256": sha256(&program(K3S)), "changed": true})
    );
    let mode = |path: &str| mirror.machine.at(path).metadata().unwrap().mode() & 0o777;
    assert_eq!(["kubectl", "clusterctl", "helm", "k3s"].map(|tool| mode(&format!("/opt/capi-lab/bin/{tool}"))), [0o755; 4]);

    let requests = mirror.web.requests().len();
    let again = step.run().expect_unchanged();
    step.check().expect_unchanged();
    assert_eq!(mirror.web.requests().len(), requests, "a second run needs no network");
    assert_eq!(again.json["tools"]["kubectl"]["changed"], false);
    assert_eq!(again.json["tools"]["kubectl"]["sha256"], sha256(&program(KUBECTL)));
}

#[test]
fn a_folder_is_as_good_as_a_server() {
    let machine = Machine::bare();
    for (name, bytes) in [("kubectl", program(KUBECTL)), ("clusterctl-linux-amd64", program(CLUSTERCTL)), ("k3s", program(K3S))] {
        machine.write(&format!("/mirror/{name}"), std::str::from_utf8(&bytes).unwrap());
    }
    machine.write("/mirror/kubectl.sha256", &sha256(&program(KUBECTL)));
    let helm = release(&program(HELM));
    std::fs::write(machine.at("/mirror/helm-v4.3.1-linux-amd64.tar.gz"), &helm).unwrap();
    machine.write("/mirror/helm-v4.3.1-linux-amd64.tar.gz.sha256", &sha256(&helm));
    let folder = Step::new("binary_fetch").args(json!({
        "bin_dir": machine.at("/tools"),
        "source_dir": machine.at("/mirror"),
        "clusterctl_checksum_sha256": sha256(&program(CLUSTERCTL)).to_uppercase(),
    }));
    folder.run().expect_code("CHECKSUM_FETCH_FAILED").expect_words("sha256sum-amd64.txt");
    let folder = folder.args(json!({"k3s_checksum_sha256": sha256(&program(K3S))}));
    folder.run().expect_changed();
    folder.run().expect_unchanged();

    let url = |path: &str| format!("file://{}", machine.at(path).display());
    let single = Step::new("binary_fetch").args(json!({
        "bin_dir": machine.at("/others"),
        "kubectl_url": url("/mirror/kubectl"),
        "clusterctl_url": url("/mirror"),
        "clusterctl_checksum_sha256": sha256(&program(CLUSTERCTL)),
        "helm_enabled": false,
        "k3s_enabled": false,
    }));
    single.run().expect_changed();
    std::fs::remove_dir_all(machine.at("/mirror")).unwrap();
    single.run().expect_unchanged();
    folder.run().expect_unchanged();
}

#[test]
fn a_program_is_taken_out_of_its_archive() {
    let mirror = Mirror::new();
    let step = mirror.only_helm();
    step.check().expect_changed();
    let done = step.run().expect_changed();
    assert_eq!(done.json["tools"]["helm"]["sha256"], sha256(&program(HELM)), "of the program, not of the archive");
    assert_eq!(mirror.bin(), [".helm.json", "helm"]);
    mirror.web.forget();
    step.run().expect_unchanged();
    step.check().expect_unchanged();
    assert_eq!(mirror.web.requests(), [""; 0]);

    std::fs::write(mirror.machine.at("/opt/capi-lab/bin/helm"), program("v0.0.0")).unwrap();
    step.run().expect_changed();
    assert_eq!(mirror.machine.read("/opt/capi-lab/bin/helm").unwrap().into_bytes(), program(HELM));
    std::fs::remove_file(mirror.machine.at("/opt/capi-lab/bin/.helm.json")).unwrap();
    step.run().expect_changed();
    step.run().expect_unchanged();

    // The same program, from where it is not packed.
    mirror.web.put("/helm", Page::Bytes(program(HELM)));
    mirror.web.put("/helm.sha256", Page::Bytes(sha256(&program(HELM)).into_bytes()));
    let step = mirror.only_helm().args(json!({"helm_url": mirror.web.url("/helm")}));
    step.run().expect_changed();
    step.run().expect_unchanged();
    mirror.only_helm().run().expect_changed();
}

#[test]
fn an_archive_that_is_none_leaves_the_program_that_is_there() {
    let mirror = Mirror::new();
    mirror.only_helm().run().expect_changed();
    let newer = mirror.only_helm().args(json!({"helm_version": "v4.4.0"}));
    let empty = tempfile::tempdir().unwrap();
    let other = Command::new("tar").args(["--create", "--gzip", "--directory"]).arg(empty.path()).arg(".").output().unwrap().stdout;
    for (case, release, code) in [
        ("another program", release(&program("v4.3.9")), "VERSION_MISMATCH"),
        ("without the program", other, "COMMAND_FAILED"),
        ("no archive", b"<html>sign in</html>".to_vec(), "COMMAND_FAILED"),
    ] {
        mirror.put_helm(&release);
        let failed = newer.run();
        assert_eq!(failed.code(), code, "{case}: {}", failed.json);
        assert_eq!(mirror.machine.read("/opt/capi-lab/bin/helm").unwrap().into_bytes(), program(HELM), "{case}");
        assert_eq!(mirror.bin(), [".helm.json", "helm"], "{case}");
    }
    mirror.web.put("/helm.tar.gz", Page::Bytes(release(&program("v4.4.0"))));
    newer.run().expect_code("CHECKSUM_MISMATCH");
    mirror.only_helm().run().expect_unchanged();
}

#[test]
fn drift_is_mended() {
    let mirror = Mirror::new();
    let step = mirror.only_kubectl();
    step.run().expect_changed();
    let kubectl = mirror.machine.at("/opt/capi-lab/bin/kubectl");
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o700)).unwrap();
    mirror.web.forget();
    let done = step.run().expect_changed();
    assert_eq!(done.json["changes"], json!([format!("set owner and mode of {}", kubectl.display())]));
    assert_eq!(mirror.web.requests(), [""; 0]);
    std::fs::write(&kubectl, program("v0.0.0")).unwrap();
    let planned = step.check().expect_changed();
    assert_eq!(planned.json["changes"], step.run().expect_changed().json["changes"]);
    assert_eq!(std::fs::read(&kubectl).unwrap(), program(KUBECTL));
    std::fs::remove_file(mirror.machine.at("/opt/capi-lab/bin/.kubectl.json")).unwrap();
    step.run().expect_changed();
    step.run().expect_unchanged();
}

#[test]
fn another_version_is_another_tool() {
    let mirror = Mirror::new();
    mirror.only_kubectl().run().expect_changed();
    mirror.put_kubectl(&program("v1.36.0"));
    let newer = mirror.only_kubectl().args(json!({"kubectl_version": "v1.36.0"}));
    newer.run().expect_changed();
    newer.run().expect_unchanged();
    mirror.put_kubectl(&program("v1.36.1"));
    newer.run().expect_unchanged();
}

#[test]
fn a_tool_is_tried_out_before_it_is_placed() {
    let mirror = Mirror::new();
    mirror.only_kubectl().run().expect_changed();
    let version = json!({"kubectl_version": "v1.36.0"});
    for (bytes, code) in [
        (program("v1.99.0"), "VERSION_MISMATCH"),
        (b"\x7fELF for another machine".to_vec(), "EXEC_FORMAT"),
        (b"#!/bin/sh\necho broken >&2; exit 3\n".to_vec(), "COMMAND_FAILED"),
    ] {
        mirror.put_kubectl(&bytes);
        mirror.only_kubectl().args(version.clone()).run().expect_code(code);
        let kept = mirror.machine.read("/opt/capi-lab/bin/kubectl").unwrap();
        assert_eq!(kept.into_bytes(), program(KUBECTL), "{code}: the one in use stays");
        assert_eq!(mirror.bin(), [".kubectl.json", "kubectl"]);
    }
    mirror.only_kubectl().run().expect_unchanged();
}

#[test]
fn a_link_in_the_place_of_a_tool_is_refused() {
    let mirror = Mirror::new();
    mirror.machine.write("/precious", "kept");
    mirror.machine.write("/opt/capi-lab/bin/.keep", "");
    symlink("/precious", mirror.machine.at("/opt/capi-lab/bin/kubectl")).unwrap();
    mirror.only_kubectl().run().expect_code("FILE_SYMLINK");
    assert_eq!(mirror.machine.read("/precious").as_deref(), Some("kept"));
}

#[test]
fn a_full_disk_leaves_nothing() {
    let mirror = Mirror::new();
    mirror.put_kubectl(&[program(KUBECTL), vec![b'#'; 16 << 10]].concat());
    let disk = mirror.machine.mount_full_disk("/opt/capi-lab/bin");
    mirror.only_kubectl().run().expect_code("DISK_FULL");
    assert_eq!(mirror.bin(), ["filler"]);
    disk.make_room();
    mirror.only_kubectl().run().expect_changed();
    mirror.only_kubectl().run().expect_unchanged();
}

#[test]
fn a_run_that_is_killed_is_gone_on_with() {
    let mirror = Mirror::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/kubectl", silent.local_addr().unwrap().port());
    let stuck = mirror.only_kubectl().args(json!({"kubectl_url": url, "kubectl_checksum_url": mirror.web.url("/kubectl.sha256")}));
    let running = stuck.spawn();
    let _connection = silent.accept().unwrap();
    running.kill();
    assert!(!mirror.machine.at("/opt/capi-lab/bin/kubectl").exists());
    mirror.only_kubectl().run().expect_changed();
    mirror.only_kubectl().run().expect_unchanged();
}

#[test]
fn options_are_checked() {
    let mirror = Mirror::new();
    mirror.step().run().expect_changed();
    let digest = |tool: &str| json!(sha256(&program(tool)));
    let rows: Vec<(&str, Value, Value)> = vec![
        ("opt_root", json!(mirror.machine.at("/opt/capi-lab")), json!("opt")),
        ("bin_dir", json!(mirror.machine.at("/opt/capi-lab/bin")), json!("../bin")),
        ("owner", json!("root"), json!("")),
        ("group", json!("root"), json!("")),
        ("mode", json!("0755"), json!("rwx")),
        ("download_timeout", json!("30"), json!(0)),
        ("arch", json!("amd64"), json!("riscv64")),
        ("source_dir", json!(Value::Null), json!("mirror")),
        ("kubectl_enabled", json!("no"), json!("perhaps")),
        ("clusterctl_enabled", json!(false), json!(7)),
        ("helm_enabled", json!(false), json!("never")),
        ("k3s_enabled", json!("off"), json!({})),
        ("kubectl_version", json!(KUBECTL), json!("1.35.3")),
        ("clusterctl_version", json!(CLUSTERCTL), json!("latest")),
        ("helm_version", json!(HELM), json!("v3.18.6")),
        ("k3s_version", json!(K3S), json!("v1.35.3")),
        ("kubectl_url", json!(mirror.web.url("/kubectl")), json!("http://dl.k8s.io/kubectl")),
        ("clusterctl_url", json!(mirror.web.url("/clusterctl")), json!("ftp://x/clusterctl")),
        ("helm_url", json!(mirror.web.url("/helm.tar.gz")), json!("http://get.helm.sh/helm.tar.gz")),
        ("k3s_url", json!(mirror.web.url("/k3s")), json!("k3s")),
        ("kubectl_checksum_url", json!(mirror.web.url("/kubectl.sha256")), json!("http://x/y")),
        ("clusterctl_checksum_url", json!(Value::Null), json!("x")),
        ("helm_checksum_url", json!(mirror.web.url("/helm.tar.gz.sha256")), json!("sums")),
        ("k3s_checksum_url", json!(mirror.web.url("/sha256sum-amd64.txt")), json!("https://")),
        ("kubectl_checksum_style", json!("plain"), json!("md5")),
        ("clusterctl_checksum_style", json!("pinned"), json!("plain")),
        ("helm_checksum_style", json!("plain"), json!("sha1")),
        ("k3s_checksum_style", json!("manifest"), json!("none")),
        ("kubectl_checksum_sha256", digest(KUBECTL), json!("abc")),
        ("clusterctl_checksum_sha256", digest(CLUSTERCTL), json!("z".repeat(64))),
        ("helm_checksum_sha256", json!(Value::Null), json!("abc")),
        ("k3s_checksum_sha256", digest(K3S), json!(sha256(b"").split_at(63).0)),
        ("kubectl_checksum_entry", json!("kubectl"), json!("")),
        ("clusterctl_checksum_entry", json!("clusterctl"), json!("")),
        ("helm_checksum_entry", json!("helm"), json!([])),
        ("k3s_checksum_entry", json!("k3s"), json!([])),
        ("kubectl_dest_filename", json!("kubectl"), json!("../kubectl")),
        ("clusterctl_dest_filename", json!("clusterctl"), json!("")),
        ("helm_dest_filename", json!("helm"), json!("bin/helm")),
        ("k3s_dest_filename", json!("k3s"), json!(".k3s")),
        ("flow_control_kubectl", json!(false), json!("x")),
        ("flow_control_clusterctl", json!(false), json!("x")),
        ("flow_control_helm", json!(false), json!("x")),
        ("flow_control_k3s", json!(false), json!("x")),
    ];
    for (option, accepted, rejected) in rows {
        mirror.step().args(json!({option: accepted})).check().expect_unchanged();
        let failed = mirror.step().args(json!({option: rejected})).check();
        assert!(["OPTION_INVALID", "OPTION_MISSING"].contains(&failed.code()), "{option}: {rejected}: {}", failed.json);
    }
    let renewed = mirror.step().args(json!({"clusterctl_checksum_sha256": Value::Null, "clusterctl_version": "v1.13.0"}));
    renewed.check().expect_code("OPTION_MISSING").expect_words("clusterctl_checksum_sha256");
    renewed.args(json!({"clusterctl_enabled": false})).check().expect_unchanged();
    assert!(Path::new(&mirror.machine.at("/opt/capi-lab/bin/k3s")).exists());
}
