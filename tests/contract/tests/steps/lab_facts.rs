//! `lab_facts` against every LXD: it reads what the other steps have made.

use contract::{Impostor, Lxd, Outcome, Speech, Step, Substrate};
use serde_json::{Value, json};

contract::on_every_lxd!(tells_how_far_the_lab_is, needs_lxd_or_none);

fn step(lxd: &Lxd) -> Step {
    lxd.step("lab_facts").args(json!({
        "project": lxd.name("p"), "storage_pool": lxd.name("p"), "internal_network": lxd.network_name(0), "bootstrap_instance": "boot",
        "opt_root": "/nowhere",
    }))
}

/// The facts, which check mode tells as well, and which cost no write.
fn lab(lxd: &Lxd) -> Value {
    lxd.relay().reset();
    let facts = |outcome: Outcome| outcome.expect_unchanged().json["lab"].clone();
    let told = facts(step(lxd).run());
    assert_eq!(facts(step(lxd).check()), told);
    assert_eq!(lxd.relay().writes(), Vec::<String>::new());
    told
}

fn tells_how_far_the_lab_is(lxd: &Lxd) {
    assert_eq!(lab(lxd)["phase"], "absent");
    let substrate = Substrate::for_instances(lxd);
    let halfway = lab(lxd);
    assert_eq!(halfway["phase"], "substrate");
    assert_eq!(halfway["missing"].as_array().map(Vec::len), Some(1), "only the instance is missing: {halfway}");
    let made = substrate.instance().run().expect_changed();
    let told = lab(lxd);
    let (ipv4, ipv6) = lxd.subnet();
    assert_eq!([&told["phase"], &told["network_ipv4"], &told["network_ipv6"]], [&json!("substrate"), &json!(ipv4), &json!(ipv6)]);
    assert!(told["missing"][0].as_str().is_some_and(|missing| missing.contains("kubeconfig")), "{told}");
    for family in ["ipv4", "ipv6"] {
        let address = &made.json["instance"][family];
        assert!(told["bootstrap_addresses"].as_array().is_some_and(|told| told.contains(address)), "{family}: {told}");
    }
    assert_eq!((&told["instances"], &told["foreign_forwards"]), (&json!(["boot"]), &json!([])));

    let gateway = ipv4.split('/').next().unwrap_or_default();
    let ours =
        json!({"protocol": "tcp", "listen_port": "25060", "target_address": gateway, "description": "k8slab: API of p/lab/mgmt-1"});
    let theirs = json!({"protocol": "tcp", "listen_port": "8080", "target_port": "80", "target_address": gateway});
    let forward = json!({"listen_address": "198.51.100.9", "ports": [ours, theirs]});
    lxd.rest().write("POST", &format!("/1.0/networks/{}/forwards", lxd.network_name(0)), &forward);
    assert_eq!(lab(lxd)["foreign_forwards"], json!([format!("198.51.100.9:8080/tcp to {gateway}")]));
}

fn needs_lxd_or_none(lxd: &Lxd) {
    let nowhere = step(lxd).args(json!({"lxd_socket_path": "/nowhere/unix.socket"}));
    assert_eq!(nowhere.run().expect_unchanged().json["lab"]["phase"], "absent", "a host without LXD has no lab");
    let impostor = Impostor::start(Speech::WebPage);
    step(lxd).socket(impostor.socket()).run().expect_code("LXD_UNEXPECTED_ANSWER");
    step(lxd).args(json!({"projct": "x"})).run().expect_code("OPTION_UNKNOWN").expect_words("project");
}
