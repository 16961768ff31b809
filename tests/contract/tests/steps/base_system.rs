//! `base_system` against a machine that is only a folder.

use std::os::unix::fs::{PermissionsExt, symlink};

use contract::Machine;
use serde_json::json;

#[test]
fn a_bare_host_is_prepared_once() {
    let machine = Machine::bare();
    let step = machine.step("base_system");
    let before = machine.snapshot();
    let planned = step.check().expect_changed();
    assert_eq!(machine.snapshot(), before, "check mode leaves no trace");
    assert_eq!(machine.calls(), [""; 0], "and runs nothing");

    let done = step.run().expect_changed();
    assert_eq!(planned.json["changes"], done.json["changes"], "check mode said what the run does");
    assert_eq!(planned.diff(), done.diff());
    for (fact, expected) in [
        (
            "packages_installed",
            json!(["btrfs-progs", "ca-certificates", "curl", "gzip", "python3", "python3-apt", "snapd", "xz-utils"]),
        ),
        ("modules_loaded", json!(["br_netfilter", "nf_conntrack", "overlay"])),
        ("modules_persisted", json!(["br_netfilter", "nf_conntrack", "overlay"])),
        ("directories", json!(["/opt/capi-lab", "/opt/capi-lab/bin", "/opt/capi-lab/etc"])),
    ] {
        assert_eq!(done.json[fact], expected, "{fact}");
    }
    assert_eq!(done.json["sysctl_changed"]["net.ipv4.ip_forward"], "1");
    assert_eq!(machine.read("/proc/sys/fs/inotify/max_user_instances").as_deref(), Some("1024"));
    assert_eq!(machine.read("/etc/modules-load.d/overlay.conf").as_deref(), Some("overlay\n"));
    // The kernel's own limit of open files is higher than the lab's.
    assert_eq!(
        machine.read("/etc/sysctl.d/60-k8slab-base-system.conf").unwrap(),
        "# Managed by k8slab.capi.base_system.\n\
         fs.inotify.max_user_instances = 1024\nfs.inotify.max_user_watches = 1048576\n\
         net.ipv4.ip_forward = 1\nnet.ipv6.conf.all.forwarding = 1\n"
    );
    assert_eq!(
        machine.calls().iter().filter(|call| call.contains("apt-get")).cloned().collect::<Vec<_>>(),
        [
            "env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get --quiet -o Dpkg::Options::=--force-confdef \
             -o Dpkg::Options::=--force-confold update",
            "env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get --quiet -o Dpkg::Options::=--force-confdef \
             -o Dpkg::Options::=--force-confold install --yes --no-install-recommends -- btrfs-progs ca-certificates curl gzip \
             python3 python3-apt snapd xz-utils",
        ]
    );

    let calls = machine.calls();
    step.run().expect_unchanged();
    step.check().expect_unchanged();
    assert_eq!(machine.calls(), calls, "nothing to do, so nothing is run");
}

#[test]
fn drift_is_mended_and_nothing_else_touched() {
    let machine = Machine::bare();
    let step = machine.step("base_system");
    step.run().expect_changed();
    machine.write("/etc/sysctl.d/99-mine.conf", "vm.swappiness = 1\n");
    machine.write("/opt/capi-lab/bin/mine", "kept");
    machine.write("/proc/sys/net/ipv4/ip_forward", "0\n");
    machine.write("/etc/modules-load.d/overlay.conf", "");
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(machine.at("/opt/capi-lab/etc"), mode).unwrap();

    let planned = step.check().expect_changed();
    let done = step.run().expect_changed();
    assert_eq!(planned.json["changes"], done.json["changes"]);
    assert_eq!(
        done.json["changes"],
        json!(["write /etc/modules-load.d/overlay.conf", "net.ipv4.ip_forward: 0 -> 1", "set owner and mode of /opt/capi-lab/etc"])
    );
    step.run().expect_unchanged();
    assert_eq!(machine.read("/etc/sysctl.d/99-mine.conf").as_deref(), Some("vm.swappiness = 1\n"));
    assert_eq!(machine.read("/opt/capi-lab/bin/mine").as_deref(), Some("kept"));
}

#[test]
fn a_limit_is_raised_and_never_lowered() {
    let machine = Machine::bare();
    let step = machine.step("base_system");
    let high = "9223372036854775807\n";
    machine.write("/proc/sys/fs/file-max", high);
    machine.write("/proc/sys/fs/inotify/max_user_watches", "8192\n");
    let done = step.run().expect_changed();
    assert_eq!(machine.read("/proc/sys/fs/file-max").as_deref(), Some(high));
    assert_eq!(done.json["sysctl_changed"]["fs.file-max"], json!(null));
    assert_eq!(done.json["sysctl_changed"]["fs.inotify.max_user_watches"], "1048576");
    let kept = machine.read("/etc/sysctl.d/60-k8slab-base-system.conf").unwrap();
    assert!(!kept.contains("fs.file-max"), "it would be lowered when the machine starts: {kept}");
    step.run().expect_unchanged();
}

