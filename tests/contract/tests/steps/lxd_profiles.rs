//! `lxd_profiles` against every LXD.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use contract::trial::{self, Fault};
use contract::{Backend, Kubernetes, Lxd, Step, Substrate};
use serde_json::{Value, json};

contract::on_every_lxd!(
    makes_and_keeps,
    repairs_and_respects,
    adds_and_never_weakens,
    needs_a_project_that_allows,
    restarts_what_runs_on_the_old,
    leaves_alone_what_others_run,
    leaves_root_disks_where_they_are,
    restarts_nodes_when_asked,
    remembers_what_is_saved_and_not_in_force,
    restarts_for_what_cannot_be_given_to_a_running_instance,
    is_overtaken_by_somebody_else,
    needs_lxd,
    names_bad_options,
    goes_on_after_faults,
    goes_on_after_faults_with_a_running_instance,
    stands_a_twin,
);

const NAMES: [&str; 4] = ["capi-base", "capi-bootstrap", "capi-controlplane", "capi-worker"];

/// Takes the profiles away; those in use stay.
fn start_over(substrate: &Substrate<'_>, lxd: &Lxd) {
    for name in NAMES {
        let _ = lxd.rest().try_write("DELETE", &substrate.path(&format!("profiles/{name}")), &Value::Null);
    }
}

fn makes_and_keeps(lxd: &Lxd) {
    let substrate = Substrate::make(lxd);
    let made = trial::foresees_and_does(lxd, &substrate.profiles());
    let created: Vec<_> =
        made.json["profiles"].as_array().into_iter().flatten().map(|profile| [&profile["name"], &profile["created"]]).collect();
    assert_eq!(json!(created), json!(NAMES.map(|name| (name, true))));
    let base = substrate.get("profiles/capi-base");
    assert_eq!(base["config"], json!({}));
    assert_eq!(
        base["devices"],
        json!({
            "root": {"type": "disk", "path": "/", "pool": lxd.name("p")},
            "eth0": {"type": "nic", "network": lxd.network_name(0), "name": "eth0"},
        })
    );
    let confined = json!({"security.nesting": "true", "security.privileged": "false", "security.idmap.isolated": "true"});
    for name in &NAMES[1..] {
        assert_eq!(substrate.get(&format!("profiles/{name}"))["config"], confined, "{name}");
    }
    let eth1 = json!({"eth1": {"type": "nic", "nictype": "bridged", "parent": substrate.external_bridge(), "name": "eth1"}});
    assert_eq!(substrate.get("profiles/capi-bootstrap")["devices"], json!({}));
    assert_eq!(substrate.get("profiles/capi-controlplane")["devices"], eth1);
    assert_eq!(substrate.get("profiles/capi-worker")["devices"], eth1);
    trial::changes_nothing(lxd, &substrate.profiles());
}

fn repairs_and_respects(lxd: &Lxd) {
    let substrate = Substrate::make(lxd);
    substrate.profiles().run().expect_changed();
    let theirs = json!({
        "description": "mine",
        "config": {"security.nesting": "true", "security.privileged": "false", "user.owner": "somebody", "limits.memory": "1GiB"},
        "devices": {
            "mine": {"type": "none"},
            "eth1": {"type": "nic", "nictype": "bridged", "parent": substrate.external_bridge(), "name": "eth7", "mtu": "1400"},
        },
    });
    let path = substrate.path("profiles/capi-worker");
    let repaired = trial::repairs(lxd, &substrate.profiles(), &[("PUT", &path, theirs)]);
    let facts = &repaired.json["profiles"][3];
    assert_eq!((&facts["changed_keys"], &facts["changed_devices"]), (&json!(["security.idmap.isolated"]), &json!(["eth1"])));
    let worker = substrate.get("profiles/capi-worker");
    assert_eq!([&worker["config"]["user.owner"], &worker["config"]["limits.memory"]], ["somebody", "1GiB"], "foreign keys survive");
    assert_eq!(worker["devices"]["mine"], json!({"type": "none"}), "foreign devices survive");
    assert_eq!([&worker["devices"]["eth1"]["name"], &worker["devices"]["eth1"]["mtu"]], ["eth1", "1400"], "so do their keys");
    let diff = json!(repaired.diff()).to_string();
    assert!(!diff.contains("somebody") && !diff.contains("1400"), "a diff shows owned keys only: {diff}");
}

