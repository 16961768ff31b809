//! Creates and converges LXD's storage pools.

mod error;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use ansible::{OptionError, Run, Step};
use converge::{Failure, Section};
use lab::{Keys, keys, names};
use lxd::{Connection, Declared, ObjectChange, Tagged};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use smart_default::SmartDefault;

use crate::{error::Error, source::Source};

/// Converge LXD's storage pools.
///
/// A pool that is missing is made on its source, which must carry nothing; one that is there is compared by its keys. A source counts
/// only when the pool is made.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
pub struct LxdStoragePools {
    /// The pools.
    #[default(vec![Pool::default()])]
    #[schemars(
        length(min = 1),
        extend("role_default" = [{
            "name": "{{ k8s_lab_storage_pool_name | default('capi-fast') }}",
            "driver": "{{ k8s_lab_storage_driver | default('btrfs') }}",
            "config": {
                "source": "{{ k8s_lab_storage_source | default('') }}",
                "btrfs.mount_options": "{{ k8s_lab_storage_btrfs_mount_options | default('') }}",
            },
        }])
    )]
    pub pools: Vec<Pool>,
    /// Where LXD listens.
    #[serde(flatten)]
    pub lxd: Connection,
}

/// A pool as it should be.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
pub struct Pool {
    /// Name of the pool.
    #[default(names::POOL.into())]
    #[schemars(regex(pattern = names::OBJECT))]
    pub name: String,
    /// Driver of the pool.
    pub driver: Driver,
    /// Description of the pool.
    #[default(names::POOL_DESCRIPTION.into())]
    pub description: String,
    /// Configuration keys of the pool. C(source) must be set: a block device, best by its C(/dev/disk/by-id) name, or what else the
    /// driver takes.
    pub config: BTreeMap<String, String>,
    /// Make the pool even where the source carries a filesystem, a partition table or the like; what it carries is lost.
    pub wipe: bool,
}

/// Drivers of pools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// Copies of images and instances in an instant.
    #[default]
    Btrfs,
    /// A plain folder.
    Dir,
    /// A volume group.
    Lvm,
    /// A ZFS pool.
    Zfs,
}

/// What the step returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Facts {
    /// The pools.
    pub pools: Vec<PoolFacts>,
}

/// A pool as it is now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PoolFacts {
    /// Its name.
    pub name: String,
    /// This run made it.
    pub created: bool,
    /// The keys that this run changed.
    pub patched_keys: Vec<String>,
    /// Its source as LXD names it now.
    pub source_uuid: String,
    /// Its source as it was given when it was made.
    pub initial_source: String,
    /// Its status.
    pub status: String,
}

const MOUNT_OPTIONS: &str = "btrfs.mount_options";

/// LXD's name of the given source, once it has rewritten C(source).
const INITIAL_SOURCE: &str = "volatile.initial_source";
/// The extension by which a server wipes a source before it makes a pool there.
const WIPE: &str = "storage_pool_source_wipe";

impl Step for LxdStoragePools {
    const NAME: &'static str = "lxd_storage_pools";
    const SECTIONS: &'static [&'static str] = &["pools"];
    const EXAMPLES: &'static str = "\
- name: Make a pool on a disk of its own
  k8slab.capi.lxd_storage_pools:
    pools:
      - name: capi-fast
        driver: btrfs
        config:
          source: /dev/disk/by-id/nvme-example
  become: true
";
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        let mut names = BTreeSet::new();
        for (index, pool) in self.pools.iter().enumerate() {
            if !names.insert(&pool.name) {
                return Err(OptionError::invalid(format!("pools[{index}].name"), format!("`{}` is there twice", pool.name)).into());
            }
            if pool.source().is_empty() {
                return Err(Error::NoSource { pool: pool.name.clone() }.into());
            }
            OptionError::refuse_overrides(&format!("pools[{index}].config"), &pool.given(), &pool.required())?;
        }
        Ok(())
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        let converged = run.section(&Pools(self)).await?;
        let facts = run.verify(self.facts(converged.live, &converged.changes)).await?;
        for (pool, facts) in self.pools.iter().zip(facts.iter().flat_map(|facts| &facts.pools)) {
            if facts.initial_source != pool.source() {
                run.warn(format!(
                    "pool {} was made on {}, which is {} by another name",
                    pool.name,
                    facts.initial_source,
                    pool.source()
                ));
            }
        }
        Ok(facts)
    }
}

