//! Creates and converges LXD's storage pools.

mod error;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use ansible::{OptionError, Run, Step};
use converge::{Failure, Section};
use lab::{Keys, keys, names};
use lxd::{Client, Connection, Declared, Devices, ObjectChange, SOCKETS, Tagged};
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
    /// driver takes. With C(loop), LXD makes a file of C(size) itself, or a folder with O(pools[].driver=dir).
    pub config: BTreeMap<String, String>,
    /// Make the pool even where the source carries a filesystem, a partition table or the like; what it carries is lost.
    pub wipe: bool,
}

/// Drivers of pools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// A btrfs filesystem, which copies images and instances at once.
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
    /// Name of the pool.
    pub name: String,
    /// This run made it.
    pub created: bool,
    /// The keys that this run changed.
    pub patched_keys: Vec<String>,
    /// Its source as LXD names it now.
    pub source_uuid: String,
    /// Its source as it was given when it was made.
    pub initial_source: String,
    /// Status that LXD tells, such as V(Created).
    pub status: String,
}

/// The source of a pool for which LXD makes a file or a folder itself.
const LOOP: &str = "loop";

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
            if facts.initial_source != pool.source() && !pool.is_made_by_lxd() {
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

    /// LXD makes what the pool is on.
    fn is_made_by_lxd(&self) -> bool {
        self.source() == LOOP
    }

    fn declare(&self, server_wipes: bool) -> Declared<lxd::Pool> {
        let mut added = self.given();
        added.remove("source");
        // It is what the pool is made of, and no addition to it.
        let size = added.remove("size").map(|size| ("size".to_owned(), Some(size)));
        let source = Some(self.source()).filter(|_| !self.is_made_by_lxd()).map(|source| ("source", source.to_owned()));
        let wipe = (self.wipe && server_wipes && source.is_some()).then(|| ("source.wipe", "true".to_owned()));
        let own = Declared {
            at_creation: keys::set(source.into_iter().chain(wipe)),
            creation: [("driver".to_owned(), json!(self.driver))].into_iter().collect(),
            ..Declared::new(&self.name, &self.description)
        };
        let mut declared = own.with_additions(&added, &Devices::new());
        declared.config.extend(size.into_iter().chain(self.required()));
        declared
    }
}

/// The source as it was given, or made by LXD. A folder or a file of LXD's own it keeps under C(source) alone.
fn initial_source(pool: &lxd::Pool) -> Option<&str> {
    let of = |key: &str| pool.config.get(key).map(String::as_str).filter(|source| !source.is_empty());
    let path = || of("source").filter(|source| source.starts_with('/'));
    if pool.driver == "dir" { path() } else { of(INITIAL_SOURCE).or_else(path) }
}

#[derive(Default)]
struct Live {
    /// All pools of the server by name.
    pools: BTreeMap<String, Tagged<lxd::Pool>>,
    /// What is behind every path that is, or is to be, a pool's source.
    sources: BTreeMap<String, Source>,
    /// What lies where LXD would make the file of a pool that is not there.
    leftovers: BTreeMap<String, (String, Source)>,
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
        for pool in &self.0.pools {
            let path = pool.source();
            if live.pools.contains_key(&pool.name) {
                live.sources.insert(path.to_owned(), Source::place(path));
            } else if pool.is_made_by_lxd() {
                for file in self.0.files_by_lxd(pool) {
                    let path = file.display().to_string();
                    let found = Source::look(&path).await?;
                    live.leftovers.insert(pool.name.clone(), (path, found));
                }
            } else {
                live.sources.insert(path.to_owned(), Source::look(path).await?);
            }
        }
        Ok(live)
    }

    fn plan(&self, live: &Live) -> Result<Vec<ObjectChange>, Failure> {
        let mut changes = Vec::new();
        let mut made: Vec<&Pool> = Vec::new();
        for pool in &self.0.pools {
            let mut found = live.pools.get(&pool.name);
            if let Some(found) = found {
                pool.accepts(&found.object, live)?;
            } else {
                pool.can_be_made(live, &made)?;
                made.push(pool);
            }
            // LXD goes on with what it did not finish when it is asked to make it once more.
            found = found.filter(|found| is_finished(&found.object));
            changes.extend(pool.declare(live.server_wipes).compare(found));
        }
        Ok(changes)
    }

    async fn apply(&self, change: &ObjectChange) -> Result<(), Failure> {
        let client = self.0.lxd.client().await?;
        let pool = self.0.pools.iter().find(|pool| pool.name == change.name).filter(|_| change.creates());
        if let Some(pool) = pool { self.0.make(client, pool, change).await } else { Ok(change.apply(client).await?) }
    }
}

