//! Creates and converges the four profiles of the lab's instances.

mod node;
mod restart;

use std::{collections::BTreeMap, path::Path};

use ansible::{OptionError, Run, Step};
use converge::{AbsolutePath, Explain, Explanation, Failure, Section};
use host::{Root, kernel};
use lab::{
    Isolation, machine, names,
    profiles::{self, BASE, BOOTSTRAP, CONTROL_PLANE, Surroundings},
};
use lxd::{Client, Connection, Declared, Instance, ObjectChange, Tagged};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use crate::restart::{Change, Restarts};

type Config = BTreeMap<String, String>;
type Devices = BTreeMap<String, Config>;

/// Converge the profiles of the lab's instances.
///
/// The profiles confine the instances that use them. These are unprivileged, and each has an id map of its own. An addition may
/// extend a profile but not change what the lab sets. Keys and devices that neither declares are left alone.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
pub struct LxdProfiles {
    /// Project of the profiles.
    #[default(names::PROJECT.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "project_name"))]
    pub project: String,
    /// How far instances may reach.
    #[schemars(extend("global" = "isolation"))]
    pub isolation: Isolation,
    /// Intercept the system calls by which images with device nodes are unpacked, in O(isolation=strict) too. The project must allow
    /// it by C(restricted.containers.interception).
    #[schemars(extend("global" = "strict_interception"))]
    pub strict_interception: bool,
    /// Pool of the root disks.
    #[default(names::POOL.into())]
    #[schemars(length(min = 1), extend("global" = "storage_pool_name"))]
    pub storage_pool: String,
    /// Managed network of all instances.
    #[default(names::INTERNAL_NETWORK.into())]
    #[schemars(length(min = 1), extend("global" = "internal_network_name"))]
    pub internal_network: String,
    /// Bridge of the host that leads outside.
    #[default(names::EXTERNAL_BRIDGE.into())]
    #[schemars(length(min = 1), extend("global" = "external_bridge_name"))]
    pub external_bridge: String,
    /// Interface on the internal network, inside instances.
    #[default(names::INTERNAL_INTERFACE.into())]
    #[schemars(regex(pattern = names::INTERFACE), extend("global" = "guest_internal_ifname"))]
    pub internal_ifname: String,
    /// Interface on the external bridge, inside instances.
    #[default(names::EXTERNAL_INTERFACE.into())]
    #[schemars(regex(pattern = names::INTERFACE), extend("global" = "guest_external_ifname"))]
    pub external_ifname: String,
    /// Configuration keys to add to C(capi-base).
    pub capi_base_extra_config: Config,
    /// Devices to add to C(capi-base), or keys to add to its devices.
    pub capi_base_extra_devices: Devices,
    /// Configuration keys to add to C(capi-bootstrap).
    pub capi_bootstrap_extra_config: Config,
    /// Devices to add to C(capi-bootstrap), or keys to add to its devices.
    pub capi_bootstrap_extra_devices: Devices,
    /// Configuration keys to add to C(capi-controlplane).
    pub capi_controlplane_extra_config: Config,
    /// Devices to add to C(capi-controlplane), or keys to add to its devices.
    pub capi_controlplane_extra_devices: Devices,
    /// Configuration keys to add to C(capi-worker).
    pub capi_worker_extra_config: Config,
    /// Devices to add to C(capi-worker), or keys to add to its devices.
    pub capi_worker_extra_devices: Devices,
    /// What to restart when a profile changes in a way that a running instance does not take up.
    pub restart_policy: RestartPolicy,
    /// How long a restarted instance may take to have its addresses again, and a node to be Ready again, in seconds.
    #[default(120)]
    #[schemars(range(min = 1))]
    pub restart_timeout: u64,
    /// Folder of the lab's programs and settings on the host. The kubeconfigs of the clusters whose nodes are restarted are in
    /// it.
    #[default(machine::OPT_ROOT.into())]
    #[schemars(extend("global" = "opt_root"))]
    pub opt_root: AbsolutePath,
    /// Where LXD listens.
    #[serde(flatten)]
    pub lxd: Connection,
}

