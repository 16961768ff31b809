use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use converge::Explain as _;
use serde_json::json;

use super::*;

const KUBECONFIG: &str = "\
clusters:
- name: mgmt
  cluster: {server: 'https://10.77.0.5:6443', certificate-authority-data: QVVUSE9SSVRZ}
users:
- name: admin
  user: {client-key-data: S0VZ}
";

fn step(root: &Path) -> ExportArtifacts {
    ExportArtifacts {
        mode: Mode::Write,
        root: AbsolutePath::new(root.to_str().unwrap()).unwrap(),
        kubeconfig: Some(Secret::from(KUBECONFIG.to_owned())),
        ..ExportArtifacts::default()
    }
}

/// What a section would do, or the code of its failure.
async fn plan<S: converge::Section>(section: &S) -> String {
    let planned = match section.observe().await {
        Ok(live) => section.plan(&live),
        Err(failure) => Err(failure),
    };
    match planned {
        Ok(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        Err(failure) => failure.code.to_owned(),
    }
}

async fn apply<S: converge::Section>(section: &S) {
    for change in section.plan(&section.observe().await.unwrap()).unwrap() {
        section.apply(&change).await.unwrap();
    }
}

#[tokio::test]
async fn a_folder_is_its_owners_and_one_hosts() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("lab/artifacts");
    let step = step(&root);
    let shown = root.display();
    let everything = format!("create {shown}; create {shown}/.k8slab-host; create {shown}/clusters");
    assert_eq!(plan(&Folders(&step)).await, everything);
    apply(&Folders(&step)).await;
    assert_eq!(plan(&Folders(&step)).await, "");
    for path in [&root, &root.join("clusters")] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
    }
    let other = ExportArtifacts { host: "other".into(), ..step.clone() };
    assert_eq!(plan(&Folders(&other)).await, "ARTIFACTS_ROOT_SHARED");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(plan(&Folders(&step)).await, format!("set owner and mode of {shown}"));
}

#[tokio::test]
async fn a_link_in_the_place_of_a_folder_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (root, real) = (place.path().join("artifacts"), place.path().join("real"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &root).unwrap();
    assert_eq!(plan(&Folders(&step(&root))).await, "ARTIFACTS_ROOT_SYMLINK");
    symlink(&real, real.join("clusters")).unwrap();
    assert_eq!(plan(&Folders(&step(&real))).await, "ARTIFACTS_ROOT_SYMLINK");
}

#[tokio::test]
async fn the_variables_follow_the_kubeconfig() {
    let place = tempfile::tempdir().unwrap();
    let mut step = step(place.path());
    step.tfvars_extra.insert("zone".into(), json!({"a": [1, null]}));
    apply(&MgmtKubeconfig(&step)).await;
    apply(&Tfvars(&step)).await;
    assert_eq!((plan(&MgmtKubeconfig(&step)).await, plan(&Tfvars(&step)).await), (String::new(), String::new()));
    let text = fs::read_to_string(step.tfvars_path()).unwrap();
    let expected = format!(
        r#"{{
  "k8s_lab_capn_provider_version": "v0.8.5",
  "k8s_lab_cluster_topology_enabled": true,
  "k8s_lab_infrastructure_secret_name": "incus-identity",
  "k8s_lab_kubernetes_version": "v1.35.0",
  "k8s_lab_management_cluster_name": "mgmt-1",
  "k8s_lab_management_controlplane_count": 1,
  "k8s_lab_management_worker_count": 2,
  "k8s_lab_mgmt_api_server_url": "https://10.77.0.5:6443",
  "k8s_lab_mgmt_kubeconfig_path": "{}/mgmt.kubeconfig",
  "k8s_lab_project_name": "capi-lab",
  "k8s_lab_unprivileged_nodes": true,
  "k8s_lab_workload_cluster_name": "lab-default",
  "k8s_lab_workload_controlplane_count": 3,
  "k8s_lab_workload_worker_count": 2,
  "zone": {{
    "a": [
      1,
      null
    ]
  }}
}}
"#,
        place.path().display()
    );
    assert_eq!(text, expected);
    for path in [step.kubeconfig_path(), step.tfvars_path()] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // After the pivot the same file is another cluster's.
    step.kubeconfig = Some(Secret::from(KUBECONFIG.replace("10.77.0.5", "192.0.2.7")));
    assert_eq!(plan(&MgmtKubeconfig(&step)).await, format!("write {}/mgmt.kubeconfig", place.path().display()));
    assert_eq!(plan(&Tfvars(&step)).await, format!("write {}/mgmt.auto.tfvars.json", place.path().display()));
    apply(&MgmtKubeconfig(&step)).await;
    let alone = ExportArtifacts { mgmt_kubeconfig_enabled: false, kubeconfig: None, ..step.clone() };
    assert_eq!(plan(&Tfvars(&alone)).await, format!("write {}/mgmt.auto.tfvars.json", place.path().display()));
}

