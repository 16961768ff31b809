//! Storage pools.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::{Value, json};

use super::answer::{Answer, Outcome, Refusal, check_etag};
use super::projects::{is_true, project_suffix};
use super::request::{Call, Config};
use super::{Model, without_empty};

#[derive(Clone, Debug)]
pub(super) struct Pool {
    driver: String,
    description: String,
    config: Config,
    /// False while an operation is at it.
    made: bool,
    /// Making it ended halfway.
    pub(super) errored: bool,
}

impl Pool {
    fn writable(&self, name: &str) -> Value {
        json!([name, self.driver, self.description, self.config])
    }
}

impl Model {
    pub(super) fn pool(&self, name: &str) -> Result<&Pool, Refusal> {
        self.pools.get(name).ok_or_else(|| Refusal::not_found("Storage pool not found"))
    }

    fn view_pool(&self, name: &str, pool: &Pool) -> Value {
        let used_by = self.users_of(|device| device.get("pool").is_some_and(|pool| pool == name));
        json!({
            "name": name, "driver": pool.driver, "description": pool.description, "config": pool.config,
            "used_by": if used_by.is_empty() { Value::Null } else { json!(used_by) },
            "status": if pool.errored { "Errored" } else if pool.made { "Created" } else { "Pending" }, "locations": ["none"],
        })
    }

    /// The instances and profiles with a device that fits.
    pub(super) fn users_of(&self, fits: impl Fn(&Config) -> bool) -> Vec<String> {
        let instances = self
            .instances
            .iter()
            .filter(|((project, _), instance)| self.expanded_devices(project, instance).values().any(&fits))
            .map(|((project, name), _)| format!("/1.0/instances/{name}{}", project_suffix(project)));
        let profiles = self
            .profiles
            .iter()
            .filter(|(_, profile)| profile.devices.values().any(&fits))
            .map(|((project, name), _)| format!("/1.0/profiles/{name}{}", project_suffix(project)));
        instances.chain(profiles).collect()
    }

    pub(super) fn list_pools(&self, call: &Call) -> Answer {
        Answer::Read(if call.recursive() {
            self.pools.iter().map(|(name, pool)| self.view_pool(name, pool)).collect()
        } else {
            self.pools.keys().map(|name| format!("/1.0/storage-pools/{name}")).collect()
        })
    }

    pub(super) fn get_pool(&self, name: &str) -> Outcome {
        let pool = self.pool(name)?;
        let object = self.view_pool(name, pool);
        // LXD 5.0 checks an ETag here but never tells it.
        Ok(if self.personality.is_async() {
            Answer::Tagged { object, writable: pool.writable(name) }
        } else {
            Answer::Read(object)
        })
    }

    pub(super) fn create_pool(&mut self, call: &Call) -> Outcome {
        let body = call.body("StoragePoolsPost")?;
        let name = body.text("name")?.unwrap_or_default();
        let driver = body.text("driver")?.unwrap_or_default();
        let description = body.text("description")?.unwrap_or_default();
        let config = without_empty(body.config("config")?.unwrap_or_default());
        if name.is_empty() {
            return Err(Refusal::bad_request("No name provided"));
        }
        if driver.is_empty() {
            return Err(Refusal::bad_request("No driver provided"));
        }
        let announced = self.personality.is_async() && !self.pools.contains_key(&name);
        if announced {
            let pending = Pool {
                driver: driver.clone(),
                description: description.clone(),
                config: config.clone(),
                made: false,
                errored: false,
            };
            self.pools.insert(name.clone(), pending);
        }
        let path = format!("/1.0/storage-pools/{name}");
        self.carry_out(
            "Creating storage pool",
            json!({"storage_pools": [path]}),
            Answer::Created(path),
            Box::new(move |model| {
                if announced {
                    model.pools.remove(&name);
                }
                model.make_pool(name, driver, description, config)
            }),
        )
    }

