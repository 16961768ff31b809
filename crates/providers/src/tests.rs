use std::{collections::BTreeMap, fs, time::Duration};

use cluster::{
    Clusterctl,
    providers::{Kind, Provider},
};
use converge::{AbsolutePath, Failure};
use serde_json::{Value, json};

use crate::{ExtraProvider, Installer, Live, Options, Sources};

fn options() -> Options {
    Options::default()
}

/// What is done on a cluster like this to have what the defaults ask for, or why it is refused.
fn planned(live: &Live) -> String {
    let (options, sources) = (options(), Sources::default());
    let clusterctl = Clusterctl { program: "x".into(), config: "x".into(), home: "x".into(), github_token: None, lock: None };
    let (kubeconfig, patience) = ("x".into(), Duration::ZERO);
    match (Installer { options: &options, sources: &sources, clusterctl, kubeconfig, patience }).plan(live) {
        Ok(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        Err(error) => Failure::from(error).to_string(),
    }
}

#[test]
fn init_runs_for_what_is_missing_and_never_over_another_version() {
    use Kind::{Addon, Bootstrap, ControlPlane, Core, Infrastructure};
    let own = || options().wanted().to_vec();
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
        assert_eq!(planned(&Live { providers: live, ..Live::default() }), expected, "{case}");
    }
}

#[test]
fn what_is_in_the_inventory_and_gone_is_installed_again() {
    let own = || options().wanted().to_vec();
    let kubeadm = ("capi-kubeadm-bootstrap-system", "capi-kubeadm-bootstrap-controller-manager");
    let core = ("capi-system", "capi-controller-manager");
    for (case, providers, gone, expected) in [
        ("nothing gone", own(), vec![], ""),
        ("one provider", own(), vec![kubeadm], "run clusterctl init again for bootstrap-kubeadm v1.12.5, whose Deployment is gone"),
        (
            "two",
            own(),
            vec![core, kubeadm],
            "run clusterctl init again for cluster-api v1.12.5, bootstrap-kubeadm v1.12.5, whose Deployment is gone",
        ),
        (
            "another one was never there",
            own().into_iter().skip(1).collect(),
            vec![kubeadm],
            "run clusterctl init for cluster-api v1.12.5, and again for bootstrap-kubeadm v1.12.5, whose Deployment is gone",
        ),
    ] {
        assert_eq!(planned(&Live { providers, gone, ..Live::default() }), expected, "{case}");
    }
}

#[test]
fn a_cert_manager_that_is_not_whole_is_installed_again() {
    let lacking = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
    let kubeadm = ("capi-kubeadm-bootstrap-system", "capi-kubeadm-bootstrap-controller-manager");
    for (case, providers, gone, cert_manager, expected) in [
        (
            "one that was killed while it was installed for the first time",
            vec![],
            vec![],
            vec!["Deployment cert-manager-webhook", "ValidatingWebhookConfiguration cert-manager-webhook"],
            "run clusterctl init for cluster-api v1.12.5, bootstrap-kubeadm v1.12.5, control-plane-kubeadm v1.12.5, \
             infrastructure-incus v0.8.5, and again for cert-manager, which lacks Deployment cert-manager-webhook, \
             ValidatingWebhookConfiguration cert-manager-webhook",
        ),
        (
            "one of which a part was deleted",
            options().wanted().to_vec(),
            vec![],
            vec!["Deployment cert-manager-cainjector"],
            "run clusterctl init again for cert-manager, which lacks Deployment cert-manager-cainjector",
        ),
        (
            "beside a provider",
            options().wanted().to_vec(),
            vec![kubeadm],
            vec!["Deployment cert-manager"],
            "run clusterctl init again for bootstrap-kubeadm v1.12.5, whose Deployment is gone, and again for cert-manager, which \
             lacks Deployment cert-manager",
        ),
    ] {
        let live = Live { providers, gone, cert_manager: lacking(&cert_manager), ..Live::default() };
        assert_eq!(planned(&live), expected, "{case}");
    }
}

#[test]
fn the_infrastructure_provider_is_told_what_its_server_can_bear() {
    let told = "have the infrastructure provider make 1 machine at a time instead of";
    for (case, concurrency, arguments, expected) in [
        ("a server that can", None, "--v=2", String::new()),
        ("a server that can, and somebody who wants less", None, "--concurrency=2", String::new()),
        ("one that cannot", Some(1), "--v=2", format!("{told} its own default, as LXD 5.0 needs")),
        ("one that cannot, and somebody who wants more", Some(1), "--concurrency=5", format!("{told} 5, as LXD 5.0 needs")),
        ("one that was told", Some(1), "--v=2 --concurrency=1", String::new()),
    ] {
        let arguments = arguments.split(' ').map(str::to_owned).collect();
        let live = Live { providers: options().wanted().to_vec(), arguments, concurrency, ..Live::default() };
        assert_eq!(planned(&live), expected, "{case}");
    }
}

