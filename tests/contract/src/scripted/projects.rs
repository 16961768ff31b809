//! Projects: their features, restrictions and what they hold.

use serde_json::{Value, json};

use super::answer::{Answer, Outcome, Refusal, check_etag};
use super::request::{Call, Config};
use super::{Model, restrictions, without_empty};

/// Features that LXD 5.0 switches on in a new project.
const DEFAULT_FEATURES: &[&str] = &["features.images", "features.profiles", "features.storage.volumes"];

#[derive(Clone, Debug)]
pub(super) struct Project {
    pub(super) description: String,
    pub(super) config: Config,
}

impl Project {
    pub(super) fn default_project() -> Self {
        let features = ["features.images", "features.networks", "features.profiles", "features.storage.volumes"];
        Self {
            description: "Default LXD project".to_owned(),
            config: features.iter().map(|feature| ((*feature).to_owned(), "true".to_owned())).collect(),
        }
    }

    pub(super) fn has(&self, feature: &str) -> bool {
        self.config.get(feature).is_some_and(|value| is_true(value))
    }

    fn writable(&self) -> Value {
        json!([self.description, self.config])
    }
}

impl Model {
    pub(super) fn project(&self, name: &str) -> Result<&Project, Refusal> {
        self.projects.get(name).ok_or_else(|| Refusal::not_found("Project not found"))
    }

    fn view_project(&self, name: &str, project: &Project) -> Value {
        json!({
            "name": name, "description": project.description, "config": project.config,
            "used_by": self.project_used_by(name, project),
        })
    }

    fn project_used_by(&self, name: &str, project: &Project) -> Vec<String> {
        let suffix = project_suffix(name);
        let instances =
            self.instances.keys().filter(|(of, _)| of == name).map(|(_, instance)| format!("/1.0/instances/{instance}"));
        let profiles = self.profiles.keys().filter(|(of, _)| of == name).map(|(_, profile)| format!("/1.0/profiles/{profile}"));
        let images = self.images.keys().filter(|(of, _)| of == name).map(|(_, image)| format!("/1.0/images/{image}"));
        let profiles = profiles.filter(|_| project.has("features.profiles"));
        let images = images.filter(|_| project.has("features.images"));
        instances.chain(profiles).chain(images).map(|path| path + &suffix).collect()
    }

    fn project_is_empty(&self, name: &str, project: &Project) -> bool {
        self.project_used_by(name, project).iter().all(|path| path.starts_with("/1.0/profiles/default"))
    }

    pub(super) fn list_projects(&self, call: &Call) -> Answer {
        Answer::Read(if call.recursive() {
            self.projects.iter().map(|(name, project)| self.view_project(name, project)).collect()
        } else {
            self.projects.keys().map(|name| format!("/1.0/projects/{name}")).collect()
        })
    }

    pub(super) fn get_project(&self, name: &str) -> Outcome {
        let project = self.project(name)?;
        Ok(Answer::Tagged { object: self.view_project(name, project), writable: project.writable() })
    }

    pub(super) fn create_project(&mut self, call: &Call) -> Outcome {
        let body = call.body("ProjectsPost")?;
        let name = body.text("name")?.unwrap_or_default();
        let description = body.text("description")?.unwrap_or_default();
        let mut config = without_empty(body.config("config")?.unwrap_or_default());
        if name.is_empty() {
            return Err(Refusal::bad_request("No name provided"));
        }
        if name.contains(' ') {
            return Err(Refusal::bad_request("Project names may not contain spaces"));
        }
        self.check_project_config(&config)?;
        if self.projects.contains_key(&name) {
            return Err(Refusal::conflict(format!(
                "Failed creating project \"{name}\": Failed adding database record: This \"projects\" entry already exists"
            )));
        }
        for feature in DEFAULT_FEATURES {
            config.entry((*feature).to_owned()).or_insert_with(|| "true".to_owned());
        }
        self.profiles.insert(
            (name.clone(), "default".to_owned()),
            super::profiles::Profile { description: format!("Default LXD profile for project {name}"), ..Default::default() },
        );
        let path = format!("/1.0/projects/{name}");
        self.projects.insert(name, Project { description, config });
        Ok(Answer::Created(path))
    }

    pub(super) fn put_project(&mut self, name: &str, call: &Call) -> Outcome {
        check_etag(call.if_match(), &self.project(name)?.writable())?;
        let body = call.body("ProjectPut")?;
        let description = body.text("description")?.unwrap_or_default();
        let config = body.config("config")?.unwrap_or_default();
        self.update_project(name, Project { description, config })
    }

    pub(super) fn patch_project(&mut self, name: &str, call: &Call) -> Outcome {
        let project = self.project(name)?.clone();
        check_etag(call.if_match(), &project.writable())?;
        let body = call.body("ProjectPut")?;
        let description = body.text("description")?.unwrap_or_else(|| project.description.clone());
        let config = if self.personality.is_async() {
            let mut config = project.config.clone();
            config.extend(body.config_of_strings("config").unwrap_or_default());
            config
        } else {
            // LXD 5.0 means to merge, but puts the merged config where nothing reads it.
            body.config("config")?.unwrap_or_else(|| project.config.clone())
        };
        self.update_project(name, Project { description, config })
    }

