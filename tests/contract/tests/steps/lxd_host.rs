//! `lxd_host` against a machine that is only a folder, a scripted snapd and a scripted LXD.

use contract::{Machine, Personality, Scripted, Snapd, Step};
use serde_json::json;

/// A host with a second network link, a snapd and an LXD to be found there.
struct Host {
    machine: Machine,
    snapd: Snapd,
    lxd: Scripted,
}

impl Host {
    fn new() -> Self {
        let machine = Machine::bare();
        machine.add_link("eth1");
        machine.write("/run/systemd/system/.keep", "");
        machine.write("/run/units/snapd.socket", "");
        let snapd = Snapd::start(&machine.at("/run/snapd.socket"));
        Self { machine, snapd, lxd: Scripted::start(Personality::Sync) }
    }

    fn step(&self) -> Step {
        self.machine.step("lxd_host").socket(self.lxd.socket()).args(json!({"ext_bridge_uplink": "eth1"}))
    }
}

#[test]
fn a_bare_host_gets_the_snap_and_the_bridge_once() {
    let host = Host::new();
    let step = host.step();
    let before = host.machine.snapshot();
    let planned = step.check().expect_changed();
    assert_eq!((host.machine.snapshot(), host.snapd.writes()), (before, vec![]), "check mode leaves no trace");

    let done = step.run().expect_changed();
    assert_eq!(planned.json["changes"], done.json["changes"], "check mode said what the run does");
    assert_eq!(planned.diff(), done.diff());
    assert_eq!(
        host.snapd.writes(),
        [
            r#"POST /v2/snaps/lxd {"action":"install","channel":"6/stable","classic":false}"#,
            r#"PUT /v2/snaps/system/conf {"refresh.hold":"forever","refresh.timer":null}"#,
        ]
    );
    assert_eq!(done.json["snap"], json!({"name": "lxd", "channel": "6/stable", "version": "6.5-1", "revision": "33000"}));
    assert_eq!(done.json["lxd_version"], "5.0.2");
    assert_eq!(done.json["api_extensions_present"]["network_forward"], true);
    assert_eq!(done.json["api_extensions_present"]["access_management_tls"], false);
    assert_eq!(
        done.json["bridge"],
        json!({"name": "br-ext6", "uplink": "eth1", "uplink_state": "down", "mtu": 1500, "members": ["eth1"]})
    );
    assert_eq!(done.json["warnings"], json!(["eth1 is down: nothing is at its other end"]));
    for (file, text) in [
        (
            "30-br-ext6.netdev",
            "[NetDev]\nName=br-ext6\nKind=bridge\nMTUBytes=1500\n\n\
             [Bridge]\nSTP=no\nForwardDelaySec=0\nMulticastSnooping=no\n",
        ),
        (
            "30-br-ext6.network",
            "[Match]\nName=br-ext6\n\n[Link]\nRequiredForOnline=no\n\n\
             [Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nConfigureWithoutCarrier=yes\n",
        ),
        (
            "31-br-ext6-uplink.network",
            "[Match]\nName=eth1\n\n[Link]\nRequiredForOnline=no\n\n\
             [Network]\nBridge=br-ext6\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
        ),
    ] {
        let expected = format!("# Managed by k8slab.capi.lxd_host.\n{text}");
        assert_eq!(host.machine.read(&format!("/etc/systemd/network/{file}")), Some(expected), "{file}");
    }

    step.run().expect_unchanged();
    step.check().expect_unchanged();
    assert_eq!(host.snapd.writes().len(), 2);
}

#[test]
fn drift_is_mended_and_nothing_else_touched() {
    let host = Host::new();
    let step = host.step();
    step.run().expect_changed();
    host.snapd.set_snap("lxd", "5.21/stable");
    host.snapd.set_option("refresh.hold", "2026-12-01T00:00:00Z");
    host.snapd.set_option("proxy.https", "http://proxy:3128");
    host.machine.write("/etc/systemd/network/10-mine.network", "[Match]\nName=eth0\n[Network]\nDHCP=yes\n");
    host.machine.write("/sys/class/net/br-ext6/bridge/multicast_snooping", "1\n");
    host.machine.write("/sys/class/net/br-ext6/mtu", "9000\n");
    let planned = step.check().expect_changed();
    let done = step.run().expect_changed();
    assert_eq!(planned.json["changes"], done.json["changes"]);
    assert_eq!(
        done.json["changes"],
        json!([
            "snap lxd: 5.21/stable -> 6/stable",
            "hold snap refreshes: forever",
            "bridge br-ext6: mtu: 9000 -> 1500",
            "bridge br-ext6: multicast_snooping: 1 -> 0",
        ])
    );
    step.run().expect_unchanged();
    assert_eq!(
        host.snapd.options(),
        [("proxy.https".into(), json!("http://proxy:3128")), ("refresh.hold".into(), json!("forever"))].into()
    );
    assert!(host.machine.read("/etc/systemd/network/10-mine.network").is_some());
}