impl LxdStoragePools {
    async fn facts(&self, last: Option<Live>, changes: &[ObjectChange]) -> Result<Facts, Failure> {
        let mut seen = ansible::seen(&Pools(self), last).await?;
        let mut pools = Vec::new();
        for pool in &self.pools {
            let live = match seen.pools.remove(&pool.name) {
                Some(found) => found.object,
                None => self.lxd.client().await?.get(&format!("storage-pools/{}", pool.name)).await?.object,
            };
            let change = changes.iter().find(|change| change.name == pool.name);
            let key = |name: &str| live.config.get(name).cloned().unwrap_or_default();
            pools.push(PoolFacts {
                name: live.name.clone(),
                created: change.is_some_and(ObjectChange::creates),
                patched_keys: change.filter(|change| !change.creates()).map(|change| change.keys.clone()).unwrap_or_default(),
                source_uuid: key("source"),
                initial_source: initial_source(&live).unwrap_or_else(|| pool.source()).to_owned(),
                status: live.status.clone(),
            });
        }
        Ok(Facts { pools })
    }
}

impl Pool {
    fn source(&self) -> &str {
        self.config.get("source").map(String::as_str).unwrap_or_default()
    }

    /// What a pool of this driver always sets; mount options may be added to.
    fn required(&self) -> Keys {
        // Containers in containers delete their own subvolumes.
        const SUBVOLUMES: &str = "user_subvol_rm_allowed";
        match self.driver {
            Driver::Btrfs => {
                let given = self.config.get(MOUNT_OPTIONS).map(String::as_str).unwrap_or_default();
                let keeps = given.split(',').any(|option| option == SUBVOLUMES);
                keys::set([(MOUNT_OPTIONS, if keeps { given } else { SUBVOLUMES })])
            }
            Driver::Dir | Driver::Lvm | Driver::Zfs => Keys::new(),
        }
    }

    /// The given keys; an empty value is none, which is how a template leaves a key out.
    fn given(&self) -> BTreeMap<String, String> {
        self.config.iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn declare(&self, server_wipes: bool) -> Declared<lxd::Pool> {
        let mut config = keys::set(self.given());
        config.extend(self.required());
        let source = config.remove_entry("source");
        let wipe = (self.wipe && server_wipes).then(|| ("source.wipe".to_owned(), Some("true".to_owned())));
        Declared {
            config,
            at_creation: source.into_iter().chain(wipe).collect::<Keys>(),
            creation: [("driver".to_owned(), json!(self.driver))].into_iter().collect(),
            ..Declared::new(&self.name, &self.description)
        }
    }
}

/// The source as it was given. Only a folder keeps it under C(source), and LXD then notes it nowhere else.
fn initial_source(pool: &lxd::Pool) -> Option<&str> {
    let key = if pool.driver == "dir" { "source" } else { INITIAL_SOURCE };
    pool.config.get(key).map(String::as_str)
}

#[derive(Default)]
struct Live {
    /// All pools of the server by name.
    pools: BTreeMap<String, Tagged<lxd::Pool>>,
    /// What is behind every path that is, or is to be, a pool's source.
    sources: BTreeMap<String, Source>,
    /// The server wipes a source itself.
    server_wipes: bool,
}

struct Pools<'a>(&'a LxdStoragePools);

