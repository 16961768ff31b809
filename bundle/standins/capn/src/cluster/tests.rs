use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

/// A cluster whose load balancer is the provider's to make, bent.
fn objects(bend: impl FnOnce(&mut Objects)) -> Objects {
    let spec =
        json!({"secretRef": {"name": "incus-identity"}, "loadBalancer": {"lxc": {"instanceSpec": {"profiles": ["capi-base"]}}}});
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
fn seen(serves: &[&str]) -> Seen {
    let control_plane: BTreeMap<_, _> =
        [("cp-1", "10.77.0.11"), ("cp-2", "10.77.0.12")].map(|(name, address)| (name.to_owned(), address.to_owned())).into();
    let mut backends = control_plane.clone();
    backends.retain(|name, _| serves.contains(&name.as_str()));
    let mut config = Owner { cluster: "c1", namespace: "capi-clusters" }.marks(Role::LoadBalancer, None);
    let configuration = balancer::configuration(None, API_PORT, &backends, true).unwrap();
    config.insert(balancer::SERVED_KEY.into(), balancer::digest(&configuration));
    let instance = Instance { name: "c1-x-deb12-lb".into(), status: "Running".into(), config, ..Instance::default() };
    Seen { instance: Some(instance), addresses: vec!["10.77.0.5".into()], control_plane, ..Seen::default() }
}

fn but(mut seen: Seen, bend: impl FnOnce(&mut Instance)) -> Seen {
    bend(seen.instance.as_mut().unwrap());
    seen
}

/// What comes next, as one line.
fn next(objects: &Objects, seen: &Seen) -> String {
    let step = match gate(objects) {
        Ok(subject) => match plan(&subject, seen) {
            Next::Do(Deed::Create { body, .. }) => return format!("create {} of {}", body["name"], body["source"]["alias"]),
            Next::Do(deed) => return format!("{deed:?}"),
            Next::Serve(Serving { configuration, address, port }) => {
                let servers = configuration.lines().filter_map(|line| line.trim().strip_prefix("server "));
                let servers: Vec<_> = servers.filter_map(|line| line.split(' ').next()).collect();
                return format!("serve {} at {address}:{port}", servers.join(" "));
            }
            Next::Step(step) => step,
        },
        Err(step) => step,
    };
    match step {
        Step::Again => "Again".into(),
        Step::Edit(edit) => format!("{edit:?}"),
        Step::Rest(None) => String::new(),
        Step::Rest(Some(report)) => match report.verdict {
            Some(verdict) if verdict.holds => format!("{} {:?}", verdict.reason, report.backends),
            Some(verdict) => format!("{}: {}", verdict.reason, verdict.message),
            None => format!("paused: {}", report.paused),
        },
    }
}

#[test]
fn plans() {
    let both = || seen(&["cp-1", "cp-2"]);
    let external =
        |objects: &mut Objects| objects.object.spec.load_balancer = LoadBalancer::External(crate::api::ExternalBalancer {});
    let oci = |objects: &mut Objects| objects.object.spec.load_balancer = LoadBalancer::Oci(HaproxyBalancer::default());
    let custom = |objects: &mut Objects| lxc(objects).custom_haproxy_config_template = Some("{{ len . }}".into());
    let leaving = |objects: &mut Objects| {
        at("10.77.0.5")(objects);
        objects.leaving.push("cp-1".into());
    };
    let every_one_leaving = |objects: &mut Objects| {
        leaving(objects);
        objects.leaving.push("cp-2".into());
    };
    let lacking = Seen { lacking: Some(Verdict::no("ProfileNotFound", "LXD has no profile capi-base")), ..Seen::default() };
    let endpoint =
        r#"Merge(Object {"spec": Object {"controlPlaneEndpoint": Object {"host": String("10.77.0.5"), "port": Number(6443)}}})"#;
    let all = r#"Provisioned Some(["cp-1", "cp-2"])"#;
    for (case, objects, seen, expected) in vec![
        ("no Cluster owns it", objects(|it| it.cluster = None), Seen::default(), "WaitingForOwner"),
        ("a paused Cluster", objects(|it| it.cluster.as_mut().unwrap().spec.paused = Some(true)), Seen::default(), "paused: true"),
        (
            "somebody else's to manage",
            objects(|it| it.object.metadata.labels = Some([("cluster.x-k8s.io/managed-by".into(), "x".into())].into())),
            both(),
            "",
        ),
        ("no finalizer", objects(|it| it.object.metadata.finalizers = None), Seen::default(), "AddFinalizer"),
        ("nothing there", objects(|_| ()), Seen::default(), r#"create "c1-x-deb12-lb" of "haproxy""#),
        ("a profile is missing", objects(|_| ()), lacking, "ProfileNotFound"),
        ("made", objects(|_| ()), but(both(), |it| it.status = "Stopped".into()), "Start"),
        ("started", objects(|_| ()), Seen { addresses: vec![], ..both() }, "AwaitAddress"),
        (
            "reachable",
            objects(|_| ()),
            but(both(), |it| drop(it.config.remove(balancer::SERVED_KEY))),
            "serve cp-1 cp-2 at 10.77.0.5:6443",
        ),
        ("it serves", objects(|_| ()), both(), endpoint),
        ("known", objects(at("10.77.0.5")), both(), all),
        ("at a name that somebody chose", objects(at("api.example")), both(), all),
        ("a machine more", objects(at("10.77.0.5")), seen(&["cp-1"]), "serve cp-1 cp-2 at 10.77.0.5:6443"),
        ("a machine goes", objects(leaving), both(), "serve cp-2 at 10.77.0.5:6443"),
        ("every machine goes", objects(every_one_leaving), both(), "Provisioned Some([])"),
        ("a machine goes, and is served no more", objects(leaving), seen(&["cp-2"]), r#"Provisioned Some(["cp-2"])"#),
        ("another address than before", objects(at("10.77.0.99")), both(), "EndpointLost"),
        ("somebody else's instance", objects(|_| ()), but(both(), |it| it.config.clear()), "InstanceNameTaken"),
        (
            "a template that cannot be rendered",
            objects(custom),
            Seen::default(),
            "TemplateInvalid: customHAProxyConfigTemplate: `len .`",
        ),
        ("external, without an endpoint", objects(external), Seen::default(), "EndpointMissing"),
        (
            "external",
            objects(|it| {
                external(it);
                at("api.example")(it);
            }),
            Seen::default(),
            "Provisioned None",
        ),
        ("an application container", objects(oci), Seen::default(), "LoadBalancerUnsupported"),
        ("nodes are to be patched", objects(|it| it.object.spec.cloud_provider_node_patch = true), both(), "NodePatchUnsupported"),
        ("goes", objects(deleted), both(), "Stop"),
        ("goes, stopped", objects(deleted), but(both(), |it| it.status = "Stopped".into()), "Delete"),
        ("goes, gone", objects(deleted), Seen::default(), "RemoveFinalizer"),
        ("goes, somebody else's", objects(deleted), but(both(), |it| it.config.clear()), "RemoveFinalizer"),
        (
            "went",
            objects(|it| {
                deleted(it);
                it.object.metadata.finalizers = None;
            }),
            Seen::default(),
            "",
        ),
    ] {
        let next = next(&objects, &seen);
        assert!(next.starts_with(expected) && (!expected.is_empty() || next.is_empty()), "{case}: {next}");
    }
}

#[test]
fn members_of_lxds_cluster_are_failure_domains() {
    let objects = objects(at("10.77.0.5"));
    let seen = Seen { members: vec!["m1".into(), "m2".into()], ..seen(&["cp-1", "cp-2"]) };
    let Next::Step(Step::Rest(Some(report))) = plan(&gate(&objects).ok().unwrap(), &seen) else { panic!("all is done") };
    let status = objects.object.status(&report, Timestamp::UNIX_EPOCH);
    assert_eq!(json!(status.failure_domains), json!([{"name": "m1", "controlPlane": true}, {"name": "m2", "controlPlane": true}]));
    assert_eq!(status.initialization, Some(Initialization { provisioned: true }));
    assert!(conditions::holds(&status.conditions, conditions::LOAD_BALANCER));
}
