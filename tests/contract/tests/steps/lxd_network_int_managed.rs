//! `lxd_network_int_managed` against every LXD.

use contract::trial::{self, Fault};
use contract::{Docker, Lxd, Step};
use serde_json::{Value, json};

contract::on_every_lxd!(
    makes_and_keeps,
    repairs_and_respects,
    takes_an_address_of_lxds_choice,
    takes_back_what_is_withdrawn,
    respects_interfaces_of_the_host,
    is_overtaken_by_somebody_else,
    says_when_docker_drops,
    needs_lxd,
    names_bad_options,
    goes_on_after_faults,
    stands_a_twin,
);

fn declared(lxd: &Lxd) -> Value {
    let (ipv4, ipv6) = lxd.subnet();
    json!({"name": lxd.network_name(0), "config": {"ipv4.address": ipv4, "ipv6.address": ipv6}})
}

fn with(lxd: &Lxd, network: &Value) -> Step {
    lxd.step("lxd_network_int_managed").args(json!({"networks": [network]}))
}

fn step(lxd: &Lxd) -> Step {
    with(lxd, &declared(lxd))
}

fn path(lxd: &Lxd) -> String {
    format!("/1.0/networks/{}", lxd.network_name(0))
}

fn live(lxd: &Lxd) -> Value {
    lxd.rest().get(&path(lxd))
}

fn start_over(lxd: &Lxd) {
    let _ = lxd.rest().try_write("DELETE", &path(lxd), &Value::Null);
}

fn bend(lxd: &Lxd) {
    lxd.rest().write("PATCH", &path(lxd), &json!({"config": {"ipv4.nat": "false"}}));
}

fn makes_and_keeps(lxd: &Lxd) {
    let (ipv4, ipv6) = lxd.subnet();
    let made = trial::foresees_and_does(lxd, &step(lxd));
    let facts = json!([{"name": lxd.network_name(0), "created": true, "patched_keys": [], "ipv4": ipv4, "ipv6": ipv6}]);
    assert_eq!(made.json["networks"], facts);
    for key in ["ipv4.nat", "ipv4.dhcp", "ipv6.nat", "ipv6.dhcp"] {
        assert_eq!(live(lxd)["config"][key], "true", "{key}");
    }
    assert_eq!((&live(lxd)["managed"], &live(lxd)["type"]), (&json!(true), &json!("bridge")));
    trial::changes_nothing(lxd, &step(lxd));
    let by_subnet = with(
        lxd,
        &json!({"name": lxd.network_name(0), "ipv4_subnet": ipv4.replace(".1/", ".0/"), "ipv6_subnet": ipv6.replace("::1/", "::/")}),
    );
    trial::changes_nothing(lxd, &by_subnet);
}

fn repairs_and_respects(lxd: &Lxd) {
    step(lxd).run().expect_changed();
    let damage = json!({"description": "mine", "config": {"ipv4.nat": "false", "ipv6.dhcp": "", "user.owner": "somebody"}});
    let repaired = trial::repairs(lxd, &step(lxd), &[("PATCH", &path(lxd), damage)]);
    assert_eq!(repaired.json["networks"][0]["patched_keys"], json!(["ipv4.nat", "ipv6.dhcp"]));
    let config = &live(lxd)["config"];
    assert_eq!([&config["ipv4.nat"], &config["ipv6.dhcp"], &config["user.owner"]], ["true", "true", "somebody"]);
    let diff = json!(repaired.diff()).to_string();
    assert!(!diff.contains("somebody"), "a diff shows owned keys only: {diff}");
}

fn takes_an_address_of_lxds_choice(lxd: &Lxd) {
    step(lxd).run().expect_changed();
    let auto = with(lxd, &json!({"name": lxd.network_name(0), "config": {"ipv4.address": "auto", "ipv6.address": "auto"}}));
    trial::changes_nothing(lxd, &auto);
}

