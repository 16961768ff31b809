use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::api::Image;

/// A cluster whose load balancer is the provider's to make, bent.
fn objects(bend: impl FnOnce(&mut Objects)) -> Objects {
    let spec = json!({"secretRef": {"name": "incus-identity"}, "loadBalancer": {"lxc": {"instanceSpec": {"profiles": ["capi-base"], "image": {"name": "haproxy"}}}}});
    let object =
        json!({"apiVersion": "v1", "kind": "LXCCluster", "metadata": {"name": "c1-x", "namespace": "capi-clusters"}, "spec": spec});
    let mut object: LXCCluster = serde_json::from_value(object).unwrap();
    object.metadata.finalizers = Some(vec!["lxccluster.infrastructure.cluster.x-k8s.io".into()]);
    let cluster =
        json!({"apiVersion": "v1", "kind": "Cluster", "metadata": {"name": "c1", "namespace": "capi-clusters"}, "spec": {}});
    let mut objects = Objects { object, cluster: serde_json::from_value(cluster).unwrap(), leaving: Vec::new() };
    bend(&mut objects);
    objects
}

fn lxc(objects: &mut Objects) -> &mut HaproxyBalancer {
    match &mut objects.object.spec.load_balancer {
        LoadBalancer::Lxc(haproxy) => haproxy,
        other => panic!("{other:?}"),
    }
}

fn at(host: &'static str) -> impl Fn(&mut Objects) {
    move |objects| objects.object.spec.control_plane_endpoint = Some(Endpoint { host: host.into(), port: 6443 })
}

fn deleted(objects: &mut Objects) {
    objects.object.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
}

/// The load balancer, running and reachable, with two machines behind it; it serves these.
fn seen(serves: &[&str]) -> Observed {
    let control_plane: BTreeMap<_, _> =
        [("cp-1", "10.77.0.11"), ("cp-2", "10.77.0.12")].map(|(name, address)| (name.to_owned(), address.to_owned())).into();
    let mut backends = control_plane.clone();
    backends.retain(|name, _| serves.contains(&name.as_str()));
    let mut config = Owner { cluster: "c1", namespace: "capi-clusters" }.marks(Role::LoadBalancer, None);
    let configuration = load_balancer::configuration(None, &backends, true).unwrap();
    config.insert(load_balancer::SERVED_KEY.into(), load_balancer::digest(&configuration));
    let instance = Instance { name: "c1-x-deb12-lb".into(), status: "Running".into(), config, ..Instance::default() };
    Observed { instance: Some(instance), addresses: vec!["10.77.0.5".into()], control_plane, ..Observed::default() }
}

fn but(mut seen: Observed, bend: impl FnOnce(&mut Instance)) -> Observed {
    bend(seen.instance.as_mut().unwrap());
    seen
}

/// What comes next, as one line.
fn next(objects: &Objects, seen: &Observed) -> String {
    let step = match scope(objects) {
        Ok(scope) => match plan(&scope, seen) {
            Next::Act(InstanceAction::Create { body, target }) => {
                let target = target.map(|target| format!(" on {target}")).unwrap_or_default();
                return format!("create {} of {}{target}", body["name"], body["source"]["alias"]);
            }
            Next::Act(action) => return format!("{action:?}"),
            Next::Serve { configuration, address } => {
                let servers = configuration.lines().filter_map(|line| line.trim().strip_prefix("server "));
                let servers: Vec<_> = servers.filter_map(|line| line.split(' ').next()).collect();
                return format!("serve {} at {address}", servers.join(" "));
            }
            Next::Step(step) => step,
        },
        Err(step) => step,
    };
    match step {
        Step::RestFor(pause, report) => format!("{}, for {pause:?}", rests(Some(report))),
        Step::Rest(report) => rests(report),
        Step::Again => "Again".into(),
        Step::Edit(edit) => format!("{edit:?}"),
    }
}

fn rests(report: Option<Report>) -> String {
    let Some(report) = report else { return String::new() };
    match report.state {
        Some(ConditionState { cause: Cause::Provisioned, .. }) => format!("Provisioned {:?}", report.backends),
        Some(state) => format!("{:?}: {}", state.cause, state.message),
        None => format!("paused: {}", report.paused),
    }
}

/// Each case: its name, what Kubernetes and LXD know, and how the next step begins.
fn check(cases: Vec<(&str, Objects, Observed, &str)>) {
    for (case, objects, seen, expected) in cases {
        let next = next(&objects, &seen);
        assert!(next.starts_with(expected) && (!expected.is_empty() || next.is_empty()), "{case}: {next}");
    }
}

