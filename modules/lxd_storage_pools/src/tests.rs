use std::path::PathBuf;

use super::*;

const DISK: &str = "/dev/disk/by-id/nvme-1";

fn step() -> LxdStoragePools {
    let config = BTreeMap::from([("source".into(), DISK.into())]);
    LxdStoragePools { pools: vec![Pool { config, ..Pool::default() }], lxd: Connection::default() }
}

/// A blank disk under two names, and nothing else.
fn blank() -> Live {
    let disk = Source { node: Some(PathBuf::from("/dev/nvme0n1")), ..Source::default() };
    Live { sources: BTreeMap::from([(DISK.into(), disk.clone()), ("/dev/nvme0n1".into(), disk)]), ..Live::default() }
}

fn pool(name: &str, initial_source: &str) -> lxd::Pool {
    let config = [(INITIAL_SOURCE, initial_source), ("source", "c0ffee"), ("btrfs.mount_options", "user_subvol_rm_allowed")];
    lxd::Pool {
        name: name.into(),
        driver: "btrfs".into(),
        description: Pool::default().description,
        status: "Created".into(),
        config: config.map(|(key, value)| (key.into(), value.into())).into(),
        used_by: None,
    }
}

/// The lab's pool as it should be, bent.
fn with_pool(bend: impl FnOnce(&mut lxd::Pool)) -> Live {
    let mut object = pool("capi-fast", DISK);
    bend(&mut object);
    let name = object.name.clone();
    Live { pools: BTreeMap::from([(name, Tagged { object, etag: None })]), ..blank() }
}

fn with_disk(bend: impl Fn(&mut Source)) -> Live {
    let mut live = blank();
    live.sources.values_mut().for_each(bend);
    live
}

