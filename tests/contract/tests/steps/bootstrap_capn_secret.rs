//! `bootstrap_capn_secret` against every LXD and a scripted cluster.

#![allow(clippy::expect_used)]

mod certificate;
mod listener;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use contract::trial::{self, Fault};
use contract::{Kubernetes, Lent, Lxd, Outcome, SelfSigned, Step, Substrate};
use serde_json::{Value, json};
use tempfile::TempDir;

contract::on_every_lxd!(
    makes_and_keeps,
    repairs_what_others_changed,
    restricts_what_reaches_further,
    leaves_the_trust_of_others_alone,
    names_forwards_of_others,
    says_what_is_wrong_with_the_cluster,
    serves_other_clusters_after_the_pivot,
    needs_lxd,
    names_bad_options,
    goes_on_after_faults,
    stands_a_twin,
);

const SECRET: &str = "/api/v1/namespaces/capi-clusters/secrets/incus-identity";
const PHASE: &str = "user.k8slab.phase";
const RESIDUAL: &str = "user.k8slab.residual";
const CLUSTERS: &str = "/apis/cluster.x-k8s.io/v1beta2/clusters";

/// The substrate, a cluster, a folder for the lab's settings, and LXD's listener.
struct Bench<'a> {
    lxd: &'a Lxd,
    _substrate: Substrate<'a>,
    cluster: Kubernetes,
    folder: TempDir,
    address: String,
    // Given back before the substrate goes.
    lent: Option<Lent>,
}

impl<'a> Bench<'a> {
    fn new(lxd: &'a Lxd) -> Self {
        let substrate = Substrate::make(lxd);
        let folder = TempDir::with_prefix("lab-").expect("make a folder for the lab");
        let lent = lxd.lend_listener();
        let gateway = lxd.subnet().0.trim_end_matches("/24").to_owned();
        // The scripted LXD's networks are not on this machine.
        let address = match (lxd.scripted(), lent.in_use()) {
            (Some(_), _) => free_address(),
            (None, Some(address)) if address.ip().is_unspecified() => format!("{gateway}:{}", address.port()),
            (None, Some(address)) => address.to_string(),
            (None, None) => format!("{gateway}:8443"),
        };
        let bench = Self { lxd, _substrate: substrate, cluster: Kubernetes::start(&[CLUSTERS]), folder, address, lent: Some(lent) };
        fs::create_dir_all(bench.at("etc/bootstrap_clusterctl")).expect("make the folder of the kubeconfig");
        bench.write_kubeconfig(&bench.cluster.kubeconfig());
        lxd.relay().reset();
        bench
    }