fn adds_and_never_weakens(lxd: &Lxd) {
    let substrate = Substrate::make(lxd);
    let with_extras = substrate.profiles().args(json!({
        "capi_worker_extra_config": {"limits.memory": "2GiB"},
        "capi_worker_extra_devices": {"eth1": {"mtu": "1400"}, "data": {"type": "disk", "path": "/data", "pool": lxd.name("p"), "source": "v"}},
    }));
    trial::foresees_and_does(lxd, &with_extras);
    let worker = substrate.get("profiles/capi-worker");
    assert_eq!(
        [&worker["config"]["limits.memory"], &worker["devices"]["eth1"]["mtu"], &worker["devices"]["data"]["path"]],
        ["2GiB", "1400", "/data"]
    );
    trial::changes_nothing(lxd, &with_extras);
    let less = json!({"capi_worker_extra_config": {"limits.memory": ""}, "capi_worker_extra_devices": {}});
    trial::foresees_and_does(lxd, &substrate.profiles().args(less.clone()));
    let worker = substrate.get("profiles/capi-worker");
    assert_eq!(
        [&worker["config"]["limits.memory"], &worker["devices"]["eth1"]["mtu"], &worker["devices"]["data"]],
        [&Value::Null, &Value::Null, &Value::Null],
        "what is withdrawn is gone"
    );
    trial::changes_nothing(lxd, &substrate.profiles().args(less));
    let before = lxd.snapshot();
    for (extra, key) in [
        (json!({"capi_worker_extra_config": {"security.privileged": "true"}}), "security.privileged"),
        (json!({"capi_bootstrap_extra_config": {"raw.lxc": "lxc.apparmor.profile=unconfined"}}), "raw.lxc"),
        (json!({"capi_base_extra_devices": {"root": {"pool": "elsewhere"}}}), "pool"),
        (json!({"capi_worker_extra_devices": {"eth1": {"parent": "lo"}}}), "parent"),
        (json!({"capi_base_extra_devices": {"eth0": {"nictype": "macvlan"}}}), "nictype"),
    ] {
        substrate.profiles().args(extra).run().expect_code("OPTION_COLLISION").expect_words(key);
    }
    trial::assert_same(&before, &lxd.snapshot(), "nothing is half-written");
}

fn needs_a_project_that_allows(lxd: &Lxd) {
    let substrate = Substrate::isolated(lxd, "reference");
    // A profile may end up on a virtual machine, so LXD wants this too before it takes raw.lxc.
    allow(lxd, "restricted.virtual-machines.lowlevel");
    trial::foresees_and_does(lxd, &substrate.profiles());
    trial::changes_nothing(lxd, &substrate.profiles());
    substrate.write("PATCH", "profiles/capi-worker", &json!({"config": {"raw.lxc": "lxc.apparmor.profile=generated"}}));
    trial::foresees_and_does(lxd, &substrate.profiles());
    let strict = substrate.profiles().args(json!({"isolation": "strict"}));
    trial::foresees_and_does(lxd, &strict);
    assert_eq!(
        substrate.get("profiles/capi-worker")["config"]["raw.lxc"],
        Value::Null,
        "what the other isolation left behind is gone"
    );
    trial::changes_nothing(lxd, &strict);
    substrate.project().args(json!({"isolation": "strict"})).run().expect_changed();
    let refused = substrate.profiles().run();
    let forbidden = ["LXD_RESTRICTION_INTERCEPTION", "LXD_RESTRICTION_LOWLEVEL"];
    assert!(forbidden.contains(&refused.code()), "LXD names any one of what it forbids: {:#}", refused.json);
    refused.expect_words("isolation: reference");
    strict.run().ok();
    trial::changes_nothing(lxd, &strict);
}

fn allow(lxd: &Lxd, restriction: &str) {
    let path = format!("/1.0/projects/{}", lxd.name("p"));
    let mut project = lxd.rest().get(&path);
    project["config"][restriction] = json!("allow");
    lxd.rest().write("PUT", &path, &json!({"description": project["description"], "config": project["config"]}));
}

