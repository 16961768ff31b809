use std::{collections::BTreeMap, fmt::Display, fs};

use converge::{Change as _, Section as _};
use host::file::{Content, Live as File};
use serde_json::{Value, json};

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
        ("no host yet", kubeconfig::Live::default(), format!("create {path}; create {path}/bootstrap.kubeconfig")),
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
fn init_runs_for_what_is_missing_and_never_over_another_version() {
    use Kind::{Addon, Bootstrap, ControlPlane, Core, Infrastructure};
    let own = || step().wanted().to_vec();
    let all_but = |place: usize| own().into_iter().enumerate().filter(|(at, _)| *at != place).map(|(_, it)| it).collect::<Vec<_>>();
    let with = |kind, name: &str, version: &str| {
        let other = Provider::new(kind, name, version);
        own().into_iter().map(|it| if it.is_same(&other) { other.clone() } else { it }).collect::<Vec<_>>()
    };
    for (case, live, expected) in [
        (
            "nothing",
            vec![],
            "run clusterctl init for cluster-api v1.12.5, bootstrap-kubeadm v1.12.5, control-plane-kubeadm v1.12.5, \
             infrastructure-incus v0.8.5",
        ),
        ("everything", own(), ""),
        ("something more", own().into_iter().chain([Provider::new(Addon, "helm", "v0.1.0")]).collect(), ""),
        ("no core", all_but(0), "run clusterctl init for cluster-api v1.12.5"),
        ("no bootstrap", all_but(1), "run clusterctl init for bootstrap-kubeadm v1.12.5"),
        ("no control plane", all_but(2), "run clusterctl init for control-plane-kubeadm v1.12.5"),
        ("no infrastructure", all_but(3), "run clusterctl init for infrastructure-incus v0.8.5"),
        (
            "an older core",
            with(Core, "cluster-api", "v1.11.0"),
            "PROVIDER_VERSION_DRIFT: another version is there than wanted: cluster-api v1.11.0 instead of v1.12.5",
        ),
        (
            "a newer bootstrap",
            with(Bootstrap, "kubeadm", "v1.13.0"),
            "PROVIDER_VERSION_DRIFT: another version is there than wanted: bootstrap-kubeadm v1.13.0 instead of v1.12.5",
        ),
        (
            "drift beside what is missing",
            vec![Provider::new(ControlPlane, "kubeadm", "v1.11.0"), Provider::new(Infrastructure, "incus", "v0.7.0")],
            "PROVIDER_VERSION_DRIFT: another version is there than wanted: control-plane-kubeadm v1.11.0 instead of v1.12.5, \
             infrastructure-incus v0.7.0 instead of v0.8.5",
        ),
        (
            "the same twice",
            own().into_iter().chain([Provider::new(Core, "cluster-api", "v1.12.5")]).collect(),
            "PROVIDER_TWICE: clusterctl's inventory has cluster-api more than once",
        ),
    ] {
        let (step, sources) = (step(), Sources::default());
        assert_eq!(said(init::Section { step: &step, sources: &sources }.plan(&live)), expected, "{case}");
    }
}

#[test]
fn the_configuration_names_what_clusterctl_does_not_know() {
    let release = "https://github.com/lxc/cluster-api-provider-incus/releases/v0.8.5/infrastructure-components.yaml";
    let incus = |url: &str| json!({"name": "incus", "type": "InfrastructureProvider", "url": url});
    let extra = ExtraProvider { name: "helm".into(), url: "file:///srv/x".into(), kind: "AddonProvider".into() };
    for (case, step, expected) in [
        ("defaults", step(), json!({"providers": [incus(release)], "cert-manager": {"version": "v1.20.1"}})),
        (
            "a mirror",
            BootstrapClusterctl { capn_provider_url: Some("file:///srv/incus".into()), ..step() },
            json!({"providers": [incus("file:///srv/incus")], "cert-manager": {"version": "v1.20.1"}}),
        ),
        (
            "patience",
            BootstrapClusterctl { cert_manager_timeout: Some("15m".into()), ..step() },
            json!({"providers": [incus(release)], "cert-manager": {"version": "v1.20.1", "timeout": "15m"}}),
        ),
        (
            "one more",
            BootstrapClusterctl { extra_providers: vec![extra], ..step() },
            json!({
                "providers": [incus(release), {"name": "helm", "type": "AddonProvider", "url": "file:///srv/x"}],
                "cert-manager": {"version": "v1.20.1"},
            }),
        ),
    ] {
        assert_eq!(Sources::default().config(&step), expected, "{case}");
    }
}

/// A bundle of the providers and of cert-manager, with the objects of one of them altered after it was built.
fn bundle(versions: [&str; 3], altered: Option<&str>) -> (tempfile::TempDir, BootstrapClusterctl) {
    let [core, infrastructure, cert_manager] = versions;
    let labels = [
        ("cluster-api", core),
        ("bootstrap-kubeadm", core),
        ("control-plane-kubeadm", core),
        ("infrastructure-incus", infrastructure),
    ];
    let providers = labels.into_iter().flat_map(|(label, version)| {
        let path = |file: &str| format!("providers/{label}/{version}/{file}");
        [(path("components.yaml"), "components", label, version), (path("metadata.yaml"), "metadata", label, version)]
    });
    let manifest = (format!("cert-manager/{cert_manager}/cert-manager.yaml"), "manifest", "cert-manager", cert_manager);
    let folder = tempfile::tempdir().unwrap();
    let entry = |(path, role, name, version): (String, &str, &str, &str)| {
        let place = folder.path().join(&path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, &path).unwrap();
        let sha256 = bundle::digest(&place).unwrap();
        if altered == Some(name) {
            fs::write(&place, "altered").unwrap();
        }
        let mut listed = json!({"path": path, "role": role, "name": name, "version": version, "origin": "x", "sha256": sha256});
        if name == "infrastructure-incus" {
            listed["standin"] = true.into();
            listed["differs"] = "the lab's own".into();
        }
        listed
    };
    let files: Vec<Value> = providers.chain([manifest]).map(entry).collect();
    let manifest = json!({"schema": bundle::SCHEMA, "source": "modules", "files": files});
    fs::write(folder.path().join(bundle::MANIFEST), manifest.to_string()).unwrap();
    let bundle = bundle::Location { bundle: AbsolutePath::new(folder.path().to_str().unwrap()) };
    (folder, BootstrapClusterctl { bundle, ..step() })
}

