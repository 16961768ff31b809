use cluster::Kubeconfig;
use converge::{Change as _, Failure, Section as _};
use host::{
    Owner,
    file::{Content, Live as File},
};
use serde_json::json;

use super::*;
use crate::{files::Live, source::Source};

const SECRET: &str = "\
apiVersion: v1
kind: Config
current-context: mgmt-1-admin@mgmt-1
clusters: [{name: mgmt-1, cluster: {certificate-authority-data: QVVUSA==, server: 'https://10.77.0.9:6443'}}]
contexts: [{name: mgmt-1-admin@mgmt-1, context: {cluster: mgmt-1, user: mgmt-1-admin}}]
users: [{name: mgmt-1-admin, user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ}}]
";

fn step() -> ClusterKubeconfig {
    ClusterKubeconfig { name: "mgmt-1".into(), kubeconfig_path: Some("/kubeconfig".into()), ..ClusterKubeconfig::default() }
}

#[allow(clippy::unnecessary_wraps)] // as the live state has it
fn file(text: &str, mode: u32) -> Option<File> {
    Some(File { content: Some(Content::Text(text.into())), owner: Owner::default(), mode })
}

#[allow(clippy::unnecessary_wraps)] // as the live state has it
fn folder() -> Option<File> {
    Some(File { content: Some(Content::Folder), owner: Owner::default(), mode: 0o700 })
}

fn at(server: &str) -> String {
    Kubeconfig::parse(SECRET).unwrap().with_server(server).to_yaml().expose().to_owned()
}

/// As it is after a run for the host alone.
fn live() -> Live {
    let kubeconfig = Some(Kubeconfig::parse(SECRET).unwrap());
    let source = Some(Source { port: Some(25060), kubeconfig });
    Live { source, folders: vec![folder()], internal: file(&at("https://10.77.0.9:6443"), 0o600), external: None }
}

fn planned(step: &ClusterKubeconfig, live: &Live) -> String {
    let said = |failure: Failure| format!("error {}", failure.code);
    let plan = Section::new(step).plan(live).map(|changes| changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
    plan.unwrap_or_else(said).replace("/opt/capi-lab/etc/clusters/capi-clusters", "DIR")
}

#[test]
fn plans() {
    let outside = ClusterKubeconfig { external_address: Some("fd00::10".into()), ..step() };
    let published = |server: &str| Live { external: file(&at(server), 0o600), ..live() };
    let no_secret =
        || Live { source: Some(Source { port: None, kubeconfig: None }), folders: vec![None], internal: None, external: None };
    let no_port = || Live { source: Some(Source { port: None, ..live().source.unwrap() }), ..live() };
    let absent = ClusterKubeconfig { state: State::Absent, ..step() };
    for (case, step, live, expected) in [
        ("check mode before there is a cluster", &step(), Live::default(), "create DIR; create DIR/mgmt-1.kubeconfig"),
        ("no Secret yet", &outside, no_secret(), "create DIR; create DIR/mgmt-1.kubeconfig; create DIR/mgmt-1.external.kubeconfig"),
        ("as it should be", &step(), live(), ""),
        ("nothing written", &step(), Live { internal: None, ..live() }, "create DIR/mgmt-1.kubeconfig"),
        ("an older certificate", &step(), Live { internal: file("old", 0o600), ..live() }, "write DIR/mgmt-1.kubeconfig"),
        (
            "readable by others",
            &step(),
            Live { internal: file(&at("https://10.77.0.9:6443"), 0o644), ..live() },
            "set owner and mode of DIR/mgmt-1.kubeconfig",
        ),
        (
            "another address for the host",
            &ClusterKubeconfig { address: Some("10.77.0.10".into()), port: Some(7443), ..step() },
            live(),
            "write DIR/mgmt-1.kubeconfig",
        ),
        ("others may come", &outside, live(), "create DIR/mgmt-1.external.kubeconfig"),
        ("others may come already", &outside, published("https://[fd00::10]:25060"), ""),
        (
            "at another port",
            &ClusterKubeconfig { external_port: Some(30000), ..outside.clone() },
            published("https://[fd00::10]:25060"),
            "write DIR/mgmt-1.external.kubeconfig",
        ),
        ("others may come no more", &step(), published("https://[fd00::10]:25060"), "remove DIR/mgmt-1.external.kubeconfig"),
        ("at what port?", &outside, no_port(), "error CLUSTER_PORT_UNKNOWN"),
        (
            "to be removed",
            &absent,
            published("https://[fd00::10]:25060"),
            "remove DIR/mgmt-1.kubeconfig; remove DIR/mgmt-1.external.kubeconfig",
        ),
        ("removed", &absent, Live::default(), ""),
    ] {
        assert_eq!(planned(step, &live), expected, "{case}");
    }
}

#[test]
fn a_folder_that_the_user_has_chosen_is_left_as_it_is() {
    let step = ClusterKubeconfig { path: Some("/etc/lab.kubeconfig".into()), ..step() };
    let shared = Some(File { mode: 0o755, ..folder().unwrap() });
    assert_eq!(planned(&step, &Live { folders: vec![shared], ..live() }), "");
    assert!(planned(&step, &Live { folders: vec![None], ..live() }).starts_with("create /etc"));
}

#[test]
fn no_secret_is_shown() {
    let step = ClusterKubeconfig { external_address: Some("192.0.2.10".into()), ..step() };
    let section = Section::new(&step);
    let changes = section.plan(&Live { internal: file(&at("https://10.0.0.1:6443"), 0o600), ..live() }).unwrap();
    let shown: Vec<_> = changes.iter().map(|change| format!("{} {}", change.before(), change.after())).collect();
    for secret in ["QVVUSA", "Q0VSVA", "S0VZ"] {
        assert!(!shown.concat().contains(secret), "{secret}: {shown:?}");
    }
    assert!(shown[0].contains("https://10.0.0.1:6443") && shown[0].contains("https://10.77.0.9:6443"), "{shown:?}");
    assert!(shown[1].contains("https://192.0.2.10:25060"), "{shown:?}");
    let facts = section.facts(&live());
    assert_eq!(json!(facts)["server"], "https://10.77.0.9:6443");
    assert_eq!(facts.external_server, None);
}

#[test]
fn what_is_missing_is_named() {
    for (step, expected) in [
        (step(), ""),
        (ClusterKubeconfig { kubeconfig_path: None, ..step() }, "OPTION_MISSING"),
        (ClusterKubeconfig { kubeconfig_path: None, state: State::Absent, ..step() }, ""),
        (ClusterKubeconfig { path: Some("/x".into()), external_path: Some("/x".into()), ..step() }, "OPTION_INVALID"),
    ] {
        assert_eq!(step.preflight().err().map_or("", |failure| failure.code), expected);
    }
}