/// Runs an instance with the given config on the worker's profile.
fn run_instance(substrate: &Substrate<'_>, name: &str, config: &Value) {
    let body = json!({
        "name": name, "description": "mine", "source": {"type": "image", "alias": "tiny"}, "profiles": ["capi-base", "capi-bootstrap"], "config": config,
    });
    substrate.write("POST", "instances", &body);
    substrate.write("PUT", &format!("instances/{name}/state"), &json!({"action": "start", "timeout": 30}));
}

fn process(substrate: &Substrate<'_>, name: &str) -> Value {
    substrate.get(&format!("instances/{name}/state"))["pid"].clone()
}

/// Lets the profile of the running instances drift in a key that they only take up by a restart.
fn drift(substrate: &Substrate<'_>) {
    substrate.write("PATCH", "profiles/capi-bootstrap", &json!({"config": {"security.privileged": ""}}));
}

fn restarts_what_runs_on_the_old(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    run_instance(&substrate, "boot", &json!({"user.k8slab.role": "bootstrap"}));
    let old = process(&substrate, "boot");
    substrate.write("PATCH", "profiles/capi-worker", &json!({"config": {"security.privileged": ""}}));
    let harmless = trial::foresees_and_does(lxd, &substrate.profiles());
    assert_eq!(harmless.json["restarted"], json!([]), "it does not use the profile that changed");
    substrate.write("PATCH", "profiles/capi-bootstrap", &json!({"description": "mine"}));
    let live = trial::foresees_and_does(lxd, &substrate.profiles());
    assert_eq!(live.json["restarted"], json!([]), "it does not need a restart for that");
    assert_eq!(process(&substrate, "boot"), old);
    drift(&substrate);
    let never = substrate.profiles().args(json!({"restart_policy": "never"})).run().expect_changed();
    assert_eq!([&never.json["restarted"], &never.json["restart_pending"]], [&json!([]), &json!(["boot"])]);
    assert_eq!(process(&substrate, "boot"), old);
    assert_eq!(substrate.get("instances/boot")["description"], "mine", "a mark leaves the rest alone");
    let late = trial::foresees_and_does(lxd, &substrate.profiles());
    assert_eq!(
        [&late.json["restarted"], &late.json["restart_pending"]],
        [&json!(["boot"]), &json!([])],
        "what is pending is remembered"
    );
    assert_ne!(process(&substrate, "boot"), old);
    trial::changes_nothing(lxd, &substrate.profiles());
}

fn leaves_alone_what_others_run(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    run_instance(&substrate, "node", &json!({"user.cluster-name": "mgmt-1"}));
    run_instance(&substrate, "stranger", &json!({}));
    let old = ["node", "stranger"].map(|name| process(&substrate, name));
    drift(&substrate);
    let done = trial::foresees_and_does(lxd, &substrate.profiles());
    assert_eq!([&done.json["restarted"], &done.json["restart_pending"]], [&json!([]), &json!(["node", "stranger"])]);
    assert_eq!(["node", "stranger"].map(|name| process(&substrate, name)), old);
    trial::changes_nothing(lxd, &substrate.profiles());
}

fn leaves_root_disks_where_they_are(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    let body = json!({
        "name": "node", "source": {"type": "image", "alias": "tiny"}, "profiles": ["capi-base", "capi-worker"],
    });
    substrate.write("POST", "instances", &body);
    lxd.relay().reset();
    let elsewhere = substrate.profiles().args(json!({"storage_pool": lxd.name("elsewhere")}));
    for outcome in [elsewhere.check(), elsewhere.run()] {
        outcome.expect_code("PROFILE_ROOT_IN_USE").expect_words("node");
    }
    assert_eq!(lxd.relay().writes(), Vec::<String>::new(), "LXD is not even asked");
}

/// A node as its kubelet reports it.
fn report(cluster: &Kubernetes, ready: &str, heard_of: &str) {
    let condition = json!({"type": "Ready", "status": ready, "lastHeartbeatTime": heard_of});
    cluster.put("/api/v1/nodes/node", json!({"apiVersion": "v1", "kind": "Node", "status": {"conditions": [condition]}}));
}

