//! `lxd_bootstrap_instance` against every LXD.

use std::time::Duration;

use contract::trial::{self, Fault};
use contract::{Backend, Lxd, Substrate};
use serde_json::{Value, json};

contract::on_every_lxd!(
    makes_and_keeps,
    repairs_and_respects,
    owns_the_devices_it_declared,
    takes_the_image_of_the_default_project,
    starts_stops_and_removes,
    takes_up_what_is_frozen,
    keeps_what_would_vanish,
    removes_what_vanishes_by_itself,
    takes_back_what_is_withdrawn,
    says_what_is_missing,
    refuses_to_start_over_after_the_pivot,
    says_why_it_does_not_start,
    is_overtaken_by_somebody_else,
    needs_lxd,
    names_bad_options,
    goes_on_after_faults,
    stands_a_twin,
);

fn instance(substrate: &Substrate<'_>) -> Value {
    substrate.get("instances/boot")
}

fn start_over(substrate: &Substrate<'_>) {
    if instance(substrate)["status"] == "Running" {
        substrate.write("PUT", "instances/boot/state", &json!({"action": "stop", "force": true, "timeout": 30}));
    }
    if !instance(substrate).is_null() {
        substrate.write("DELETE", "instances/boot", &Value::Null);
    }
}

fn makes_and_keeps(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    if let Some(scripted) = lxd.scripted() {
        // Until then the interface has addresses that reach nothing.
        scripted.delay_addresses(Some(Duration::from_secs(1)));
    }
    let step = substrate.instance().args(json!({"config": {"user.note": "x"}}));
    let made = trial::foresees_and_does(lxd, &step);
    let facts = &made.json["instance"];
    assert_eq!([&facts["created"], &facts["status"]], [&json!(true), &json!("Running")]);
    assert_eq!(facts["profiles"], json!(["capi-base", "capi-bootstrap"]));
    let (ipv4, ipv6) = lxd.subnet();
    let in_subnet = |fact: &str, gateway: &str, separator: char| {
        let subnet = gateway.rsplit_once(separator).map(|(subnet, _)| subnet.trim_end_matches(':').to_owned()).unwrap_or_default();
        let address = facts[fact].as_str().unwrap_or_default();
        assert!(address.starts_with(&subnet), "{fact} is a global address of {gateway}: {facts}");
    };
    in_subnet("ipv4", &ipv4, '.');
    in_subnet("ipv6", &ipv6, ':');
    let live = instance(&substrate);
    assert_eq!([&live["config"]["user.k8slab.role"], &live["config"]["user.note"]], ["bootstrap", "x"]);
    assert_eq!(facts["image_fingerprint"], live["config"]["volatile.base_image"]);
    let kept = trial::changes_nothing(lxd, &step);
    assert_eq!(kept.json["instance"]["created"], false);
    let other_image = step.args(json!({"image_alias": "another"}));
    trial::changes_nothing(lxd, &other_image);
}

fn repairs_and_respects(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    let step = substrate.instance().args(json!({"config": {"limits.processes": "500"}}));
    step.run().expect_changed();
    let theirs = json!({
        "config": {"limits.processes": "10", "user.owner": "somebody"}, "devices": {"mine": {"type": "none"}},
    });
    let path = substrate.path("instances/boot");
    let repaired = trial::repairs(lxd, &step, &[("PATCH", &path, theirs)]);
    let live = instance(&substrate);
    assert_eq!([&live["config"]["limits.processes"], &live["config"]["user.owner"]], ["500", "somebody"]);
    assert_eq!(live["devices"]["mine"], json!({"type": "none"}), "foreign devices survive");
    let diff = json!(repaired.diff()).to_string();
    assert!(!diff.contains("somebody") && !diff.contains("volatile"), "a diff shows owned keys only: {diff}");
}

