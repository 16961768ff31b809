//! The smallest system that a container can run: one binary, and addresses from the bridge.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use hyper::body::Bytes;
use serde_json::json;
use tempfile::TempDir;

use crate::Rest;

/// From Debian's package `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";

const INIT: &str = "#!/bin/sh
# LXD asks for a clean end by this signal, and may do so at once.
trap 'exit 0' PWR
/bin/busybox --install -s /bin
ip link set lo up
ip link set eth0 up
udhcpc -b -i eth0 -s /sbin/lease
while :; do sleep 3600 & wait $!; done
";

const LEASE: &str = "#!/bin/sh
case $1 in bound|renew) ip addr replace \"$ip/$mask\" dev \"$interface\" ;; esac
";

const METADATA: &str = "architecture: x86_64
creation_date: 1767225600
properties:
  description: tiny
";

/// Puts the image into a project's store under `alias`; returns its fingerprint.
pub fn import(rest: &Rest, project: &str, alias: &str) -> String {
    let uploaded = rest.upload(&format!("/1.0/images?project={project}"), Bytes::from(archive()));
    let fingerprint = uploaded["fingerprint"].as_str().expect("LXD names the image's fingerprint").to_owned();
    rest.write("POST", &format!("/1.0/images/aliases?project={project}"), &json!({"name": alias, "target": fingerprint}));
    fingerprint
}

fn archive() -> Vec<u8> {
    let folder = TempDir::with_prefix("image-").expect("make a folder for the image");
    let root = folder.path().join("rootfs");
    for place in ["bin", "sbin", "dev", "etc", "proc", "run", "sys", "tmp"] {
        fs::create_dir_all(root.join(place)).expect("lay the image out");
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap_or_else(|error| panic!("{BUSYBOX} of the package busybox-static: {error}"));
    symlink("busybox", root.join("bin/sh")).expect("link the shell");
    executable(&root.join("sbin/init"), INIT);
    executable(&root.join("sbin/lease"), LEASE);
    fs::write(folder.path().join("metadata.yaml"), METADATA).expect("describe the image");
    let packed = Command::new("tar")
        .args(["--create", "--gzip", "--owner=0", "--group=0", "--numeric-owner", "metadata.yaml", "rootfs"])
        .current_dir(folder.path())
        .output()
        .expect("run tar");
    assert!(packed.status.success(), "tar: {}", String::from_utf8_lossy(&packed.stderr));
    packed.stdout
}

fn executable(path: &Path, script: &str) {
    fs::write(path, script).expect("write the image's scripts");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("make the image's scripts executable");
}
