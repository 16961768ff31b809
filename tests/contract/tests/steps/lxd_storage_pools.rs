//! `lxd_storage_pools` against every LXD.

#![allow(clippy::expect_used)]

use contract::trial::{self, Fault};
use contract::{Backend, Disk, Lxd, Step};
use serde_json::{Value, json};
use tempfile::TempDir;

contract::on_every_lxd!(
    makes_and_keeps,
    makes_one_on_a_disk,
    repairs_and_respects,
    looks_past_pools_of_others_that_go_meanwhile,
    makes_what_lxd_makes_itself,
    wants_an_empty_disk,
    leaves_a_disk_in_use_alone,
    makes_one_pool_of_a_disk,
    takes_back_what_is_withdrawn,
    wants_a_source_of_its_own,
    keeps_what_was_settled,
    makes_what_is_missing_of_several,
    needs_lxd,
    names_bad_options,
    goes_on_after_faults,
    stands_a_twin,
);

/// A pool on a folder, which is made in an instant.
struct Folder {
    folder: TempDir,
    name: String,
}

impl Folder {
    fn new(lxd: &Lxd) -> Self {
        Self { folder: tempfile::tempdir().expect("a folder for the pool"), name: lxd.name("p") }
    }

    fn declared(&self) -> Value {
        json!({"name": self.name, "driver": "dir", "config": {"source": self.folder.path(), "rsync.bwlimit": "10MB"}})
    }

    fn step(&self, lxd: &Lxd) -> Step {
        lxd.step("lxd_storage_pools").args(json!({"pools": [self.declared()]}))
    }

    fn path(&self) -> String {
        format!("/1.0/storage-pools/{}", self.name)
    }

    fn start_over(&self, lxd: &Lxd) {
        let _ = lxd.rest().try_write("DELETE", &self.path(), &Value::Null);
    }
}

fn makes_and_keeps(lxd: &Lxd) {
    let pool = Folder::new(lxd);
    let made = trial::foresees_and_does(lxd, &pool.step(lxd));
    let facts = &made.json["pools"][0];
    assert_eq!((&facts["name"], &facts["created"], &facts["status"]), (&json!(pool.name), &json!(true), &json!("Created")));
    let live = lxd.rest().get(&pool.path());
    assert_eq!((&live["driver"], &live["config"]["rsync.bwlimit"]), (&json!("dir"), &json!("10MB")));
    let kept = trial::changes_nothing(lxd, &pool.step(lxd));
    assert_eq!(kept.json["pools"][0]["created"], false);
}

fn makes_one_on_a_disk(lxd: &Lxd) {
    let disk = Disk::attach();
    let step = lxd.step("lxd_storage_pools").args(json!({"pools": [{"name": lxd.name("p"), "config": {"source": disk.path()}}]}));
    let made = trial::foresees_and_does(lxd, &step);
    assert_eq!(made.json["pools"][0]["initial_source"], json!(disk.path()));
    let live = lxd.rest().get(&format!("/1.0/storage-pools/{}", lxd.name("p")));
    assert_eq!(live["driver"], "btrfs");
    assert_eq!(live["config"]["btrfs.mount_options"], "user_subvol_rm_allowed");
    trial::changes_nothing(lxd, &step);
    let folder = tempfile::tempdir().expect("a folder for another name of the disk");
    let other_name = folder.path().join("disk");
    std::os::unix::fs::symlink(disk.path(), &other_name).expect("give the disk another name");
    let other = lxd.step("lxd_storage_pools").args(json!({"pools": [{"name": lxd.name("p"), "config": {"source": other_name}}]}));
    let same = trial::changes_nothing(lxd, &other);
    assert_ne!(same.json["warnings"], json!([]), "the same disk by another name is no drift, but is worth a word");
    let stranger =
        lxd.step("lxd_storage_pools").args(json!({"pools": [{"name": lxd.name("q"), "config": {"source": other_name}}]}));
    stranger.run().expect_code("POOL_SOURCE_IN_USE").expect_words(&lxd.name("p"));
}