fn owns_the_devices_it_declared(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    let with_device = substrate.instance().args(json!({"devices": {"spare": {"type": "none"}}}));
    trial::foresees_and_does(lxd, &with_device);
    let description = instance(&substrate)["description"].clone();
    substrate.write("PATCH", "instances/boot", &json!({"description": description, "devices": {"mine": {"type": "none"}}}));
    trial::changes_nothing(lxd, &with_device);
    trial::foresees_and_does(lxd, &substrate.instance());
    assert_eq!(
        instance(&substrate)["devices"],
        json!({"mine": {"type": "none"}}),
        "what it declared once goes, what others added stays"
    );
    trial::changes_nothing(lxd, &substrate.instance());
    trial::foresees_and_does(lxd, &with_device);
}

fn takes_the_image_of_the_default_project(lxd: &Lxd) {
    let substrate = Substrate::make(lxd);
    substrate.profiles().run().expect_changed();
    let alias = lxd.name("tiny");
    let fingerprint = contract::image::import(lxd.rest(), "default", &alias);
    let step = substrate.instance().args(json!({"image_alias": alias}));
    let made = trial::foresees_and_does(lxd, &step);
    assert_eq!(made.json["instance"]["image_fingerprint"], json!(fingerprint));
    trial::changes_nothing(lxd, &step);
    let renamed = trial::changes_nothing(lxd, &substrate.instance().args(json!({"image_alias": "another"})));
    assert!(renamed.json["warnings"].to_string().contains("another"), "a changed alias is said: {:#}", renamed.json);
    start_over(&substrate);
    trial::foresees_and_does(lxd, &step);
    lxd.rest().write("DELETE", &format!("/1.0/images/{fingerprint}"), &Value::Null);
}

fn starts_stops_and_removes(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    let stopped = substrate.instance().args(json!({"state": "stopped"}));
    let absent = substrate.instance().args(json!({"state": "absent"}));
    trial::changes_nothing(lxd, &absent);
    trial::foresees_and_does(lxd, &stopped);
    assert_eq!(instance(&substrate)["status"], "Stopped");
    trial::changes_nothing(lxd, &stopped);
    trial::foresees_and_does(lxd, &substrate.instance());
    assert_eq!(instance(&substrate)["status"], "Running");
    trial::foresees_and_does(lxd, &stopped);
    trial::foresees_and_does(lxd, &substrate.instance());
    trial::foresees_and_does(lxd, &absent);
    assert_eq!(instance(&substrate), Value::Null);
    trial::changes_nothing(lxd, &absent);
}

fn freeze(substrate: &Substrate<'_>) {
    substrate.write("PUT", "instances/boot/state", &json!({"action": "freeze", "timeout": 30}));
    assert_eq!(instance(substrate)["status"], "Frozen");
}

fn takes_up_what_is_frozen(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    substrate.instance().run().expect_changed();
    let process = substrate.get("instances/boot/state")["pid"].clone();
    freeze(&substrate);
    trial::foresees_and_does(lxd, &substrate.instance());
    assert_eq!(substrate.get("instances/boot/state")["pid"], process, "it has gone on, and not begun anew");
    trial::changes_nothing(lxd, &substrate.instance());
    freeze(&substrate);
    trial::foresees_and_does(lxd, &substrate.instance().args(json!({"state": "stopped"})));
    assert_eq!(instance(&substrate)["status"], "Stopped");
    substrate.instance().run().expect_changed();
    freeze(&substrate);
    trial::foresees_and_does(lxd, &substrate.instance().args(json!({"state": "absent"})));
    assert_eq!(instance(&substrate), Value::Null);
}

/// Somebody makes an ephemeral instance of this name.
fn make_ephemeral(substrate: &Substrate<'_>) {
    let profiles = ["capi-base", "capi-bootstrap"];
    let source = json!({"type": "image", "alias": "tiny"});
    substrate.write("POST", "instances", &json!({"name": "boot", "ephemeral": true, "source": source, "profiles": profiles}));
    substrate.write("PUT", "instances/boot/state", &json!({"action": "start", "timeout": 30}));
}