/// Which instances are restarted; the others are reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Only the lab's own instance, which carries the bootstrap cluster.
    #[default]
    Auto,
    /// The nodes that Cluster API made as well, one by one: the next one follows when all nodes of its cluster are Ready.
    Nodes,
    /// None.
    Never,
}

/// What the step returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Facts {
    /// The profiles.
    pub profiles: Vec<ProfileFacts>,
    /// Instances that were restarted.
    pub restarted: Vec<String>,
    /// Instances that still run as their profiles were before.
    pub restart_pending: Vec<String>,
}

/// What this run did to a profile.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProfileFacts {
    /// Name of the profile.
    pub name: String,
    /// This run made it.
    pub created: bool,
    /// The configuration keys that this run changed.
    pub changed_keys: Vec<String>,
    /// The devices that this run changed.
    pub changed_devices: Vec<String>,
}

impl Step for LxdProfiles {
    const NAME: &'static str = "lxd_profiles";
    const SECTIONS: &'static [&'static str] = &["profiles"];
    const EXAMPLES: &'static str = "\
- name: Make the profiles, and bound what a worker may use
  k8slab.capi.lxd_profiles:
    project: capi-lab
    capi_worker_extra_config:
      limits.memory: 8GiB
  become: true
";
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        for profile in self.catalogue(false) {
            let (config, devices) = self.extras(profile.name);
            let option = |what: &str| format!("{}_extra_{what}", profile.name.replace('-', "_"));
            OptionError::refuse_overrides(&option("config"), config, &profile.config)?;
            for (name, added) in devices {
                let option = format!("{}.{name}", option("devices"));
                let Some(Some(required)) = profile.devices.get(name) else { continue };
                OptionError::refuse_overrides(&option, added, required)?;
                if let Some(key) =
                    added.keys().find(|key| profiles::IDENTITY.contains(&key.as_str()) && !required.contains_key(*key))
                {
                    return Err(OptionError::Collision { option, key: key.clone(), required: "(unset)".into() }.into());
                }
            }
        }
        Ok(())
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        let converged = run.section(&Profiles(self)).await?;
        if !Path::new("/sys/class/net").join(&self.external_bridge).exists() {
            run.warn(format!("there is no bridge {} on this host; instances that use it will not start", self.external_bridge));
        }
        run.verify(self.facts(converged.live, &converged.changes)).await
    }
}

impl LxdProfiles {
    fn catalogue(&self, fixed_kernel: bool) -> Vec<profiles::Profile> {
        profiles::catalogue(
            self.isolation,
            &Surroundings {
                pool: &self.storage_pool,
                internal_network: &self.internal_network,
                external_bridge: &self.external_bridge,
                internal_interface: &self.internal_ifname,
                external_interface: &self.external_ifname,
                interception: self.strict_interception,
                fixed_kernel,
            },
        )
    }

    fn extras(&self, profile: &str) -> (&Config, &Devices) {
        match profile {
            BASE => (&self.capi_base_extra_config, &self.capi_base_extra_devices),
            BOOTSTRAP => (&self.capi_bootstrap_extra_config, &self.capi_bootstrap_extra_devices),
            CONTROL_PLANE => (&self.capi_controlplane_extra_config, &self.capi_controlplane_extra_devices),
            _ => (&self.capi_worker_extra_config, &self.capi_worker_extra_devices),
        }
    }

    fn declare(&self, profile: profiles::Profile) -> Declared<lxd::Profile> {
        let (config, devices) = self.extras(profile.name);
        let own = Declared { config: profile.config, devices: profile.devices, ..Declared::new(profile.name, profile.description) };
        own.with_additions(config, devices)
    }

    async fn client(&self) -> Result<Client, Failure> {
        Ok(self.lxd.client().await?.in_project(&self.project))
    }

    async fn facts(&self, last: Option<Live>, changes: &[Change]) -> Result<Facts, Failure> {
        let restarts = ansible::seen(&Profiles(self), last).await?.restarts;
        let of = |name: &str| changes.iter().filter_map(Change::profile).find(|change| change.name == name);
        let profiles = profiles::names().map(|name| {
            let change = of(name);
            ProfileFacts {
                name: name.to_owned(),
                created: change.is_some_and(ObjectChange::creates),
                changed_keys: change.map(|change| change.keys.clone()).unwrap_or_default(),
                changed_devices: change.map(|change| change.devices.clone()).unwrap_or_default(),
            }
        });
        Ok(Facts {
            profiles: profiles.collect(),
            restarted: changes.iter().filter_map(Change::restarted).map(str::to_owned).collect(),
            restart_pending: restarts.pending().map(str::to_owned).collect(),
        })
    }
}