#[test]
fn the_configuration_names_what_clusterctl_does_not_know() {
    let release = "https://github.com/lxc/cluster-api-provider-incus/releases/v0.8.5/infrastructure-components.yaml";
    let incus = |url: &str| json!({"name": "incus", "type": "InfrastructureProvider", "url": url});
    let extra = ExtraProvider { name: "helm".into(), url: "file:///srv/x".into(), kind: "AddonProvider".into() };
    for (case, options, expected) in [
        ("defaults", options(), json!({"providers": [incus(release)], "cert-manager": {"version": "v1.20.1"}})),
        (
            "a mirror",
            Options { capn_provider_url: Some("file:///srv/incus".into()), ..options() },
            json!({"providers": [incus("file:///srv/incus")], "cert-manager": {"version": "v1.20.1"}}),
        ),
        (
            "patience",
            Options { cert_manager_timeout: Some("15m".into()), ..options() },
            json!({"providers": [incus(release)], "cert-manager": {"version": "v1.20.1", "timeout": "15m"}}),
        ),
        (
            "one more",
            Options { extra_providers: vec![extra], ..options() },
            json!({
                "providers": [incus(release), {"name": "helm", "type": "AddonProvider", "url": "file:///srv/x"}],
                "cert-manager": {"version": "v1.20.1"},
            }),
        ),
    ] {
        assert_eq!(Sources::default().config(&options), expected, "{case}");
    }
}

/// A bundle of the providers and of cert-manager, with the objects of one of them altered after it was built.
fn bundle(versions: [&str; 3], altered: Option<&str>) -> (tempfile::TempDir, bundle::Location) {
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
    (folder, bundle)
}

#[test]
fn a_bundle_has_everything() {
    let (folder, bundle) = bundle(["v1.12.5", "v0.8.5", "v1.20.1"], None);
    let sources = Sources::of(&options(), &bundle).unwrap();
    sources.verify().unwrap();
    let url = |path: &str| format!("file://{}/{path}", folder.path().display());
    let config = sources.config(&options());
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
        let (_folder, bundle) = bundle(versions, None);
        let failure = Sources::of(&options(), &bundle).err().unwrap();
        assert_eq!(failure.code, "BUNDLE_NOT_LISTED");
        assert!(failure.msg.contains(words), "{failure}");
    }
}

#[test]
fn an_altered_bundle_is_not_used() {
    for altered in ["cluster-api", "infrastructure-incus", "cert-manager"] {
        let (_folder, bundle) = bundle(["v1.12.5", "v0.8.5", "v1.20.1"], Some(altered));
        assert_eq!(Sources::of(&options(), &bundle).unwrap().verify().unwrap_err().code, "BUNDLE_DIGEST", "{altered}");
    }
}

#[test]
fn patience_covers_what_clusterctl_waits_for() {
    let extra = || ExtraProvider { name: "helm".into(), url: "x".into(), kind: "AddonProvider".into() };
    let own = || ExtraProvider { name: "incus".into(), url: "x".into(), kind: "InfrastructureProvider".into() };
    let other_kubeadm = || ExtraProvider { name: "kubeadm".into(), url: "x".into(), kind: "AddonProvider".into() };
    for (case, options, expected) in [
        ("defaults", options(), ""),
        ("too little", Options { init_timeout: 1799, ..options() }, "1800 s"),
        ("patient with cert-manager", Options { cert_manager_timeout: Some("11m".into()), ..options() }, "1860 s"),
        ("enough of it", Options { cert_manager_timeout: Some("1h".into()), init_timeout: 4800, ..options() }, ""),
        ("impatient with it", Options { cert_manager_timeout: Some("30s".into()), init_timeout: 1230, ..options() }, ""),
        ("one more provider", Options { extra_providers: vec![extra()], ..options() }, "2100 s"),
        (
            "the lab's own provider",
            Options { extra_providers: vec![own()], init_timeout: 9000, ..options() },
            "infrastructure-incus",
        ),
        ("its name for another kind", Options { extra_providers: vec![other_kubeadm()], init_timeout: 9000, ..options() }, ""),
        ("a flag of the step's", Options { extra_init_flags: vec!["--core=x:v1".into()], ..options() }, "--core"),
        ("a flag of its own", Options { extra_init_flags: vec!["--addon=helm:v1".into()], ..options() }, ""),
    ] {
        match options.check() {
            Ok(()) => assert_eq!(expected, "", "{case}"),
            Err(failure) => assert!(!expected.is_empty() && failure.to_string().contains(expected), "{case}: {failure}"),
        }
    }
}
