//! `bootstrap_capn_secret` against every LXD and a scripted cluster.

#![allow(clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use contract::trial::{self, Fault};
use contract::{Backend, Kubernetes, Lent, Lxd, SelfSigned, Step, Substrate};
use rcgen::{CertificateParams, date_time_ymd};
use serde_json::{Value, json};
use tempfile::TempDir;

contract::on_every_lxd!(
    makes_and_keeps,
    repairs_what_others_changed,
    restricts_what_reaches_further,
    leaves_the_trust_of_others_alone,
    names_what_a_spoiled_certificate_leaves_behind,
    replaces_with_overlap,
    goes_on_when_it_was_killed_while_replacing,
    keeps_an_old_certificate_that_is_in_use,
    replaces_what_runs_out,
    tells_the_clocks_apart,
    respects_an_operators_address,
    says_who_holds_the_address,
    listens_again,
    guards_the_key,
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

/// A pair as the step makes it, but for these days of January 2026 and 2036.
fn pair(from: (i32, u8, u8), to: (i32, u8, u8)) -> SelfSigned {
    use rcgen::{DistinguishedName, DnType};
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in [(DnType::CountryName, "DE"), (DnType::OrganizationName, "k8s-lab"), (DnType::CommonName, "k8slab-capn")] {
        params.distinguished_name.push(kind, value);
    }
    params.not_before = date_time_ymd(from.0, from.1, from.2);
    params.not_after = date_time_ymd(to.0, to.1, to.2);
    SelfSigned::with(&params)
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

/// What LXD trusts of a certificate that cannot be read any more is not known to be the step's own.
fn names_what_a_spoiled_certificate_leaves_behind(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    let spoiled = text(&bench.step().run().expect_changed().json["fingerprint"]);
    let certificate = bench.pair("client.crt");
    let whole = fs::read_to_string(&certificate).expect("read the certificate");
    fs::write(&certificate, &whole[..whole.len() / 2]).expect("spoil the certificate");
    let replaced = bench.step().run().expect_changed();
    let new = text(&replaced.json["fingerprint"]);
    assert_eq!(bench.trusted(), BTreeSet::from([spoiled.clone(), new.clone()]));
    let warnings = replaced.json["warnings"].to_string();
    assert!(warnings.contains(&spoiled) && warnings.contains("prune_old_trust: true removes it"), "{:#}", replaced.json);
    bench.step().args(json!({"prune_old_trust": true})).run().expect_changed();
    assert_eq!(bench.trusted(), BTreeSet::from([new]));
    let settled = bench.step().run().expect_unchanged();
    assert!(!settled.json["warnings"].to_string().contains("prune_old_trust"), "{:#}", settled.json);
}

fn replaces_with_overlap(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    let old = text(&bench.step().run().expect_changed().json["fingerprint"]);
    let rotate = bench.step().args(json!({"rotate": true, "client_key_type": "RSA", "client_key_size": 2048}));
    let secrets = bench.cluster.snapshot();
    let rotated = trial::foresees_and_does(lxd, &rotate);
    let new = text(&rotated.json["fingerprint"]);
    assert_ne!(old, new);
    assert_eq!(bench.trusted(), BTreeSet::from([new]));
    assert_ne!(secrets, bench.cluster.snapshot());
    let writes = lxd.relay().writes();
    let place = |method: &str| writes.iter().position(|write| write.starts_with(method) && !write.contains("projects"));
    assert!(place("POST") < place("DELETE"), "the new one is trusted before the old one is not: {writes:?}");
    let stays = bench.step().args(json!({"client_key_type": "RSA", "client_key_size": 2048}));
    trial::changes_nothing(lxd, &stays);
    assert_eq!(fs::read_to_string(bench.pair("replaced")).unwrap_or_default(), "");
}

fn goes_on_when_it_was_killed_while_replacing(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    bench.step().run().expect_changed();
    // The new one is about to be trusted; it is and nobody knows; the old one is about to go.
    for (nth, before) in [(1, true), (1, false), (2, true), (2, false)] {
        let old = bench.trusted();
        let trigger = lxd.relay().on_write().nth(nth);
        let held = if before { trigger.hold_before() } else { trigger.hold_after() };
        let running = bench.step().args(json!({"rotate": true})).spawn();
        held.wait();
        // Until the Secrets carry the new one, the old one is let in.
        let in_use = text(&json!(bench.value(SECRET, "client-crt")));
        running.kill();
        drop(held);
        lxd.relay().reset();
        assert!(bench.trusted().len() <= 2, "no more than the old one and the new one: {in_use}");
        let done = bench.step().run().ok();
        let now = BTreeSet::from([text(&done.json["fingerprint"])]);
        assert_eq!(bench.trusted(), now, "killed at write {nth}");
        assert_ne!(now, old);
        assert_eq!(bench.value(SECRET, "client-crt"), fs::read_to_string(bench.pair("client.crt")).expect("read the certificate"));
        trial::changes_nothing(lxd, &bench.step());
    }
    // The key was written, its certificate was not.
    let old = bench.trusted();
    let fingerprint = old.first().expect("one is trusted").clone();
    fs::write(bench.pair("replaced"), format!("{fingerprint}\n")).expect("note what is replaced");
    fs::write(bench.pair("client.key"), SelfSigned::of("x").key).expect("write a key");
    bench.step().run().expect_changed();
    assert!(bench.trusted().len() == 1 && bench.trusted() != old);
    trial::changes_nothing(lxd, &bench.step());
}

fn keeps_an_old_certificate_that_is_in_use(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    let old = text(&bench.step().run().expect_changed().json["fingerprint"]);
    let elsewhere = "/api/v1/namespaces/team-b/secrets/incus-identity";
    bench.cluster.put(elsewhere, bench.cluster.get(SECRET));
    bench.cluster.put("/apis/cluster.x-k8s.io/v1beta2/namespaces/team-c/clusters/x", json!({"kind": "Cluster"}));
    let rotated = bench.step().args(json!({"rotate": true})).run().expect_changed();
    assert!(bench.trusted().contains(&old) && bench.trusted().len() == 2);
    let warnings = rotated.json["warnings"].to_string();
    assert!(warnings.contains(&old) && warnings.contains("team-c"), "{warnings}");
    assert_eq!(rotated.json["unserved_namespaces"], json!(["team-c"]));
    trial::changes_nothing(lxd, &bench.step());
    let both = bench.step().args(json!({"namespaces": ["capi-clusters", "team-b"]}));
    bench.cluster.put("/api/v1/namespaces/team-b", json!({"kind": "Namespace"}));
    both.run().expect_changed();
    assert!(!bench.trusted().contains(&old));
    trial::changes_nothing(lxd, &both);
}

fn replaces_what_runs_out(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    bench.put_pair(&pair((2020, 1, 1), (2021, 1, 1)));
    let renewed = trial::foresees_and_does(lxd, &bench.step());
    assert!(renewed.json["changes"].to_string().contains("it expired at 2021-01-01T00:00:00Z"), "{:#}", renewed.json);
    trial::changes_nothing(lxd, &bench.step());
    let sooner = bench.step().args(json!({"client_cert_validity_days": 2000, "renew_before_days": 1100}));
    let old = bench.trusted();
    sooner.run().expect_changed();
    assert!(bench.trusted().is_disjoint(&old));
    trial::changes_nothing(lxd, &sooner);
}

fn tells_the_clocks_apart(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    bench.put_pair(&pair((2090, 1, 1), (2095, 1, 1)));
    bench.step().run().expect_code("CLOCK_SKEW").expect_words("2090-01-01").expect_words("rotate: true");
    bench.step().check().expect_code("CLOCK_SKEW");
    assert_eq!(bench.trusted(), BTreeSet::new());
    bench.step().args(json!({"rotate": true})).run().expect_changed();
    trial::changes_nothing(lxd, &bench.step());
}

fn respects_an_operators_address(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    if !bench.lent().is_free() {
        return;
    }
    let theirs = free_address();
    bench.lent().set(&theirs);
    for outcome in [bench.step().check(), bench.step().run()] {
        outcome.expect_code("LXD_ADDRESS_TAKEN").expect_words(&theirs).expect_words("force_https_address");
    }
    assert_eq!(bench.lent().address(), theirs);
    assert_eq!(bench.trusted(), BTreeSet::new(), "nothing is done before LXD listens");
    trial::foresees_and_does(lxd, &bench.step().args(json!({"lxd_https_bind_address": theirs})));
    trial::foresees_and_does(lxd, &bench.step().args(json!({"force_https_address": true})));
    assert_eq!(bench.lent().address(), bench.address);
    let port = bench.address.rsplit(':').next().expect("an address has a port").to_owned();
    bench.lent().set(&format!("0.0.0.0:{port}"));
    trial::changes_nothing(lxd, &bench.step());
    assert_eq!(bench.lent().address(), format!("0.0.0.0:{port}"), "a wildcard covers it");
}

fn says_who_holds_the_address(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    if !bench.lent().is_free() {
        return;
    }
    let holder = TcpListener::bind("127.0.0.1:0").expect("hold a port");
    let held = holder.local_addr().expect("the port that is held").to_string();
    let step = bench.step().args(json!({"lxd_https_bind_address": held}));
    step.run().expect_code("LXD_LISTEN_IN_USE").expect_words(&held).expect_words("ss -ltnp");
    assert_eq!(bench.lent().address(), "", "LXD is as it was, so that the next run tries again");
    drop(holder);
    trial::foresees_and_does(lxd, &step);
    let nowhere = bench.step().args(json!({"lxd_https_bind_address": "192.0.2.77:8443", "force_https_address": true}));
    nowhere.run().expect_code("LXD_LISTEN_NO_ADDRESS").expect_words("192.0.2.77");
    assert_eq!(bench.lent().address(), held);
    let no_network =
        lxd.step("bootstrap_capn_secret").args(json!({"internal_network_name": lxd.network_name(7), "lxd_project": lxd.name("p")}));
    no_network.run().expect_code("NETWORK_NO_ADDRESS").expect_words(&lxd.network_name(7));
}

/// An address that LXD was refused when it started stays configured, and nobody listens there.
fn listens_again(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    if !bench.lent().is_free() {
        return;
    }
    let holder = TcpListener::bind(if lxd.scripted().is_some() { &bench.address } else { "0.0.0.0:8443" }).expect("hold the port");
    let refused = lxd.rest().try_write("PATCH", "/1.0", &json!({"config": {"core.https_address": bench.address}}));
    assert!(refused.is_err());
    drop(holder);
    assert_eq!(bench.lent().address(), bench.address);
    let done = trial::foresees_and_does(lxd, &bench.step());
    assert!(done.json["changes"].to_string().contains("again"), "{:#}", done.json["changes"]);
    trial::changes_nothing(lxd, &bench.step());
}

fn guards_the_key(lxd: &Lxd) {
    let bench = Bench::new(lxd);
    bench.step().run().expect_changed();
    let key = fs::read_to_string(bench.pair("client.key")).expect("read the key");
    fs::set_permissions(bench.pair("client.key"), fs::Permissions::from_mode(0o644)).expect("open the key to everybody");
    let foreseen = bench.step().check().expect_changed();
    let guarded = bench.step().run().expect_changed();
    assert_eq!(
        (foreseen.diff(), bench.pair("client.key").metadata().expect("look at the key").mode() & 0o7777),
        (guarded.diff(), 0o600)
    );
    trial::changes_nothing(lxd, &bench.step());

    let elsewhere = bench.at("elsewhere");
    fs::write(&elsewhere, &key).expect("write a key");
    fs::remove_file(bench.pair("client.key")).expect("remove the key");
    symlink(&elsewhere, bench.pair("client.key")).expect("link the key");
    for outcome in [bench.step().check(), bench.step().run()] {
        outcome.expect_code("FILE_SYMLINK").expect_words("client.key");
    }
    assert_eq!(fs::read_to_string(&elsewhere).expect("read the key"), key, "what a link leads to is not written");
    fs::remove_file(bench.pair("client.key")).expect("remove the link");
    let gone = bench.trusted();
    trial::foresees_and_does(lxd, &bench.step());
    assert!(bench.trusted().is_disjoint(&gone), "a key that is lost is replaced, and trusted no more");
    trial::changes_nothing(lxd, &bench.step());
    bench.step().args(json!({"staging_mode_key": "0640"})).run().expect_code("OPTION_INVALID");
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

/// What another run has just set is not set once more, which would close the listener under it.
#[test]
fn waits_for_a_listener_that_is_being_opened() {
    let lxd = Lxd::open(Backend::ScriptedSync);
    let bench = Bench::new(&lxd);
    lxd.scripted().expect("it is scripted").delay_listener(Duration::from_millis(500));
    bench.lent().set(&bench.address);
    lxd.relay().reset();
    bench.step().run().expect_changed();
    assert!(!lxd.relay().writes().iter().any(|write| write == "PATCH /1.0"), "{:?}", lxd.relay().writes());
}

/// Somebody else answers where LXD should.
#[test]
fn believes_no_other_server() {
    let lxd = Lxd::open(Backend::ScriptedSync);
    let bench = Bench::new(&lxd);
    let other = Lxd::open(Backend::ScriptedSync);
    other.rest().write("PATCH", "/1.0", &json!({"config": {"core.https_address": bench.address}}));
    // LXD was refused the address when it started.
    assert!(lxd.rest().try_write("PATCH", "/1.0", &json!({"config": {"core.https_address": bench.address}})).is_err());
    bench.step().run().expect_code("LXD_OTHER_CERTIFICATE").expect_words(&bench.address);
    assert_eq!(bench.cluster.get(SECRET), Value::Null);
}
