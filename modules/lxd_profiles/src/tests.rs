use lab::profiles::WORKER;
use lxd::Power;

use super::*;
use crate::restart::{Owner, Running};

fn live(step: &LxdProfiles) -> Live {
    let some = |keys: lab::Keys| keys.into_iter().filter_map(|(key, value)| Some((key, value?))).collect::<lxd::Config>();
    let profiles = step.catalogue(false).into_iter().map(|profile| {
        let devices = profile.devices.into_iter().filter_map(|(name, keys)| Some((name, some(keys?)))).collect();
        let object = lxd::Profile {
            description: profile.description.into(),
            config: some(profile.config),
            devices,
            ..lxd::Profile::default()
        };
        (profile.name.to_owned(), Tagged { object, etag: None })
    });
    Live { profiles: profiles.collect(), ..Live::default() }
}

fn running(owner: Owner, profile: &str, marked: bool) -> Running {
    Running { profiles: vec![BASE.into(), profile.into()], marked, owner, power: Power::Running, cluster: None }
}

fn plan(step: &LxdProfiles, live: &Live) -> String {
    let changes = Profiles(step).plan(live).unwrap();
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn root_disks_do_not_move_with_their_profile() {
    let step = LxdProfiles { storage_pool: "other".into(), ..LxdProfiles::default() };
    let with = |profiles: &[&str]| {
        let rootless = [("node".to_owned(), profiles.iter().map(|name| (*name).to_owned()).collect())].into();
        Live { rootless, ..live(&LxdProfiles::default()) }
    };
    let moved = "profile capi-base: device root: pool: capi-fast -> other";
    assert_eq!(plan(&step, &live(&LxdProfiles::default())), moved);
    assert_eq!(plan(&step, &with(&[WORKER])), moved, "whoever has its root disk by another profile");
    assert_eq!(plan(&LxdProfiles::default(), &with(&[BASE])), "", "nothing is asked of it");
    let refused = Profiles(&step).plan(&with(&[BASE, WORKER])).err().unwrap();
    assert_eq!(refused.code, "PROFILE_ROOT_IN_USE");
    assert!(refused.msg.contains("from pool capi-fast to other: node have"), "{refused}");
}

#[test]
fn plans() {
    let step = LxdProfiles::default();
    let bent = |bend: fn(&mut lxd::Profile), name: &str| {
        let mut live = live(&step);
        bend(&mut live.profiles.get_mut(name).unwrap().object);
        live
    };
    for (case, live, expected) in [
        (
            "absent",
            Live::default(),
            "create profile capi-base; create profile capi-bootstrap; create profile capi-controlplane; create profile capi-worker",
        ),
        ("as desired", live(&step), ""),
        ("a foreign key", bent(|profile| drop(profile.config.insert("limits.memory".into(), "1GiB".into())), WORKER), ""),
        (
            "a foreign device",
            bent(|profile| drop(profile.devices.insert("data".into(), [("type".into(), "disk".into())].into())), WORKER),
            "",
        ),
        (
            "a foreign key of an owned device",
            bent(|profile| drop(profile.devices.get_mut("eth0").unwrap().insert("limits.max".into(), "1Gbit".into())), BASE),
            "",
        ),
        (
            "a weakened key",
            bent(|profile| drop(profile.config.insert("security.privileged".into(), "true".into())), WORKER),
            "profile capi-worker: security.privileged: true -> false",
        ),
        (
            "a device of the other isolation",
            bent(|profile| drop(profile.devices.insert("kmsg".into(), [("type".into(), "unix-char".into())].into())), BOOTSTRAP),
            "profile capi-bootstrap: device kmsg: present -> (none)",
        ),
        (
            "a device bent",
            bent(|profile| drop(profile.devices.get_mut("root").unwrap().insert("pool".into(), "other".into())), BASE),
            "profile capi-base: device root: pool: other -> capi-fast",
        ),
    ] {
        assert_eq!(plan(&step, &live), expected, "{case}");
    }
}

#[test]
fn restarts_follow_the_policy() {
    let unmapped = |policy: RestartPolicy| {
        let step = LxdProfiles { restart_policy: policy, ..LxdProfiles::default() };
        let mut live = live(&step);
        live.profiles.get_mut(BOOTSTRAP).unwrap().object.config.remove("security.idmap.isolated");
        live.restarts.0 = [
            ("mine".into(), running(Owner::Lab, BOOTSTRAP, false)),
            ("node".into(), running(Owner::ClusterApi, BOOTSTRAP, false)),
            ("stray".into(), running(Owner::Other, BOOTSTRAP, false)),
            ("unaffected".into(), running(Owner::Lab, WORKER, false)),
        ]
        .into();
        plan(&step, &live)
    };
    let marked = "instance mine: mark for a restart; instance node: mark for a restart; instance stray: mark for a restart; \
                  profile capi-bootstrap: security.idmap.isolated: (unset) -> true";
    assert_eq!(unmapped(RestartPolicy::Never), marked);
    assert_eq!(unmapped(RestartPolicy::Auto), format!("{marked}; restart instance mine"));
    assert_eq!(unmapped(RestartPolicy::Nodes), format!("{marked}; restart instance mine; restart instance node"));
}

#[test]
fn what_applies_live_restarts_nothing() {
    let step = LxdProfiles::default();
    let mut live = live(&step);
    live.profiles.get_mut(WORKER).unwrap().object.config.insert("security.nesting".into(), "false".into());
    live.restarts.0 = [("mine".into(), running(Owner::Lab, WORKER, false))].into();
    assert_eq!(plan(&step, &live), "profile capi-worker: security.nesting: false -> true");
}

#[test]
fn a_restart_that_a_run_left_behind_is_made_up_for() {
    let step = LxdProfiles::default();
    let mut live = live(&step);
    live.restarts.0 =
        [("mine".into(), running(Owner::Lab, BOOTSTRAP, true)), ("node".into(), running(Owner::ClusterApi, WORKER, true))].into();
    assert_eq!(plan(&step, &live), "restart instance mine");
    assert_eq!(live.restarts.pending().collect::<Vec<_>>(), ["mine", "node"]);
}

#[test]
fn a_restart_is_for_what_runs_or_was_left_stopped_by_one() {
    let step = LxdProfiles::default();
    for (power, expected) in [
        (Power::Running, "restart instance mine"),
        (Power::Stopped, "start instance mine, which a restart has left stopped"),
        (Power::Frozen, ""),
        (Power::Changing, ""),
    ] {
        let mut live = live(&step);
        live.restarts.0 = [("mine".into(), Running { power, ..running(Owner::Lab, BOOTSTRAP, true) })].into();
        assert_eq!(plan(&step, &live), expected, "{power:?}");
    }
}

#[test]
fn additions_extend_and_do_not_weaken() {
    let with = |config: &[(&str, &str)], device: Option<(&str, &[(&str, &str)])>| {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect::<Config>();
        LxdProfiles {
            capi_worker_extra_config: map(config),
            capi_worker_extra_devices: device.map(|(name, keys)| (name.into(), map(keys))).into_iter().collect(),
            ..LxdProfiles::default()
        }
    };
    for (case, step, expected) in [
        ("a limit", with(&[("limits.cpu", "2")], None), None),
        ("privilege", with(&[("security.privileged", "true")], None), Some("OPTION_COLLISION")),
        ("a low-level key", with(&[("raw.lxc", "lxc.apparmor.profile=unconfined")], None), Some("OPTION_COLLISION")),
        ("a device of one's own", with(&[], Some(("data", &[("type", "disk"), ("source", "vol")]))), None),
        ("a limit of a required device", with(&[], Some(("eth1", &[("limits.max", "1Gbit")]))), None),
        ("another parent", with(&[], Some(("eth1", &[("parent", "lan")]))), Some("OPTION_COLLISION")),
        ("another source", with(&[], Some(("eth1", &[("source", "x")]))), Some("OPTION_COLLISION")),
    ] {
        assert_eq!(step.preflight().err().map(|failure| failure.code), expected, "{case}");
    }
    let plan = plan(&with(&[("limits.cpu", "2")], None), &live(&LxdProfiles::default()));
    let expected = "profile capi-worker: limits.cpu: (unset) -> 2, user.k8slab.managed-config: (unset) -> limits.cpu";
    assert_eq!(plan, expected);
}
