//! Profiles, and what an instance's config and devices may hold.

use serde_json::{Value, json};

use super::answer::{Answer, Outcome, Refusal, check_etag};
use super::projects::{check_bool, project_suffix};
use super::request::{Call, Config, Devices};
use super::{Model, restrictions, without_empty};

#[derive(Clone, Debug, Default)]
pub(super) struct Profile {
    pub(super) description: String,
    pub(super) config: Config,
    pub(super) devices: Devices,
}

impl Profile {
    fn writable(&self) -> Value {
        json!([self.config, self.description, self.devices])
    }
}

impl Model {
    /// The project that a project's profiles live in.
    pub(super) fn profile_project(&self, name: &str) -> Result<String, Refusal> {
        let project = self.project(name)?;
        Ok(if project.has("features.profiles") { name } else { "default" }.to_owned())
    }

    fn profiles_of(&self, call: &Call) -> Result<String, Refusal> {
        let name = call.project();
        self.profile_project(name).map_err(|refusal| refusal.with_prefix(&format!("Failed loading project \"{name}\": ")))
    }

    fn view_profile(&self, project: &str, name: &str, profile: &Profile) -> Value {
        let used_by: Vec<String> = self
            .instances
            .iter()
            .filter(|((of, _), instance)| of == project && instance.profiles.iter().any(|profile| profile == name))
            .map(|((of, instance), _)| format!("/1.0/instances/{instance}{}", project_suffix(of)))
            .collect();
        json!({
            "name": name, "description": profile.description, "config": profile.config, "devices": profile.devices, "used_by": used_by,
        })
    }

    pub(super) fn list_profiles(&self, call: &Call) -> Outcome {
        let project = self.profiles_of(call)?;
        let profiles = self.profiles.iter().filter(|((of, _), _)| *of == project);
        Ok(Answer::Read(if call.recursive() {
            profiles.map(|((_, name), profile)| self.view_profile(&project, name, profile)).collect()
        } else {
            profiles.map(|((_, name), _)| format!("/1.0/profiles/{name}{}", project_suffix(&project))).collect()
        }))
    }

    pub(super) fn get_profile(&self, name: &str, call: &Call) -> Outcome {
        let project = self.profiles_of(call)?;
        let profile = self.profile(&project, name).map_err(|refusal| refusal.with_prefix("Fetch profile: "))?;
        Ok(Answer::Tagged { object: self.view_profile(&project, name, profile), writable: profile.writable() })
    }

    pub(super) fn profile(&self, project: &str, name: &str) -> Result<&Profile, Refusal> {
        self.profiles.get(&(project.to_owned(), name.to_owned())).ok_or_else(|| Refusal::not_found("Profile not found"))
    }

    pub(super) fn create_profile(&mut self, call: &Call) -> Outcome {
        let project = self.profiles_of(call)?;
        let body = call.body("ProfilesPost")?;
        let name = body.text("name")?.unwrap_or_default();
        let profile = Profile {
            description: body.text("description")?.unwrap_or_default(),
            config: without_empty(body.config("config")?.unwrap_or_default()),
            devices: body.devices()?.unwrap_or_default(),
        };
        if name.is_empty() {
            return Err(Refusal::bad_request("No name provided"));
        }
        // Restrictions are not looked at here: LXD does that when the profile changes or is used.
        self.check_content(&profile.config, &profile.devices)?;
        if self.profile(&project, &name).is_ok() {
            return Err(Refusal::internal(format!("Error inserting \"{name}\" into database: The profile already exists")));
        }
        let path = format!("/1.0/profiles/{name}{}", project_suffix(&project));
        self.profiles.insert((project, name), profile);
        Ok(Answer::Created(path))
    }

    pub(super) fn put_profile(&mut self, name: &str, call: &Call) -> Outcome {
        let (project, current) = self.profile_to_change(name, call, &format!("Failed to retrieve profile \"{name}\": "))?;
        check_etag(call.if_match(), &current.writable())?;
        let body = call.body("ProfilePut")?;
        let profile = Profile {
            description: body.text("description")?.unwrap_or_default(),
            config: without_empty(body.config("config")?.unwrap_or_default()),
            devices: body.devices()?.unwrap_or_default(),
        };
        self.update_profile(project, name, profile)
    }

    pub(super) fn patch_profile(&mut self, name: &str, call: &Call) -> Outcome {
        let (project, current) = self.profile_to_change(name, call, &format!("Failed to retrieve profile=\"{name}\": "))?;
        check_etag(call.if_match(), &current.writable())?;
        let body = call.body("ProfilePut")?;
        let mut profile = current;
        if let Some(description) = body.text("description")? {
            profile.description = description;
        }
        profile.config.extend(body.config("config")?.unwrap_or_default());
        profile.config = without_empty(profile.config);
        profile.devices = self.patched_devices(profile.devices, body.devices()?);
        self.update_profile(project, name, profile)
    }

    fn profile_to_change(&self, name: &str, call: &Call, prefix: &str) -> Result<(String, Profile), Refusal> {
        let project = self.profiles_of(call)?;
        let profile = self.profile(&project, name).map_err(|refusal| refusal.with_prefix(prefix))?.clone();
        Ok((project, profile))
    }

    fn update_profile(&mut self, project: String, name: &str, profile: Profile) -> Outcome {
        let path = format!("/1.0/profiles/{name}");
        let name = name.to_owned();
        self.carry_out(
            "Updating profile",
            json!({"profiles": [path]}),
            Answer::Done,
            Box::new(move |model| {
                model.check_content(&profile.config, &profile.devices).map_err(|refusal| Refusal::internal(refusal.message))?;
                restrictions::check_with_profile(model, &project, &name, &profile.config, &profile.devices)
                    .map_err(|refusal| refusal.with_prefix("Failed checking if profile update allowed: "))?;
                let given = profile.devices.clone();
                let before = model.profiles.insert((project.clone(), name.clone()), profile);
                model.give_to_running(&project, &name, &given, &before.unwrap_or_default().devices)
            }),
        )
    }

