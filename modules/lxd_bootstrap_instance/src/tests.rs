use super::*;

fn step() -> LxdBootstrapInstance {
    LxdBootstrapInstance { image_source: ImageSource::Alias, ..LxdBootstrapInstance::default() }
}

fn image(place: Place) -> Live {
    Live { image: Some(LocalImage { fingerprint: "c0ffee".into(), place }), ..Live::default() }
}

fn bundled() -> Place {
    Place::Bundle(InstanceImage {
        alias: "k8slab/bootstrap/debian-12".into(),
        version: "12".into(),
        fingerprint: "c0ffee".into(),
        metadata: Some("/bundle/metadata.tar.gz".into()),
        rootfs: "/bundle/rootfs.squashfs".into(),
    })
}

/// The instance as it should be and running, bent.
fn live(bend: impl FnOnce(&mut Instance)) -> Live {
    let mut object = Instance {
        name: "capi-bootstrap-0".into(),
        kind: "container".into(),
        description: "k8slab: bootstrap cluster".into(),
        status: "Running".into(),
        profiles: vec!["capi-base".into(), "capi-bootstrap".into()],
        config: [(names::OWNER_KEY.to_owned(), "bootstrap".to_owned()), ("volatile.uuid".to_owned(), "1".to_owned())].into(),
        ..Instance::default()
    };
    bend(&mut object);
    Live { instance: Some(Tagged { object, etag: None }), ..Live::default() }
}

fn plan(step: &LxdBootstrapInstance, live: &Live) -> String {
    match BootstrapInstance(step).plan(live) {
        Ok(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        Err(failure) => failure.to_string(),
    }
}

fn device(kind: &str) -> BTreeMap<String, String> {
    [("type".to_owned(), kind.to_owned())].into()
}

#[test]
fn plans() {
    for (case, state, live, expected) in [
        (
            "nothing there",
            State::Started,
            image(Place::Project),
            "create instance capi-bootstrap-0; start instance capi-bootstrap-0",
        ),
        (
            "the image is in the bundle",
            State::Started,
            image(bundled()),
            "import image k8slab/bootstrap/debian-12; create instance capi-bootstrap-0; start instance capi-bootstrap-0",
        ),
        (
            "the image is in the default project",
            State::Started,
            image(Place::DefaultProject),
            "copy image debian/13/cloud from project default; create instance capi-bootstrap-0; start instance capi-bootstrap-0",
        ),
        ("to be there but not to run", State::Stopped, image(Place::Project), "create instance capi-bootstrap-0"),
        ("as desired", State::Started, live(|_| ()), ""),
        ("stopped", State::Started, live(|live| live.status = "Stopped".into()), "start instance capi-bootstrap-0"),
        ("frozen", State::Started, live(|live| live.status = "Frozen".into()), "start instance capi-bootstrap-0, which is Frozen"),
        (
            "in an error",
            State::Started,
            live(|live| live.status = "Error".into()),
            "start instance capi-bootstrap-0, which is Error",
        ),
        ("ready", State::Started, live(|live| live.status = "Ready".into()), ""),
        ("frozen, to be stopped", State::Stopped, live(|live| live.status = "Frozen".into()), "stop instance capi-bootstrap-0"),
        (
            "frozen, to go",
            State::Absent,
            live(|live| live.status = "Frozen".into()),
            "stop instance capi-bootstrap-0; delete instance capi-bootstrap-0",
        ),
        (
            "gone once it stops",
            State::Started,
            live(|live| live.ephemeral = true),
            "instance capi-bootstrap-0: ephemeral: true -> false",
        ),
        (
            "of another type",
            State::Started,
            live(|live| live.kind = "virtual-machine".into()),
            "INSTANCE_TYPE_MISMATCH: instance capi-bootstrap-0 is a virtual-machine, not a container",
        ),
        ("to be stopped", State::Stopped, live(|_| ()), "stop instance capi-bootstrap-0"),
        ("to go", State::Absent, live(|_| ()), "stop instance capi-bootstrap-0; delete instance capi-bootstrap-0"),
        ("gone", State::Absent, Live::default(), ""),
        (
            "profiles in another order",
            State::Started,
            live(|live| live.profiles.reverse()),
            r#"instance capi-bootstrap-0: profiles: ["capi-bootstrap","capi-base"] -> ["capi-base","capi-bootstrap"]"#,
        ),
        ("a foreign device", State::Started, live(|live| drop(live.devices.insert("data".into(), device("disk")))), ""),
        ("a foreign key", State::Started, live(|live| drop(live.config.insert("limits.cpu".into(), "2".into()))), ""),
        (
            "a device declared once",
            State::Started,
            live(|live| {
                live.devices.insert("k3s-api".into(), device("proxy"));
                live.config.insert("user.k8slab.managed-devices".into(), "k3s-api".into());
            }),
            "instance capi-bootstrap-0: user.k8slab.managed-devices: k3s-api -> (unset), device k3s-api: present -> (none)",
        ),
    ] {
        assert_eq!(plan(&LxdBootstrapInstance { state, ..step() }, &live), expected, "{case}");
    }
}

#[test]
fn a_declared_device_is_recorded() {
    let mut step = step();
    step.devices.insert("k3s-api".into(), device("proxy"));
    let expected = "instance capi-bootstrap-0: user.k8slab.managed-devices: (unset) -> k3s-api, device k3s-api: (none) -> present";
    assert_eq!(plan(&step, &live(|_| ())), expected);
}

#[test]
fn a_lab_that_stands_on_its_own_is_not_bootstrapped_again() {
    let mut pivoted = image(Place::Project);
    for (phase, refused) in [("substrate", false), ("exported", false), ("pivoted", true), ("cleaned", true)] {
        pivoted.phase = Some(phase.into());
        assert_eq!(plan(&step(), &pivoted).starts_with("LIFECYCLE_PIVOTED"), refused, "{phase}");
    }
    let again = LxdBootstrapInstance { allow_rebootstrap: true, ..step() };
    assert!(plan(&again, &pivoted).starts_with("create instance"));
}

#[test]
fn the_source_says_where_the_image_is() {
    let server = LxdBootstrapInstance::default();
    assert_eq!(server.source(&Live::default())["server"], "https://images.lxd.canonical.com");
    assert_eq!(step().source(&image(Place::Project)), json!({"type": "image", "fingerprint": "c0ffee"}));
    assert_eq!(step().source(&Live::default()), json!({"type": "image", "alias": "debian/13/cloud"}));
}
