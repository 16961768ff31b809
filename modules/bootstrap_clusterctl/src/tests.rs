use std::fmt::Display;

use converge::{Change as _, Section as _};
use host::file::{Content, Live as File};

use super::*;

const K3S: &str = "\
apiVersion: v1
kind: Config
clusters:
- name: default
  cluster: {certificate-authority-data: QVVUSE9SSVRZ, server: 'https://10.77.0.5:6443', tls-server-name: kubernetes.default.svc}
users:
- name: default
  user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ}
";

fn step() -> BootstrapClusterctl {
    BootstrapClusterctl::default()
}

fn said<T: Display>(plan: Result<Vec<T>, Failure>) -> String {
    match plan {
        Ok(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        Err(failure) => failure.to_string(),
    }
}

fn file(text: &str, mode: u32) -> File {
    File { content: Some(Content::Text(text.into())), owner: Owner::default(), mode }
}

fn folder(mode: u32) -> File {
    File { content: Some(Content::Folder), owner: Owner::default(), mode }
}

#[test]
fn the_kubeconfig_is_written_where_it_differs() {
    let step = step();
    let section = kubeconfig::Section(&step);
    let rebuilt = Kubeconfig::parse(K3S).unwrap();
    let text = rebuilt.to_yaml();
    let path = "/opt/capi-lab/etc/bootstrap_clusterctl";
    let live = |stored, mode| kubeconfig::Live { rebuilt: Some(rebuilt.clone()), folder: Some(folder(mode)), stored };
    for (case, live, expected) in [
        ("no host yet", kubeconfig::Live::default(), format!("create {path}")),
        ("as it should be", live(Some(file(text.expose(), 0o600)), 0o750), String::new()),
        ("none", live(None, 0o750), format!("create {path}/bootstrap.kubeconfig")),
        (
            "readable by all",
            live(Some(file(text.expose(), 0o644)), 0o750),
            format!("set owner and mode of {path}/bootstrap.kubeconfig"),
        ),
        ("another cluster's", live(Some(file("clusters: []", 0o600)), 0o750), format!("write {path}/bootstrap.kubeconfig")),
        ("folder open to all", live(Some(file(text.expose(), 0o600)), 0o755), format!("set owner and mode of {path}")),
    ] {
        assert_eq!(said(section.plan(&live)), expected, "{case}");
    }
    assert_eq!(said(Ok(section.foresee())), format!("create {path}/bootstrap.kubeconfig"), "before there is a cluster");
}

#[test]
fn a_diff_shows_the_address_and_no_key() {
    let step = step();
    let old = K3S.replace("10.77.0.5", "10.77.0.9").replace("S0VZ", "T0xE");
    let live = kubeconfig::Live {
        rebuilt: Some(Kubeconfig::parse(K3S).unwrap()),
        folder: Some(folder(0o750)),
        stored: Some(file(&old, 0o600)),
    };
    let changes = kubeconfig::Section(&step).plan(&live).unwrap();
    let [before, after] = [changes[0].before(), changes[0].after()];
    assert_eq!(before["content"]["clusters"][0]["cluster"]["server"], "https://10.77.0.9:6443");
    assert_eq!(after["content"]["clusters"][0]["cluster"]["server"], "https://10.77.0.5:6443");
    for secret in ["QVVUSE9SSVRZ", "Q0VSVA", "S0VZ", "T0xE"] {
        assert!(!format!("{before}{after}").contains(secret), "{secret}: {before} {after}");
    }
    assert_ne!(before["content"]["users"], after["content"]["users"], "that the key differs can be seen");
}

#[test]
fn other_steps_find_the_kubeconfig_where_it_is_written() {
    let step = BootstrapClusterctl::default();
    assert_eq!(step.kubeconfig_path(), step.opt_root.join(machine::BOOTSTRAP_KUBECONFIG));
    let management = machine::cluster_kubeconfig(&step.opt_root, "capi-clusters", "mgmt-1");
    let later = BootstrapClusterctl { management_kubeconfig: AbsolutePath::new(management.to_str().unwrap()), ..step };
    assert_eq!(later.kubeconfig_path(), management);
}