    fn make_pool(&mut self, name: String, driver: String, description: String, mut config: Config) -> Result<Value, Refusal> {
        if !matches!(driver.as_str(), "btrfs" | "dir" | "lvm" | "zfs") {
            return Err(Refusal::internal("Unknown driver"));
        }
        self.check_pool_config(&driver, &config).map_err(|refusal| Refusal::internal(refusal.message))?;
        // What was not finished is gone on with.
        if self.pools.get(&name).is_some_and(|pool| !pool.errored) {
            return Err(Refusal::conflict("The storage pool already exists: The record already exists"));
        }
        let given = config.get("source").cloned();
        let made = || {
            if driver == "dir" { format!("/var/lib/lxd/storage-pools/{name}") } else { format!("/var/lib/lxd/disks/{name}.img") }
        };
        let source = given.clone().unwrap_or_else(made);
        let wipe = config.remove("source.wipe").is_some_and(|wipe| is_true(&wipe));
        if driver == "dir" {
            if given.is_some() {
                self.check_folder(&source)?;
            }
            config.insert("source".to_owned(), source);
        } else {
            format_device(&name, &source, wipe)?;
            // With udev a device is known by its filesystem from then on, without by its path.
            let by_uuid = self.personality.is_async() && source.starts_with("/dev/");
            let known_as = if by_uuid { "5c2f1d6e-0000-4000-8000-000000000001".to_owned() } else { source.clone() };
            config.insert("source".to_owned(), known_as);
            config.extend(given.map(|given| ("volatile.initial_source".to_owned(), given)));
        }
        self.pools.insert(name, Pool { driver, description, config, made: true, errored: false });
        Ok(Value::Null)
    }

    fn check_folder(&self, path: &str) -> Result<(), Refusal> {
        if !Path::new(path).is_dir() {
            return Err(Refusal::internal(format!("Source path '{path}' doesn't exist")));
        }
        if self.pools.values().any(|pool| !pool.errored && pool.config.get("source").is_some_and(|source| source == path)) {
            return Err(Refusal::internal(format!("Source path '{path}' isn't empty")));
        }
        Ok(())
    }

    pub(super) fn change_pool(&mut self, name: &str, call: &Call, replace: bool) -> Outcome {
        let current = self.pool(name)?.clone();
        check_etag(call.if_match(), &current.writable(name))?;
        let body = call.body("StoragePoolPut")?;
        // Unlike the config, an absent description is an empty one even in a PATCH.
        let description = body.text("description")?.unwrap_or_default();
        let mut config = if replace { Config::new() } else { current.config.clone() };
        config.extend(body.config("config")?.unwrap_or_default());
        let config = without_empty(config);
        self.check_pool_config(&current.driver, &config)?;
        let path = format!("/1.0/storage-pools/{name}");
        let name = name.to_owned();
        self.carry_out(
            "Updating storage pool",
            json!({"storage_pools": [path]}),
            Answer::Done,
            Box::new(move |model| {
                if config.get("source") != current.config.get("source") {
                    return Err(Refusal::internal("Pool source cannot be changed when not in pending state"));
                }
                model.pools.insert(name, Pool { driver: current.driver, description, config, made: true, errored: false });
                Ok(Value::Null)
            }),
        )
    }

    pub(super) fn delete_pool(&mut self, name: &str) -> Outcome {
        let pool = self.pool(name)?;
        if !self.view_pool(name, pool)["used_by"].is_null() {
            return Err(Refusal::bad_request("The storage pool is currently in use"));
        }
        let path = format!("/1.0/storage-pools/{name}");
        let name = name.to_owned();
        self.carry_out(
            "Deleting storage pool",
            json!({"storage_pools": [path]}),
            Answer::Done,
            Box::new(move |model| {
                model.pools.remove(&name);
                Ok(Value::Null)
            }),
        )
    }

    fn check_pool_config(&self, driver: &str, config: &Config) -> Result<(), Refusal> {
        let known = |key: &str| {
            key.starts_with("user.")
                || key.strip_prefix(driver).is_some_and(|rest| rest.starts_with('.'))
                || matches!(key, "source" | "rsync.bwlimit" | "rsync.compression" | "volatile.initial_source")
                || (key == "size" && driver != "dir")
                || (key == "source.wipe" && driver != "dir" && self.personality.is_async())
                || key.starts_with("volume.")
        };
        config.keys().find(|key| !known(key)).map_or(Ok(()), |key| Err(Refusal::bad_request(format!("Invalid option \"{key}\""))))
    }
}

/// What `mkfs` does to a device, as far as a swap signature goes.
fn format_device(pool: &str, device: &str, wipe: bool) -> Result<(), Refusal> {
    const SIGNATURE: &[u8] = b"SWAPSPACE2";
    const OFFSET: u64 = 4096 - SIGNATURE.len() as u64;
    let Ok(file) = OpenOptions::new().read(true).write(true).open(device) else { return Ok(()) };
    let mut found = [0; SIGNATURE.len()];
    if file.read_exact_at(&mut found, OFFSET).is_err() || found != SIGNATURE {
        return Ok(());
    }
    if wipe && file.write_all_at(&[0; SIGNATURE.len()], OFFSET).is_ok() {
        return Ok(());
    }
    Err(Refusal::internal(format!(
        "Failed to format block device: Failed to run: mkfs.btrfs -L {pool} {device}: exit status 1 \
         (ERROR: {device} appears to contain an existing filesystem (swap)\nERROR: use the -f option to force overwrite of {device})"
    )))
}