#[test]
fn a_bundle_has_everything() {
    let (folder, step) = bundle(["v1.12.5", "v0.8.5", "v1.20.1"], None);
    let sources = Sources::of(&step).unwrap();
    sources.verify().unwrap();
    let url = |path: &str| format!("file://{}/{path}", folder.path().display());
    let config = sources.config(&step);
    let names = ["cluster-api", "bootstrap-kubeadm", "control-plane-kubeadm"];
    let paths = names.map(|label| url(&format!("providers/{label}/v1.12.5/components.yaml")));
    let urls = config["providers"].as_array().unwrap().iter().map(|provider| provider["url"].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(urls[..3], paths);
    assert_eq!(urls[3..], [url("providers/infrastructure-incus/v0.8.5/components.yaml")]);
    assert_eq!(config["cert-manager"]["url"], url("cert-manager/v1.20.1/cert-manager.yaml"));
    assert!(!config.to_string().contains("github"), "{config}");
    assert_eq!(sources.standins(), BTreeMap::from([("infrastructure-incus".to_owned(), "the lab's own".to_owned())]));
}

#[test]
fn a_bundle_of_other_versions_is_refused_with_what_it_has() {
    for (versions, words) in [
        (["v1.11.0", "v0.8.5", "v1.20.1"], "no cluster-api v1.12.5; it has v1.11.0"),
        (["v1.12.5", "v0.7.0", "v1.20.1"], "no infrastructure-incus v0.8.5; it has v0.7.0"),
        (["v1.12.5", "v0.8.5", "v1.11.5"], "no cert-manager v1.20.1; it has v1.11.5"),
    ] {
        let (_folder, step) = bundle(versions, None);
        let failure = Sources::of(&step).err().unwrap();
        assert_eq!(failure.code, "BUNDLE_NOT_LISTED");
        assert!(failure.msg.contains(words), "{failure}");
    }
}

#[test]
fn an_altered_bundle_is_not_used() {
    for altered in ["cluster-api", "infrastructure-incus", "cert-manager"] {
        let (_folder, step) = bundle(["v1.12.5", "v0.8.5", "v1.20.1"], Some(altered));
        assert_eq!(Sources::of(&step).unwrap().verify().unwrap_err().code, "BUNDLE_DIGEST", "{altered}");
    }
}

#[test]
fn patience_covers_what_clusterctl_waits_for() {
    let extra = || ExtraProvider { name: "helm".into(), url: "x".into(), kind: "AddonProvider".into() };
    let own = || ExtraProvider { name: "incus".into(), url: "x".into(), kind: "InfrastructureProvider".into() };
    let other_kubeadm = || ExtraProvider { name: "kubeadm".into(), url: "x".into(), kind: "AddonProvider".into() };
    for (case, step, expected) in [
        ("defaults", step(), ""),
        ("too little", BootstrapClusterctl { init_timeout: 1799, ..step() }, "1800 s"),
        ("patient with cert-manager", BootstrapClusterctl { cert_manager_timeout: Some("11m".into()), ..step() }, "1860 s"),
        ("enough of it", BootstrapClusterctl { cert_manager_timeout: Some("1h".into()), init_timeout: 4800, ..step() }, ""),
        ("impatient with it", BootstrapClusterctl { cert_manager_timeout: Some("30s".into()), init_timeout: 1230, ..step() }, ""),
        ("one more provider", BootstrapClusterctl { extra_providers: vec![extra()], ..step() }, "2100 s"),
        (
            "the lab's own provider",
            BootstrapClusterctl { extra_providers: vec![own()], init_timeout: 9000, ..step() },
            "infrastructure-incus",
        ),
        (
            "its name for another kind",
            BootstrapClusterctl { extra_providers: vec![other_kubeadm()], init_timeout: 9000, ..step() },
            "",
        ),
        ("a flag of the step's", BootstrapClusterctl { extra_init_flags: vec!["--core=x:v1".into()], ..step() }, "--core"),
        ("a flag of its own", BootstrapClusterctl { extra_init_flags: vec!["--addon=helm:v1".into()], ..step() }, ""),
    ] {
        match step.preflight() {
            Ok(()) => assert_eq!(expected, "", "{case}"),
            Err(failure) => assert!(!expected.is_empty() && failure.msg.contains(expected), "{case}: {failure}"),
        }
    }
}

#[test]
fn other_steps_find_the_kubeconfig_where_it_is_written() {
    let step = BootstrapClusterctl::default();
    assert_eq!(step.kubeconfig_path(), step.opt_root.join(machine::BOOTSTRAP_KUBECONFIG));
}