fn repairs_and_respects(lxd: &Lxd) {
    let pool = Folder::new(lxd);
    pool.step(lxd).run().expect_changed();
    let damage = json!({"description": "mine", "config": {"rsync.bwlimit": "1MB", "user.owner": "somebody"}});
    let repaired = trial::repairs(lxd, &pool.step(lxd), &[("PATCH", &pool.path(), damage)]);
    assert_eq!(repaired.json["pools"][0]["patched_keys"], json!(["rsync.bwlimit"]));
    let live = lxd.rest().get(&pool.path());
    assert_eq!((&live["config"]["rsync.bwlimit"], &live["config"]["user.owner"]), (&json!("10MB"), &json!("somebody")));
    let diff = json!(repaired.diff()).to_string();
    assert!(!diff.contains("somebody") && !diff.contains("volatile"), "a diff shows owned keys only: {diff}");
}

fn looks_past_pools_of_others_that_go_meanwhile(lxd: &Lxd) {
    let pool = Folder::new(lxd);
    pool.step(lxd).run().expect_changed();
    lxd.relay().reset();
    for nth in 1..=3 {
        lxd.relay().on("GET", "/1.0/storage-pools").nth(nth).refuse(404, "Storage pool not found");
    }
    pool.step(lxd).run().expect_unchanged();
}

fn wants_an_empty_disk(lxd: &Lxd) {
    let disk = Disk::attach();
    disk.make_dirty();
    let declared = |wipe: bool| json!({"pools": [{"name": lxd.name("p"), "config": {"source": disk.path()}, "wipe": wipe}]});
    let step = lxd.step("lxd_storage_pools").args(declared(false));
    for outcome in [step.check(), step.run()] {
        outcome.expect_code("POOL_DEVICE_DIRTY").expect_words("swap").expect_words("wipe: true");
    }
    assert_eq!(lxd.relay().writes(), Vec::<String>::new(), "LXD is not even asked");
    let wiping = lxd.step("lxd_storage_pools").args(declared(true));
    trial::foresees_and_does(lxd, &wiping);
    trial::changes_nothing(lxd, &wiping);
    trial::changes_nothing(lxd, &step);
}

fn makes_what_lxd_makes_itself(lxd: &Lxd) {
    let config = json!({"source": "loop", "size": "512MiB"});
    let step = lxd.step("lxd_storage_pools").args(json!({"pools": [{"name": lxd.name("p"), "config": config}]}));
    let made = trial::foresees_and_does(lxd, &step);
    let source = made.json["pools"][0]["initial_source"].as_str().unwrap_or_default().to_owned();
    assert!(source.ends_with(&format!("/disks/{}.img", lxd.name("p"))), "{source}");
    let again = trial::changes_nothing(lxd, &step);
    assert_eq!(again.json["warnings"], Value::Null);
    let stranger = json!({"pools": [{"name": lxd.name("p"), "config": {"source": "/dev/null"}}]});
    lxd.step("lxd_storage_pools").args(stranger).run().expect_code("POOL_SOURCE_MISMATCH");
}

fn leaves_a_disk_in_use_alone(lxd: &Lxd) {
    let disk = Disk::attach();
    let options = json!({"pools": [{"name": lxd.name("p"), "config": {"source": disk.path()}, "wipe": true}]});
    let step = lxd.step("lxd_storage_pools").args(options);
    let mounted = disk.mount();
    for outcome in [step.check(), step.run()] {
        outcome.expect_code("POOL_SOURCE_IN_USE").expect_words(&mounted.point().display().to_string());
    }
    drop(mounted);
    let claimed = disk.claim();
    for outcome in [step.check(), step.run()] {
        outcome.expect_code("POOL_SOURCE_IN_USE").expect_words("ZFS");
    }
    drop(claimed);
    assert_eq!(lxd.relay().writes(), Vec::<String>::new(), "LXD is not even asked");
    step.clone()
        .args(json!({"pools": [{"name": lxd.name("p"), "config": {"source": disk.path()}}]}))
        .run()
        .expect_code("POOL_DEVICE_DIRTY");
}

