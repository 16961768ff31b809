//! How the certificate is replaced, and who reads its key.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use contract::trial;
use contract::{Lxd, SelfSigned};
use rcgen::{CertificateParams, date_time_ymd};
use serde_json::json;

use super::{Bench, SECRET, text};

contract::on_every_lxd!(
    names_what_a_spoiled_certificate_leaves_behind,
    replaces_with_overlap,
    goes_on_when_it_was_killed_while_replacing,
    keeps_an_old_certificate_that_is_in_use,
    replaces_what_runs_out,
    tells_the_clocks_apart,
    guards_the_key
);

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
