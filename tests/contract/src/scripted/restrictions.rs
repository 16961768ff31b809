//! What a restricted project forbids its profiles and instances.

use super::Model;
use super::answer::Refusal;
use super::projects::{is_true, is_true_in};
use super::request::{Config, Devices};

/// Checks every profile and instance of a project against the project's (perhaps future) config.
pub(super) fn check(model: &Model, project: &str, config: &Config) -> Result<(), Refusal> {
    check_with(model, project, config, None)
}

/// [`check`] as if one profile had this content.
pub(super) fn check_with_profile(
    model: &Model,
    project: &str,
    name: &str,
    config: &Config,
    devices: &Devices,
) -> Result<(), Refusal> {
    let rules = &model.project(project)?.config;
    check_with(model, project, rules, Some((name, config, devices)))
}

fn check_with(model: &Model, project: &str, rules: &Config, changed: Option<(&str, &Config, &Devices)>) -> Result<(), Refusal> {
    if !is_true_in(rules, "restricted") {
        return Ok(());
    }
    let rules = Rules { project, config: rules };
    for ((of, name), instance) in &model.instances {
        if of == project {
            rules.check(&Entity { kind: "container", label: "container", name }, &instance.config, &instance.devices)?;
        }
    }
    for ((of, name), profile) in &model.profiles {
        if of != project {
            continue;
        }
        let (config, devices) = match changed {
            Some((changed, config, devices)) if changed == name => (config, devices),
            _ => (&profile.config, &profile.devices),
        };
        rules.check(&Entity { kind: "", label: "profile", name }, config, devices)?;
    }
    Ok(())
}

/// An instance that is about to be created.
pub(super) fn check_new_instance(
    model: &Model,
    project: &str,
    name: &str,
    config: &Config,
    devices: &Devices,
) -> Result<(), Refusal> {
    let rules = &model.project(project)?.config;
    if !is_true_in(rules, "restricted") {
        return Ok(());
    }
    check(model, project, rules)?;
    Rules { project, config: rules }.check(&Entity { kind: "container", label: "container", name }, config, devices)
}

struct Entity<'a> {
    /// As LXD names it in messages about config: empty for a profile.
    kind: &'a str,
    label: &'a str,
    name: &'a str,
}

struct Rules<'a> {
    project: &'a str,
    config: &'a Config,
}

impl Rules<'_> {
    fn value(&self, key: &str, default: &'static str) -> &str {
        self.config.get(key).map_or(default, String::as_str)
    }

    fn check(&self, entity: &Entity<'_>, config: &Config, devices: &Devices) -> Result<(), Refusal> {
        for (key, value) in config {
            self.check_config(entity, key, value)?;
        }
        for (name, device) in devices {
            self.check_device(device).map_err(|problem| {
                let Entity { label, name: of, .. } = entity;
                Refusal::internal(format!(
                    "Invalid device \"{name}\" on {label} \"{of}\" of project \"{}\": {problem}",
                    self.project
                ))
            })?;
        }
        Ok(())
    }

    fn check_config(&self, entity: &Entity<'_>, key: &str, value: &str) -> Result<(), Refusal> {
        let Entity { kind, label, name } = entity;
        let project = self.project;
        // A profile may end up on a virtual machine too.
        let low_level = self.value("restricted.containers.lowlevel", "block") == "allow"
            && (*label != "profile" || self.value("restricted.virtual-machines.lowlevel", "block") == "allow");
        if !low_level && is_low_level(key) {
            let what = if key == "raw.idmap" {
                "low-level \"raw.idmap\" element 0".to_owned()
            } else {
                format!("low-level config \"{key}\"")
            };
            return Err(Refusal::internal(format!("Use of {what} on {label} \"{name}\" of project \"{project}\" is forbidden")));
        }
        let privilege = self.value("restricted.containers.privilege", "unprivileged");
        let problem = match key {
            "security.nesting" if is_true(value) && self.value("restricted.containers.nesting", "block") == "block" => {
                "Container nesting is forbidden"
            }
            "security.privileged" if is_true(value) && privilege != "allow" => "Privileged containers are forbidden",
            "security.idmap.isolated" if !is_true(value) && privilege == "isolated" => "Non-isolated containers are forbidden",
            _ if key.starts_with("security.syscalls.intercept.")
                && is_true(value)
                && self.value("restricted.containers.interception", "block") == "block" =>
            {
                "Container syscall interception is forbidden"
            }
            _ => return Ok(()),
        };
        Err(Refusal::internal(format!(
            "Invalid value \"{value}\" for config \"{key}\" on {kind} \"{name}\" of project \"{project}\": {problem}"
        )))
    }

    fn check_device(&self, device: &Config) -> Result<(), String> {
        let option = |name: &str| device.get(name).map(String::as_str).unwrap_or_default();
        let blocked = |key: &str| self.value(key, "block") == "block";
        let problem = match option("type") {
            "unix-char" if blocked("restricted.devices.unix-char") => "Unix character devices are forbidden",
            "unix-block" if blocked("restricted.devices.unix-block") => "Unix block devices are forbidden",
            "unix-hotplug" if blocked("restricted.devices.unix-hotplug") => "Unix hotplug devices are forbidden",
            "infiniband" if blocked("restricted.devices.infiniband") => "Infiniband devices are forbidden",
            "gpu" if blocked("restricted.devices.gpu") => "GPU devices are forbidden",
            "pci" if blocked("restricted.devices.pci") => "PCI devices are forbidden",
            "proxy" if blocked("restricted.devices.proxy") => "Proxy devices are forbidden",
            "usb" if blocked("restricted.devices.usb") => "USB devices are forbidden",
            "nic" => return self.check_nic(option("network"), option("parent")),
            "disk" if option("path") != "/" => return self.check_disk(option("pool"), option("source")),
            _ => return Ok(()),
        };
        Err(problem.to_owned())
    }

    fn check_nic(&self, network: &str, parent: &str) -> Result<(), String> {
        let rule = self.value("restricted.devices.nic", "managed");
        if rule == "block" {
            return Err("Network devices are forbidden".to_owned());
        }
        if rule == "managed" && network.is_empty() {
            return Err("Only managed network devices are allowed".to_owned());
        }
        let access = self.value("restricted.networks.access", "");
        let wanted = if network.is_empty() { parent } else { network };
        if !access.is_empty() && !access.split(',').any(|allowed| allowed.trim() == wanted) {
            return Err("Network not allowed in project".to_owned());
        }
        Ok(())
    }

    fn check_disk(&self, pool: &str, source: &str) -> Result<(), String> {
        if !pool.is_empty() {
            return Ok(());
        }
        if self.value("restricted.devices.disk", "managed") != "allow" {
            return Err("Attaching disks not backed by a pool is forbidden".to_owned());
        }
        let paths = self.value("restricted.devices.disk.paths", "");
        if !paths.is_empty() && !paths.split(',').any(|allowed| source == allowed || source.starts_with(&format!("{allowed}/"))) {
            return Err(format!("Disk source path \"{source}\" not allowed"));
        }
        Ok(())
    }
}

fn is_low_level(key: &str) -> bool {
    key.starts_with("raw.")
        || matches!(
            key,
            "boot.host_shutdown_timeout"
                | "linux.kernel_modules"
                | "linux.kernel_modules.load"
                | "security.idmap.base"
                | "security.idmap.size"
        )
}