#[derive(Default)]
struct Live {
    fixed_kernel: bool,
    profiles: BTreeMap<String, Tagged<lxd::Profile>>,
    /// Instances that have no root disk of their own, and their profiles.
    rootless: BTreeMap<String, Vec<String>>,
    restarts: Restarts,
}

impl Live {
    /// LXD takes a profile to another pool only while no instance has its root disk from it.
    fn refuse_another_root(&self, change: &ObjectChange, wanted: &str) -> Result<(), RootInUse> {
        let pool = self.profiles.get(&change.name).and_then(|live| live.object.devices.get("root")?.get("pool"));
        let Some(pool) = pool.filter(|pool| *pool != wanted && change.devices.iter().any(|device| device == "root")) else {
            return Ok(());
        };
        let users = self.rootless.iter().filter(|(_, profiles)| profiles.contains(&change.name));
        let instances: Vec<_> = users.map(|(name, _)| name.clone()).collect();
        if instances.is_empty() {
            return Ok(());
        }
        Err(RootInUse { profile: change.name.clone(), pool: pool.clone(), wanted: wanted.to_owned(), instances })
    }
}

/// The root disks of instances would have to move.
#[derive(Debug, thiserror::Error)]
#[error("profile {profile} cannot change from pool {pool} to {wanted}: {} have their root disks by it", instances.join(", "))]
struct RootInUse {
    profile: String,
    pool: String,
    wanted: String,
    instances: Vec<String>,
}

impl Explain for RootInUse {
    fn explain(&self) -> Explanation {
        Explanation::new("PROFILE_ROOT_IN_USE").hint(format!(
            "keep storage_pool: {}, or remove those instances first; LXD does not move a root disk with its profile",
            self.pool
        ))
    }
}

struct Profiles<'a>(&'a LxdProfiles);

impl Section for Profiles<'_> {
    const NAME: &'static str = "profiles";
    type Live = Live;
    type Change = Change;

    async fn observe(&self) -> Result<Live, Failure> {
        let client = self.0.client().await?;
        let fixed_kernel = !kernel::loads_modules(&Root::default());
        let instances = lxd::if_there(client.list::<Instance>().await)?.unwrap_or_default();
        let has_root = |instance: &Instance| instance.devices.values().any(|device| device.get("path").is_some_and(|at| at == "/"));
        let rootless = instances.iter().filter(|instance| !has_root(instance));
        let rootless = rootless.map(|instance| (instance.name.clone(), instance.profiles.clone())).collect();
        let restarts = Restarts::observe(&client, instances).await?;
        let mut live = Live { fixed_kernel, rootless, restarts, ..Live::default() };
        for name in profiles::names() {
            if let Some(found) = client.find(name).await? {
                live.profiles.insert(name.to_owned(), found);
            }
        }
        Ok(live)
    }

    /// Running instances are marked before their profile changes, so that a run that dies in between leaves behind what is to do.
    fn plan(&self, live: &Live) -> Result<Vec<Change>, Failure> {
        let declared = self.0.catalogue(live.fixed_kernel).into_iter().map(|profile| self.0.declare(profile));
        let profiles: Vec<_> = declared.filter_map(|declared| declared.compare(live.profiles.get(&declared.name))).collect();
        for change in &profiles {
            live.refuse_another_root(change, &self.0.storage_pool)?;
        }
        let stale = |change: &&ObjectChange| !change.creates() && change.keys.iter().any(|key| profiles::needs_restart(key));
        let stale: Vec<&str> = profiles.iter().filter(stale).map(|change| change.name.as_str()).collect();
        let (marks, restarts) = live.restarts.plan(&stale, self.0.restart_policy);
        Ok(marks.into_iter().chain(profiles.into_iter().map(|change| Change::Profile(Box::new(change)))).chain(restarts).collect())
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        change.apply(self.0, &self.0.client().await?).await
    }
}

#[cfg(test)]
mod tests;