impl LxdStoragePools {
    /// The files that are where LXD makes a pool's.
    fn files_by_lxd(&self, pool: &Pool) -> Vec<PathBuf> {
        let sockets = self.lxd.socket().into_iter().chain(SOCKETS.map(PathBuf::from));
        let folders = sockets.filter_map(|socket| Some(socket.parent()?.join("disks")));
        let files = folders.map(|folder| folder.join(format!("{}.img", pool.name)));
        files.filter(|file| pool.driver != Driver::Dir && file.is_file()).collect()
    }

    /// Makes a pool. Where LXD fails, what it leaves of it is nobody's, and would be in the way of the next run.
    async fn make(&self, client: &Client, pool: &Pool, change: &ObjectChange) -> Result<(), Failure> {
        let leftovers = self.files_by_lxd(pool);
        if pool.wipe && pool.is_made_by_lxd() {
            for file in &leftovers {
                Source::wipe(&pool.name, &file.display().to_string()).await?;
            }
        } else if pool.wipe && !client.has(WIPE) {
            Source::wipe(&pool.name, pool.source()).await?;
        }
        let Err(error) = change.apply(client).await else { return Ok(()) };
        if let lxd::Error::Refused { .. } | lxd::Error::Failed { .. } = &error {
            match client.find::<lxd::Pool>(&pool.name).await? {
                Some(found) if !is_finished(&found.object) => {
                    return Err(Error::NotCreated { pool: pool.name.clone(), status: found.object.status }.into());
                }
                Some(_) => {}
                None => self.files_by_lxd(pool).iter().filter(|file| !leftovers.contains(file)).for_each(|file| remove(file)),
            }
        }
        Err(error.into())
    }
}

fn remove(file: &Path) {
    match fs::remove_file(file) {
        Ok(()) => tracing::info!("removed {}, which LXD left behind", file.display()),
        Err(error) => tracing::info!("{} is left behind: {error}", file.display()),
    }
}

fn is_finished(pool: &lxd::Pool) -> bool {
    pool.status.is_empty() || pool.status == "Created"
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
        match initial_source(found) {
            Some(initial) if self.is_made_by_lxd() && self.is_place_of_lxd(initial) => Ok(()),
            Some(initial) if !live.same(initial, self.source()) => {
                Err(Error::SourceMismatch { pool: pool(), found: initial.to_owned(), wanted: self.source().to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// A pool takes over its whole source, so there must be one, and nothing on it.
    fn can_be_made(&self, live: &Live, made: &[&Self]) -> Result<(), Error> {
        let pool = || self.name.clone();
        if self.is_made_by_lxd() {
            let Some((path, found)) = live.leftovers.get(&self.name) else { return Ok(()) };
            return self.takes(path, found);
        }
        let path = self.source();
        let of_live = live.pools.values().map(|other| (&other.object.name, initial_source(&other.object)));
        let of_planned = made.iter().map(|other| (&other.name, Some(other.source())));
        let owner = of_live.chain(of_planned).find(|(_, other)| other.is_some_and(|other| live.same(other, path)));
        if let Some((owner, _)) = owner {
            return Err(Error::SourceInUse { pool: pool(), path: path.to_owned(), by: format!("pool {owner}") });
        }
        // Where LXD is still to come, nothing has been looked at.
        let Some(source) = live.sources.get(path) else { return Ok(()) };
        if source.node.is_none() && path.starts_with('/') && !self.is_place_of_lxd(path) {
            return Err(Error::SourceMissing { pool: pool(), path: path.to_owned() });
        }
        self.takes(path, source)
    }

    /// Whether a source may be used, by what is on it.
    fn takes(&self, path: &str, source: &Source) -> Result<(), Error> {
        let (pool, path) = (self.name.clone(), path.to_owned());
        if let Some(by) = source.user.clone() {
            return Err(Error::SourceInUse { pool, path, by });
        }
        match source.signature.clone() {
            Some(found) if !self.wipe => Err(Error::SourceDirty { pool, path, found }),
            _ => Ok(()),
        }
    }

    /// Where LXD itself makes the file of a pool on a loop device, or its folder.
    fn is_place_of_lxd(&self, path: &str) -> bool {
        let name = &self.name;
        path.ends_with(&if self.driver == Driver::Dir { format!("/storage-pools/{name}") } else { format!("/disks/{name}.img") })
    }
}

#[cfg(test)]
mod tests;