#[test]
fn what_has_another_say_in_the_bridge_is_named() {
    let host = Host::new();
    let down = "eth1 is down: nothing is at its other end";
    assert_eq!(host.step().run().expect_changed().json["warnings"], json!([down]));
    let write = |file: &str, text: &str| host.machine.write(&format!("/etc/systemd/network/{file}"), text);
    write("10-cards.network", "[Match]\nName=eth*\n[Network]\nDHCP=yes\n");
    write("30-br-ext6.network.d/address.conf", "[Network]\nAddress=192.0.2.1/24\n");
    // These come later, or are of another link.
    write("99-cards.network", "[Match]\nName=eth*\n[Network]\nDHCP=yes\n");
    write("11-other.network", "[Match]\nName=wlan0\n[Network]\nDHCP=yes\n");
    host.machine.add_link("docker0");
    let expected = json!([
        "/etc/systemd/network/30-br-ext6.network.d/address.conf adds to /etc/systemd/network/30-br-ext6.network, and may say otherwise",
        "/etc/systemd/network/10-cards.network fits eth1 and comes before /etc/systemd/network/31-br-ext6-uplink.network: \
         systemd-networkd goes by it when the machine starts",
        "Docker has set the policy of the FORWARD chain to DROP; instances on the lab's bridges will have no network",
        down,
    ]);
    assert_eq!(host.step().run().expect_unchanged().json["warnings"], expected);
    assert_eq!(host.step().check().expect_unchanged().json["warnings"], expected);
}

#[test]
fn refreshes_may_have_their_time() {
    let host = Host::new();
    host.step().run().expect_changed();
    let timed = host.step().args(json!({"snap_refresh_mode": "timer"}));
    timed.run().expect_changed();
    assert_eq!(host.snapd.options(), [("refresh.timer".into(), json!("fri,03:00-04:00"))].into());
    timed.run().expect_unchanged();
}

#[test]
fn snapd_is_started_when_it_is_off() {
    let host = Host::new();
    std::fs::remove_file(host.machine.at("/run/units/snapd.socket")).unwrap();
    let done = host.step().run().expect_changed();
    assert_eq!(done.json["changes"][0], "start snapd.socket");
    assert!(host.machine.calls().contains(&"systemctl enable --now -- snapd.socket".to_owned()));
    host.step().run().expect_unchanged();
}

#[test]
fn snapds_faults_are_named_and_the_next_run_goes_on() {
    let host = Host::new();
    let step = host.step();
    host.snapd.set_seeded(false);
    let hasty = host.step().args(json!({"snap_seed_wait_timeout": 1}));
    hasty.run().expect_code("SNAP_SEED_TIMEOUT").expect_words("Initialize system state");
    host.snapd.set_seeded(true);
    host.step().args(json!({"snap_channel": "99/stable"})).run().expect_code("SNAP_CHANNEL_UNKNOWN");
    host.snapd.fail_next_change("cannot perform the following tasks:\n- Download snap \"lxd\": dial tcp: no such host");
    step.run().expect_code("SNAP_CHANGE_FAILED").expect_words("no such host");
    step.run().expect_changed();
    step.run().expect_unchanged();
}

#[test]
fn without_snapd_check_mode_plans_on() {
    let machine = Machine::bare();
    machine.add_link("eth1");
    machine.write("/run/systemd/system/.keep", "");
    machine.write("/run/units/snapd.socket", "");
    let step = machine.step("lxd_host").args(json!({"ext_bridge_uplink": "eth1"}));
    let planned = step.check().expect_changed();
    assert_eq!(planned.deferred().len(), 2, "snap and refresh: {}", planned.json);
    assert_eq!(planned.json["changes"][0], "install snap lxd from 6/stable");
    step.run().expect_code("SNAPD_UNREACHABLE").expect_words("base_system");
}

#[test]
fn the_distributions_package_comes_after_what_it_needs() {
    let host = Host::new();
    let step = host.step().args(json!({"install_method": "distro"}));
    let done = step.run().expect_changed();
    assert_eq!(done.json["changes"][0], "install iptables, nftables");
    assert_eq!(done.json["changes"][1], "install lxd");
    assert_eq!(done.json["snap"], json!(null));
    assert_eq!(host.snapd.writes(), [""; 0]);
    step.run().expect_unchanged();
}

#[test]
fn an_lxd_that_is_there_is_only_looked_at() {
    let host = Host::new();
    let step = host.step().args(json!({"install_method": "existing", "ext_bridge_enabled": false}));
    let before = host.machine.snapshot();
    step.run().expect_unchanged();
    assert_eq!((host.machine.snapshot(), host.machine.calls()), (before, vec![]));
    let absent = step.args(json!({"lxd_socket_path": host.machine.at("/no.socket")}));
    absent.run().expect_code("LXD_UNREACHABLE");
    let unready = absent.args(json!({"wait_ready": false})).run().expect_unchanged();
    assert_eq!(unready.json["lxd_version"], json!(null));
}