fn keeps_what_would_vanish(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    make_ephemeral(&substrate);
    let kept = trial::foresees_and_does(lxd, &substrate.instance());
    assert!(json!(kept.diff()).to_string().contains("ephemeral"), "it is said: {:#}", kept.json);
    trial::foresees_and_does(lxd, &substrate.instance().args(json!({"state": "stopped"})));
    assert_eq!(instance(&substrate)["status"], "Stopped");
}

fn removes_what_vanishes_by_itself(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    make_ephemeral(&substrate);
    let absent = substrate.instance().args(json!({"state": "absent"}));
    trial::foresees_and_does(lxd, &absent);
    assert_eq!(instance(&substrate), Value::Null);
    trial::changes_nothing(lxd, &absent);
}

fn takes_back_what_is_withdrawn(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    let with = |config: Value| substrate.instance().args(json!({"config": config}));
    with(json!({"limits.processes": "500", "user.note": "x"})).run().expect_changed();
    let description = instance(&substrate)["description"].clone();
    substrate.write("PATCH", "instances/boot", &json!({"description": description, "config": {"user.theirs": "1"}}));
    let less = with(json!({"limits.processes": "", "limits.memory": ""}));
    trial::foresees_and_does(lxd, &less);
    let config = instance(&substrate)["config"].clone();
    assert_eq!(
        [&config["limits.processes"], &config["user.note"], &config["user.theirs"]],
        [&Value::Null, &Value::Null, &json!("1")]
    );
    trial::changes_nothing(lxd, &less);
    trial::foresees_and_does(lxd, &substrate.instance());
    trial::changes_nothing(lxd, &substrate.instance());
}

/// The real one does not lose hold of an instance on demand.
#[test]
fn starts_anew_what_lxd_has_lost() {
    let lxd = Lxd::open(Backend::ScriptedSync);
    let substrate = Substrate::for_instances(&lxd);
    substrate.instance().run().expect_changed();
    let lose = || lxd.scripted().into_iter().for_each(|scripted| scripted.break_instance(&lxd.name("p"), "boot"));
    lose();
    trial::foresees_and_does(&lxd, &substrate.instance());
    assert_eq!(instance(&substrate)["status"], "Running");
    lose();
    trial::foresees_and_does(&lxd, &substrate.instance().args(json!({"state": "absent"})));
    assert_eq!(instance(&substrate), Value::Null);
}

fn says_what_is_missing(lxd: &Lxd) {
    let substrate = Substrate::make(lxd);
    let no_project = substrate.instance().args(json!({"project": lxd.name("nowhere")}));
    no_project.run().expect_code("PROJECT_NOT_FOUND").expect_words(&lxd.name("nowhere"));
    assert!(!no_project.check().expect_changed().deferred().is_empty());
    substrate.instance().run().expect_code("IMAGE_NOT_FOUND").expect_words("tiny");
    assert!(!substrate.instance().check().expect_changed().deferred().is_empty());
    substrate.import_image();
    substrate.instance().run().expect_words("capi-base");
    substrate.profiles().run().expect_changed();
    let no_server = substrate.instance().args(json!({"image_source": "server", "image_server": "https://127.0.0.1:9"}));
    no_server.run().expect_code("IMAGE_SERVER_UNREACHABLE").expect_words("127.0.0.1:9");
    let no_profile = substrate.instance().args(json!({"extra_profiles": ["missing"]}));
    no_profile.run().expect_words("missing");
    assert_eq!(instance(&substrate), Value::Null, "nothing is half-made");
    trial::foresees_and_does(lxd, &substrate.instance());
}

