//! `lxd_project` against every LXD.

use std::time::{Duration, Instant};

use contract::trial::{self, Fault};
use contract::{Impostor, Lxd, Speech, Step, Substrate};
use serde_json::{Value, json};

contract::on_every_lxd!(
    makes_and_keeps,
    repairs_and_respects,
    takes_a_new_isolation,
    adds_restrictions,
    refuses_to_turn_features_of_a_project_in_use,
    refuses_what_instances_violate,
    keeps_room_for_what_is_there,
    waits_for_an_lxd_that_starts,
    is_overtaken_by_somebody_else,
    needs_lxd,
    names_bad_options,
    goes_on_after_faults,
    stands_a_twin,
);

fn step(lxd: &Lxd) -> Step {
    lxd.step("lxd_project").args(json!({"name": lxd.name("p")}))
}

fn path(lxd: &Lxd) -> String {
    format!("/1.0/projects/{}", lxd.name("p"))
}

/// The project's config and more: what a PUT by hand starts from.
fn bent(lxd: &Lxd, bend: impl FnOnce(&mut Value)) -> Value {
    let mut project = lxd.rest().get(&path(lxd));
    bend(&mut project);
    json!({"description": project["description"], "config": project["config"]})
}

fn config(lxd: &Lxd) -> Value {
    lxd.rest().get(&path(lxd))["config"].clone()
}

fn start_over(lxd: &Lxd) {
    let _ = lxd.rest().try_write("DELETE", &path(lxd), &Value::Null);
}

fn makes_and_keeps(lxd: &Lxd) {
    let made = trial::foresees_and_does(lxd, &step(lxd));
    assert_eq!(made.json["project"]["created"], true);
    assert_eq!(made.json["project"]["config"], config(lxd), "the result is what LXD has");
    for (key, value) in [
        ("restricted", "true"),
        ("features.networks", "false"),
        ("restricted.containers.privilege", "isolated"),
        ("restricted.containers.interception", "block"),
        ("restricted.devices.proxy", "block"),
        ("restricted.networks.access", "capi-int,br-ext6"),
    ] {
        assert_eq!(config(lxd)[key], value, "{key}");
    }
    let kept = trial::changes_nothing(lxd, &step(lxd));
    assert_eq!(kept.json["project"]["created"], false);
}

fn repairs_and_respects(lxd: &Lxd) {
    step(lxd).run().expect_changed();
    let damaged = bent(lxd, |project| {
        project["description"] = json!("mine");
        project["config"]["user.owner"] = json!("somebody");
        project["config"]["limits.instances"] = json!("7");
        project["config"]["restricted.devices.proxy"] = json!("allow");
        project["config"].as_object_mut().map(|config| config.remove("restricted.devices.usb"));
    });
    let repaired = trial::repairs(lxd, &step(lxd), &[("PUT", &path(lxd), damaged)]);
    let config = config(lxd);
    assert_eq!((&config["user.owner"], &config["limits.instances"]), (&json!("somebody"), &json!("7")), "foreign keys survive");
    assert_eq!((&config["restricted.devices.proxy"], &config["restricted.devices.usb"]), (&json!("block"), &json!("block")));
    let diff = json!(repaired.diff()).to_string();
    assert!(!diff.contains("somebody"), "a diff shows owned keys only: {diff}");
}

fn takes_a_new_isolation(lxd: &Lxd) {
    step(lxd).run().expect_changed();
    let reference = step(lxd).args(json!({"isolation": "reference"}));
    trial::foresees_and_does(lxd, &reference);
    assert_eq!(config(lxd)["restricted.devices.disk.paths"], "/boot");
    trial::changes_nothing(lxd, &reference);
    trial::foresees_and_does(lxd, &step(lxd));
    assert_eq!(config(lxd)["restricted.devices.disk.paths"], Value::Null, "what the other isolation left behind is gone");
    trial::changes_nothing(lxd, &step(lxd));
}

fn adds_restrictions(lxd: &Lxd) {
    let with_extra = step(lxd).args(json!({
        "extra_restrictions": {"restricted.snapshots": "block"}, "restricted_networks": ["only-this"], "description": "Mine",
    }));
    trial::foresees_and_does(lxd, &with_extra);
    assert_eq!(config(lxd)["restricted.snapshots"], "block");
    assert_eq!(config(lxd)["restricted.networks.access"], "only-this");
    trial::changes_nothing(lxd, &with_extra);
    let bounded = step(lxd).args(json!({"limits_instances": 9, "restricted_networks": ["only-this"], "description": "Mine"}));
    trial::foresees_and_does(lxd, &bounded);
    assert_eq!([&config(lxd)["restricted.snapshots"], &config(lxd)["limits.instances"]], [&Value::Null, &json!("9")]);
    trial::changes_nothing(lxd, &bounded);
    let unknown = step(lxd).args(json!({"extra_restrictions": {"restricted.nonsense": "block"}}));
    unknown.run().expect_code("LXD_REFUSED").expect_words("restricted.nonsense");
}

fn refuses_to_turn_features_of_a_project_in_use(lxd: &Lxd) {
    let features = json!({"features.networks": "false", "features.images": "false"});
    lxd.rest().write("POST", "/1.0/projects", &json!({"name": lxd.name("p"), "config": features}));
    lxd.rest().write("POST", &format!("/1.0/profiles?project={}", lxd.name("p")), &json!({"name": "mine"}));
    let before = lxd.snapshot();
    for outcome in [step(lxd).check(), step(lxd).run()] {
        outcome.expect_code("PROJECT_FEATURE_LOCKED").expect_words("features.images").expect_words("/1.0/profiles/mine");
    }
    assert_eq!(lxd.relay().writes(), Vec::<String>::new());
    trial::assert_same(&before, &lxd.snapshot(), "nothing is half-written");
    lxd.rest().write("DELETE", &format!("/1.0/profiles/mine?project={}", lxd.name("p")), &Value::Null);
    step(lxd).run().expect_changed();
    assert_eq!(config(lxd)["features.images"], "true", "once it is empty, the next run converges");
}

