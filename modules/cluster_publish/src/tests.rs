use std::net::IpAddr;

use ansible::Step as _;
use converge::Section;
use host::listener::Listener;
use lab::{names::OWNER_KEY, publication::OWNER};
use lxd::{Config, Forward, ForwardPort};

use super::*;
use crate::{
    forward::{Forwards, Live},
    load_balancer::LoadBalancer,
    surroundings::{Surroundings, socket_address},
};

const HERE: &str = "192.0.2.10";
const HERE_V6: &str = "2001:db8::10";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn step() -> ClusterPublish {
    ClusterPublish { name: "mgmt-1".into(), listen_addresses: vec![HERE.into(), HERE_V6.into()], ..ClusterPublish::default() }
}

fn wanted(addresses: &[&str]) -> Wanted {
    let load_balancer = LoadBalancer { name: "mgmt-1-x-lb".into(), addresses: vec![ip("10.77.0.5"), ip("fd42:77:1::5")] };
    let addresses = addresses.iter().map(|address| ip(address)).collect();
    Wanted { port: 25060, addresses, load_balancer, rival: None, proxies: Vec::new(), annotated: None }
}

fn port(cluster: &str, listen: &str, target: &str) -> ForwardPort {
    ForwardPort {
        description: format!("k8slab: API of capi-lab/capi-clusters/{cluster}"),
        protocol: "tcp".into(),
        listen_port: listen.into(),
        target_port: "6443".into(),
        target_address: target.into(),
    }
}

fn forward(address: &str, is_ours: bool, ports: &[ForwardPort]) -> (IpAddr, Forward) {
    let owner = is_ours.then(|| (OWNER_KEY.to_owned(), OWNER.to_owned()));
    let forward = Forward {
        listen_address: ip(address),
        description: String::new(),
        config: owner.into_iter().collect::<Config>(),
        ports: ports.to_vec(),
    };
    (forward.listen_address, forward)
}