impl Section for Pools<'_> {
    const NAME: &'static str = "pools";
    type Live = Live;
    type Change = ObjectChange;

    async fn observe(&self) -> Result<Live, Failure> {
        let client = self.0.lxd.client().await?;
        let mut live = Live { server_wipes: client.has(WIPE), ..Live::default() };
        for object in client.list::<lxd::Pool>().await? {
            live.pools.insert(object.name.clone(), Tagged { object, etag: None });
        }
        for pool in &self.0.pools {
            if let Some(found) = client.find_made(&pool.name, |pool: &lxd::Pool| pool.status != "Pending").await? {
                live.pools.insert(pool.name.clone(), found);
            }
        }
        for path in live.pools.values().filter_map(|pool| initial_source(&pool.object)) {
            live.sources.insert(path.to_owned(), Source::place(path));
        }
        for path in self.0.pools.iter().map(Pool::source) {
            let source = Source::look(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
            live.sources.insert(path.to_owned(), source);
        }
        Ok(live)
    }

    fn plan(&self, live: &Live) -> Result<Vec<ObjectChange>, Failure> {
        let mut changes = Vec::new();
        for pool in &self.0.pools {
            let found = live.pools.get(&pool.name);
            match found {
                Some(found) => pool.accepts(&found.object, live)?,
                None => pool.can_be_made(live)?,
            }
            changes.extend(pool.declare(live.server_wipes).compare(found));
        }
        Ok(changes)
    }

    async fn apply(&self, change: &ObjectChange) -> Result<(), Failure> {
        let client = self.0.lxd.client().await?;
        if let Some(pool) = self.0.pools.iter().find(|pool| pool.name == change.name)
            && change.creates()
            && pool.wipe
            && !client.has(WIPE)
        {
            pool.wipe_source().await?;
        }
        Ok(change.apply(client).await?)
    }
}

impl Live {
    /// Whether two paths lead to the same device or folder.
    fn same(&self, one: &str, other: &str) -> bool {
        let node = |path: &str| self.sources.get(path).and_then(|source| source.node.as_ref());
        one == other || node(one).is_some_and(|found| Some(found) == node(other))
    }
}

impl Pool {
    /// What was settled when the pool was made cannot be changed now.
    fn accepts(&self, found: &lxd::Pool, live: &Live) -> Result<(), Error> {
        let pool = || self.name.clone();
        let driver = json!(self.driver);
        if json!(found.driver) != driver {
            let wanted = driver.as_str().unwrap_or_default().to_owned();
            return Err(Error::DriverMismatch { pool: pool(), found: found.driver.clone(), wanted });
        }
        if !found.status.is_empty() && found.status != "Created" {
            return Err(Error::NotCreated { pool: pool(), status: found.status.clone() });
        }
        match initial_source(found) {
            Some(initial) if !live.same(initial, self.source()) => {
                Err(Error::SourceMismatch { pool: pool(), found: initial.to_owned(), wanted: self.source().to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// A pool takes over its whole source, so there must be one, and nothing on it.
    fn can_be_made(&self, live: &Live) -> Result<(), Error> {
        let (pool, path) = (self.name.clone(), self.source().to_owned());
        let owner = live.pools.values().find(|other| initial_source(&other.object).is_some_and(|other| live.same(other, &path)));
        if let Some(owner) = owner {
            return Err(Error::SourceInUse { pool, path, by: format!("pool {}", owner.object.name) });
        }
        // Where LXD is still to come, nothing has been looked at.
        let Some(source) = live.sources.get(&path).cloned() else { return Ok(()) };
        if source.node.is_none() && path.starts_with('/') && !self.is_own_loop_file() {
            return Err(Error::SourceMissing { pool, path });
        }
        if let Some(mount) = source.mounted {
            return Err(Error::SourceInUse { pool, path, by: format!("the mount at {mount}") });
        }
        match source.signature {
            Some(found) if !self.wipe => Err(Error::SourceDirty { pool, path, found }),
            _ => Ok(()),
        }
    }

    async fn wipe_source(&self) -> Result<(), Failure> {
        let path = self.source();
        let source = Source::look(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        if source.signature.is_some() {
            host::signature::erase(Path::new(path)).await?;
        }
        Ok(())
    }

    /// Where LXD itself makes the file of a pool on a loop device.
    fn is_own_loop_file(&self) -> bool {
        self.source().ends_with(&format!("/disks/{}.img", self.name))
    }
}

#[cfg(test)]
mod tests;
