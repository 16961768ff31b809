//! Where LXD listens, and who answers there.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use contract::trial;
use contract::{Backend, Lxd};
use serde_json::{Value, json};

use super::{Bench, SECRET, free_address};

contract::on_every_lxd!(respects_an_operators_address, says_who_holds_the_address, listens_again);

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