    fn write_kubeconfig(&self, text: &str) {
        fs::write(self.at("etc/bootstrap_clusterctl/bootstrap.kubeconfig"), text).expect("write the kubeconfig");
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn pair(&self, file: &str) -> PathBuf {
        self.at("etc/bootstrap_capn_secret").join(file)
    }

    fn step(&self) -> Step {
        let step = self.lxd.step("bootstrap_capn_secret").args(json!({
            "opt_root": self.folder.path(), "lxd_project": self.lxd.name("p"), "internal_network_name": self.lxd.network_name(0),
            "trust_name": self.trust_name(), "wait_timeout": 10,
        }));
        if self.lxd.scripted().is_some() || self.lent().in_use().is_some() {
            return step.args(json!({"lxd_https_bind_address": self.address}));
        }
        step
    }

    fn trust_name(&self) -> String {
        self.lxd.name("capn")
    }

    fn lent(&self) -> &Lent {
        self.lent.as_ref().expect("the listener is lent as long as the test runs")
    }

    /// On a server that has identities whose reach their groups give.
    fn is_fine_grained(&self) -> bool {
        let extensions = self.lxd.rest().get("/1.0")["api_extensions"].clone();
        extensions.as_array().is_some_and(|all| all.contains(&json!("access_management_tls")))
    }

    /// Everybody whom LXD trusts in the step's name, by fingerprint.
    fn trusted(&self) -> BTreeSet<String> {
        let entries = self.lxd.rest().get("/1.0/certificates?recursion=1");
        let named = entries.as_array().into_iter().flatten().filter(|entry| entry["name"] == json!(self.trust_name()));
        let mut all: BTreeSet<_> = named.map(|entry| text(&entry["fingerprint"])).collect();
        if self.is_fine_grained() {
            let members = self.lxd.rest().get(&self.group())["identities"]["tls"].clone();
            all.extend(members.as_array().into_iter().flatten().map(text));
        }
        all
    }

    fn group(&self) -> String {
        format!("/1.0/auth/groups/{}-{}", self.trust_name(), self.lxd.name("p"))
    }

    /// Lets LXD trust somebody by hand.
    fn trust(&self, who: &SelfSigned, name: &str, restricted: bool, projects: &[String]) {
        let base64: String = who.certificate.lines().filter(|line| !line.starts_with('-')).collect();
        let entry = json!({"type": "client", "name": name, "certificate": base64, "restricted": restricted, "projects": projects});
        self.lxd.rest().write("POST", "/1.0/certificates", &entry);
    }

    fn put_pair(&self, pair: &SelfSigned) {
        fs::create_dir_all(self.pair("")).expect("make the folder of the certificate");
        fs::write(self.pair("client.key"), &pair.key).expect("write a key");
        fs::write(self.pair("client.crt"), &pair.certificate).expect("write a certificate");
    }

    /// What the Secret of a namespace says, decoded.
    fn value(&self, path: &str, key: &str) -> String {
        let encoded = text(&self.cluster.get(path)["data"][key]);
        String::from_utf8(BASE64_STANDARD.decode(encoded).expect("base64")).expect("text")
    }

    /// Nothing of the step is left.
    fn start_over(&self) {
        self.lent().close();
        let _ = fs::remove_dir_all(self.pair(""));
        for fingerprint in self.trusted() {
            for place in ["certificates", "auth/identities/tls"] {
                let _ = self.lxd.rest().try_write("DELETE", &format!("/1.0/{place}/{fingerprint}"), &Value::Null);
            }
        }
        let _ = self.lxd.rest().try_write("DELETE", &self.group(), &Value::Null);
        for path in [SECRET, "/api/v1/namespaces/capi-clusters"] {
            self.cluster.remove(path);
        }
        self.lxd.configure_project(RESIDUAL, "");
        self.lxd.configure_project(PHASE, "");
    }

    fn recorded(&self) -> Value {
        self.lxd.rest().get(&format!("/1.0/projects/{}", self.lxd.name("p")))["config"][PHASE].clone()
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        drop(self.lent.take());
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("find a free address").to_string()
}

fn makes_and_keeps(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    let before = bench.cluster.snapshot();
    let made = trial::foresees_and_does(lxd, &bench.step());
    assert_ne!(before, bench.cluster.snapshot());
    let facts = &made.json;
    assert_eq!(facts["https_address"], json!(bench.address));
    assert_eq!(facts["trust"], json!({"created": true, "repaired": false}));
    assert_eq!(facts["secrets"], json!([{"namespace": "capi-clusters", "changed": true}]));
    assert_eq!(bench.trusted(), BTreeSet::from([text(&facts["fingerprint"])]));
    assert_eq!(
        facts["residual"],
        if bench.is_fine_grained() {
            json!([])
        } else {
            json!(["network-edit", "network-forward", "project-copy", "project-events"])
        }
    );
    assert_eq!(bench.recorded(), "bootstrapped");

    let secret = bench.cluster.get(SECRET);
    let keys: Vec<_> = secret["data"].as_object().expect("data").keys().cloned().collect();
    assert_eq!(keys, ["client-crt", "client-key", "project", "server", "server-crt"]);
    assert_eq!(
        (&secret["type"], &secret["metadata"]["labels"]),
        (&json!("Opaque"), &json!({"clusterctl.cluster.x-k8s.io/move": "true"}))
    );
    assert_eq!(bench.value(SECRET, "server"), format!("https://{}", bench.address));
    assert_eq!(bench.value(SECRET, "project"), lxd.name("p"));
    assert_eq!(bench.value(SECRET, "server-crt"), text(&lxd.rest().get("/1.0")["environment"]["certificate"]));
    let read = |file: &str| fs::read_to_string(bench.pair(file)).expect("read the pair");
    assert_eq!([bench.value(SECRET, "client-key"), bench.value(SECRET, "client-crt")], [read("client.key"), read("client.crt")]);
    let bits = |file: &str| bench.pair(file).metadata().expect("look at the pair").mode() & 0o7777;
    assert_eq!([bits(""), bits("client.key"), bits("client.crt")], [0o750, 0o600, 0o644]);
    assert!(
        !made.json.to_string().contains(read("client.key").lines().nth(1).expect("a key has lines")),
        "nothing of the key is told"
    );

    let (secret, writes) = (bench.cluster.snapshot(), bench.cluster.writes());
    trial::changes_nothing(lxd, &bench.step());
    assert_eq!((secret, writes), (bench.cluster.snapshot(), bench.cluster.writes()));
    let team = bench.step().args(json!({"namespaces": ["capi-clusters", "team-a"]}));
    let added = team.run().expect_changed();
    let expected = json!([{"namespace": "capi-clusters", "changed": false}, {"namespace": "team-a", "changed": true}]);
    assert_eq!(added.json["secrets"], expected);
    trial::changes_nothing(lxd, &team);
}

fn repairs_what_others_changed(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    bench.step().run().expect_changed();
    let wanted = bench.cluster.get(SECRET);
    let mut theirs = wanted.clone();
    theirs["data"]["server"] = json!(BASE64_STANDARD.encode("https://192.0.2.1:8443"));
    theirs["data"]["insecure-skip-verify"] = json!(BASE64_STANDARD.encode("true"));
    theirs["metadata"]["labels"] = json!({"team": "a"});
    bench.cluster.put(SECRET, theirs);
    let foreseen = bench.step().check().expect_changed();
    let repaired = bench.step().run().expect_changed();
    trial::assert_same(&json!(foreseen.diff()), &json!(repaired.diff()), "check mode foresees what a run does");
    let live = bench.cluster.get(SECRET);
    assert_eq!(live["data"], wanted["data"], "exactly the keys that belong there");
    assert_eq!(live["metadata"]["labels"]["team"], "a", "labels of others stay");
    trial::changes_nothing(lxd, &bench.step());
    bench.cluster.remove(SECRET);
    bench.step().run().expect_changed();
    assert_eq!(bench.cluster.get(SECRET)["data"], wanted["data"]);
    let stays = bench.step().args(json!({"pivot_enabled": false}));
    stays.run().expect_changed();
    assert_eq!(bench.cluster.get(SECRET)["metadata"]["labels"], json!({}));
    trial::changes_nothing(lxd, &stays);
}

fn restricts_what_reaches_further(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    let fingerprint = text(&bench.step().run().expect_changed().json["fingerprint"]);
    let project = lxd.name("p");
    if bench.is_fine_grained() {
        let wide = json!({"description": "", "permissions": [
            {"entity_type": "project", "url": format!("/1.0/projects/{project}"), "entitlement": "operator"},
            {"entity_type": "project", "url": "/1.0/projects/default", "entitlement": "operator"},
        ]});
        let repaired = trial::repairs(lxd, &bench.step(), &[("PUT", &bench.group(), wide)]);
        assert_eq!(repaired.json["trust"], json!({"created": false, "repaired": true}));
        let identity = format!("/1.0/auth/identities/tls/{fingerprint}");
        trial::repairs(lxd, &bench.step(), &[("PUT", &identity, json!({"groups": []}))]);
        assert_eq!(lxd.rest().get(&bench.group())["permissions"].as_array().map(Vec::len), Some(1));
        return;
    }
    let path = format!("/1.0/certificates/{fingerprint}");
    let entry = |restricted: bool, projects: &[&str]| json!({"type": "client", "name": bench.trust_name(), "restricted": restricted, "projects": projects});
    for wide in [entry(false, &[]), entry(true, &["default"]), entry(true, &["default", &project]), entry(true, &[])] {
        let repaired = trial::repairs(lxd, &bench.step(), &[("PUT", &path, wide)]);
        assert_eq!(repaired.json["trust"], json!({"created": false, "repaired": true}));
        let live = lxd.rest().get(&path);
        assert_eq!((&live["restricted"], &live["projects"]), (&json!(true), &json!([project])));
    }
    let theirs = json!({"type": "client", "name": "an-administrator", "restricted": false, "projects": []});
    lxd.rest().write("PUT", &path, &theirs);
    bench.step().run().expect_code("TRUST_ENTRY_OF_ANOTHER").expect_words("an-administrator");
    assert_eq!(lxd.rest().get(&path)["restricted"], false, "what is another's is left alone");
    lxd.rest().write("DELETE", &path, &Value::Null);
    trial::foresees_and_does(lxd, &bench.step());
}

fn leaves_the_trust_of_others_alone(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    let project = lxd.name("p");
    let [unrestricted, stale, other_lab, other] = ["a", "b", "c", "d"].map(SelfSigned::of);
    bench.trust(&unrestricted, &bench.trust_name(), false, &[]);
    bench.trust(&stale, &bench.trust_name(), true, std::slice::from_ref(&project));
    bench.trust(&other_lab, &bench.trust_name(), true, &["default".into()]);
    bench.trust(&other, &lxd.name("other"), false, &[]);
    let made = bench.step().run().expect_changed();
    let warnings = made.json["warnings"].to_string();
    for words in ["without restriction".to_owned(), format!("for project {project}")] {
        assert!(warnings.contains(&words), "{warnings}");
    }
    assert_eq!(bench.trusted().len(), 4);
    trial::changes_nothing(lxd, &bench.step());

    let prune = bench.step().args(json!({"prune_old_trust": true}));
    trial::foresees_and_does(lxd, &prune);
    assert_eq!(bench.trusted().len(), 2, "the other lab's entry of the same name stays");
    let entries = lxd.rest().get("/1.0/certificates?recursion=1");
    assert!(entries.as_array().into_iter().flatten().any(|entry| entry["name"] == json!(lxd.name("other"))));
    trial::changes_nothing(lxd, &prune);
}

fn names_forwards_of_others(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    let gateway = lxd.subnet().0.trim_end_matches("/24").to_owned();
    let port = |port: &str, description: &str| {
        json!({
            "protocol": "tcp", "listen_port": port, "target_port": "80", "target_address": gateway, "description": description,
        })
    };
    let ports = [port("25060", "k8slab: API of p/lab/mgmt-1"), port("8080", "")];
    let forward = json!({"listen_address": "198.51.100.9", "ports": ports});
    lxd.rest().write("POST", &format!("/1.0/networks/{}/forwards", lxd.network_name(0)), &forward);
    let expected = format!(
        "network {}: 198.51.100.9:8080/tcp to {gateway} is no forward of the lab's, and takes the port from the host",
        lxd.network_name(0)
    );
    let named = |outcome: &Outcome| outcome.json["warnings"].as_array().is_some_and(|all| all.contains(&json!(expected)));
    let made = bench.step().run().expect_changed();
    assert!(named(&made), "{:#}", made.json);
    assert!(!made.json["warnings"].to_string().contains("25060"), "the lab's own is none: {:#}", made.json);
    assert!(named(&bench.step().run().expect_unchanged()), "and in every run");
}

fn says_what_is_wrong_with_the_cluster(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    let kubeconfig = bench.at("etc/bootstrap_clusterctl/bootstrap.kubeconfig");
    fs::remove_file(&kubeconfig).expect("remove the kubeconfig");
    bench.step().run().expect_code("KUBECONFIG_MISSING").expect_words("bootstrap_clusterctl");
    let foreseen = bench.step().check().expect_changed();
    assert!(!foreseen.deferred().is_empty() || foreseen.changed());
    let gone = free_address();
    let nobody = bench.cluster.kubeconfig().replace(
        bench.cluster.kubeconfig().split("https://").nth(1).and_then(|rest| rest.split('"').next()).expect("a server"),
        &gone,
    );
    for (text, code, words) in [
        (nobody, "CLUSTER_UNREACHABLE", gone.as_str()),
        (bench.cluster.outdated_kubeconfig(), "CLUSTER_TLS", "https://127.0.0.1"),
        (bench.cluster.strange_kubeconfig(), "CLUSTER_UNAUTHORISED", "https://127.0.0.1"),
        ("apiVersion: v1\nkind: Config\n".into(), "KUBECONFIG_MALFORMED", "server"),
    ] {
        bench.write_kubeconfig(&text);
        bench.step().run().expect_code(code).expect_words(words);
    }
    bench.write_kubeconfig(&bench.cluster.kubeconfig());
    let namespace = "/api/v1/namespaces/capi-clusters";
    bench.cluster.put(namespace, json!({"kind": "Namespace", "metadata": {"deletionTimestamp": "2026-11-21T00:00:00Z"}}));
    for outcome in [bench.step().check(), bench.step().run()] {
        outcome.expect_code("NAMESPACE_TERMINATING").expect_words("capi-clusters");
    }
    bench.cluster.remove(namespace);
    bench.cluster.refuse_next_write(500, "etcdserver: no leader");
    bench.step().run().expect_words("no leader");
    assert_ne!(bench.recorded(), "bootstrapped", "it is not proved yet");
    bench.step().run().expect_changed();
    bench.cluster.remove(SECRET);
    bench.cluster.put(SECRET, json!({"kind": "Secret", "type": "kubernetes.io/tls", "data": {}}));
    bench.step().run().expect_code("SECRET_TYPE").expect_words("kubernetes.io/tls");
}

fn serves_other_clusters_after_the_pivot(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    for phase in ["pivoted", "cleaned"] {
        bench.lxd.configure_project(PHASE, phase);
        lxd.relay().reset();
        for outcome in [bench.step().check(), bench.step().run()] {
            outcome.expect_code("LIFECYCLE_PIVOTED").expect_words("kubeconfig_path").expect_words("allow_rebootstrap");
        }
        assert_eq!((lxd.relay().writes(), bench.cluster.writes()), (vec![], vec![]));
    }
    let management = bench.at("mgmt.kubeconfig");
    fs::write(&management, bench.cluster.kubeconfig()).expect("write the kubeconfig");
    let step = bench.step().args(json!({"kubeconfig_path": management}));
    trial::foresees_and_does(lxd, &step);
    trial::changes_nothing(lxd, &step);
    assert_eq!(bench.recorded(), "cleaned", "a lab does not go back");
    trial::changes_nothing(lxd, &bench.step().args(json!({"allow_rebootstrap": true})));
    bench.lxd.configure_project(PHASE, "exported");
    trial::changes_nothing(lxd, &bench.step());
}

fn needs_lxd(lxd: &Lxd) {
    trial::needs_lxd(lxd, &lxd.step("bootstrap_capn_secret").args(json!({"opt_root": "/nowhere"})));
}

fn names_bad_options(lxd: &Lxd) {
    trial::names_bad_options(
        lxd,
        &lxd.step("bootstrap_capn_secret"),
        &[
            (json!({"lxd_https_bind_address": "lxd.example.org:8443"}), "OPTION_INVALID", "10.77.0.1:8443"),
            (json!({"namespaces": ["a", "a"]}), "OPTION_INVALID", "twice"),
            (json!({"namespaces": ["-a"]}), "OPTION_INVALID", "namespaces"),
            (json!({"name": "Incus"}), "OPTION_INVALID", "name"),
            (json!({"client_key_size": 1024}), "OPTION_INVALID", "client_key_size"),
            (json!({"client_key_type": "DSA"}), "OPTION_INVALID", "ECDSA"),
            (json!({"client_cert_validity_days": 30}), "OPTION_INVALID", "renew_before_days"),
            (json!({"kubeconfig_path": "mgmt.kubeconfig"}), "OPTION_INVALID", "absolute"),
            (json!({"client_cert_country": "Germany"}), "OPTION_INVALID", "client_cert_country"),
            (json!({"trust_names": "x"}), "OPTION_UNKNOWN", "trust_name"),
        ],
    );
}

fn goes_on_after_faults(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    trial::goes_on_after_faults(lxd, &bench.step(), Fault::ALL, |_| bench.start_over());
}

fn stands_a_twin(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    trial::stands_a_twin(lxd, &bench.step(), |_| bench.start_over());
    assert_eq!(bench.trusted().len(), 1);
}
