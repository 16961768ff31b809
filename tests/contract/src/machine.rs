//! A machine that is only a folder: what the hosts' own steps take for the root, with scripted programs in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::Step;

/// The programs of the machine: steps call them by `chroot`, and this stands in its place.
const PROGRAMS: &str = include_str!("machine/chroot");

/// A Debian host with nothing of the lab on it.
const BARE: [(&str, &str); 16] = [
    ("/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
    ("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/:/usr/sbin/nologin\n"),
    ("/etc/group", "root:x:0:\ndaemon:x:1:\n"),
    ("/etc/modules-load.d/.keep", ""),
    ("/etc/sysctl.d/.keep", ""),
    ("/var/lib/dpkg/status", "Package: tar\nStatus: install ok installed\nVersion: 1.34\n\n"),
    ("/proc/meminfo", "MemTotal:       16777216 kB\n"),
    ("/proc/mounts", "/dev/vda / ext4 rw 0 0\n"),
    ("/proc/modules", "nf_tables 1 0 - Live 0x0\nip_vs 1 0 - Live 0x0\nvxlan 1 0 - Live 0x0\n"),
    ("/proc/sys/kernel/osrelease", "6.1.0-1-amd64\n"),
    ("/proc/sys/fs/file-max", "9223372036854775807\n"),
    ("/proc/sys/fs/inotify/max_user_instances", "128\n"),
    ("/proc/sys/fs/inotify/max_user_watches", "192536\n"),
    ("/proc/sys/net/ipv4/ip_forward", "0\n"),
    ("/proc/sys/net/ipv6/conf/all/forwarding", "0\n"),
    (
        "/lib/modules/6.1.0-1-amd64/modules.dep",
        "kernel/fs/overlayfs/overlay.ko:\nkernel/net/bridge/br_netfilter.ko:\nkernel/net/netfilter/nf_conntrack.ko:\n",
    ),
];

/// A machine of a test's own.
pub struct Machine {
    folder: TempDir,
}

impl Machine {
    /// A Debian host with nothing of the lab on it.
    pub fn bare() -> Self {
        let machine = Self { folder: TempDir::with_prefix("machine-").expect("make a folder for the machine") };
        for folder in ["root", "programs"] {
            fs::create_dir(machine.folder.path().join(folder)).expect("make the machine's folders");
        }
        for (path, text) in BARE {
            machine.write(path, text);
        }
        let mut programs = fs::OpenOptions::new();
        let mut programs = programs
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(machine.folder.path().join("programs/chroot"))
            .expect("install the machine's programs");
        std::io::Write::write_all(&mut programs, PROGRAMS.as_bytes()).expect("write the machine's programs");
        machine
    }

    /// The folder that is its root.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Where a path of the machine is.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// Puts a file there.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        let folder = path.parent().expect("a file is in a folder");
        fs::create_dir_all(folder).expect("make the file's folder");
        fs::write(path, text).expect("write a file of the machine");
    }

    /// Adds a link of the network that carries nothing.
    pub fn add_link(&self, name: &str) {
        for (file, text) in [("flags", "0x1002\n"), ("mtu", "1500\n"), ("operstate", "down\n")] {
            self.write(&format!("/sys/class/net/{name}/{file}"), text);
        }
    }

    /// What a file says; nothing if it does not exist.
    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok()
    }

    /// The names in a folder.
    pub fn list(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(folder)).expect("list a folder of the machine");
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("list a folder of the machine").file_name();
        let mut names: Vec<_> = entries.map(name).map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Mounts a filesystem without any room left; needs root.
    pub fn mount_full_disk(&self, folder: &str) -> FullDisk {
        let folder = self.at(folder);
        fs::create_dir_all(&folder).expect("make the mount point");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=32k", "none"]).arg(&folder).status();
        assert!(status.is_ok_and(|status| status.success()), "mount a small filesystem");
        let disk = FullDisk { folder };
        fs::write(disk.filler(), vec![0; 64 << 10]).expect_err("more than the filesystem takes");
        disk
    }

    /// Makes a program fail with these last words, until it is asked to no more.
    pub fn fail(&self, program: &str, words: Option<&str>) {
        let fault = self.folder.path().join(format!("programs/{program}.fault"));
        match words {
            Some(words) => {
                // A program that is starting must not read half of it.
                let draft = fault.with_extension("draft");
                fs::write(&draft, words).expect("write the fault");
                fs::rename(draft, fault).expect("arm the fault");
            }
            None => fs::remove_file(fault).expect("disarm the fault"),
        }
    }

    /// The commands that were run on it, oldest first.
    pub fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.folder.path().join("programs/calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// Everything on it: for each file its mode and text.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, (u32, String)> {
        let mut found = BTreeMap::new();
        collect(&self.root(), &mut found);
        found
    }

    /// A step that takes this machine for the one that it runs on.
    pub fn step(&self, name: &'static str) -> Step {
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", self.folder.path().join("programs").display());
        Step::new(name).args(json!({"root": self.root()})).env("PATH", path)
    }
}

/// A filesystem without any room left, with one file in it. Dropped, it is unmounted.
pub struct FullDisk {
    folder: PathBuf,
}

impl FullDisk {
    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    /// Removes what fills it.
    pub fn make_room(&self) {
        fs::remove_file(self.filler()).expect("make room");
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        // Without its mount the folder goes with the machine.
        let _ = Command::new("umount").arg(&self.folder).status();
    }
}

fn collect(folder: &Path, found: &mut BTreeMap<PathBuf, (u32, String)>) {
    for entry in fs::read_dir(folder).expect("list a folder of the machine") {
        let path = entry.expect("list a folder of the machine").path();
        let metadata = path.symlink_metadata().expect("look at a file of the machine");
        let text = if metadata.is_file() { fs::read(&path).expect("read a file of the machine") } else { Vec::new() };
        found.insert(path.clone(), (metadata.mode(), String::from_utf8_lossy(&text).into_owned()));
        if metadata.is_dir() {
            collect(&path, found);
        }
    }
}