fn restarts_nodes_when_asked(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    run_instance(&substrate, "node", &json!({"user.cluster-name": "mgmt-1", "user.cluster-namespace": "lab"}));
    let old = process(&substrate, "node");
    drift(&substrate);
    let folder = tempfile::tempdir().unwrap();
    let nodes = substrate.profiles().args(json!({"restart_policy": "nodes", "restart_timeout": 2, "opt_root": folder.path()}));
    assert!(nodes.run().failed(), "a node of a cluster that cannot be asked is left alone");
    let cluster = Kubernetes::start(&["/api/v1/nodes"]);
    let kubeconfigs = folder.path().join("etc/clusters/lab");
    fs::create_dir_all(&kubeconfigs).unwrap();
    fs::write(kubeconfigs.join("mgmt-1.kubeconfig"), cluster.kubeconfig()).unwrap();
    report(&cluster, "False", "2020-01-01T00:00:00Z");
    nodes.run().expect_words("all nodes Ready before one is restarted");
    assert_eq!(process(&substrate, "node"), old, "neither is one where another is down");
    report(&cluster, "True", "2020-01-01T00:00:00Z");
    nodes.run().expect_words("node: Ready after the restart").expect_words("last heard of at 2020");
    assert_ne!(process(&substrate, "node"), old);
    drift(&substrate);
    report(&cluster, "True", "2126-01-01T00:00:00Z");
    let done = trial::foresees_and_does(lxd, &nodes.args(json!({"restart_timeout": 60})));
    assert_eq!([&done.json["restarted"], &done.json["restart_pending"]], [&json!(["node"]), &json!([])]);
    trial::changes_nothing(lxd, &substrate.profiles());
}

/// A network card on a bridge that is not there.
fn with_lost_card(substrate: &Substrate<'_>) -> Step {
    let card = json!({"type": "nic", "nictype": "bridged", "parent": substrate.external_bridge(), "name": "eth1"});
    substrate.profiles().args(json!({"capi_bootstrap_extra_devices": {"eth1": card}}))
}

fn remembers_what_is_saved_and_not_in_force(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    run_instance(&substrate, "boot", &json!({"user.k8slab.role": "bootstrap"}));
    run_instance(&substrate, "stranger", &json!({}));
    let never = with_lost_card(&substrate).args(json!({"restart_policy": "never"}));
    let saved = never.run().expect_changed();
    assert_eq!([&saved.json["restarted"], &saved.json["restart_pending"]], [&json!([]), &json!(["boot", "stranger"])]);
    let still = never.run().expect_unchanged();
    assert_eq!(still.json["restart_pending"], json!(["boot", "stranger"]), "until it is in force");
    // Restarted, the instance does not start; that is said, in every run.
    for _ in 0..2 {
        let failed = with_lost_card(&substrate).run();
        failed.expect_code("INSTANCE_START_FAILED").expect_words(&substrate.external_bridge());
        assert_eq!(substrate.get("instances/boot")["status"], "Stopped");
    }
    let mended = substrate.profiles().run().expect_changed();
    assert_eq!(mended.json["restarted"], json!(["boot"]));
    assert_eq!(substrate.get("instances/boot")["status"], "Running");
    trial::changes_nothing(lxd, &substrate.profiles());
}

fn restarts_for_what_cannot_be_given_to_a_running_instance(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    run_instance(&substrate, "boot", &json!({"user.k8slab.role": "bootstrap"}));
    let old = process(&substrate, "boot");
    substrate.write("PATCH", "profiles/capi-bootstrap", &json!({"config": {"security.nesting": "false"}}));
    let refusal = "The following instances failed to update (profile change still saved):\n - Project: p, Instance: boot: no";
    lxd.relay().on("*", "/1.0/profiles/capi-bootstrap").nth(2).refuse_after(500, refusal);
    let done = substrate.profiles().run().expect_changed();
    assert_eq!([&done.json["restarted"], &done.json["restart_pending"]], [&json!(["boot"]), &json!([])]);
    assert_ne!(process(&substrate, "boot"), old);
    trial::changes_nothing(lxd, &substrate.profiles());
}

