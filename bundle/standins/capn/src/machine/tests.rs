use k8s_openapi::{
    ByteString,
    apimachinery::pkg::apis::meta::v1::{OwnerReference, Time},
};
use lxd::Error as LxdError;

use super::*;
use crate::api::LXCClusterStatus;

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
        "status": {"initialization": {"provisioned": true}},
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
fn seen(bend: impl FnOnce(&mut Instance)) -> Seen {
    let mut config = Owner { cluster: "c1", namespace: "lab" }.marks(Role::Worker, Some("c1-cp-1"));
    config.insert(USER_DATA_KEY.into(), "#cloud-config".into());
    let mut instance = Instance { name: "c1-cp-1".into(), status: "Running".into(), config, ..Instance::default() };
    bend(&mut instance);
    Seen { instance: Some(instance), addresses: vec!["10.77.0.5".into(), "fd42:77:1::5".into()], ..Seen::default() }
}

/// What comes next, as one line.
fn next(objects: &Objects, seen: &Seen) -> String {
    let step = match gate(objects) {
        Ok(subject) => match plan(&subject, seen) {
            Next::Do(Deed::Create { body, target }) => return format!("create {} on {target:?}", body["source"]["alias"]),
            Next::Do(deed) => return format!("{deed:?}"),
            Next::Hold(hold) => return format!("Hold({hold})"),
            Next::Step(step) => step,
        },
        Err(step) => step,
    };
    match step {
        Step::Again => "Again".into(),
        Step::Edit(edit) => format!("{edit:?}"),
        Step::Rest(None) => String::new(),
        Step::Rest(Some(report)) => match report.verdict {
            Some(verdict) if verdict.holds => format!("{} {}", verdict.reason, report.addresses.join(" ")),
            Some(verdict) => format!("{}: {}", verdict.reason, verdict.message),
            None => format!("paused: {}", report.paused),
        },
    }
}

#[test]
fn plans() {
    let nothing = Seen::default;
    let running = || seen(|_| ());
    let lacking = || Seen { lacking: Some(Verdict::no("ImageNotFound", "LXD has no image kubeadm/v1.35.0")), ..Seen::default() };
    let create = r#"create "kubeadm/v1.35.0" on None"#;
    for (case, objects, seen, expected) in vec![
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
        ("no image", objects(), lacking(), "ImageNotFound: LXD has no image kubeadm/v1.35.0"),
        ("made", objects(), seen(|it| it.status = "Stopped".into()), "Start"),
        ("started", objects(), Seen { addresses: vec![], ..running() }, "AwaitAddress"),
        ("reachable", objects(), running(), r#"Merge(Object {"spec": Object {"providerID": String("lxc:///c1-cp-1")}})"#),
        ("known", with(identified), running(), "Provisioned 10.77.0.5 fd42:77:1::5"),
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
            "BootstrapDataChanged",
        ),
        ("deleted by somebody", with(identified), nothing(), "InstanceDeleted: the instance c1-cp-1 is gone"),
        (
            "stopped by somebody",
            with(identified),
            seen(|it| it.status = "Stopped".into()),
            "InstanceNotRunning: the instance c1-cp-1 is Stopped",
        ),
        ("somebody else's", objects(), seen(|it| it.config.clear()), "InstanceNameTaken"),
        (
            "another namespace's",
            objects(),
            seen(|it| drop(it.config.insert("user.cluster-namespace".into(), "other".into()))),
            "InstanceNameTaken",
        ),
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
        (
            "a device that cannot be read",
            with(|it| it.object.spec.devices = vec!["eth1".into()]),
            nothing(),
            "InvalidDevice: the device `eth1`",
        ),
        ("no version", with(|it| it.machine.as_mut().unwrap().spec.version = None), nothing(), "VersionMissing"),
        ("an application container", with(|it| it.object.spec.instance_type = "kind".into()), nothing(), "UnsupportedInstanceType"),
        ("ignition", with(|it| it.bootstrap.as_mut().unwrap().format = "ignition".into()), nothing(), "UnsupportedBootstrapFormat"),
        (
            "a failure domain",
            with(|it| it.machine.as_mut().unwrap().spec.failure_domain = Some("m2".into())),
            nothing(),
            r#"create "kubeadm/v1.35.0" on Some("m2")"#,
        ),
    ] {
        let next = next(&objects, &seen);
        assert!(next.starts_with(expected) && (!expected.is_empty() || next.is_empty()), "{case}: {next}");
    }
}