#[test]
fn what_undoes_a_setting_when_the_machine_starts_is_named() {
    let machine = Machine::bare();
    let step = machine.step("base_system");
    assert_eq!(step.run().expect_changed().json["warnings"], json!(null));
    machine.write("/etc/sysctl.d/99-hardening.conf", "net.ipv4.ip_forward = 0\nfs.file-max = 9999999\n");
    machine.write("/etc/modprobe.d/cis.conf", "install overlay /bin/true\n");
    let expected = json!([
        "/etc/sysctl.d/99-hardening.conf sets net.ipv4.ip_forward to 0 when the machine starts, after \
         /etc/sysctl.d/60-k8slab-base-system.conf",
        "/etc/modprobe.d/cis.conf keeps overlay from being loaded when the machine starts",
    ]);
    assert_eq!(step.run().expect_unchanged().json["warnings"], expected);
    assert_eq!(step.check().expect_unchanged().json["warnings"], expected);
}

#[test]
fn options_are_checked() {
    let machine = Machine::bare();
    let as_wanted = machine.step("base_system");
    as_wanted.run().expect_changed();
    for (option, accepted, rejected, code) in [
        ("opt_root", json!("/srv/lab"), json!("lab"), "OPTION_INVALID"),
        ("opt_owner", json!("daemon"), json!("nobody-like-this"), "ACCOUNT_UNKNOWN"),
        ("opt_group", json!("1"), json!("no-such-group"), "ACCOUNT_UNKNOWN"),
        ("opt_mode", json!("0750"), json!("755"), "OPTION_INVALID"),
        ("extra_packages", json!(["g++"]), json!(["Not A Package"]), "OPTION_INVALID"),
        ("snapd_enabled", json!("no"), json!("never"), "OPTION_INVALID"),
        ("btrfs_enabled", json!(false), json!(2), "OPTION_INVALID"),
        ("btrfs_extra_packages", json!(["btrbk"]), json!(["--option"]), "OPTION_INVALID"),
        ("apt_cache_valid_time", json!("0"), json!(-1), "OPTION_INVALID"),
        ("sysctl_apply", json!(0), json!([]), "OPTION_INVALID"),
        ("extra_sysctl", json!({"vm.swappiness": 10}), json!({"net.ipv4.ip_forward": "0"}), "OPTION_COLLISION"),
        ("extra_sysctl", json!({"net/ipv4/conf/eth0.100/rp_filter": 0}), json!({"net/ipv4/ip_forward": "0"}), "OPTION_COLLISION"),
        ("extra_sysctl", json!({"fs.file-max": 4_194_304}), json!({"fs/file-max": 4096}), "OPTION_COLLISION"),
        ("extra_sysctl", json!({"net.ipv4.tcp_rmem": "1\t2 3\n"}), json!({"vm.swappiness\nkernel.panic": 1}), "OPTION_INVALID"),
        ("extra_kernel_modules", json!(["overlay"]), json!(["../x"]), "OPTION_INVALID"),
        ("extra_kernel_modules", json!([]), json!(["no_such_module"]), "MODULE_NOT_FOUND"),
        ("btrfs_pool_required", json!(false), json!(true), "POOL_MOUNT_MISSING"),
        ("btrfs_pool_mountpoint", json!("/mnt"), json!("mnt"), "OPTION_INVALID"),
        ("btrfs_pool_fstype", json!("xfs"), json!({}), "OPTION_INVALID"),
        ("memory_warning_mib", json!(0), json!("much"), "OPTION_INVALID"),
        ("flow_control_sysctl", json!(false), json!("some"), "OPTION_INVALID"),
    ] {
        machine.step("base_system").args(json!({option: accepted})).check().ok();
        machine.step("base_system").args(json!({option: rejected})).check().expect_code(code);
    }
    machine.step("base_system").args(json!({"opt_rot": "/x"})).check().expect_code("OPTION_UNKNOWN").expect_words("opt_root");
    as_wanted.run().expect_unchanged();
}