/// LXD tells of no address, so that nothing else would have the cluster looked at when one comes.
#[test]
fn an_address_that_is_late_is_looked_for_again() {
    let (second, at) = (Some(Duration::from_secs(1)), at("10.77.0.5"));
    let late = || Observed { machine_is_late: second, ..seen(&["cp-1", "cp-2"]) };
    let only_ipv6 = || Observed { addresses: vec!["fd42:77:1::5".into()], ..seen(&["cp-1", "cp-2"]) };
    for (case, objects, seen, expected) in [
        ("a machine of the control plane", objects(&at), late(), r#"Provisioned Some(["cp-1", "cp-2"]), for 1s"#),
        (
            "one that has come is served first",
            objects(&at),
            Observed { machine_is_late: second, ..seen(&["cp-1"]) },
            "serve cp-1 cp-2 at 10.77.0.5",
        ),
        (
            "the load balancer",
            objects(|_| ()),
            Observed { balancer_is_late: second, ..only_ipv6() },
            r#"Waiting("CreatingInstance"): the load balancer has no IPv4 address yet, for 1s"#,
        ),
        ("all are there", objects(&at), seen(&["cp-1", "cp-2"]), r#"Provisioned Some(["cp-1", "cp-2"])"#),
    ] {
        assert_eq!(next(&objects, &seen), expected, "{case}");
    }
}

#[test]
fn plans() {
    let both = || seen(&["cp-1", "cp-2"]);
    let custom = |objects: &mut Objects| lxc(objects).custom_haproxy_config_template = Some("{{ len . }}".into());
    let leaving = |objects: &mut Objects| {
        at("10.77.0.5")(objects);
        objects.leaving.push("cp-1".into());
    };
    let every_one_leaving = |objects: &mut Objects| {
        leaving(objects);
        objects.leaving.push("cp-2".into());
    };
    let missing = Observed { missing: Some("LXD has no profile capi-base".into()), ..Observed::default() };
    let endpoint =
        r#"Merge(Object {"spec": Object {"controlPlaneEndpoint": Object {"host": String("10.77.0.5"), "port": Number(6443)}}})"#;
    let created = r#"create "c1-x-deb12-lb" of "haproxy""#;
    let all = r#"Provisioned Some(["cp-1", "cp-2"])"#;
    check(vec![
        ("no Cluster owns it", objects(|it| it.cluster = None), Observed::default(), r#"Waiting("WaitingForOwner")"#),
        (
            "a paused Cluster",
            objects(|it| it.cluster.as_mut().unwrap().spec.paused = Some(true)),
            Observed::default(),
            "paused: true",
        ),
        (
            "somebody else's to manage",
            objects(|it| it.object.metadata.annotations = Some([("cluster.x-k8s.io/managed-by".into(), "x".into())].into())),
            both(),
            "",
        ),
        ("no finalizer", objects(|it| it.object.metadata.finalizers = None), Observed::default(), "AddFinalizer"),
        ("nothing there", objects(|_| ()), Observed::default(), created),
        ("a profile is missing", objects(|_| ()), missing, "Failed: LXD has no profile capi-base"),
        ("made", objects(|_| ()), but(both(), |it| it.status = "Stopped".into()), "Start"),
        ("started", objects(|_| ()), Observed { addresses: vec![], ..both() }, "AwaitAddress(None)"),
        (
            "reachable",
            objects(|_| ()),
            but(both(), |it| drop(it.config.remove(load_balancer::SERVED_KEY))),
            "serve cp-1 cp-2 at 10.77.0.5",
        ),
        ("it serves", objects(|_| ()), both(), endpoint),
        ("known", objects(at("10.77.0.5")), both(), all),
        ("at a name that somebody chose", objects(at("api.example")), both(), all),
        ("a machine more", objects(at("10.77.0.5")), seen(&["cp-1"]), "serve cp-1 cp-2 at 10.77.0.5"),
        ("a machine goes", objects(leaving), both(), "serve cp-2 at 10.77.0.5"),
        ("every machine goes", objects(every_one_leaving), both(), "Provisioned Some([])"),
        ("a machine goes, and is served no more", objects(leaving), seen(&["cp-2"]), r#"Provisioned Some(["cp-2"])"#),
        ("restarted, with its other address first", objects(at("10.77.0.99")), both(), r#"AwaitAddress(Some("10.77.0.99"))"#),
        (
            "restarted, with none yet",
            objects(at("10.77.0.5")),
            Observed { addresses: vec![], ..both() },
            r#"AwaitAddress(Some("10.77.0.5"))"#,
        ),
        (
            "an image of nobody's",
            objects(|it| lxc(it).instance_spec.image = Image::default()),
            Observed::default(),
            r#"create "c1-x-deb12-lb" of "haproxy""#,
        ),
        ("a target on a server alone", objects(|it| lxc(it).instance_spec.target = "m2".into()), Observed::default(), created),
        (
            "a target in a cluster of servers",
            objects(|it| lxc(it).instance_spec.target = "m2".into()),
            Observed { clustered: true, ..Observed::default() },
            r#"create "c1-x-deb12-lb" of "haproxy" on m2"#,
        ),
        (
            "somebody else's instance",
            objects(|_| ()),
            but(both(), |it| it.config.clear()),
            "Failed: there is an instance c1-x-deb12-lb",
        ),
        (
            "a template that cannot be rendered",
            objects(custom),
            Observed::default(),
            "Failed: customHAProxyConfigTemplate: `len .`",
        ),
    ]);
}

#[test]
fn plans_with_a_load_balancer_of_somebody_elses() {
    let external =
        |objects: &mut Objects| objects.object.spec.load_balancer = LoadBalancer::External(crate::api::ExternalBalancer {});
    let oci = |objects: &mut Objects| objects.object.spec.load_balancer = LoadBalancer::Oci(HaproxyBalancer::default());
    check(vec![
        ("external, without an endpoint", objects(external), Observed::default(), "Failed: with loadBalancer.external"),
        (
            "external",
            objects(|it| {
                external(it);
                at("api.example")(it);
            }),
            Observed::default(),
            "Provisioned None",
        ),
        ("an application container", objects(oci), Observed::default(), "Aborted: this stand-in knows"),
        (
            "nodes are to be patched",
            objects(|it| it.object.spec.cloud_provider_node_patch = true),
            Observed::default(),
            "Aborted: this stand-in patches no nodes",
        ),
    ]);
}

#[test]
fn plans_the_end() {
    let both = || seen(&["cp-1", "cp-2"]);
    check(vec![
        ("goes", objects(deleted), both(), "Stop"),
        ("goes, stopped", objects(deleted), but(both(), |it| it.status = "Stopped".into()), "Delete"),
        ("goes, gone", objects(deleted), Observed::default(), "RemoveFinalizer"),
        ("goes, somebody else's", objects(deleted), but(both(), |it| it.config.clear()), "RemoveFinalizer"),
        (
            "went",
            objects(|it| {
                deleted(it);
                it.object.metadata.finalizers = None;
            }),
            Observed::default(),
            "",
        ),
    ]);
}

/// Without an identity nothing is promised: a cluster is given its finalizer only after LXD was asked.
#[test]
fn the_finalizer_comes_after_the_identity() {
    let fresh = objects(|it| it.object.metadata.finalizers = None);
    assert!(scope(&fresh).is_ok(), "the identity is asked for first");
    let deleted = objects(|it| {
        deleted(it);
        it.object.metadata.finalizers = None;
    });
    assert!(matches!(scope(&deleted), Err(Step::Rest(None))), "and nothing is done to one that may go");
}

#[test]
fn the_image_is_the_real_providers_unless_one_is_named() {
    let objects = objects(|it| lxc(it).instance_spec.image = Image::default());
    let Next::Act(InstanceAction::Create { body, .. }) = plan(&scope(&objects).ok().unwrap(), &Observed::default()) else {
        panic!("it is made")
    };
    let source = json!({
        "type": "image", "mode": "pull", "protocol": "simplestreams", "alias": "haproxy",
        "server": "https://images.linuxcontainers.org/capn/",
    });
    assert_eq!(body["source"], source);
}

#[test]
fn a_port_of_ones_own_changes_nothing() {
    let objects = objects(|it| it.object.spec.control_plane_endpoint = Some(Endpoint { host: "10.77.0.5".into(), port: 7443 }));
    assert_eq!(next(&objects, &seen(&["cp-1", "cp-2"])), r#"Provisioned Some(["cp-1", "cp-2"])"#);
}

#[test]
fn what_is_served_is_told_in_both_contracts() {
    let objects = objects(at("10.77.0.5"));
    let Next::Step(Step::Rest(Some(report))) = plan(&scope(&objects).ok().unwrap(), &seen(&["cp-1", "cp-2"])) else {
        panic!("all is done")
    };
    for contract in [Contract::V1beta1, Contract::V1beta2] {
        let status = objects.object.status(&report, contract, Timestamp::UNIX_EPOCH);
        assert!(status.contract.is_provisioned() && status.contract.holds("LoadBalancerAvailable"), "{contract:?}");
        assert_eq!(status.backends.unwrap(), ["cp-1", "cp-2"]);
    }
}
