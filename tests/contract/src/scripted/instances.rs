//! Instances: containers that run nothing but get addresses as if they did.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answer::{Answer, Outcome, Refusal, check_etag};
use super::guest::Guest;
use super::projects::project_suffix;
use super::request::{Body, Call, Config, Devices};
use super::{Model, restrictions, without_empty};

const IDMAP: &str = r#"[{"Isuid":true,"Isgid":false,"Hostid":100000,"Nsid":0,"Maprange":65536},{"Isuid":false,"Isgid":true,"Hostid":100000,"Nsid":0,"Maprange":65536}]"#;

#[derive(Clone, Debug)]
pub(super) struct Instance {
    description: String,
    pub(super) config: Config,
    pub(super) devices: Devices,
    pub(super) profiles: Vec<String>,
    /// When it was started and the number of its process; none when it does not run.
    started: Option<(Instant, u32)>,
    /// It runs and does nothing.
    frozen: bool,
    /// LXD has lost hold of it.
    pub(super) broken: bool,
    ephemeral: bool,
    pub(super) guest: Guest,
    /// The last octet of its addresses.
    host_number: u8,
}

impl Instance {
    pub(super) fn is_running(&self) -> bool {
        self.started.is_some()
    }

    fn writable(&self) -> Value {
        json!(["x86_64", self.config, self.devices, self.ephemeral, self.profiles])
    }
}

impl Model {
    pub(super) fn instance(&self, project: &str, name: &str) -> Result<&Instance, Refusal> {
        self.instances.get(&(project.to_owned(), name.to_owned())).ok_or_else(|| Refusal::not_found("Instance not found"))
    }

    pub(super) fn instance_mut(&mut self, project: &str, name: &str) -> Result<&mut Instance, Refusal> {
        self.instances.get_mut(&(project.to_owned(), name.to_owned())).ok_or_else(|| Refusal::not_found("Instance not found"))
    }

    fn expanded_config(&self, project: &str, instance: &Instance) -> Config {
        let profiles = instance.profiles.iter().filter_map(|name| self.profile(project, name).ok());
        let mut config: Config = profiles.flat_map(|profile| profile.config.clone()).collect();
        config.extend(instance.config.clone());
        config
    }

    pub(super) fn expanded_devices(&self, project: &str, instance: &Instance) -> Devices {
        let profiles = instance.profiles.iter().filter_map(|name| self.profile(project, name).ok());
        let mut devices: Devices = profiles.flat_map(|profile| profile.devices.clone()).collect();
        devices.extend(instance.devices.clone());
        devices
    }

    fn view_instance(&self, project: &str, name: &str, instance: &Instance, recursive: bool) -> Value {
        let (status, status_code) = status(instance);
        let mut view = json!({
            "name": name, "description": instance.description, "project": project, "type": "container", "architecture": "x86_64",
            "ephemeral": instance.ephemeral, "stateful": false, "location": "none", "created_at": super::EPOCH, "last_used_at": super::EPOCH,
            "status": status, "status_code": status_code, "profiles": instance.profiles,
            "config": instance.config, "devices": instance.devices,
            "expanded_config": self.expanded_config(project, instance),
            "expanded_devices": self.expanded_devices(project, instance),
        });
        if recursive {
            view["backups"] = Value::Null;
            view["snapshots"] = Value::Null;
            view["state"] = self.view_state(project, instance);
        }
        view
    }

    fn view_state(&self, project: &str, instance: &Instance) -> Value {
        let (status, status_code) = status(instance);
        json!({
            "status": status, "status_code": status_code, "disk": {}, "cpu": {"usage": 0}, "pid": instance.started.map_or(0, |(_, process)| process),
            "memory": {"usage": 0, "usage_peak": 0, "swap_usage": 0, "swap_usage_peak": 0},
            "processes": i32::from(instance.started.is_some()),
            "network": instance.started.map(|(started, _)| self.view_interfaces(project, instance, started)),
        })
    }