fn plan(step: &ClusterPublish, live: &Live) -> String {
    match Forwards(step).plan(live) {
        Ok(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        Err(failure) => failure.to_string(),
    }
}

#[test]
fn publishes() {
    let live = |forwards: &[(IpAddr, Forward)]| Live {
        wanted: Some(wanted(&[HERE, HERE_V6])),
        forwards: forwards.iter().cloned().collect(),
        ..Live::default()
    };
    let own = |target: &str| port("mgmt-1", "25060", target);
    let v6 = || forward(HERE_V6, true, &[own("fd42:77:1::5")]);
    for (case, live, expected) in [
        (
            "nothing there",
            live(&[]),
            "forward 192.0.2.10: port 25060 -> 10.77.0.5:6443; forward 2001:db8::10: port 25060 -> [fd42:77:1::5]:6443",
        ),
        ("as wanted", live(&[forward(HERE, true, &[own("10.77.0.5")]), v6()]), ""),
        (
            "beside another cluster",
            live(&[forward(HERE, true, &[port("lab-default", "26818", "10.77.0.9")]), v6()]),
            "forward 192.0.2.10: port 25060 -> 10.77.0.5:6443",
        ),
        (
            "a load balancer of before",
            live(&[forward(HERE, true, &[own("10.77.0.4")]), v6()]),
            "forward 192.0.2.10: port 25060: 10.77.0.4:6443 -> 10.77.0.5:6443",
        ),
        (
            "another port before",
            live(&[forward(HERE, true, &[port("mgmt-1", "20000", "10.77.0.5")]), v6()]),
            "forward 192.0.2.10: port 20000 -> 25060 to 10.77.0.5:6443",
        ),
        (
            "an address of before",
            live(&[forward(HERE, true, &[own("10.77.0.5")]), v6(), forward("192.0.2.99", true, &[own("10.77.0.5")])]),
            "forward 192.0.2.99: withdraw port 25060",
        ),
        (
            "the port of another cluster",
            live(&[forward(HERE, true, &[port("lab-default", "25060", "10.77.0.9")]), v6()]),
            "PUBLISHED_PORT_TAKEN: the API of cluster capi-clusters/mgmt-1 cannot be published at 192.0.2.10:25060: a network forward \
             (network capi-int, forward 192.0.2.10 to k8slab: API of capi-lab/capi-clusters/lab-default) has the port",
        ),
        (
            "a forward that is nobody's",
            live(&[forward(HERE, false, &[ForwardPort { description: String::new(), ..port("", "25000-25100", "10.77.0.7") }])]),
            "PUBLISHED_PORT_TAKEN: the API of cluster capi-clusters/mgmt-1 cannot be published at 192.0.2.10:25060: a network forward \
             (network capi-int, forward 192.0.2.10 to 10.77.0.7) has the port",
        ),
    ] {
        assert_eq!(plan(&step(), &live), expected, "{case}");
    }
}

#[test]
fn refuses_what_somebody_else_holds() {
    let at = |text: &str| Listener::at(text.parse().unwrap());
    let refused = |bend: &dyn Fn(&mut Live)| {
        let mut live = Live { wanted: Some(wanted(&[HERE])), ..Live::default() };
        bend(&mut live);
        plan(&step(), &live)
    };
    for (case, bend, expected) in [
        (
            "a program",
            &(|live: &mut Live| live.surroundings.listeners = vec![at("0.0.0.0:25060")]) as &dyn Fn(&mut Live),
            "a program that listens on 0.0.0.0:25060 has the port",
        ),
        (
            "LXD, which has yet to listen",
            &|live| live.surroundings.lxd = vec![("core.https_address", "[::]:25060".parse().unwrap())],
            "LXD itself (core.https_address) has the port",
        ),
        (
            "another network's forward",
            &|live| live.surroundings.elsewhere = vec![("lxdbr0".into(), forward(HERE, false, &[port("x", "80", "10.0.0.1")]).1)],
            "network lxdbr0 has a forward of this address",
        ),
        (
            "another Cluster",
            &|live| live.wanted.as_mut().unwrap().rival = Some("team-a/prod".into()),
            "cluster team-a/prod, whose annotation names the port has the port",
        ),
        (
            "no address of the family",
            &|live| live.wanted.as_mut().unwrap().load_balancer.addresses = vec![ip("fd42:77:1::5")],
            "the load balancer mgmt-1-x-lb has no address of the family of 192.0.2.10",
        ),
    ] {
        let said = refused(bend);
        assert!(said.contains(expected), "{case}: {said}");
    }
    let elsewhere = |live: &mut Live| live.surroundings.listeners = vec![at("127.0.0.1:25060"), at("0.0.0.0:8443")];
    assert_eq!(refused(&elsewhere), "forward 192.0.2.10: port 25060 -> 10.77.0.5:6443", "other addresses and ports are free");
}

#[test]
fn withdraws_what_it_has_made_and_nothing_else() {
    let absent = ClusterPublish { state: State::Absent, ..step() };
    let own = port("mgmt-1", "25060", "10.77.0.5");
    let live = |forwards: Vec<(IpAddr, Forward)>| Live { forwards: forwards.into_iter().collect(), ..Live::default() };
    let alone = live(vec![forward(HERE, true, std::slice::from_ref(&own))]);
    let beside = live(vec![forward(HERE, true, &[own.clone(), port("lab-default", "26818", "10.77.0.9")])]);
    let theirs = live(vec![forward(HERE, false, &[own])]);
    for (case, live, left) in
        [("alone", &alone, None), ("beside another", &beside, Some(1)), ("in a forward of theirs", &theirs, Some(0))]
    {
        let changes = Forwards(&absent).plan(live).unwrap();
        assert_eq!(plan(&absent, live), "forward 192.0.2.10: withdraw port 25060", "{case}");
        let merged = changes[0].merged(live.forwards.values().next()).unwrap();
        assert_eq!(merged.map(|forward| forward.ports.len()), left, "{case}");
    }
    assert_eq!(plan(&absent, &Live::default()), "");
    let other = live(vec![forward(HERE, true, &[port("mgmt-10", "25060", "10.77.0.5")])]);
    assert_eq!(plan(&absent, &other), "", "a name that begins alike is another");
    let in_other_mode = ClusterPublish { mode: Mode::Proxy, ..step() };
    assert_eq!(plan(&in_other_mode, &alone), "forward 192.0.2.10: withdraw port 25060");
}

#[test]
fn before_anything_is_there_check_mode_tells_what_will_be() {
    let expected = "forward 192.0.2.10: port 25060 -> (the load balancer); forward 2001:db8::10: port 25060 -> (the load balancer)";
    assert_eq!(plan(&step(), &Live::default()), expected);
}

#[test]
fn options_are_checked() {
    let with = |mode: Mode, addresses: &[&str]| {
        let listen_addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
        ClusterPublish { mode, listen_addresses, ..step() }
    };
    for (step, expected) in [
        (with(Mode::Forward, &[]), None),
        (with(Mode::Forward, &[HERE, HERE_V6]), None),
        (with(Mode::Forward, &["127.0.0.1"]), Some("dead")),
        (with(Mode::Forward, &["::1"]), Some("dead")),
        (with(Mode::Forward, &["::ffff:127.0.0.1"]), Some("dead")),
        (with(Mode::Forward, &["0.0.0.0"]), Some("dead")),
        (with(Mode::Forward, &["::"]), Some("dead")),
        (with(Mode::Forward, &["lab.example.org"]), Some("not an address")),
        (with(Mode::Forward, &["fe80::1"]), Some("no address that others reach")),
        (with(Mode::Forward, &[HERE, "192.0.2.10"]), Some("twice")),
        (with(Mode::Forward, &[HERE_V6, "2001:DB8:0::10"]), Some("twice")),
        (with(Mode::Proxy, &["127.0.0.1", "::1"]), None),
        (with(Mode::Proxy, &["0.0.0.0"]), None),
        (with(Mode::Proxy, &["0.0.0.0", "::"]), Some("takes every address")),
    ] {
        let said = step.preflight().err().map(|failure| failure.msg);
        assert_eq!(said.is_some(), expected.is_some(), "{:?}: {said:?}", step.listen_addresses);
        assert!(said.unwrap_or_default().contains(expected.unwrap_or_default()), "{:?}", step.listen_addresses);
    }
}

#[test]
fn its_own_proxies_are_in_nobodys_way() {
    let at = |text: &str| text.parse().unwrap();
    for (own, listener, stays) in [
        ("127.0.0.1:25060", "127.0.0.1:25060", false),
        ("0.0.0.0:25060", "[::]:25060", false),
        ("127.0.0.1:25060", "0.0.0.0:25060", true),
        ("0.0.0.0:25060", "[::]:25061", true),
    ] {
        let surroundings = Surroundings { listeners: vec![Listener::at(at(listener))], ..Surroundings::default() };
        assert_eq!(!surroundings.without(&[at(own)]).listeners.is_empty(), stays, "{own} {listener}");
    }
}

#[test]
fn where_lxd_listens_is_read_as_lxd_writes_it() {
    for (text, expected) in [
        ("10.77.0.1:8443", Some("10.77.0.1:8443")),
        ("10.77.0.1", Some("10.77.0.1:8443")),
        ("[fd42::1]:9443", Some("[fd42::1]:9443")),
        ("fd42::1", Some("[fd42::1]:8443")),
        ("[fd42::1]", Some("[fd42::1]:8443")),
        (":8443", Some("[::]:8443")),
        ("a name", None),
    ] {
        assert_eq!(socket_address(text, 8443).map(|address| address.to_string()).as_deref(), expected, "{text}");
    }
}