fn makes_one_pool_of_a_disk(lxd: &Lxd) {
    let disk = Disk::attach();
    let pool = |name: &str| json!({"name": lxd.name(name), "config": {"source": disk.path()}});
    let step = lxd.step("lxd_storage_pools").args(json!({"pools": [pool("p"), pool("q")]}));
    for outcome in [step.check(), step.run()] {
        outcome.expect_code("POOL_SOURCE_IN_USE").expect_words(&lxd.name("p"));
    }
    assert_eq!(lxd.relay().writes(), Vec::<String>::new(), "none of them is made");
}

fn takes_back_what_is_withdrawn(lxd: &Lxd) {
    let pool = Folder::new(lxd);
    pool.step(lxd).run().expect_changed();
    lxd.rest().write(
        "PATCH",
        &pool.path(),
        &json!({"description": "k8slab: instances and images", "config": {"user.theirs": "1"}}),
    );
    let mut less = pool.declared();
    less["config"] = json!({"source": pool.folder.path(), "rsync.compression": ""});
    let step = lxd.step("lxd_storage_pools").args(json!({"pools": [less]}));
    trial::foresees_and_does(lxd, &step);
    let config = lxd.rest().get(&pool.path())["config"].clone();
    assert_eq!([&config["rsync.bwlimit"], &config["user.theirs"]], [&Value::Null, &json!("1")], "ours is gone, theirs stays");
    trial::changes_nothing(lxd, &step);
}

/// LXD makes the file of a pool before it finds that it cannot use it.
#[test]
fn leaves_nothing_of_a_pool_that_cannot_be_made() {
    let lxd = Lxd::open(Backend::Real);
    let with = |options: &str| {
        let config = json!({"source": "loop", "size": "512MiB", "btrfs.mount_options": options});
        lxd.step("lxd_storage_pools").args(json!({"pools": [{"name": lxd.name("p"), "config": config}]}))
    };
    let failed = with("user_subvol_rm_allowed,nonsense").run();
    assert!(failed.failed() && failed.code() != "POOL_DEVICE_DIRTY", "{:#}", failed.json);
    with("user_subvol_rm_allowed").run().expect_changed();
}

/// The real one does not end halfway on demand.
#[test]
fn goes_on_with_a_pool_that_was_not_finished() {
    let lxd = Lxd::open(Backend::ScriptedSync);
    let pool = Folder::new(&lxd);
    pool.step(&lxd).run().expect_changed();
    lxd.scripted().into_iter().for_each(|scripted| scripted.break_pool(&pool.name));
    std::fs::remove_dir(pool.folder.path()).expect("take the folder away");
    pool.step(&lxd).run().expect_code("POOL_STATUS_ERRORED").expect_words("lxc storage delete");
    std::fs::create_dir(pool.folder.path()).expect("put the folder back");
    trial::foresees_and_does(&lxd, &pool.step(&lxd));
    trial::changes_nothing(&lxd, &pool.step(&lxd));
}

fn wants_a_source_of_its_own(lxd: &Lxd) {
    let pool = Folder::new(lxd);
    let with = |name: &str, config: Value| {
        lxd.step("lxd_storage_pools").args(json!({"pools": [{"name": lxd.name(name), "driver": "dir", "config": config}]}))
    };
    with("p", json!({"source": "/nowhere/at/all"})).run().expect_code("POOL_SOURCE_MISSING").expect_words("/nowhere/at/all");
    with("p", json!({"source": ""})).run().expect_code("OPTION_MISSING").expect_words("k8s_lab_storage_source");
    with("p", json!({})).run().expect_code("OPTION_MISSING");
    assert_eq!(lxd.relay().writes(), Vec::<String>::new());
    pool.step(lxd).run().expect_changed();
    let before = lxd.snapshot();
    with("q", json!({"source": pool.folder.path()})).run().expect_code("POOL_SOURCE_IN_USE").expect_words(&pool.name);
    trial::assert_same(&before, &lxd.snapshot(), "nothing is half-written");
}

