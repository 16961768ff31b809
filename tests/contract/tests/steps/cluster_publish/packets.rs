//! What only packets can show, so that the real LXD alone has it.

use std::time::{Duration, Instant};

use contract::trial::{self, Fault};
use contract::{Lxd, Running};
use serde_json::{Value, json};

use super::{CLUSTER, PORT, Site, free_port};

mod real {
    macro_rules! on_real_lxd {
        ($($case:ident),+ $(,)?) => {
            $(#[test] fn $case() { super::$case(&contract::Lxd::open(contract::Backend::Real)); })+
        };
    }
    on_real_lxd!(
        follows_the_load_balancer,
        tells_another_cluster,
        checks_the_names_in_the_certificate,
        changes_from_one_way_to_the_other,
        goes_on_after_faults,
        publishes_two_clusters_at_once,
        says_when_nothing_answers,
    );
}

fn follows_the_load_balancer(lxd: &Lxd) {
    let site = Site::new(lxd);
    site.balancer(CLUSTER, "first");
    let api = site.serve(CLUSTER, "first", &[]);
    site.step().run().expect_changed();
    drop(api);
    site.remove("first");
    // Somebody else gets the place before the cluster has a load balancer again.
    site.step().run().expect_code("LOAD_BALANCER_NOT_FOUND");
    site.balancer(CLUSTER, "second");
    let _api = site.serve(CLUSTER, "second", &[]);
    let moved = trial::foresees_and_does(lxd, &site.step());
    assert_eq!(moved.json["load_balancer"]["name"], "second");
    assert_eq!(site.ports().len(), 2);
    trial::changes_nothing(lxd, &site.step());
    site.remove("second");
    trial::foresees_and_does(lxd, &site.absent());
}

fn tells_another_cluster(lxd: &Lxd) {
    let site = Site::new(lxd);
    site.balancer(CLUSTER, "lb");
    let _api = site.serve(CLUSTER, "lb", &[]);
    // The cluster that answers is not the one of the kubeconfig.
    site.keep_kubeconfig(CLUSTER, &site.management);
    site.step().run().expect_code("PUBLISHED_API_OTHER").expect_words(&format!(":{PORT}"));
    let blind = site.step().args(json!({"kubeconfig_path": null}));
    let outcome = blind.run().expect_unchanged();
    assert_eq!(outcome.json["published"][0]["verified"], false);
    assert!(outcome.json["warnings"].to_string().contains("kubeconfig_path"), "{:#}", outcome.json);
}

fn checks_the_names_in_the_certificate(lxd: &Lxd) {
    let site = Site::new(lxd);
    site.balancer(CLUSTER, "lb");
    let [ipv4, ipv6] = site.gateways();
    let _api = site.serve(CLUSTER, "lb", &[&ipv6]);
    let outcome = site.step().run().expect_changed();
    let published = outcome.json["published"].as_array().expect("a list");
    assert_eq!([&published[0]["in_certificate"], &published[1]["in_certificate"]], [false, true]);
    let warnings = outcome.json["warnings"].to_string();
    assert!(warnings.contains(&ipv4) && warnings.contains("tls-server-name") && !warnings.contains(&ipv6), "{warnings}");
}

fn changes_from_one_way_to_the_other(lxd: &Lxd) {
    let site = Site::new(lxd);
    site.balancer(CLUSTER, "lb");
    let _api = site.serve(CLUSTER, "lb", &[]);
    lxd.configure_project("restricted.devices.proxy", "allow");
    let theirs = json!({"devices": {"theirs": {"type": "none"}}});
    site.substrate.write("PATCH", "instances/lb", &theirs);
    let port = free_port();
    let proxy = site.step().args(json!({"mode": "proxy", "listen_addresses": ["127.0.0.1", "::1"], "port": port}));
    let made = trial::foresees_and_does(lxd, &proxy);
    assert_eq!(made.json["published"][1]["url"], format!("https://[::1]:{port}"));
    trial::changes_nothing(lxd, &proxy);

    let [ipv4, _] = site.gateways();
    let forward = site.step().args(json!({"listen_addresses": [ipv4], "port": port}));
    trial::foresees_and_does(lxd, &forward);
    assert_eq!(site.substrate.get("instances/lb")["devices"], theirs["devices"], "the other way's is gone, and nothing else");
    trial::changes_nothing(lxd, &forward);
    let everywhere = proxy.args(json!({"listen_addresses": ["0.0.0.0"]}));
    trial::foresees_and_does(lxd, &everywhere);
    assert_eq!(site.forwards(), Vec::<Value>::new());
    trial::foresees_and_does(lxd, &site.absent());
    assert_eq!(site.substrate.get("instances/lb")["devices"], theirs["devices"]);
}

fn goes_on_after_faults(lxd: &Lxd) {
    let site = Site::new(lxd);
    site.balancer(CLUSTER, "lb");
    let _api = site.serve(CLUSTER, "lb", &[]);
    let start_over = |_: &Lxd| drop(site.absent().run().ok());
    trial::goes_on_after_faults(lxd, &site.step(), &[Fault::CutAfter, Fault::Refused, Fault::KilledAfter], start_over);
}

fn publishes_two_clusters_at_once(lxd: &Lxd) {
    let site = Site::new(lxd);
    let others = ["lab-a", "lab-b", "lab-c"];
    let mut apis = Vec::new();
    for cluster in others {
        site.register(cluster, &json!({}));
        site.balancer(cluster, &format!("{cluster}-lb"));
        apis.push(site.serve(cluster, &format!("{cluster}-lb"), &[]));
    }
    let running: Vec<Running> = others.iter().map(|cluster| site.step_of(cluster).spawn()).collect();
    for outcome in running.into_iter().map(Running::wait) {
        outcome.expect_changed();
    }
    assert_eq!(site.ports().len(), 2 * others.len(), "no writer has lost what another wrote: {:?}", site.ports());
    trial::stands_a_twin(lxd, &site.step_of("lab-a"), |_| drop(site.step_of("lab-a").args(json!({"state": "absent"})).run().ok()));
    let withdrawn: Vec<Running> =
        others.iter().map(|cluster| site.step_of(cluster).args(json!({"state": "absent"})).spawn()).collect();
    for outcome in withdrawn.into_iter().map(Running::wait) {
        outcome.expect_changed();
    }
    assert_eq!(site.forwards(), Vec::<Value>::new());
}

fn says_when_nothing_answers(lxd: &Lxd) {
    let site = Site::new(lxd);
    site.balancer(CLUSTER, "lb");
    drop(site.serve(CLUSTER, "lb", &[]));
    let begun = Instant::now();
    let step = site.step().args(json!({"wait_timeout": 2}));
    step.run().expect_code("PUBLISHED_API_SILENT").expect_words("refused");
    // Nor does it where there is nothing to do any more.
    step.run().expect_code("PUBLISHED_API_SILENT").expect_words("refused");
    assert!(begun.elapsed() < Duration::from_secs(30), "the deadline bounds it: {:?}", begun.elapsed());
}