    fn view_interfaces(&self, project: &str, instance: &Instance, started: Instant) -> Value {
        let address = |family: &str, address: String, netmask: &str, scope: &str| json!({"family": family, "address": address, "netmask": netmask, "scope": scope});
        let settled = self.address_delay.is_some_and(|delay| started.elapsed() >= delay);
        let mut interfaces = json!({"lo": {
            "addresses": [address("inet", "127.0.0.1".into(), "8", "local"), address("inet6", "::1".into(), "128", "local")],
            "hwaddr": "", "host_name": "", "mtu": 65536, "state": "up", "type": "loopback",
        }});
        for (name, device) in self.expanded_devices(project, instance) {
            if device.get("type").is_none_or(|kind| kind != "nic") {
                continue;
            }
            let number = instance.host_number;
            // What an interface has before anybody answers: addresses that reach nothing.
            let mut addresses = vec![
                address("inet", format!("169.254.7.{number}"), "16", "link"),
                address("inet6", format!("fe80::216:3eff:fe00:{number:x}"), "64", "link"),
            ];
            let network = device.get("network").or_else(|| device.get("parent"));
            if settled && let Some((_, config)) = network.and_then(|network| self.bridge(network).ok()) {
                let host_part = |key: &str, separator: char| {
                    let (address, length) = config.get(key)?.split_once('/')?;
                    let (prefix, _) = address.rsplit_once(separator)?;
                    Some((format!("{prefix}{separator}{number}"), length.to_owned()))
                };
                if let Some((ipv4, length)) = host_part("ipv4.address", '.') {
                    let ipv4 = self.guests.address.map_or(ipv4, |address| address.to_string());
                    addresses.insert(0, address("inet", ipv4, &length, "global"));
                }
                if let Some((ipv6, length)) = host_part("ipv6.address", ':')
                    && !self.guests.ipv4_only
                {
                    addresses.insert(1, address("inet6", ipv6, &length, "global"));
                }
            }
            let interface = device.get("name").unwrap_or(&name);
            interfaces[interface] = json!({
                "addresses": addresses, "hwaddr": format!("00:16:3e:00:00:{number:02x}"), "host_name": format!("veth{number}"),
                "mtu": 1500, "state": "up", "type": "broadcast",
            });
        }
        interfaces
    }

    pub(super) fn list_instances(&self, call: &Call) -> Answer {
        let project = call.project();
        let instances = self.instances.iter().filter(|((of, _), _)| of == project);
        Answer::Read(if call.recursive() {
            let with_state = call.query("recursion") == Some("2");
            instances.map(|((_, name), instance)| self.view_instance(project, name, instance, with_state)).collect()
        } else {
            instances.map(|((_, name), _)| format!("/1.0/instances/{name}{}", project_suffix(project))).collect()
        })
    }

    pub(super) fn get_instance(&self, name: &str, call: &Call) -> Outcome {
        let instance = self.instance(call.project(), name)?;
        let object = self.view_instance(call.project(), name, instance, call.recursive());
        Ok(Answer::Tagged { object, writable: instance.writable() })
    }

    pub(super) fn get_instance_state(&self, name: &str, call: &Call) -> Outcome {
        let instance = self.instance(call.project(), name)?;
        Ok(Answer::Read(self.view_state(call.project(), instance)))
    }