#[test]
fn an_lxd_that_does_not_come_is_waited_for() {
    let host = Host::new();
    let step = host.step().args(json!({"lxd_socket_path": host.machine.at("/no.socket"), "wait_ready_timeout": 1}));
    step.run().expect_code("WAIT_TIMEOUT").expect_words("no socket at");
}

#[test]
fn a_bridge_without_networkd() {
    let host = Host::new();
    for link in ["eth1", "br-ext6"] {
        for name in ["addr_gen_mode", "accept_ra"] {
            host.machine.write(&format!("/proc/sys/net/ipv6/conf/{link}/{name}"), "0\n");
        }
    }
    let step = host.step().args(json!({"install_method": "existing", "ext_bridge_backend": "iproute2"}));
    let planned = step.check().expect_changed();
    let done = step.run().expect_changed();
    assert_eq!(planned.json["changes"], done.json["changes"]);
    assert_eq!(
        host.machine.calls(),
        [
            "ip link add name br-ext6 mtu 1500 type bridge",
            "ip link set dev eth1 master br-ext6",
            "ip link set dev eth1 up",
            "ip link set dev br-ext6 up",
        ]
    );
    assert_eq!(host.machine.read("/sys/class/net/br-ext6/bridge/multicast_snooping").as_deref(), Some("0"));
    assert_eq!(host.machine.read("/proc/sys/net/ipv6/conf/eth1/addr_gen_mode").as_deref(), Some("1"));
    assert!(host.machine.read("/etc/systemd/network/30-br-ext6.netdev").is_none());
    step.run().expect_unchanged();
}

#[test]
fn an_uplink_that_the_host_needs_is_refused() {
    let host = Host::new();
    host.machine.write(
        "/proc/net/route",
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
         eth1\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
         eth1\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
    );
    let step = host.step().args(json!({"install_method": "existing"}));
    step.run().expect_code("UPLINK_DEFAULT_ROUTE").expect_words("ext_bridge_allow_default_route");
    step.check().expect_code("UPLINK_DEFAULT_ROUTE");
    assert!(!host.machine.at("/etc/systemd/network").exists());
    let done = step.args(json!({"ext_bridge_allow_default_route": true})).run().expect_changed();
    assert_eq!(done.json["warnings"][0], "eth1 has addresses of its own, which end in a bridge: 192.168.2.0/24");
}

#[test]
fn options_are_checked() {
    let host = Host::new();
    host.step().run().expect_changed();
    for (option, accepted, rejected) in [
        ("install_method", json!("existing"), json!("docker")),
        ("snap_name", json!("lxd"), json!("")),
        ("snap_channel", json!("latest/edge"), json!("6 stable")),
        ("snap_classic", json!("yes"), json!("maybe")),
        ("snap_seed_wait_timeout", json!("5"), json!(0)),
        ("snap_refresh_mode", json!("timer"), json!("never")),
        ("snap_refresh_hold_value", json!("2030-01-01T00:00:00Z"), json!("")),
        ("snap_refresh_timer_value", json!("mon"), json!("")),
        ("distro_package", json!("incus"), json!("-y")),
        ("wait_ready", json!(false), json!("later")),
        ("wait_ready_timeout", json!(1), json!(-1)),
        ("ext_bridge_enabled", json!(false), json!(3)),
        ("ext_bridge_backend", json!("iproute2"), json!("ifupdown")),
        ("ext_bridge_name", json!("br-ext6"), json!("a-name-of-16-let")),
        ("ext_bridge_uplink", json!("eth1"), json!("")),
        ("ext_bridge_uplink", json!("eth1"), json!("br-ext6")),
        ("ext_bridge_uplink", json!("eth1"), json!("*")),
        ("ext_bridge_allow_default_route", json!(true), json!("perhaps")),
        ("ext_bridge_stp", json!(true), json!([])),
        ("ext_bridge_mtu", json!(1280), json!(1279)),
        ("ext_bridge_forward_delay", json!(15), json!(-1)),
        ("ext_bridge_link_local", json!(false), json!("both")),
        ("ext_bridge_link_local", json!("ipv6"), json!(6)),
        ("ext_bridge_accept_ra", json!(true), json!("sometimes")),
        ("networkd_dir", json!("/run/systemd/network"), json!("network")),
        ("networkd_file_priority", json!(98), json!(99)),
        ("flow_control_snap", json!(false), json!("half")),
        ("flow_control_refresh", json!(false), json!("half")),
        ("flow_control_bridge", json!(false), json!("half")),
        ("lxd_socket_path", json!(format!("unix:{}", host.lxd.socket().display())), json!("relative")),
    ] {
        host.step().args(json!({option: accepted})).check().ok();
        let failed = host.step().args(json!({option: rejected})).check();
        assert!(["OPTION_INVALID", "OPTION_MISSING"].contains(&failed.code()), "{option}: {rejected}: {}", failed.json);
    }
    host.step().run().expect_unchanged();
}