    /// Running instances are given the devices that are new. Where that fails the profile is saved all the same.
    fn give_to_running(&self, project: &str, profile: &str, given: &Devices, before: &Devices) -> Result<Value, Refusal> {
        let new: Devices =
            given.iter().filter(|(name, device)| before.get(*name) != Some(device)).map(|(n, d)| (n.clone(), d.clone())).collect();
        let Err(refusal) = self.check_parents(&new) else { return Ok(Value::Null) };
        let users = self.instances.iter().filter(|((of, _), instance)| {
            of == project && instance.is_running() && instance.profiles.iter().any(|used| used == profile)
        });
        let failures: Vec<String> = users
            .map(|((_, name), _)| format!(" - Project: {project}, Instance: {name}: Failed to add device: {}", refusal.message))
            .collect();
        if failures.is_empty() {
            return Ok(Value::Null);
        }
        let failures = failures.join("\n");
        Err(Refusal::internal(format!("The following instances failed to update (profile change still saved):\n{failures}\n")))
    }

    pub(super) fn delete_profile(&mut self, name: &str, call: &Call) -> Outcome {
        let project = self.profiles_of(call)?;
        if name == "default" {
            return Err(Refusal::forbidden("The \"default\" profile cannot be deleted"));
        }
        let profile = self.profile(&project, name)?;
        if self.view_profile(&project, name, profile)["used_by"] != json!([]) {
            return Err(Refusal::internal("Profile is currently in use"));
        }
        self.profiles.remove(&(project, name.to_owned()));
        Ok(Answer::Done)
    }

    /// Devices after a PATCH.
    pub(super) fn patched_devices(&self, mut devices: Devices, patch: Option<Devices>) -> Devices {
        for (name, device) in patch.unwrap_or_default() {
            // A device without options is one that was null: newer servers remove it, older ones refuse it as a device.
            if device.is_empty() && self.personality.is_async() {
                devices.remove(&name);
            } else {
                devices.insert(name, device);
            }
        }
        devices
    }

    pub(super) fn check_content(&self, config: &Config, devices: &Devices) -> Result<(), Refusal> {
        for (key, value) in config {
            match instance_key(key) {
                None => return Err(Refusal::bad_request(format!("Unknown configuration key: {key}"))),
                Some(InstanceKey::Boolean) => check_bool(value)?,
                Some(InstanceKey::Text) => {}
            }
        }
        for (name, device) in devices {
            self.check_device(name, device)
                .map_err(|problem| Refusal::bad_request(format!("Device validation failed for \"{name}\": {problem}")))?;
        }
        Ok(())
    }

    fn check_device(&self, name: &str, device: &Config) -> Result<(), String> {
        let loading = |problem: &str| format!("Failed loading device \"{name}\": {problem}");
        let Some(kind) = device.get("type") else { return Err(loading("Missing device type in config")) };
        let options: &[&str] = match kind.as_str() {
            "none" => &[],
            "disk" => &[
                "limits.max",
                "path",
                "pool",
                "propagation",
                "raw.mount.options",
                "readonly",
                "recursive",
                "required",
                "shift",
                "size",
                "source",
            ],
            "nic" if device.contains_key("network") || device.contains_key("nictype") => &[
                "boot.priority",
                "hwaddr",
                "ipv4.address",
                "ipv6.address",
                "limits.egress",
                "limits.ingress",
                "mtu",
                "name",
                "network",
                "nictype",
                "parent",
                "security.ipv4_filtering",
                "security.ipv6_filtering",
                "security.mac_filtering",
                "vlan",
            ],
            "proxy" => {
                &["bind", "connect", "gid", "listen", "mode", "nat", "proxy_protocol", "security.gid", "security.uid", "uid"]
            }
            "gpu" => &["gputype", "id", "pci", "productid", "vendorid"],
            "usb" => &["productid", "required", "vendorid"],
            "unix-block" | "unix-char" => &["gid", "major", "minor", "mode", "path", "required", "source", "uid"],
            _ => return Err(loading("Unsupported device type")),
        };
        if let Some(network) = device.get("network")
            && self.bridge(network).is_err()
        {
            return Err(loading(&format!("Failed to load network \"{network}\" for project \"default\": Network not found")));
        }
        match device.keys().find(|option| *option != "type" && !options.contains(&option.as_str()) && !option.starts_with("user."))
        {
            Some(option) => Err(format!("Invalid device option \"{option}\"")),
            None => Ok(()),
        }
    }
}

enum InstanceKey {
    Boolean,
    Text,
}

fn instance_key(key: &str) -> Option<InstanceKey> {
    const FREE: &[&str] = &["user.", "image.", "volatile.", "environment.", "limits.", "linux.", "raw.", "cloud-init."];
    match key {
        "boot.autostart"
        | "security.idmap.isolated"
        | "security.nesting"
        | "security.privileged"
        | "security.protection.delete"
        | "security.devlxd" => Some(InstanceKey::Boolean),
        "boot.host_shutdown_timeout" | "cluster.evacuate" | "security.idmap.base" | "security.idmap.size" => {
            Some(InstanceKey::Text)
        }
        _ if key.starts_with("security.syscalls.intercept.") => Some(InstanceKey::Boolean),
        _ => FREE.iter().any(|prefix| key.starts_with(prefix)).then_some(InstanceKey::Text),
    }
}