fn refuses_to_start_over_after_the_pivot(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    lxd.relay().reset();
    let path = format!("/1.0/projects/{}", lxd.name("p"));
    let mut project = lxd.rest().get(&path);
    project["config"]["user.k8slab.phase"] = json!("pivoted");
    lxd.rest().write("PUT", &path, &json!({"description": project["description"], "config": project["config"]}));
    for outcome in [substrate.instance().check(), substrate.instance().run()] {
        outcome.expect_code("LIFECYCLE_PIVOTED").expect_words("allow_rebootstrap");
    }
    assert_eq!(lxd.relay().writes(), Vec::<String>::new());
    trial::changes_nothing(lxd, &substrate.instance().args(json!({"state": "absent"})));
    trial::foresees_and_does(lxd, &substrate.instance().args(json!({"allow_rebootstrap": true})));
    trial::changes_nothing(lxd, &substrate.instance());
}

fn says_why_it_does_not_start(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    let outside = json!({"eth1": {"type": "nic", "nictype": "bridged", "parent": substrate.external_bridge(), "name": "eth1"}});
    let step = substrate.instance().args(json!({"devices": outside}));
    step.run().expect_code("INSTANCE_START_FAILED").expect_words(&substrate.external_bridge());
    trial::foresees_and_does(lxd, &substrate.instance());
}

fn is_overtaken_by_somebody_else(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    let step = substrate.instance().args(json!({"config": {"limits.processes": "500"}}));
    step.run().expect_changed();
    let path = substrate.path("instances/boot");
    lxd.rest().write("PATCH", &path, &json!({"config": {"limits.processes": "10"}}));
    lxd.relay().reset();
    let theirs = path.clone();
    lxd.relay().on_write().meanwhile(move |rest| drop(rest.write("PATCH", &theirs, &json!({"config": {"user.theirs": "kept"}}))));
    step.run().expect_changed();
    let refused = lxd.relay().requests().iter().filter(|request| request.status == Some(412)).count();
    assert_eq!(refused, 1, "the write is refused once, and done again on what is there now");
    let config = &lxd.rest().get(&path)["config"];
    assert_eq!([&config["user.theirs"], &config["limits.processes"]], ["kept", "500"]);
    trial::changes_nothing(lxd, &step);
}

fn needs_lxd(lxd: &Lxd) {
    trial::needs_lxd(lxd, &lxd.step("lxd_bootstrap_instance"));
}

fn names_bad_options(lxd: &Lxd) {
    trial::names_bad_options(
        lxd,
        &lxd.step("lxd_bootstrap_instance"),
        &[
            (json!({"name": "capi_bootstrap"}), "OPTION_INVALID", "name"),
            (json!({"type": "virtual-machine"}), "OPTION_INVALID", "container"),
            (json!({"state": "running"}), "OPTION_INVALID", "started"),
            (json!({"wait_timeout": "soon"}), "OPTION_INVALID", "wait_timeout"),
            (json!({"wait_timeout": 3}), "OPTION_INVALID", "wait_timeout"),
            (json!({"extra_profiles": [""]}), "OPTION_INVALID", "extra_profiles"),
            (json!({"image_server": "images.example.org"}), "OPTION_INVALID", "image_server"),
            (json!({"image_aliases": "x"}), "OPTION_UNKNOWN", "image_alias"),
            (json!({"config": {"user.k8slab.role": "node"}}), "OPTION_COLLISION", "user.k8slab.role"),
        ],
    );
}

fn goes_on_after_faults(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    trial::goes_on_after_faults(lxd, &substrate.instance(), Fault::ALL, |_| start_over(&substrate));
}

fn stands_a_twin(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    trial::stands_a_twin(lxd, &substrate.instance(), |_| start_over(&substrate));
}

/// Only the scripted LXD can keep addresses back.
#[test]
fn gives_up_on_addresses_that_never_come() {
    let lxd = Lxd::open(Backend::ScriptedSync);
    let substrate = Substrate::for_instances(&lxd);
    lxd.scripted().into_iter().for_each(|scripted| scripted.delay_addresses(None));
    let step = substrate.instance().args(json!({"wait_timeout": 4}));
    step.run().expect_code("INSTANCE_NO_ADDRESS").expect_words("boot").expect_words("169.254.").expect_words("fe80::");
    step.args(json!({"wait_ready": false})).run().expect_unchanged();
}
