//! `lxd_images` against the real LXD, which makes fingerprints of an image's files.

#![allow(clippy::unwrap_used)]

use std::fs;

use contract::{Backend, Lxd, Step, Substrate, image, trial};
use serde_json::{Value, json};
use tempfile::TempDir;

const ALIAS: &str = "kubeadm/v1.35.0";

/// A bundle with one image.
fn bundle(version: &str) -> TempDir {
    let folder = TempDir::with_prefix("bundle-").unwrap();
    image::bundle(folder.path(), ALIAS, version);
    folder
}

fn step(lxd: &Lxd, bundle: &TempDir) -> Step {
    lxd.step("lxd_images").args(json!({"project": lxd.name("p"), "bundle": bundle.path()}))
}

fn images(substrate: &Substrate<'_>) -> usize {
    substrate.get("images").as_array().map_or(0, Vec::len)
}

#[test]
fn brings_images_and_replaces_its_own() {
    let lxd = Lxd::open(Backend::Real);
    let substrate = Substrate::make(&lxd);
    let (first, second) = (bundle("1"), bundle("2"));
    let made = trial::foresees_and_does(&lxd, &step(&lxd, &first));
    assert_eq!(made.json["images"][ALIAS]["imported"], true);
    trial::changes_nothing(&lxd, &step(&lxd, &first));

    substrate.import_image();
    trial::foresees_and_does(&lxd, &step(&lxd, &second));
    assert_eq!(images(&substrate), 2, "the first bundle's image is gone, and a foreign one is kept");
    let behind = substrate.get("images/aliases/kubeadm%2Fv1.35.0");
    let facts = step(&lxd, &second).run().expect_unchanged();
    assert_eq!(behind["target"], facts.json["images"][ALIAS]["fingerprint"]);
}

#[test]
fn an_image_that_a_person_has_named_stays() {
    let lxd = Lxd::open(Backend::Real);
    let substrate = Substrate::make(&lxd);
    let (first, second) = (bundle("1"), bundle("2"));
    step(&lxd, &first).run().expect_changed();
    let target = substrate.get("images/aliases/kubeadm%2Fv1.35.0")["target"].clone();
    substrate.write("POST", "images/aliases", &json!({"name": "mine", "target": target}));
    trial::foresees_and_does(&lxd, &step(&lxd, &second));
    assert_eq!((images(&substrate), &substrate.get("images/aliases/mine")["target"]), (2, &target));
    trial::changes_nothing(&lxd, &step(&lxd, &second));
}

#[test]
fn brings_an_image_that_comes_in_one_file() {
    let lxd = Lxd::open(Backend::Real);
    let substrate = Substrate::make(&lxd);
    let folder = TempDir::with_prefix("bundle-").unwrap();
    image::bundle_in_one_file(folder.path(), ALIAS, "1");
    let made = trial::foresees_and_does(&lxd, &step(&lxd, &folder));
    assert_eq!(substrate.get("images/aliases/kubeadm%2Fv1.35.0")["target"], made.json["images"][ALIAS]["fingerprint"]);
    trial::changes_nothing(&lxd, &step(&lxd, &folder));
}

#[test]
fn goes_on_where_a_killed_run_stopped() {
    let lxd = Lxd::open(Backend::Real);
    let substrate = Substrate::make(&lxd);
    let bundle = bundle("1");
    step(&lxd, &bundle).run().expect_changed();
    substrate.write("DELETE", "images/aliases/kubeadm%2Fv1.35.0", &Value::Null);
    let done = trial::foresees_and_does(&lxd, &step(&lxd, &bundle));
    assert_eq!(done.json["images"][ALIAS]["imported"], false, "the image itself was there");
}

#[test]
fn what_is_wrong_with_a_bundle_is_said_and_leaves_nothing() {
    let lxd = Lxd::open(Backend::Real);
    let substrate = Substrate::make(&lxd);
    let whole = bundle("1");
    step(&lxd, &whole).args(json!({"aliases": ["haproxy"]})).run().expect_code("BUNDLE_NOT_LISTED").expect_words("haproxy");

    let spoilt = bundle("1");
    let other = bundle("2");
    fs::copy(other.path().join("rootfs.tar.gz"), spoilt.path().join("rootfs.tar.gz")).unwrap();
    step(&lxd, &spoilt).run().expect_code("BUNDLE_DIGEST").expect_words(ALIAS);
    fs::remove_file(spoilt.path().join("rootfs.tar.gz")).unwrap();
    step(&lxd, &spoilt).run().expect_code("FILE_UNREADABLE").expect_words("rootfs.tar.gz");
    assert_eq!(images(&substrate), 0);

    let manifest = fs::read_to_string(spoilt.path().join("bundle.json")).unwrap();
    fs::write(spoilt.path().join("bundle.json"), manifest.replace("\"schema\":1", "\"schema\":2")).unwrap();
    step(&lxd, &spoilt).run().expect_code("BUNDLE_SCHEMA_NEWER");
    fs::remove_file(spoilt.path().join("bundle.json")).unwrap();
    step(&lxd, &spoilt).run().expect_code("BUNDLE_MISSING");
    let nowhere = lxd.step("lxd_images").args(json!({"project": lxd.name("q"), "bundle": whole.path()}));
    nowhere.run().expect_code("PROJECT_NOT_FOUND");
    assert!(!nowhere.check().expect_changed().deferred().is_empty());
}

#[test]
fn the_bootstrap_instance_takes_its_image_from_the_bundle() {
    let lxd = Lxd::open(Backend::Real);
    let substrate = Substrate::make(&lxd);
    substrate.profiles().run().expect_changed();
    let folder = TempDir::with_prefix("bundle-").unwrap();
    image::bundle(folder.path(), "k8slab/bootstrap/tiny", "1");
    let instance = substrate.instance().args(json!({"bundle": folder.path()}));
    trial::foresees_and_does(&lxd, &instance);
    trial::changes_nothing(&lxd, &instance);
}