fn keeps_what_was_settled(lxd: &Lxd) {
    let pool = Folder::new(lxd);
    pool.step(lxd).run().expect_changed();
    let before = lxd.snapshot();
    let elsewhere = tempfile::tempdir().expect("another folder");
    let moved = lxd.step("lxd_storage_pools").args(json!({
        "pools": [{"name": pool.name, "driver": "dir", "config": {"source": elsewhere.path()}}],
    }));
    moved.run().expect_code("POOL_SOURCE_MISMATCH").expect_words(&elsewhere.path().display().to_string());
    let other_driver = lxd.step("lxd_storage_pools").args(json!({
        "pools": [{"name": pool.name, "driver": "btrfs", "config": {"source": pool.folder.path()}}],
    }));
    other_driver.run().expect_code("POOL_DRIVER_MISMATCH").expect_words("dir");
    trial::assert_same(&before, &lxd.snapshot(), "nothing is half-written");
    trial::changes_nothing(lxd, &pool.step(lxd));
}

fn makes_what_is_missing_of_several(lxd: &Lxd) {
    let first = Folder::new(lxd);
    let folder = tempfile::tempdir().expect("a folder for the second pool");
    let second = json!({"name": lxd.name("q"), "driver": "dir", "config": {"source": folder.path()}});
    first.step(lxd).run().expect_changed();
    let both = lxd.step("lxd_storage_pools").args(json!({"pools": [first.declared(), second]}));
    let made = trial::foresees_and_does(lxd, &both);
    assert_eq!([&made.json["pools"][0]["created"], &made.json["pools"][1]["created"]], [&json!(false), &json!(true)]);
    trial::changes_nothing(lxd, &both);
}

fn needs_lxd(lxd: &Lxd) {
    let pool = Folder::new(lxd);
    trial::needs_lxd(lxd, &pool.step(lxd));
}

fn names_bad_options(lxd: &Lxd) {
    let pool = Folder::new(lxd);
    let bent = |key: &str, value: Value| {
        let mut declared = pool.declared();
        declared[key] = value;
        json!({"pools": [declared]})
    };
    trial::names_bad_options(
        lxd,
        &pool.step(lxd),
        &[
            (json!({"pools": []}), "OPTION_INVALID", "pools"),
            (json!({"pools": "capi-fast"}), "OPTION_INVALID", "pools"),
            (json!({"pool": []}), "OPTION_UNKNOWN", "pools"),
            (bent("name", json!("Capi Fast")), "OPTION_INVALID", "name"),
            (bent("driver", json!("ext4")), "OPTION_INVALID", "btrfs"),
            (bent("config", json!("source")), "OPTION_INVALID", "config"),
            (bent("descripton", json!("x")), "OPTION_UNKNOWN", "description"),
            (json!({"pools": [pool.declared(), pool.declared()]}), "OPTION_INVALID", &pool.name),
            (
                json!({"pools": [{"name": pool.name, "config": {"source": "/dev/null", "btrfs.mount_options": "noatime"}}]}),
                "OPTION_COLLISION",
                "user_subvol_rm_allowed",
            ),
        ],
    );
}

fn goes_on_after_faults(lxd: &Lxd) {
    let pool = Folder::new(lxd);
    trial::goes_on_after_faults(lxd, &pool.step(lxd), Fault::ALL, |lxd| pool.start_over(lxd));
    // The same where the pool is there and has drifted.
    trial::goes_on_after_faults(lxd, &pool.step(lxd), Fault::ALL, |lxd| {
        lxd.rest().write("PATCH", &pool.path(), &json!({"config": {"rsync.bwlimit": "1MB"}}));
    });
}

fn stands_a_twin(lxd: &Lxd) {
    let pool = Folder::new(lxd);
    trial::stands_a_twin(lxd, &pool.step(lxd), |lxd| pool.start_over(lxd));
}