#[tokio::test]
async fn a_diff_shows_no_key() {
    use converge::Change as _;
    let place = tempfile::tempdir().unwrap();
    let step = step(place.path());
    fs::write(step.kubeconfig_path(), KUBECONFIG.replace("S0VZ", "T0xE")).unwrap();
    let section = MgmtKubeconfig(&step);
    let changes = section.plan(&section.observe().await.unwrap()).unwrap();
    let shown = format!("{} {}", changes[0].before(), changes[0].after());
    assert!(shown.contains("10.77.0.5") && !shown.contains("S0VZ") && !shown.contains("T0xE"), "{shown}");
}

#[test]
fn a_server_must_be_reached_from_elsewhere() {
    for (server, expected) in [
        ("https://10.77.0.5:6443", None),
        ("https://[fd42::5]:6443/", None),
        ("https://lab.example.org", None),
        ("http://10.77.0.5:6443", Some("ARTIFACTS_SERVER_PLAIN")),
        ("https://2001:db8::5:6443", Some("ARTIFACTS_SERVER_MALFORMED")),
        ("https://10.77.0.5:644x", Some("ARTIFACTS_SERVER_MALFORMED")),
        ("https://", Some("ARTIFACTS_SERVER_MALFORMED")),
        ("https://admin@10.77.0.5:6443", Some("ARTIFACTS_SERVER_MALFORMED")),
        ("10.77.0.5:6443", Some("ARTIFACTS_SERVER_MALFORMED")),
        ("https://[::ffff:127.0.0.1]:6443", Some("ARTIFACTS_SERVER_LOOPBACK")),
        ("https://127.0.0.1:6443", Some("ARTIFACTS_SERVER_LOOPBACK")),
        ("https://127.8.0.1", Some("ARTIFACTS_SERVER_LOOPBACK")),
        ("https://[::1]:6443", Some("ARTIFACTS_SERVER_LOOPBACK")),
        ("https://localhost:6443/x", Some("ARTIFACTS_SERVER_LOOPBACK")),
        ("https://0.0.0.0:6443", Some("ARTIFACTS_SERVER_LOOPBACK")),
    ] {
        assert_eq!(source::check_server(server).err().map(|error| error.code()), expected, "{server}");
    }
}

#[test]
fn options_that_cannot_be_meant_are_refused() {
    let root = Path::new("/srv/artifacts");
    let extra = |key: &str| [(key.to_owned(), json!(1))].into();
    for (step, code, words) in [
        (ExportArtifacts { workload_controlplane_count: 2, ..step(root) }, "OPTION_INVALID", "workload_controlplane_count"),
        (ExportArtifacts { tfvars_extra: extra("k8s_lab_project_name"), ..step(root) }, "OPTION_COLLISION", "capi-lab"),
        (ExportArtifacts { tfvars_extra: extra("k8s_lab_mgmt_api_server_url"), ..step(root) }, "OPTION_COLLISION", "kubeconfig"),
    ] {
        let failure = step.preflight().unwrap_err();
        assert!(failure.code == code && failure.msg.contains(words), "{failure}");
    }
    step(root).preflight().unwrap();
}