fn plan(step: &LxdStoragePools, live: &Live) -> String {
    match Pools(step).plan(live) {
        Ok(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        Err(failure) => failure.to_string(),
    }
}

#[test]
fn plans() {
    for (case, live, expected) in [
        ("a blank disk", blank(), "create storage pool capi-fast"),
        ("before LXD is there", Live::default(), "create storage pool capi-fast"),
        (
            "no disk",
            with_disk(|disk| *disk = Source::default()),
            "POOL_SOURCE_MISSING: pool capi-fast: there is no /dev/disk/by-id/nvme-1",
        ),
        (
            "a disk with data",
            with_disk(|disk| disk.signature = Some("ext4 (filesystem)".into())),
            "POOL_DEVICE_DIRTY: pool capi-fast: /dev/disk/by-id/nvme-1 carries ext4 (filesystem)",
        ),
        (
            "a disk in use",
            with_disk(|disk| disk.user = Some("the mount at /srv".into())),
            "POOL_SOURCE_IN_USE: pool capi-fast: /dev/disk/by-id/nvme-1 is in use by the mount at /srv",
        ),
        (
            "another pool's disk",
            with_pool(|pool| pool.name = "other".into()),
            "POOL_SOURCE_IN_USE: pool capi-fast: /dev/disk/by-id/nvme-1 is in use by pool other",
        ),
        ("as desired", with_pool(|_| ()), ""),
        (
            "made on the same disk by another name",
            with_pool(|pool| drop(pool.config.insert(INITIAL_SOURCE.into(), "/dev/nvme0n1".into()))),
            "",
        ),
        (
            "made on another disk",
            with_pool(|pool| drop(pool.config.insert(INITIAL_SOURCE.into(), "/dev/sdz".into()))),
            "POOL_SOURCE_MISMATCH: pool capi-fast was made on /dev/sdz, not on /dev/disk/by-id/nvme-1",
        ),
        (
            "another driver",
            with_pool(|pool| pool.driver = "dir".into()),
            "POOL_DRIVER_MISMATCH: pool capi-fast has the driver dir, not btrfs",
        ),
        (
            "another pool's folder",
            with_pool(|pool| {
                pool.name = "other".into();
                pool.driver = "dir".into();
                pool.config = [("source".into(), DISK.into())].into();
            }),
            "POOL_SOURCE_IN_USE: pool capi-fast: /dev/disk/by-id/nvme-1 is in use by pool other",
        ),
        ("half made", with_pool(|pool| pool.status = "Errored".into()), "create storage pool capi-fast"),
        (
            "drifted",
            with_pool(|pool| drop(pool.config.insert("btrfs.mount_options".into(), "noatime".into()))),
            "storage pool capi-fast: btrfs.mount_options: noatime -> user_subvol_rm_allowed",
        ),
        ("a foreign key", with_pool(|pool| drop(pool.config.insert("rsync.bwlimit".into(), "1".into()))), ""),
    ] {
        assert_eq!(plan(&step(), &live), expected, "{case}");
    }
}

#[test]
fn wiping_is_asked_for() {
    let mut step = step();
    step.pools[0].wipe = true;
    assert_eq!(plan(&step, &with_disk(|disk| disk.signature = Some("ext4 (filesystem)".into()))), "create storage pool capi-fast");
    assert_eq!(step.pools[0].declare(true).at_creation["source.wipe"].as_deref(), Some("true"));
    assert!(!step.pools[0].declare(false).at_creation.contains_key("source.wipe"));
}

#[test]
fn what_is_in_use_is_not_wiped() {
    let mut step = step();
    step.pools[0].wipe = true;
    let held = with_disk(|disk| disk.user = Some("/dev/md0".into()));
    let refused = "POOL_SOURCE_IN_USE: pool capi-fast: /dev/disk/by-id/nvme-1 is in use by /dev/md0";
    assert_eq!(plan(&step, &held), refused);
}

#[test]
fn two_pools_are_not_made_on_one_disk() {
    let mut step = step();
    let config = BTreeMap::from([("source".into(), "/dev/nvme0n1".into())]);
    step.pools.push(Pool { name: "other".into(), config, ..Pool::default() });
    let refused = "POOL_SOURCE_IN_USE: pool other: /dev/nvme0n1 is in use by pool capi-fast";
    assert_eq!(plan(&step, &blank()), refused);
}

#[test]
fn lxds_own_loop_file_need_not_be_there() {
    let mut step = step();
    let file = "/var/lib/lxd/disks/capi-fast.img";
    step.pools[0].config.insert("source".into(), file.into());
    let live = Live { sources: BTreeMap::from([(file.into(), Source::default())]), ..Live::default() };
    assert_eq!(plan(&step, &live), "create storage pool capi-fast");
}

#[test]
fn lxd_may_be_left_to_make_the_source() {
    let mut step = step();
    step.pools[0].config.insert("source".into(), LOOP.into());
    assert_eq!(plan(&step, &blank()), "create storage pool capi-fast");
    assert!(step.pools[0].declare(true).at_creation.is_empty());
    let file = "/var/lib/lxd/disks/capi-fast.img";
    for (case, key, source, expected) in [
        ("made by LXD", "source", file, ""),
        ("named in full at that time", INITIAL_SOURCE, file, ""),
        (
            "made on a disk",
            INITIAL_SOURCE,
            DISK,
            "POOL_SOURCE_MISMATCH: pool capi-fast was made on /dev/disk/by-id/nvme-1, not on loop",
        ),
    ] {
        let live = with_pool(|pool| {
            pool.config.remove(INITIAL_SOURCE);
            pool.config.insert(key.into(), source.into());
        });
        assert_eq!(plan(&step, &live), expected, "{case}");
    }
    let left = Source { signature: Some("btrfs (filesystem)".into()), ..Source::default() };
    let live = Live { leftovers: [("capi-fast".into(), (file.into(), left))].into(), ..blank() };
    let dirty = "POOL_DEVICE_DIRTY: pool capi-fast: /var/lib/lxd/disks/capi-fast.img carries btrfs (filesystem)";
    assert_eq!(plan(&step, &live), dirty);
    step.pools[0].wipe = true;
    assert_eq!(plan(&step, &live), "create storage pool capi-fast");
}

#[test]
fn options_are_checked() {
    let with = |key: &str, value: &str| {
        let mut step = step();
        step.pools[0].config.insert(key.into(), value.into());
        step
    };
    let twice = LxdStoragePools { pools: [step().pools, step().pools].concat(), ..step() };
    for (case, step, expected) in [
        ("good", step(), None),
        ("no source", with("source", ""), Some("OPTION_MISSING")),
        ("the required value", with("btrfs.mount_options", "user_subvol_rm_allowed"), None),
        ("more options", with("btrfs.mount_options", "noatime,user_subvol_rm_allowed"), None),
        ("left out by a template", with("btrfs.mount_options", ""), None),
        ("another value", with("btrfs.mount_options", "noatime"), Some("OPTION_COLLISION")),
        ("a name twice", twice, Some("OPTION_INVALID")),
    ] {
        assert_eq!(step.preflight().err().map(|failure| failure.code), expected, "{case}");
    }
}
