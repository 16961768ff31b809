//! A throw-away block device.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Enough for the smallest filesystem of any driver; the file behind it is sparse.
const SIZE: u64 = 512 << 20;

/// An empty disk: a file on a loop device.
pub struct Disk {
    device: PathBuf,
    folder: TempDir,
}

impl Disk {
    /// Attaches a disk to this machine.
    pub fn attach() -> Self {
        let folder = TempDir::with_prefix("disk-").expect("make a folder for the disk's file");
        let file = folder.path().join("disk.img");
        File::create(&file).and_then(|file| file.set_len(SIZE)).expect("make the disk's file");
        let device = run(Command::new("losetup").arg("--find").arg("--show").arg(&file));
        Self { device: PathBuf::from(device), folder }
    }

    /// Its path below `/dev`.
    pub fn path(&self) -> &Path {
        &self.device
    }

    /// Puts a swap area on it, as a stand-in for anything that somebody may still need.
    pub fn make_dirty(&self) {
        run(Command::new("mkswap").arg(&self.device));
    }
}

/// A mounted disk.
pub struct Mounted(TempDir);

impl Disk {
    /// Makes a filesystem on it and mounts it, by another of its names.
    pub fn mount(&self) -> Mounted {
        run(Command::new("mkfs.btrfs").arg("--force").arg(&self.device));
        let point = TempDir::with_prefix("mount-").expect("make a folder to mount the disk at");
        let other_name = self.folder.path().join("other-name");
        std::os::unix::fs::symlink(&self.device, &other_name).expect("give the disk another name");
        run(Command::new("mount").arg(other_name).arg(point.path()));
        Mounted(point)
    }

    /// Has exclusive access to it for as long as the answer lives, as a ZFS pool would.
    pub fn claim(&self) -> File {
        const EXCLUSIVE: i32 = 0o200;
        let mut options = File::options();
        options.read(true).custom_flags(EXCLUSIVE).open(&self.device).expect("claim the disk")
    }
}

impl Mounted {
    /// Where.
    pub fn point(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A disk in use is detached by the kernel as soon as it is free.
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