    pub(super) fn create_instance(&mut self, call: &Call) -> Outcome {
        let project = call.project().to_owned();
        self.project(&project)?;
        let body = call.body("InstancesPost")?;
        let name = body.text("name")?.unwrap_or_default();
        if name.is_empty() || !name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-') {
            return Err(Refusal::bad_request("Invalid instance name: Name can only contain alphanumeric and hyphen characters"));
        }
        let profiles = body.texts("profiles")?.unwrap_or_else(|| vec!["default".to_owned()]);
        for profile in &profiles {
            if self.profile(&self.profile_project(&project)?, profile).is_err() {
                return Err(Refusal::internal(format!("Requested profile \"{profile}\" doesn't exist")));
            }
        }
        let image = self.source_image(&project, body.field("source").unwrap_or(&Value::Null))?;
        let instance = Instance {
            description: body.text("description")?.unwrap_or_default(),
            config: without_empty(body.config("config")?.unwrap_or_default()),
            devices: body.devices()?.unwrap_or_default(),
            profiles,
            started: None,
            frozen: false,
            broken: false,
            ephemeral: body.field("ephemeral").and_then(Value::as_bool).unwrap_or_default(),
            guest: Guest::default(),
            host_number: u8::try_from(self.instances.len() + 2).unwrap_or(254),
        };
        let expanded = (self.expanded_config(&project, &instance), self.expanded_devices(&project, &instance));
        restrictions::check_new_instance(self, &project, &name, &expanded.0, &expanded.1)?;
        let resources = resources(&name);
        Ok(self.operate("Creating instance", resources, Box::new(move |model| model.make_instance(project, name, instance, image))))
    }

    /// The fingerprint of a source in the local store, or the error of the operation that would look for it.
    fn source_image(&self, project: &str, source: &Value) -> Result<Result<Option<String>, Refusal>, Refusal> {
        let text = |field: &str| source[field].as_str();
        let project = self.image_project(project)?;
        Ok(match (text("type"), text("server"), text("alias"), text("fingerprint")) {
            (Some("none"), ..) => Ok(None),
            // Nobody copies here; LXD 5.0 does not ask whose it is.
            (Some("copy"), ..) if self.personality.is_async() => return Err(Refusal::forbidden("not authorized")),
            (Some("copy"), ..) => return Err(Refusal::not_found("Failed to fetch instance: Instance not found")),
            (_, Some(server), ..) => Err(Refusal::internal(format!(
                "Failed getting remote image info: Failed getting image: Failed parsing stream: \
                 Get \"{server}/streams/v1/index.json\": Unable to connect to: {server}"
            ))),
            (_, None, Some(alias), _) => Ok(Some(self.alias(&project, alias)?.clone())),
            (_, None, None, Some(fingerprint)) if self.image(&project, fingerprint).is_ok() => Ok(Some(fingerprint.to_owned())),
            _ => Err(Refusal::internal("Image not provided for instance creation")),
        })
    }

    fn make_instance(
        &mut self,
        project: String,
        name: String,
        mut instance: Instance,
        image: Result<Option<String>, Refusal>,
    ) -> Result<Value, Refusal> {
        let image = image?;
        let failed = |refusal: Refusal| refusal.with_prefix("Failed creating instance record: ");
        self.check_content(&instance.config, &instance.devices).map_err(failed)?;
        if self.instance(&project, &name).is_ok() {
            return Err(failed(Refusal::conflict("Add instance info to the database: This \"instances\" entry already exists")));
        }
        let devices = self.expanded_devices(&project, &instance);
        let Some(root) = devices.values().find(|device| device.get("path").is_some_and(|path| path == "/")) else {
            return Err(failed(Refusal::internal(
                "Failed initialising instance: Failed getting root disk: No root device could be found",
            )));
        };
        let pool = root.get("pool").map(String::as_str).unwrap_or_default();
        self.pool(pool).map_err(|refusal| failed(refusal.with_prefix("Failed initialising instance: ")))?;
        let volatile = [
            ("volatile.uuid", "f61e18f8-0000-4000-8000-000000000001"),
            ("volatile.cloud-init.instance-id", "fcfa3eb5-0000-4000-8000-000000000001"),
            ("volatile.idmap.base", "0"),
            ("volatile.idmap.next", IDMAP),
            ("volatile.last_state.idmap", "[]"),
            ("image.description", "tiny"),
        ];
        instance.config.extend(volatile.map(|(key, value)| (key.to_owned(), value.to_owned())));
        if let Some(image) = image {
            instance.config.insert("volatile.base_image".to_owned(), image);
        }
        self.instances.insert((project, name), instance);
        Ok(Value::Null)
    }

    pub(super) fn put_instance(&mut self, name: &str, call: &Call) -> Outcome {
        let project = call.project().to_owned();
        let current = self.instance(&project, name)?.clone();
        check_etag(call.if_match(), &current.writable())?;
        let body = call.body("InstancePut")?;
        let profiles = body.texts("profiles")?.unwrap_or_default();
        for profile in &profiles {
            self.profile(&self.profile_project(&project)?, profile)?;
        }
        let updated = Instance {
            description: body.text("description")?.unwrap_or_default(),
            config: without_empty(body.config("config")?.unwrap_or_default()),
            devices: body.devices()?.unwrap_or_default(),
            ephemeral: body.field("ephemeral").and_then(Value::as_bool).unwrap_or_default(),
            profiles,
            ..current
        };
        let name = name.to_owned();
        Ok(self.operate(
            "Updating instance",
            resources(&name),
            Box::new(move |model| {
                model.update_instance(&project, &name, updated)?;
                Ok(Value::Null)
            }),
        ))
    }

    pub(super) fn patch_instance(&mut self, name: &str, call: &Call) -> Outcome {
        let project = call.project();
        let mut updated = self.instance(project, name)?.clone();
        check_etag(call.if_match(), &updated.writable())?;
        let body: Body = call.body("InstancePut")?;
        updated.description = match body.text("description")? {
            Some(description) => description,
            None if self.personality.is_async() => updated.description,
            None => String::new(),
        };
        if let Some(profiles) = body.texts("profiles")? {
            updated.profiles = profiles;
        }
        updated.ephemeral = body.field("ephemeral").and_then(Value::as_bool).unwrap_or(updated.ephemeral);
        updated.config.extend(body.config("config")?.unwrap_or_default());
        updated.config = without_empty(updated.config);
        updated.devices = self.patched_devices(updated.devices, body.devices()?);
        self.update_instance(project, name, updated)?;
        Ok(Answer::Done)
    }

    fn update_instance(&mut self, project: &str, name: &str, updated: Instance) -> Result<(), Refusal> {
        let invalid = |what: &str, refusal: &Refusal| Refusal::internal(format!("Invalid {what}: {}", refusal.message));
        self.check_content(&updated.config, &Devices::new()).map_err(|refusal| invalid("config", &refusal))?;
        self.check_content(&Config::new(), &updated.devices).map_err(|refusal| invalid("devices", &refusal))?;
        let expanded = (self.expanded_config(project, &updated), self.expanded_devices(project, &updated));
        restrictions::check_new_instance(self, project, name, &expanded.0, &expanded.1)?;
        let current = self.instance_mut(project, name)?;
        let is_idmap = |key: &&String| key.starts_with("volatile.idmap.") || *key == "volatile.last_state.idmap";
        if current.config.keys().filter(is_idmap).any(|key| !updated.config.contains_key(key)) {
            return Err(Refusal::internal("Volatile idmap keys can't be deleted by the user"));
        }
        *current = Instance { started: current.started, ..updated };
        Ok(())
    }

    pub(super) fn put_instance_state(&mut self, name: &str, call: &Call) -> Outcome {
        let project = call.project().to_owned();
        self.instance(&project, name)?;
        let body = call.body("InstanceStatePut")?;
        let action = body.text("action")?.unwrap_or_default();
        let description = match action.as_str() {
            "start" => "Starting instance",
            "stop" => "Stopping instance",
            "restart" => "Restarting instance",
            "freeze" => "Freezing instance",
            "unfreeze" => "Unfreezing instance",
            _ => return Err(Refusal::bad_request(format!("Unknown action: '{action}'"))),
        };
        let name = name.to_owned();
        let resources = json!({"instances": [format!("/1.0/instances/{name}")]});
        Ok(self.operate(
            description,
            resources,
            Box::new(move |model| {
                let instance = model.instance_mut(&project, &name)?;
                let running = instance.started.is_some();
                match (action.as_str(), running) {
                    ("freeze" | "unfreeze", true) => instance.frozen = action == "freeze",
                    ("start", true) => return Err(Refusal::bad_request("The instance is already running")),
                    ("stop" | "restart", false) => return Err(Refusal::bad_request("The instance is already stopped")),
                    ("start" | "restart", _) => model.start_instance(&project, &name)?,
                    _ => model.stop_instance(&project, &name)?,
                }
                Ok(Value::Null)
            }),
        ))
    }

    fn start_instance(&mut self, project: &str, name: &str) -> Result<(), Refusal> {
        if let Err(refusal) = self.check_parents(&self.expanded_devices(project, self.instance(project, name)?)) {
            // A restart has stopped it by then.
            self.instance_mut(project, name)?.started = None;
            return Err(refusal);
        }
        self.last_process += 1;
        let process = self.last_process;
        let instance = self.instance_mut(project, name)?;
        instance.started = Some((Instant::now(), process));
        instance.config.extend([
            ("volatile.last_state.power".to_owned(), "RUNNING".to_owned()),
            ("volatile.last_state.idmap".to_owned(), IDMAP.to_owned()),
            ("volatile.idmap.current".to_owned(), IDMAP.to_owned()),
        ]);
        Ok(())
    }

    /// Whether the bridges that devices want to be on are there.
    pub(super) fn check_parents(&self, devices: &Devices) -> Result<(), Refusal> {
        let lost = devices.iter().find_map(|(device, options)| {
            let parent = options.get("parent").filter(|parent| !self.networks.contains_key(*parent))?;
            Some(format!("Failed to start device \"{device}\": Parent device \"{parent}\" doesn't exist"))
        });
        lost.map_or(Ok(()), |message| Err(Refusal::internal(message)))
    }

    fn stop_instance(&mut self, project: &str, name: &str) -> Result<(), Refusal> {
        let instance = self.instance_mut(project, name)?;
        if instance.ephemeral {
            self.instances.remove(&(project.to_owned(), name.to_owned()));
            return Ok(());
        }
        (instance.started, instance.frozen, instance.broken) = (None, false, false);
        instance.guest.power_off();
        instance.config.insert("volatile.last_state.power".to_owned(), "STOPPED".to_owned());
        Ok(())
    }

    pub(super) fn delete_instance(&mut self, name: &str, call: &Call) -> Outcome {
        let project = call.project().to_owned();
        if self.instance(&project, name)?.started.is_some() {
            return Err(Refusal::bad_request("Instance is running"));
        }
        let name = name.to_owned();
        Ok(self.operate(
            "Deleting instance",
            resources(&name),
            Box::new(move |model| {
                model.instances.remove(&(project, name));
                Ok(Value::Null)
            }),
        ))
    }

    /// How long instances wait for addresses after their start; none: for ever.
    pub(super) fn set_address_delay(&mut self, delay: Option<Duration>) {
        self.address_delay = delay;
    }
}

fn status(instance: &Instance) -> (&'static str, u16) {
    match instance.started {
        _ if instance.broken => ("Error", 112),
        Some(_) if instance.frozen => ("Frozen", 110),
        Some(_) => ("Running", 103),
        None => ("Stopped", 102),
    }
}

fn resources(name: &str) -> Value {
    json!({"containers": [format!("/1.0/containers/{name}")], "instances": [format!("/1.0/instances/{name}")]})
}