#[test]
fn an_unsupported_system_is_left_alone() {
    let machine = Machine::bare();
    machine.write("/etc/os-release", "ID=fedora\nVERSION_ID=41\n");
    let before = machine.snapshot();
    machine.step("base_system").run().expect_code("OS_UNSUPPORTED").expect_words("fedora 41");
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn a_pool_that_must_be_mounted() {
    let machine = Machine::bare();
    let step = machine.step("base_system").args(json!({"btrfs_pool_required": true}));
    step.check().expect_code("POOL_MOUNT_MISSING").expect_words("nothing is mounted there");
    machine.write("/proc/mounts", "/dev/vdb /var/lib/k8slab/lxd-pool ext4 rw 0 0\n");
    step.check().expect_code("POOL_MOUNT_MISSING").expect_words("ext4 is mounted there");
    machine.write("/proc/mounts", "/dev/vdb /var/lib/k8slab/lxd-pool btrfs rw 0 0\n");
    assert!(step.check().ok().json["warnings"][0].as_str().unwrap().contains("does not have the label k8slab-lxdpool"));
    machine.write("/dev/vdb", "");
    machine.write("/dev/disk/by-label/other", "");
    symlink("../../vdb", machine.at("/dev/disk/by-label/k8slab-lxdpool")).unwrap();
    assert_eq!(step.check().ok().json["warnings"], json!(null));
}

#[test]
fn surroundings_are_warned_of() {
    let machine = Machine::bare();
    assert_eq!(machine.step("base_system").check().ok().json["warnings"], json!(null));
    machine.write("/proc/meminfo", "MemTotal:       6291456 kB\n");
    machine.write("/proc/modules", "nf_tables 1 0 - Live 0x0\n");
    machine.add_link("docker0");
    let warnings = machine.step("base_system").check().ok().json["warnings"].clone();
    for (index, words) in ["6144 MiB of memory", "does not have ip_vs, vxlan", "FORWARD chain to DROP"].iter().enumerate() {
        assert!(warnings[index].as_str().unwrap().contains(words), "{warnings}");
    }
}

#[test]
fn a_second_run_waits_for_the_first_and_says_so() {
    let machine = Machine::bare();
    let step = machine.step("base_system");
    machine.fail("apt-get", Some("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 (apt)\n"));
    let first = step.spawn();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !machine.calls().iter().any(|call| call.contains("apt-get")) {
        assert!(std::time::Instant::now() < deadline, "{:?}", machine.calls());
    }
    let second = step.spawn();
    // Another machine is nobody's business, and a run that only plans waits for none.
    assert_eq!(Machine::bare().step("base_system").run().expect_changed().json["warnings"], json!(null));
    step.check().expect_changed();
    machine.fail("apt-get", None);
    assert_eq!(first.wait().expect_changed().json["warnings"], json!(null));
    let second = second.wait().expect_unchanged();
    assert!(
        second.json["warnings"][0].as_str().unwrap().starts_with("another run of base_system was at work"),
        "{:#}",
        second.json
    );
}

#[test]
fn apts_faults_are_named_and_the_next_run_goes_on() {
    let machine = Machine::bare();
    let step = machine.step("base_system").args(json!({"extra_packages": ["nosuch"]}));
    machine.fail("apt-get", Some("E: Unable to locate package nosuch\n"));
    step.run().expect_code("PACKAGE_NOT_FOUND").expect_words("nosuch");
    machine.fail("apt-get", Some("E: dpkg was interrupted, you must manually run 'dpkg --configure -a'\n"));
    step.run().expect_code("COMMAND_FAILED").expect_words("dpkg --configure -a");

    machine
        .fail("apt-get", Some("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 (unattended-upgr)\n"));
    let waiting = step.spawn();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let tries = || machine.calls().iter().filter(|call| call.contains("apt-get")).count();
    let before = tries();
    while tries() < before + 2 {
        assert!(std::time::Instant::now() < deadline, "the step does not try again");
        std::thread::yield_now();
    }
    machine.fail("apt-get", None);
    waiting.wait().expect_changed();
}

#[test]
fn a_link_where_a_file_belongs_is_refused() {
    let machine = Machine::bare();
    machine.write("/etc/precious", "kept");
    symlink("../precious", machine.at("/etc/sysctl.d/60-k8slab-base-system.conf")).unwrap();
    machine.step("base_system").run().expect_code("FILE_SYMLINK");
    assert_eq!(machine.read("/etc/precious").as_deref(), Some("kept"));
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let machine = Machine::bare();
    let step = machine.step("base_system");
    let disk = machine.mount_full_disk("/etc/sysctl.d");
    step.run().expect_code("DISK_FULL");
    assert_eq!(machine.list("/etc/sysctl.d"), ["filler"], "not even the name of the file is there");
    disk.make_room();
    step.run().expect_changed();
    step.run().expect_unchanged();
}