fn refuses_what_instances_violate(lxd: &Lxd) {
    let reference = step(lxd).args(json!({"isolation": "reference"}));
    reference.run().expect_changed();
    let kmsg = json!({"name": "mine", "devices": {"kmsg": {"type": "unix-char", "source": "/dev/kmsg", "path": "/dev/kmsg"}}});
    lxd.rest().write("POST", &format!("/1.0/profiles?project={}", lxd.name("p")), &kmsg);
    let before = lxd.snapshot();
    step(lxd).run().expect_code("LXD_RESTRICTION_CONFLICT").expect_words("mine");
    trial::assert_same(&before, &lxd.snapshot(), "nothing is half-written");
    trial::changes_nothing(lxd, &reference);
}

fn keeps_room_for_what_is_there(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    for name in ["one", "two"] {
        let body = json!({"name": name, "source": {"type": "image", "alias": "tiny"}, "profiles": ["capi-base"]});
        substrate.write("POST", "instances", &body);
    }
    lxd.relay().reset();
    let bounded = |limit: u32| substrate.project().args(json!({"limits_instances": limit}));
    for outcome in [bounded(1).check(), bounded(1).run()] {
        outcome.expect_code("PROJECT_LIMIT_BELOW_USE").expect_words("2 instances");
    }
    assert_eq!(lxd.relay().writes(), Vec::<String>::new(), "LXD is not even asked");
    trial::foresees_and_does(lxd, &bounded(2));
}

fn waits_for_an_lxd_that_starts(lxd: &Lxd) {
    for (method, path) in [("GET", "/1.0"), ("GET", "/1.0/operations"), ("GET", "/1.0/projects/*"), ("POST", "/1.0/projects")] {
        lxd.relay().on(method, path).refuse(503, "LXD daemon setup in progress");
    }
    step(lxd).run().expect_changed();
    trial::changes_nothing(lxd, &step(lxd));
}

/// It greets late, so that the minute after which a step says that it is still at work is over before the request is.
#[test]
fn gives_up_on_an_lxd_that_says_nothing() {
    let mute = Impostor::start(Speech::Silence(5));
    let begun = Instant::now();
    let (told, result) = Step::new("lxd_project").args(json!({"name": "nobodys"})).socket(mute.socket()).follow();
    assert_eq!((&result["failed"], &result["code"]), (&json!(true), &json!("LXD_SILENT")), "{result:#}");
    assert!(result["msg"].as_str().is_some_and(|text| text.contains("GET /1.0/projects/nobodys")), "{result:#}");
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
    let is_at_work = |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("still at"));
    assert!(told.iter().any(is_at_work), "a minute in silence: {told:?}");
}

fn is_overtaken_by_somebody_else(lxd: &Lxd) {
    step(lxd).run().expect_changed();
    lxd.rest().write("PUT", &path(lxd), &bent(lxd, |project| project["config"]["restricted.devices.proxy"] = json!("allow")));
    let (path, theirs) = (path(lxd), bent(lxd, |project| project["config"]["user.theirs"] = json!("kept")));
    lxd.relay().reset();
    lxd.relay().on_write().meanwhile(move |rest| drop(rest.write("PUT", &path, &theirs)));
    step(lxd).run().expect_changed();
    let writes: Vec<_> = lxd.relay().requests().into_iter().filter(contract::Recorded::is_write).collect();
    assert!(writes.iter().all(|write| write.if_match.is_some()), "every write names what it was planned on");
    let statuses: Vec<_> = writes.iter().map(|write| write.status).collect();
    assert_eq!(statuses, [Some(412), Some(200)], "the write is refused once, and done again on what is there now");
    assert_eq!(config(lxd)["user.theirs"], "kept");
    assert_eq!(config(lxd)["restricted.devices.proxy"], "block");
    trial::changes_nothing(lxd, &step(lxd));
}

fn needs_lxd(lxd: &Lxd) {
    trial::needs_lxd(lxd, &step(lxd));
}

fn names_bad_options(lxd: &Lxd) {
    trial::names_bad_options(
        lxd,
        &step(lxd),
        &[
            (json!({"name": {"a": "b"}}), "OPTION_INVALID", "name"),
            (json!({"enabled": "perhaps"}), "OPTION_INVALID", "enabled"),
            (json!({"name": "Capi Lab"}), "OPTION_INVALID", "name"),
            (json!({"nam": "x"}), "OPTION_UNKNOWN", "name"),
            (json!({"isolation": "loose"}), "OPTION_INVALID", "strict"),
            (json!({"extra_restrictions": {"limits.instances": "1"}}), "OPTION_INVALID", "limits.instances"),
            (json!({"extra_restrictions": {"restricted.devices.proxy": "allow"}}), "OPTION_COLLISION", "restricted.devices.proxy"),
        ],
    );
}

fn goes_on_after_faults(lxd: &Lxd) {
    trial::goes_on_after_faults(lxd, &step(lxd), Fault::ALL, start_over);
    // The same where the project is there and has drifted.
    trial::goes_on_after_faults(lxd, &step(lxd), Fault::ALL, |lxd| {
        lxd.rest().write("PUT", &path(lxd), &bent(lxd, |project| project["config"]["restricted.devices.proxy"] = json!("allow")));
    });
}

fn stands_a_twin(lxd: &Lxd) {
    trial::stands_a_twin(lxd, &step(lxd), start_over);
}
