use super::*;
use crate::api::LXCClusterStatus;
use k8s_openapi::{
    ByteString,
    apimachinery::pkg::apis::meta::v1::{OwnerReference, Time},
};

/// A machine whose Cluster is ready for it and whose bootstrap data is there.
fn objects() -> Objects {
    let metadata =
        |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "lab"}});
    let with = |mut object: Value, more: Value| {
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object
    };
    let spec = json!({"profiles": ["capi-base"], "devices": ["eth1,type=nic,network=ext"], "image": {"name": "kubeadm/VERSION"}});
    let mut object: LXCMachine = serde_json::from_value(with(metadata("LXCMachine", "c1-cp-1"), json!({"spec": spec}))).unwrap();
    object.metadata.finalizers = Some(vec!["lxcmachine.infrastructure.cluster.x-k8s.io".into()]);
    let machine = json!({"spec": {"clusterName": "c1", "version": "v1.35.0", "bootstrap": {"dataSecretName": "c1-cp-1"}}});
    let infrastructure = json!({
        "spec": {"secretRef": {"name": "incus-identity"}, "loadBalancer": {"lxc": {}}, "skipDefaultKubeadmProfile": true},
        "status": {"ready": true},
    });
    Objects {
        object,
        machine: serde_json::from_value(with(metadata("Machine", "c1-cp-1"), machine)).unwrap(),
        cluster: serde_json::from_value(with(metadata("Cluster", "c1"), json!({"spec": {}}))).unwrap(),
        infrastructure: serde_json::from_value(with(metadata("LXCCluster", "c1"), infrastructure)).unwrap(),
        bootstrap: Some(Bootstrap { format: "cloud-config".into(), data: "#cloud-config".into() }),
    }
}

fn with(bend: impl FnOnce(&mut Objects)) -> Objects {
    let mut objects = objects();
    bend(&mut objects);
    objects
}

fn identified(objects: &mut Objects) {
    objects.object.spec.provider_id = Some("lxc:///c1-cp-1".into());
}

fn deleted(objects: &mut Objects) {
    objects.object.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
}

/// The machine's own instance, running and reachable, bent.
fn seen(bend: impl FnOnce(&mut Instance)) -> Observed {
    let mut config = Owner { cluster: "c1", namespace: "lab" }.marks(Role::Worker, Some("c1-cp-1"));
    config.insert(USER_DATA_KEY.into(), "#cloud-config".into());
    let mut instance =
        Instance { name: "c1-cp-1".into(), kind: "container".into(), status: "Running".into(), config, ..Instance::default() };
    bend(&mut instance);
    Observed { instance: Some(instance), addresses: vec!["10.77.0.5".into(), "fd42:77:1::5".into()], ..Observed::default() }
}

fn clustered() -> Server {
    let mut server = Server::default();
    server.environment.server_clustered = true;
    server
}

