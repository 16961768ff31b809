//! What the steps before have made, under throw-away names.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Lxd, Step, image};

/// A pool, the internal network and the project, all of one test.
pub struct Substrate<'a> {
    lxd: &'a Lxd,
    pool: TempDir,
    isolation: &'static str,
}

/// The image that instances are made from.
const ALIAS: &str = "tiny";

impl<'a> Substrate<'a> {
    /// Has the steps make everything in strict isolation.
    pub fn make(lxd: &'a Lxd) -> Self {
        Self::isolated(lxd, "strict")
    }

    /// Has the steps make everything in the given isolation.
    pub fn isolated(lxd: &'a Lxd, isolation: &'static str) -> Self {
        let substrate = Self { lxd, pool: TempDir::with_prefix("pool-").expect("make a folder for the pool"), isolation };
        let (ipv4, ipv6) = lxd.subnet();
        for step in [
            substrate.project(),
            lxd.step("lxd_storage_pools")
                .args(json!({"pools": [{"name": lxd.name("p"), "driver": "dir", "config": {"source": substrate.pool.path()}}]})),
            lxd.step("lxd_network_int_managed")
                .args(json!({"networks": [{"name": lxd.network_name(0), "config": {"ipv4.address": ipv4, "ipv6.address": ipv6}}]})),
        ] {
            step.run().expect_changed();
        }
        lxd.relay().reset();
        substrate
    }

    /// The same with the profiles and the image that instances are made from.
    pub fn for_instances(lxd: &'a Lxd) -> Self {
        let substrate = Self::make(lxd);
        substrate.profiles().run().expect_changed();
        substrate.import_image();
        substrate
    }

    /// The name of the external bridge, which is not there.
    pub fn external_bridge(&self) -> String {
        self.lxd.network_name(1)
    }

    /// The step that made the project.
    pub fn project(&self) -> Step {
        let networks = [self.lxd.network_name(0), self.external_bridge()];
        let options = json!({"name": self.lxd.name("p"), "isolation": self.isolation, "restricted_networks": networks});
        self.lxd.step("lxd_project").args(options)
    }

    /// The step that makes the profiles here.
    pub fn profiles(&self) -> Step {
        self.lxd.step("lxd_profiles").args(json!({
            "project": self.lxd.name("p"), "isolation": self.isolation, "storage_pool": self.lxd.name("p"),
            "internal_network": self.lxd.network_name(0), "external_bridge": self.external_bridge(),
        }))
    }

    /// The step that makes the bootstrap instance here, of the tiny image.
    pub fn instance(&self) -> Step {
        self.lxd.step("lxd_bootstrap_instance").args(json!({
            "project": self.lxd.name("p"), "name": "boot", "image_source": "alias", "image_alias": ALIAS, "wait_timeout": 60,
        }))
    }

    /// Puts the tiny image into the project.
    pub fn import_image(&self) {
        image::import(self.lxd.rest(), &self.lxd.name("p"), ALIAS);
    }

    /// The path of something in the project, such as `profiles/capi-base`.
    pub fn path(&self, object: &str) -> String {
        format!("/1.0/{object}?project={}", self.lxd.name("p"))
    }

    /// The path of a file inside the bootstrap instance.
    pub fn file(&self, file: &str) -> String {
        format!("{}&path={file}", self.path("instances/boot/files"))
    }

    /// Something in the project.
    pub fn get(&self, object: &str) -> Value {
        self.lxd.rest().get(&self.path(object))
    }

    /// Changes something in the project by hand.
    pub fn write(&self, method: &str, object: &str, body: &Value) {
        self.lxd.rest().write(method, &self.path(object), body);
    }
}