fn takes_back_what_is_withdrawn(lxd: &Lxd) {
    let mut more = declared(lxd);
    more["config"]["dns.domain"] = json!("lab.example");
    trial::foresees_and_does(lxd, &with(lxd, &more));
    assert_eq!(live(lxd)["config"]["dns.domain"], "lab.example");
    trial::changes_nothing(lxd, &with(lxd, &more));
    more["config"]["dns.domain"] = json!("");
    trial::foresees_and_does(lxd, &with(lxd, &more));
    assert_eq!(live(lxd)["config"]["dns.domain"], Value::Null);
    trial::changes_nothing(lxd, &with(lxd, &more));
    trial::foresees_and_does(lxd, &step(lxd));
    trial::changes_nothing(lxd, &step(lxd));
}

fn says_when_docker_drops(lxd: &Lxd) {
    let docker = Docker::start();
    let step = docker.host(step(lxd));
    for outcome in [step.check(), step.run(), step.run()] {
        let warnings = outcome.ok().json["warnings"].to_string();
        assert!(warnings.contains("FORWARD chain to DROP"), "{warnings}");
    }
    docker.set_policy("ACCEPT");
    assert_eq!(step.run().expect_unchanged().json["warnings"], Value::Null);
}

fn respects_interfaces_of_the_host(lxd: &Lxd) {
    let (ipv4, ipv6) = lxd.subnet();
    let loopback = with(lxd, &json!({"name": "lo", "config": {"ipv4.address": ipv4, "ipv6.address": ipv6}}));
    for outcome in [loopback.check(), loopback.run()] {
        outcome.expect_code("NETWORK_UNMANAGED_CLASH").expect_words("lo");
    }
    assert_eq!(lxd.relay().writes(), Vec::<String>::new());
}

fn is_overtaken_by_somebody_else(lxd: &Lxd) {
    step(lxd).run().expect_changed();
    bend(lxd);
    let path = path(lxd);
    lxd.relay().reset();
    lxd.relay().on_write().meanwhile(move |rest| drop(rest.write("PATCH", &path, &json!({"config": {"user.theirs": "kept"}}))));
    step(lxd).run().expect_changed();
    let refused = lxd.relay().requests().iter().filter(|request| request.status == Some(412)).count();
    assert_eq!(refused, 1, "the write is refused once, and done again on what is there now");
    assert_eq!([&live(lxd)["config"]["user.theirs"], &live(lxd)["config"]["ipv4.nat"]], ["kept", "true"]);
    trial::changes_nothing(lxd, &step(lxd));
}

fn needs_lxd(lxd: &Lxd) {
    trial::needs_lxd(lxd, &step(lxd));
}

fn names_bad_options(lxd: &Lxd) {
    let (ipv4, ipv6) = lxd.subnet();
    let bent = |key: &str, value: Value| {
        let mut network = declared(lxd);
        network[key] = value;
        json!({"networks": [network]})
    };
    trial::names_bad_options(
        lxd,
        &step(lxd),
        &[
            (json!({"networks": []}), "OPTION_INVALID", "networks"),
            (json!({"network": []}), "OPTION_UNKNOWN", "networks"),
            (bent("name", json!("a-name-too-long-for-it")), "OPTION_INVALID", "name"),
            (bent("type", json!("ovn")), "OPTION_INVALID", "bridge"),
            (bent("config", json!([1])), "OPTION_INVALID", "config"),
            (bent("config", json!({"ipv4.address": ipv4})), "NETWORK_SINGLE_STACK", "ipv6.address"),
            (bent("config", json!({"ipv6.address": ipv6})), "NETWORK_SINGLE_STACK", "ipv4.address"),
            (bent("config", json!({})), "NETWORK_SINGLE_STACK", "any address"),
            (
                bent("config", json!({"ipv4.address": ipv4, "ipv6.address": ipv6, "ipv4.nat": "false"})),
                "OPTION_COLLISION",
                "ipv4.nat",
            ),
        ],
    );
}

fn goes_on_after_faults(lxd: &Lxd) {
    trial::goes_on_after_faults(lxd, &step(lxd), Fault::ALL, start_over);
    // The same where the network is there and has drifted.
    trial::goes_on_after_faults(lxd, &step(lxd), Fault::ALL, bend);
}

fn stands_a_twin(lxd: &Lxd) {
    trial::stands_a_twin(lxd, &step(lxd), start_over);
    trial::stands_a_twin(lxd, &step(lxd), bend);
}
