//! A throw-away block device.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Enough for the smallest filesystem of any driver; the file behind it is sparse.
const SIZE: u64 = 512 << 20;

/// An empty disk: a file on a loop device.
pub struct Disk {
    device: PathBuf,
    _folder: TempDir,
}

impl Disk {
    /// Attaches a disk to this machine.
    pub fn attach() -> Self {
        let folder = TempDir::with_prefix("disk-").expect("make a folder for the disk's file");
        let file = folder.path().join("disk.img");
        File::create(&file).and_then(|file| file.set_len(SIZE)).expect("make the disk's file");
        let device = run(Command::new("losetup").arg("--find").arg("--show").arg(&file));
        Self { device: PathBuf::from(device), _folder: folder }
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
