//! The smallest system that a container can run: one binary, and addresses from the bridge.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use data_encoding::HEXLOWER;
use hyper::body::Bytes;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::{Rest, program};

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

/// A bundle's folder that holds the image, in two files, under `alias`; `version` makes it another image.
pub fn bundle(folder: &Path, alias: &str, version: &str) {
    let made = marked(version);
    let metadata = ("instance-metadata", "metadata.tar.gz", pack(made.path(), &["metadata.yaml"]));
    let rootfs = ("instance-image", "rootfs.tar.gz", pack(&made.path().join("rootfs"), &["."]));
    list(folder, alias, version, &[metadata, rootfs]);
}

/// The same with the image in one file.
pub fn bundle_in_one_file(folder: &Path, alias: &str, version: &str) {
    let made = marked(version);
    list(folder, alias, version, &[("instance-image", "image.tar.gz", pack(made.path(), &["metadata.yaml", "rootfs"]))]);
}

/// The image in a folder, with this version in it.
fn marked(version: &str) -> TempDir {
    let made = TempDir::with_prefix("image-").expect("make a folder for the image");
    lay_out(made.path());
    fs::write(made.path().join("rootfs/etc/version"), version).expect("mark the image");
    made
}

/// Writes these files, by role and name, and a manifest that lists them.
fn list(folder: &Path, alias: &str, version: &str, files: &[(&str, &str, Vec<u8>)]) {
    let fingerprint =
        HEXLOWER.encode(&files.iter().fold(Sha256::new(), |digest, (.., bytes)| digest.chain_update(bytes)).finalize());
    let entries = files.iter().map(|(role, name, bytes)| {
        fs::write(folder.join(name), bytes).expect("write the image's files");
        let fingerprint = (*role == "instance-image").then_some(&fingerprint);
        let sha256 = HEXLOWER.encode(&Sha256::digest(bytes));
        json!({
            "path": name, "role": role, "name": alias, "version": version, "architecture": "amd64", "origin": "busybox",
            "sha256": sha256, "fingerprint": fingerprint,
        })
    });
    let manifest = json!({"schema": 1, "source": "modules", "files": entries.collect::<Vec<_>>()});
    fs::write(folder.join("bundle.json"), manifest.to_string()).expect("write the manifest");
}

fn archive() -> Vec<u8> {
    let folder = TempDir::with_prefix("image-").expect("make a folder for the image");
    lay_out(folder.path());
    pack(folder.path(), &["metadata.yaml", "rootfs"])
}

fn lay_out(folder: &Path) {
    let root = folder.join("rootfs");
    for place in ["bin", "sbin", "dev", "etc", "proc", "run", "sys", "tmp"] {
        fs::create_dir_all(root.join(place)).expect("lay the image out");
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap_or_else(|error| panic!("{BUSYBOX} of the package busybox-static: {error}"));
    symlink("busybox", root.join("bin/sh")).expect("link the shell");
    program::script(&root.join("sbin/init"), INIT);
    program::script(&root.join("sbin/lease"), LEASE);
    fs::write(folder.join("metadata.yaml"), METADATA).expect("describe the image");
}

fn pack(folder: &Path, members: &[&str]) -> Vec<u8> {
    let packed = Command::new("tar")
        .args(["--create", "--gzip", "--owner=0", "--group=0", "--numeric-owner"])
        .args(members)
        .current_dir(folder)
        .output()
        .expect("run tar");
    assert!(packed.status.success(), "tar: {}", String::from_utf8_lossy(&packed.stderr));
    packed.stdout
}