/// What a cluster says whose load balancer, working or not, sends requests to the machine.
fn serving(holds: bool) -> LXCClusterStatus {
    let mut status = LXCClusterStatus { backends: Some(vec!["c1-cp-1".into()]), ..LXCClusterStatus::default() };
    let verdict = Verdict { holds, ..Verdict::yes("x") };
    conditions::set(&mut status.conditions, conditions::LOAD_BALANCER, &verdict, None, Timestamp::UNIX_EPOCH);
    status
}

#[test]
fn a_control_plane_machine_ends_when_nobody_is_sent_to_it_any_more() {
    let (not_served, worker, external) = (LXCClusterStatus { backends: Some(vec![]), ..serving(true) }, true, true);
    let known = "Provisioned 10.77.0.5";
    for (case, held, goes, status, is_worker, is_external, expected) in [
        ("new", false, false, &serving(true), !worker, !external, "Hold(true)"),
        ("held", true, false, &serving(true), !worker, !external, known),
        ("a worker", false, false, &serving(true), worker, !external, known),
        ("no load balancer of ours", false, false, &serving(true), !worker, external, known),
        ("to go, and still served", true, true, &serving(true), !worker, !external, known),
        ("to go, and served no more", true, true, &not_served, !worker, !external, "Hold(false)"),
        ("to go, and the load balancer is broken", true, true, &serving(false), !worker, !external, "Hold(false)"),
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
            machine.annotations = held.then(|| [(capi::HOLD_ANNOTATION.to_owned(), String::new())].into());
            machine.labels = (!is_worker).then(|| [(capi::CONTROL_PLANE_LABEL.to_owned(), String::new())].into());
        });
        let next = next(&objects, &seen(|_| ()));
        assert!(next.starts_with(expected), "{case}: {next}");
    }
}

#[test]
fn a_machine_goes_when_nobody_is_sent_to_it_any_more() {
    for (case, status, expected) in [
        ("still served", serving(true), "WaitingForLoadBalancer"),
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
            [("limits.cpu".to_owned(), "2".to_owned()), ("user.cluster-name".to_owned(), "mine".to_owned())].into();
        it.object.spec.flavor = "c2-m4".into();
    });
    let Next::Do(Deed::Create { body, .. }) = plan(&gate(&objects).ok().unwrap(), &Seen::default()) else { panic!("it is made") };
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
fn a_status_once_provisioned_stays_so() {
    let mut object = objects().object;
    let provisioned =
        Report { provisioned: true, addresses: vec!["10.77.0.5".into()], ..Report::from(Verdict::yes("Provisioned")) };
    object.status = Some(object.status(&provisioned, Timestamp::UNIX_EPOCH));
    let lost =
        Report::from(Verdict::of(&LxdError::Refused { request: "GET /1.0".into(), status: 403, message: "not authorized".into() }));
    let status = object.status(&lost, Timestamp::UNIX_EPOCH);
    assert_eq!(status.initialization, Some(Initialization { provisioned: true }));
    assert_eq!(status.addresses.iter().map(|address| address.kind.as_str()).collect::<Vec<_>>(), ["InternalIP", "Hostname"]);
    assert!(!conditions::holds(&status.conditions, conditions::READY));
    assert!(conditions::holds(
        &object.status(&Report { paused: true, ..Report::default() }, Timestamp::UNIX_EPOCH).conditions,
        conditions::PAUSED
    ));
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
        assert_eq!(capi::owner::<Machine>(&object.metadata), expected);
    }
}

#[test]
fn bootstrap_data_is_read_from_its_secret() {
    let secret = Secret { data: Some([("value".to_owned(), ByteString(b"#cloud-config".to_vec()))].into()), ..Secret::default() };
    let bootstrap = Bootstrap::of(&secret);
    assert_eq!((bootstrap.format.as_str(), bootstrap.data.as_str()), ("cloud-config", "#cloud-config"));
}