/// What comes next, as one line.
fn next(objects: &Objects, seen: &Observed) -> String {
    let step = match scope(objects) {
        Ok(scope) => match plan(&scope, seen) {
            Next::Act(InstanceAction::Create { body, target }) => {
                return format!("create {} on {target:?}", body["source"]["alias"]);
            }
            Next::Act(InstanceAction::Seed(file)) => return format!("seed {}", file.path),
            Next::Act(action) => return format!("{action:?}"),
            Next::Hook(present) => return format!("Hook({present})"),
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
        Some(ConditionState { cause: Cause::Provisioned, .. }) => format!("Provisioned {}", report.addresses.join(" ")),
        Some(ConditionState { cause: Cause::Waiting(reason) | Cause::Lost(reason), message }) => format!("{reason}: {message}"),
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

#[test]
fn plans() {
    let nothing = Observed::default;
    let running = || seen(|_| ());
    let missing = || Observed { missing: Some("LXD has no image kubeadm/v1.35.0".into()), ..Observed::default() };
    let create = r#"create "kubeadm/v1.35.0" on None"#;
    check(vec![
        ("no Machine owns it", with(|it| it.machine = None), nothing(), "WaitingForOwner"),
        ("no Cluster", with(|it| it.cluster = None), nothing(), "WaitingForCluster"),
        ("a paused Cluster", with(|it| it.cluster.as_mut().unwrap().spec.paused = Some(true)), nothing(), "paused: true"),
        ("no finalizer", with(|it| it.object.metadata.finalizers = None), nothing(), "AddFinalizer"),
        ("no LXCCluster", with(|it| it.infrastructure = None), nothing(), "WaitingForClusterInfrastructure"),
        (
            "it is not ready",
            with(|it| it.infrastructure.as_mut().unwrap().status = None),
            nothing(),
            "WaitingForClusterInfrastructure",
        ),
        ("no bootstrap data", with(|it| it.bootstrap = None), nothing(), "WaitingForBootstrapData"),
        ("everything is there", objects(), nothing(), create),
        ("no image", objects(), missing(), "Failed: LXD has no image kubeadm/v1.35.0"),
        ("made", objects(), seen(|it| it.status = "Stopped".into()), "seed /opt/cluster-api/install-kubeadm.sh"),
        (
            "a virtual machine made",
            objects(),
            seen(|it| {
                it.kind = "virtual-machine".into();
                it.status = "Stopped".into();
            }),
            "Start",
        ),
        ("started", objects(), Observed { addresses: vec![], ..running() }, "AwaitAddress(None)"),
        ("reachable", objects(), running(), r#"Merge(Object {"spec": Object {"providerID": String("lxc:///c1-cp-1")}})"#),
        ("known", with(identified), running(), "Provisioned 10.77.0.5 fd42:77:1::5"),
        (
            "known, and IPv4 is late",
            with(identified),
            Observed { addresses: vec!["fd42:77:1::5".into()], is_late: Some(Duration::from_secs(1)), ..running() },
            "Provisioned fd42:77:1::5, for 1s",
        ),
        (
            "the same after a move",
            with(|it| {
                identified(it);
                it.infrastructure.as_mut().unwrap().status = None;
            }),
            running(),
            "Provisioned",
        ),
        (
            "other bootstrap data",
            with(|it| {
                identified(it);
                it.bootstrap.as_mut().unwrap().data = "other".into();
            }),
            running(),
            "Provisioned",
        ),
        ("deleted by somebody", with(identified), nothing(), "InstanceDeleted: the instance c1-cp-1 is gone"),
        (
            "stopped by somebody",
            with(identified),
            seen(|it| it.status = "Stopped".into()),
            "InstanceNotRunning: the instance c1-cp-1 is Stopped",
        ),
        ("somebody else's", objects(), seen(|it| it.config.clear()), "Failed: there is an instance c1-cp-1"),
        (
            "another namespace's",
            objects(),
            seen(|it| drop(it.config.insert("user.cluster-namespace".into(), "other".into()))),
            "Failed: there is an instance c1-cp-1",
        ),
    ]);
}

#[test]
fn plans_by_what_is_written() {
    let nothing = Observed::default;
    let create = r#"create "kubeadm/v1.35.0" on None"#;
    check(vec![
        (
            "a device that cannot be read",
            with(|it| it.object.spec.devices = vec!["eth1".into()]),
            nothing(),
            "Aborted: the device `eth1`",
        ),
        ("no version", with(|it| it.machine.as_mut().unwrap().spec.version = None), nothing(), "Aborted: the image's name"),
        (
            "an application container",
            with(|it| it.object.spec.instance_type = "kind".into()),
            nothing(),
            "Aborted: instances of type `kind`",
        ),
        ("ignition", with(|it| it.bootstrap.as_mut().unwrap().format = "ignition".into()), nothing(), "Aborted: bootstrap data"),
        (
            "an unknown shorthand",
            with(|it| it.object.spec.image.name = "mine:x".into()),
            nothing(),
            "Aborted: the image's name `mine:x`",
        ),
        ("a target on a server alone", with(|it| it.object.spec.target = "m2".into()), nothing(), create),
        (
            "a target in a cluster of servers",
            with(|it| it.object.spec.target = "m2".into()),
            Observed { server: clustered(), ..Observed::default() },
            r#"create "kubeadm/v1.35.0" on Some("m2")"#,
        ),
    ]);
}

#[test]
fn plans_the_end() {
    let nothing = Observed::default;
    let running = || seen(|_| ());
    check(vec![
        ("goes", with(deleted), running(), "Stop"),
        ("goes, stopped", with(deleted), seen(|it| it.status = "Stopped".into()), "Delete"),
        ("goes, gone", with(deleted), nothing(), "RemoveFinalizer"),
        ("goes, somebody else's", with(deleted), seen(|it| it.config.clear()), "RemoveFinalizer"),
        (
            "goes, and no Machine any more",
            with(|it| {
                deleted(it);
                it.machine = None;
            }),
            running(),
            "Stop",
        ),
        (
            "went",
            with(|it| {
                deleted(it);
                it.object.metadata.finalizers = None;
            }),
            nothing(),
            "",
        ),
    ]);
}

/// What a cluster says whose load balancer, working or not, sends requests to the machine.
fn serving(holds: bool) -> LXCClusterStatus {
    let mut status = LXCClusterStatus { backends: Some(vec!["c1-cp-1".into()]), ..LXCClusterStatus::default() };
    let state = if holds { ConditionState::provisioned() } else { ConditionState::new(Cause::Failed, "x") };
    let seen = Observation { paused: false, provisioned: true, state: Some(&state), generation: None };
    status.contract.tell(Contract::default(), &conditions::LOAD_BALANCER, &seen, Timestamp::UNIX_EPOCH);
    status
}

#[test]
fn a_control_plane_machine_ends_when_nobody_is_sent_to_it_any_more() {
    let (not_served, worker, external) = (LXCClusterStatus { backends: Some(vec![]), ..serving(true) }, true, true);
    let known = "Provisioned 10.77.0.5";
    for (case, held, goes, status, is_worker, is_external, expected) in [
        ("new", false, false, &serving(true), !worker, !external, "Hook(true)"),
        ("held", true, false, &serving(true), !worker, !external, known),
        ("a worker", false, false, &serving(true), worker, !external, known),
        ("no load balancer of ours", false, false, &serving(true), !worker, external, known),
        ("to go, and still served", true, true, &serving(true), !worker, !external, known),
        ("to go, and served no more", true, true, &not_served, !worker, !external, "Hook(false)"),
        ("to go, and the load balancer is broken", true, true, &serving(false), !worker, !external, "Hook(false)"),
        ("to go, and let go", false, true, &not_served, !worker, !external, known),
    ] {
        let objects = with(|it| {
            identified(it);
            let infrastructure = it.infrastructure.as_mut().unwrap();
            infrastructure.status = Some(status.clone());
            if is_external {
                infrastructure.spec.load_balancer = serde_json::from_value(json!({"external": {}})).unwrap();
            }
            let machine = &mut it.machine.as_mut().unwrap().metadata;
            machine.deletion_timestamp = goes.then_some(Time(Timestamp::UNIX_EPOCH));
            machine.annotations = held.then(|| [(core::PRE_DRAIN_HOOK.to_owned(), String::new())].into());
            machine.labels = (!is_worker).then(|| [(core::CONTROL_PLANE_LABEL.to_owned(), String::new())].into());
        });
        let next = next(&objects, &seen(|_| ()));
        assert!(next.starts_with(expected), "{case}: {next}");
    }
}

#[test]
fn a_machine_goes_when_nobody_is_sent_to_it_any_more() {
    for (case, status, expected) in [
        ("still served", serving(true), "Deleting"),
        ("the load balancer is broken", serving(false), "Stop"),
        ("served no more", LXCClusterStatus { backends: Some(vec![]), ..serving(true) }, "Stop"),
    ] {
        let objects = with(|it| {
            deleted(it);
            it.infrastructure.as_mut().unwrap().status = Some(status);
        });
        let next = next(&objects, &seen(|_| ()));
        assert!(next.starts_with(expected), "{case}: {next}");
    }
}

#[test]
fn the_instance_is_what_the_machine_says() {
    let objects = with(|it| {
        it.object.spec.config =
            [("limits.cpu", "2"), ("user.cluster-name", "mine")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        it.object.spec.flavor = "c2-m4".into();
    });
    let Next::Act(InstanceAction::Create { body, .. }) = plan(&scope(&objects).ok().unwrap(), &Observed::default()) else {
        panic!("it is made")
    };
    let expected = json!({
        "name": "c1-cp-1", "type": "container", "instance_type": "c2-m4", "profiles": ["capi-base"],
        "devices": {"eth1": {"type": "nic", "network": "ext"}},
        "source": {"type": "image", "alias": "kubeadm/v1.35.0"},
        "config": {
            "limits.cpu": "2", "cloud-init.user-data": "#cloud-config", "user.cluster-name": "c1", "user.cluster-namespace": "lab",
            "user.cluster-role": "worker", "user.machine-name": "c1-cp-1",
        },
    });
    assert_eq!(body, expected);
}

#[test]
fn what_is_written_for_a_machine_is_stronger_than_the_providers_own() {
    let made = |bend: fn(&mut Objects)| {
        let objects = with(bend);
        match plan(&scope(&objects).ok().unwrap(), &Observed::default()) {
            Next::Act(InstanceAction::Create { body, .. }) => body,
            other => panic!("{other:?}"),
        }
    };
    let body = made(|it| {
        it.infrastructure.as_mut().unwrap().spec.skip_default_kubeadm_profile = false;
        let mine = [(USER_DATA_KEY, "#mine"), ("security.nesting", "false")];
        it.object.spec.config = mine.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        it.object.spec.devices = ["00-boot,type=none", "eth1,type=nic", "eth1,network=ext"].map(str::to_owned).into();
    });
    assert_eq!((&body["config"][USER_DATA_KEY], &body["config"]["security.nesting"]), (&json!("#mine"), &json!("false")));
    assert_eq!(body["devices"]["00-boot"], json!({"type": "none"}));
    assert_eq!(body["devices"]["eth1"], json!({"type": "nic", "network": "ext"}));
    assert_eq!(body["config"]["security.privileged"], "true");
    // A profile for containers is no use to a virtual machine.
    let body = made(|it| {
        it.infrastructure.as_mut().unwrap().spec.skip_default_kubeadm_profile = false;
        it.object.spec.instance_type = "virtual-machine".into();
    });
    assert_eq!(body["config"].get("security.nesting"), None);
}

/// Without an identity nothing is promised: a machine is given its finalizer only after LXD was asked.
#[test]
fn the_finalizer_comes_after_the_identity() {
    assert!(scope(&with(|it| it.object.metadata.finalizers = None)).is_ok());
    let deleted = with(|it| {
        deleted(it);
        it.object.metadata.finalizers = None;
    });
    assert!(matches!(scope(&deleted), Err(Step::Rest(None))));
}

#[test]
fn a_status_once_provisioned_stays_so() {
    for contract in [Contract::V1beta1, Contract::V1beta2] {
        let mut object = objects().object;
        let provisioned = ConditionState::provisioned();
        let provisioned = Report { provisioned: true, addresses: vec!["10.77.0.5".into()], ..Report::from(provisioned) };
        object.status = Some(object.status(&provisioned, contract, Timestamp::UNIX_EPOCH));
        let lost = Report::from(ConditionState::new(Cause::Failed, "not authorized"));
        let status = object.status(&lost, contract, Timestamp::UNIX_EPOCH);
        assert!(status.contract.is_provisioned());
        let kinds: Vec<_> = status.addresses.iter().map(|address| address.kind.as_str()).collect();
        assert_eq!(kinds, ["Hostname", "InternalIP", "ExternalIP"]);
        assert!(!status.contract.holds(conditions::READY));
    }
}

#[test]
fn the_owner_is_found_whatever_its_version() {
    let mut object = objects().object;
    let owner = |kind: &str, api_version: &str| OwnerReference {
        kind: kind.into(),
        api_version: api_version.into(),
        name: "m".into(),
        ..OwnerReference::default()
    };
    for (references, expected) in [
        (vec![owner("Machine", "cluster.x-k8s.io/v1beta1")], Some("m")),
        (vec![owner("MachineSet", "cluster.x-k8s.io/v1beta2"), owner("Machine", "cluster.x-k8s.io/v1beta2")], Some("m")),
        (vec![owner("Machine", "machine.example/v1")], None),
        (vec![], None),
    ] {
        object.metadata.owner_references = Some(references);
        assert_eq!(core::owner::<Machine>(&object.metadata), expected);
    }
}

#[test]
fn bootstrap_data_is_read_from_its_secret() {
    let secret = Secret { data: Some([("value".to_owned(), ByteString(b"#cloud-config".to_vec()))].into()), ..Secret::default() };
    let bootstrap = Bootstrap::of(&secret);
    assert_eq!((bootstrap.format.as_str(), bootstrap.data.as_str()), ("cloud-config", "#cloud-config"));
}