fn is_overtaken_by_somebody_else(lxd: &Lxd) {
    let substrate = Substrate::make(lxd);
    substrate.profiles().run().expect_changed();
    let path = substrate.path("profiles/capi-worker");
    lxd.rest().write("PATCH", &path, &json!({"config": {"security.nesting": "false"}}));
    lxd.relay().reset();
    let theirs = path.clone();
    lxd.relay().on_write().meanwhile(move |rest| drop(rest.write("PATCH", &theirs, &json!({"config": {"user.theirs": "kept"}}))));
    substrate.profiles().run().expect_changed();
    let refused = lxd.relay().requests().iter().filter(|request| request.status == Some(412)).count();
    assert_eq!(refused, 1, "the write is refused once, and done again on what is there now");
    let config = &lxd.rest().get(&path)["config"];
    assert_eq!([&config["user.theirs"], &config["security.nesting"]], ["kept", "true"]);
    trial::changes_nothing(lxd, &substrate.profiles());
}

fn needs_lxd(lxd: &Lxd) {
    trial::needs_lxd(lxd, &lxd.step("lxd_profiles"));
}

fn names_bad_options(lxd: &Lxd) {
    trial::names_bad_options(
        lxd,
        &lxd.step("lxd_profiles"),
        &[
            (json!({"project": "Capi Lab"}), "OPTION_INVALID", "project"),
            (json!({"storage_pool": ""}), "OPTION_INVALID", "storage_pool"),
            (json!({"restart_policy": "always"}), "OPTION_INVALID", "auto"),
            (json!({"capi_base_extra_config": [1]}), "OPTION_INVALID", "capi_base_extra_config"),
            (json!({"capi_base_extra_devices": {"eth0": "x"}}), "OPTION_INVALID", "capi_base_extra_devices"),
            (json!({"capi_base_extra_confg": {}}), "OPTION_UNKNOWN", "capi_base_extra_config"),
        ],
    );
}

fn goes_on_after_faults(lxd: &Lxd) {
    let substrate = Substrate::make(lxd);
    trial::goes_on_after_faults(lxd, &substrate.profiles(), Fault::ALL, |lxd| start_over(&substrate, lxd));
    // The same where they are there and have drifted.
    trial::goes_on_after_faults(lxd, &substrate.profiles(), Fault::ALL, |_| {
        for name in ["capi-bootstrap", "capi-worker"] {
            substrate.write("PATCH", &format!("profiles/{name}"), &json!({"config": {"security.nesting": "false"}}));
        }
    });
}

fn goes_on_after_faults_with_a_running_instance(lxd: &Lxd) {
    let substrate = Substrate::for_instances(lxd);
    run_instance(&substrate, "boot", &json!({"user.k8slab.role": "bootstrap"}));
    let faults = [Fault::CutAfter, Fault::Refused, Fault::KilledBefore, Fault::KilledAfter];
    trial::goes_on_after_faults(lxd, &substrate.profiles(), &faults, |_| drift(&substrate));
}

fn stands_a_twin(lxd: &Lxd) {
    let substrate = Substrate::make(lxd);
    trial::stands_a_twin(lxd, &substrate.profiles(), |lxd| start_over(&substrate, lxd));
}

/// Only the scripted LXD can keep addresses back.
#[test]
fn does_not_wait_for_an_instance_that_has_stopped() {
    let lxd = Lxd::open(Backend::ScriptedSync);
    let substrate = Substrate::for_instances(&lxd);
    run_instance(&substrate, "boot", &json!({"user.k8slab.role": "bootstrap"}));
    let old = process(&substrate, "boot");
    drift(&substrate);
    lxd.scripted().into_iter().for_each(|scripted| scripted.delay_addresses(None));
    let running = substrate.profiles().args(json!({"restart_timeout": 600})).spawn();
    let deadline = Instant::now() + Duration::from_secs(60);
    while process(&substrate, "boot") == old {
        assert!(Instant::now() < deadline, "the instance is restarted");
        thread::sleep(Duration::from_millis(20));
    }
    substrate.write("PUT", "instances/boot/state", &json!({"action": "stop", "timeout": 30}));
    running.wait().expect_code("INSTANCE_NOT_RUNNING").expect_words("boot is Stopped");
}