    fn update_project(&mut self, name: &str, mut updated: Project) -> Outcome {
        updated.config = without_empty(updated.config);
        let current = self.project(name)?;
        self.check_project_config(&updated.config)?;
        let keys = current.config.keys().chain(updated.config.keys());
        let changed: Vec<&String> = keys.filter(|key| current.config.get(*key) != updated.config.get(*key)).collect();
        if !self.project_is_empty(name, current) {
            // A feature that was never set may be set; one that was may not be turned.
            for feature in changed.iter().filter(|key| key.starts_with("features.")) {
                let Some(value) = current.config.get(*feature) else { continue };
                let turned = if is_true(value) { "disabled" } else { "enabled" };
                return Err(Refusal::bad_request(format!(
                    "Project feature \"{feature}\" cannot be {turned} on non-empty projects"
                )));
            }
        }
        if let Some(key) = changed.iter().find(|key| key.starts_with("restricted")) {
            restrictions::check(self, name, &updated.config).map_err(|refusal| {
                refusal.with_prefix(&format!("Conflict detected when changing \"{key}\" in project \"{name}\": "))
            })?;
        }
        self.projects.insert(name.to_owned(), updated);
        Ok(Answer::Done)
    }

    pub(super) fn delete_project(&mut self, name: &str) -> Outcome {
        if name == "default" {
            return Err(Refusal::forbidden("The 'default' project cannot be deleted"));
        }
        let project = self.project(name).map_err(|refusal| refusal.with_prefix(&format!("Fetch project \"{name}\": ")))?;
        if !self.project_is_empty(name, project) {
            return Err(Refusal::internal("Only empty projects can be removed"));
        }
        let doomed = name.to_owned();
        self.carry_out(
            "Deleting project",
            json!({"projects": [format!("/1.0/projects/{name}")]}),
            Answer::Done,
            Box::new(move |model| {
                model.projects.remove(&doomed);
                model.profiles.retain(|(project, _), _| *project != doomed);
                Ok(Value::Null)
            }),
        )
    }

    fn check_project_config(&self, config: &Config) -> Result<(), Refusal> {
        for (key, value) in config {
            if key.starts_with("user.") {
                continue;
            }
            let Some(values) = self.project_key(key) else {
                return Err(Refusal::bad_request(format!("Invalid project configuration key \"{key}\"")));
            };
            values
                .check(value)
                .map_err(|refusal| refusal.with_prefix(&format!("Invalid project configuration key \"{key}\" value: ")))?;
        }
        Ok(())
    }

    fn project_key(&self, key: &str) -> Option<Values> {
        Some(match key {
            "features.images" | "features.networks" | "features.profiles" | "features.storage.volumes" | "restricted" => {
                Values::Boolean
            }
            "features.networks.zones" | "features.storage.buckets" if self.personality.is_async() => Values::Boolean,
            "restricted.backups"
            | "restricted.cluster.target"
            | "restricted.containers.lowlevel"
            | "restricted.containers.nesting"
            | "restricted.devices.gpu"
            | "restricted.devices.infiniband"
            | "restricted.devices.pci"
            | "restricted.devices.proxy"
            | "restricted.devices.unix-block"
            | "restricted.devices.unix-char"
            | "restricted.devices.unix-hotplug"
            | "restricted.devices.usb"
            | "restricted.snapshots"
            | "restricted.virtual-machines.lowlevel" => Values::OneOf(&["block", "allow"]),
            "restricted.devices.disk" | "restricted.devices.nic" => Values::OneOf(&["block", "allow", "managed"]),
            "restricted.containers.interception" => Values::OneOf(&["allow", "block", "full"]),
            "restricted.containers.privilege" => Values::OneOf(&["allow", "unprivileged", "isolated"]),
            "restricted.devices.disk.paths" => Values::Paths,
            "limits.containers" | "limits.instances" | "limits.virtual-machines" => Values::Count,
            "limits.cpu"
            | "limits.disk"
            | "limits.memory"
            | "limits.networks"
            | "limits.processes"
            | "restricted.cluster.groups"
            | "restricted.networks.access"
            | "restricted.networks.uplinks"
            | "restricted.networks.zones" => Values::Any,
            _ => return None,
        })
    }
}

/// What LXD accepts as a key's value.
enum Values {
    Any,
    Boolean,
    Count,
    OneOf(&'static [&'static str]),
    Paths,
}

impl Values {
    fn check(&self, value: &str) -> Result<(), Refusal> {
        let problem = match self {
            Self::Any => None,
            Self::Boolean => return check_bool(value),
            Self::Count => value
                .parse::<u32>()
                .is_err()
                .then(|| format!("Invalid value for uint32 \"{value}\": strconv.ParseUint: parsing \"{value}\": invalid syntax")),
            Self::OneOf(values) => {
                (!values.contains(&value)).then(|| format!("Invalid value \"{value}\" (not one of [{}])", values.join(" ")))
            }
            Self::Paths => value
                .split(',')
                .find(|path| !path.starts_with('/'))
                .map(|path| format!("Item \"{path}\": Must be absolute file path")),
        };
        problem.map_or(Ok(()), |problem| Err(Refusal::bad_request(problem)))
    }
}

pub(super) fn check_bool(value: &str) -> Result<(), Refusal> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "false" | "1" | "0" | "yes" | "no" | "on" | "off" => Ok(()),
        _ => Err(Refusal::bad_request(format!("Invalid value for a boolean \"{value}\""))),
    }
}

pub(super) fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on")
}

pub(super) fn is_true_in(config: &Config, key: &str) -> bool {
    config.get(key).is_some_and(|value| is_true(value))
}

/// What LXD appends to the paths of objects in a project.
pub(super) fn project_suffix(project: &str) -> String {
    if project == "default" { String::new() } else { format!("?project={project}") }
}
