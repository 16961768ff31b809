//! Creates and converges the restricted LXD project that confines the lab.

use std::collections::{BTreeMap, BTreeSet};

use ansible::{OptionError, Run, Step};
use converge::{Explain, Explanation, Failure, Section};
use lab::{
    Isolation, Keys, names,
    project::{self, Surroundings},
};
use lxd::{Client, Config, Connection, Declared, ObjectChange, Tagged};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

/// Converge the restricted LXD project.
///
/// The project confines the lab's instances and whoever holds a certificate for it. It is created if missing; keys that the lab does
/// not set are left alone.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
pub struct LxdProject {
    /// Name of the project.
    #[default(names::PROJECT.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "project_name"))]
    pub name: String,
    /// Description of the project.
    #[default(names::PROJECT_DESCRIPTION.into())]
    pub description: String,
    /// How far instances and the infrastructure provider's certificate may reach.
    #[schemars(extend("global" = "isolation"))]
    pub isolation: Isolation,
    /// Networks that the project's instances may attach to; only used with O(isolation=strict).
    #[default(vec![names::INTERNAL_NETWORK.into(), names::EXTERNAL_BRIDGE.into()])]
    #[schemars(extend("role_default" = [
        "{{ k8s_lab_internal_network_name | default('capi-int') }}",
        "{{ k8s_lab_external_bridge_name | default('br-ext6') }}",
    ]))]
    pub restricted_networks: Vec<String>,
    /// Allow the system call interception by which images with device nodes are unpacked, in O(isolation=strict) too.
    #[schemars(extend("global" = "strict_interception"))]
    pub strict_interception: bool,
    /// How many instances the project may hold; unset, the keys of the project decide. It bounds what a controller that runs wild can do.
    #[schemars(range(min = 1), extend("global" = "limits_instances"))]
    pub limits_instances: Option<u32>,
    /// Restrictions to add to the required ones. A required key cannot be overridden. With O(isolation=reference), LXD 5.0 accepts the
    /// profiles only if C(restricted.virtual-machines.lowlevel=allow) is added.
    #[schemars(extend("key_pattern" = r"^restricted\."), inner(length(min = 1)))]
    pub extra_restrictions: BTreeMap<String, String>,
    /// Where LXD listens.
    #[serde(flatten)]
    pub lxd: Connection,
}

/// What the step returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Facts {
    /// The project.
    pub project: ProjectFacts,
    /// Keys of the catalogue that the server does not know, which are left out.
    pub unsupported: Vec<String>,
}

/// A project as it is now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProjectFacts {
    /// Name of the project.
    pub name: String,
    /// This run made it.
    pub created: bool,
    /// Features and restrictions of the project.
    pub config: Config,
}

impl Step for LxdProject {
    const NAME: &'static str = "lxd_project";
    const SECTIONS: &'static [&'static str] = &["project"];
    const EXAMPLES: &'static str = "\
- name: Confine the lab to a project of its own
  k8slab.capi.lxd_project:
    name: capi-lab
    extra_restrictions:
      restricted.snapshots: block
  become: true
";
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        let mut required = self.catalogue(false);
        // Only `strict` needs to stay without a key; what `reference` leaves open an addition may settle.
        required.retain(|_, value| value.is_some() || self.isolation == Isolation::Strict);
        Ok(OptionError::refuse_overrides("extra_restrictions", &self.extra_restrictions, &required)?)
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        let converged = run.section(&Project(self)).await?;
        run.verify(self.facts(converged.live, converged.changes.iter().any(ObjectChange::creates))).await
    }
}

impl LxdProject {
    fn catalogue(&self, clustered: bool) -> Keys {
        let around = Surroundings { networks: &self.restricted_networks, interception: self.strict_interception, clustered };
        project::config(self.isolation, around)
    }

    /// The project as it should be on such a server.
    fn declare(&self, server: &Server) -> Declared<lxd::Project> {
        let mut config = self.catalogue(server.clustered);
        config.retain(|key, _| !server.unknown_keys.contains(key));
        let mut added: Config = self.extra_restrictions.clone();
        added.extend(self.limits_instances.map(|limit| (LIMIT.to_owned(), limit.to_string())));
        Declared { config, ..Declared::new(&self.name, &self.description) }.with_additions(&added, &lxd::Devices::new())
    }

    async fn facts(&self, last: Option<Live>, created: bool) -> Result<Facts, Failure> {
        let live = ansible::seen(&Project(self), last).await?;
        let project = match live.project {
            Some(found) => found.object,
            None => self.lxd.client().await?.get(&format!("projects/{}", self.name)).await?.object,
        };
        let unsupported = live.server.unknown_keys.into_iter().collect();
        Ok(Facts { project: ProjectFacts { name: project.name, created, config: project.config }, unsupported })
    }
}

/// How many instances a project may hold.
const LIMIT: &str = "limits.instances";

/// What the catalogue depends on.
#[derive(Clone, Debug, Default)]
struct Server {
    unknown_keys: BTreeSet<String>,
    clustered: bool,
}

impl Server {
    fn of(client: &Client) -> Self {
        let unknown = |(_, extension): &&(&str, &str)| !client.has(extension);
        Self {
            unknown_keys: project::EXTENSIONS.iter().filter(unknown).map(|(key, _)| (*key).to_owned()).collect(),
            clustered: client.server().environment.server_clustered,
        }
    }
}

#[derive(Default)]
struct Live {
    server: Server,
    project: Option<Tagged<lxd::Project>>,
}

struct Project<'a>(&'a LxdProject);

impl Section for Project<'_> {
    const NAME: &'static str = "project";
    type Live = Live;
    type Change = ObjectChange;

    async fn observe(&self) -> Result<Live, Failure> {
        let client = self.0.lxd.client().await?;
        Ok(Live { server: Server::of(client), project: client.find(&self.0.name).await? })
    }

    fn plan(&self, live: &Live) -> Result<Vec<ObjectChange>, Failure> {
        let change = self.0.declare(&live.server).compare(live.project.as_ref());
        if let (Some(change), Some(project)) = (&change, &live.project) {
            let locked: Vec<String> = change.keys.iter().filter(|key| key.starts_with("features.")).cloned().collect();
            let occupants = occupants(&project.object);
            if !locked.is_empty() && !occupants.is_empty() {
                return Err(FeatureLocked { project: self.0.name.clone(), features: locked, occupants }.into());
            }
            let instances = project.object.used_by.iter().filter(|path| path.starts_with("/1.0/instances/")).count();
            if let Some(limit) = self.0.limits_instances.filter(|limit| (*limit as usize) < instances)
                && change.keys.iter().any(|key| key == LIMIT)
            {
                return Err(LimitBelowUse { project: self.0.name.clone(), limit, instances }.into());
            }
        }
        Ok(change.into_iter().collect())
    }

    async fn apply(&self, change: &ObjectChange) -> Result<(), Failure> {
        Ok(change.apply(self.0.lxd.client().await?).await?)
    }
}

/// What makes a project count as used: everything in it but the default profile that comes with it.
fn occupants(project: &lxd::Project) -> Vec<String> {
    let comes_with_it = |path: &String| path.starts_with("/1.0/profiles/default");
    project.used_by.iter().filter(|path| !comes_with_it(path)).cloned().collect()
}

/// LXD changes a project's features only while nothing is in it.
#[derive(Debug, thiserror::Error)]
#[error("project {project} is in use, so {} cannot be changed", features.join(", "))]
struct FeatureLocked {
    project: String,
    features: Vec<String>,
    occupants: Vec<String>,
}

impl Explain for FeatureLocked {
    fn explain(&self) -> Explanation {
        Explanation::new("PROJECT_FEATURE_LOCKED")
            .hint("empty the project, or recreate it")
            .detail(format!("in the project: {}", self.occupants.join(", ")))
    }
}

/// LXD takes no limit that is exceeded already.
#[derive(Debug, thiserror::Error)]
#[error("project {project} holds {instances} instances, so limits.instances cannot be {limit}")]
struct LimitBelowUse {
    project: String,
    limit: u32,
    instances: usize,
}

impl Explain for LimitBelowUse {
    fn explain(&self) -> Explanation {
        Explanation::new("PROJECT_LIMIT_BELOW_USE").hint("raise limits_instances, or remove instances first")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A live project that is exactly as desired, then bent.
    fn live(bend: impl FnOnce(&mut lxd::Project)) -> lxd::Project {
        let step = LxdProject::default();
        let config = step.declare(&Server::default()).config.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        let mut project = lxd::Project {
            config,
            description: step.description,
            used_by: vec!["/1.0/profiles/default".into()],
            ..lxd::Project::default()
        };
        bend(&mut project);
        project
    }

    fn plan(project: Option<lxd::Project>) -> String {
        let live = Live { project: project.map(|object| Tagged { object, etag: None }), ..Live::default() };
        match Project(&LxdProject::default()).plan(&live) {
            Ok(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            Err(failure) => format!("{} {}", failure.code, failure.msg),
        }
    }

    #[test]
    fn plans() {
        let set = |key: &'static str, value: &'static str| {
            move |project: &mut lxd::Project| drop(project.config.insert(key.into(), value.into()))
        };
        assert_eq!(plan(None), "create project capi-lab");
        for (case, live, expected) in [
            ("as desired", live(|_| ()), ""),
            ("a foreign key", live(set("user.owner", "x")), ""),
            ("one value drifted", live(set("restricted", "false")), "project capi-lab: restricted: false -> true"),
            (
                "one key missing",
                live(|project| drop(project.config.remove("restricted.devices.proxy"))),
                "project capi-lab: restricted.devices.proxy: (unset) -> block",
            ),
            (
                "a leftover of the other isolation",
                live(set("restricted.devices.disk.paths", "/boot")),
                "project capi-lab: restricted.devices.disk.paths: /boot -> (unset)",
            ),
            (
                "another description",
                live(|project| project.description = "mine".into()),
                "project capi-lab: description: \"mine\" -> \"k8slab: Cluster API lab\"",
            ),
            (
                "a feature of an empty project",
                live(set("features.images", "false")),
                "project capi-lab: features.images: false -> true",
            ),
            (
                "a feature of a project in use",
                live(|project| {
                    project.used_by.push("/1.0/instances/a?project=capi-lab".into());
                    set("features.images", "false")(project);
                }),
                "PROJECT_FEATURE_LOCKED project capi-lab is in use, so features.images cannot be changed",
            ),
        ] {
            assert_eq!(plan(Some(live)), expected, "{case}");
        }
    }

    #[test]
    fn a_limit_has_room_for_what_is_there() {
        let with = |limits_instances: u32, set: Option<&str>| {
            let step = LxdProject { limits_instances: Some(limits_instances), ..LxdProject::default() };
            let project = live(|project| {
                project.config.extend(set.map(|value| (LIMIT.to_owned(), value.to_owned())));
                project.used_by.extend(["a", "b"].map(|name| format!("/1.0/instances/{name}?project=capi-lab")));
            });
            let live = Live { project: Some(Tagged { object: project, etag: None }), ..Live::default() };
            match Project(&step).plan(&live) {
                Ok(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                Err(failure) => failure.to_string(),
            }
        };
        assert!(with(2, None).starts_with("project capi-lab: limits.instances: (unset) -> 2"), "{}", with(2, None));
        for set in [None, Some("3")] {
            let refused = with(1, set);
            assert!(refused.contains("project capi-lab holds 2 instances, so limits.instances cannot be 1"), "{refused}");
        }
    }

    #[test]
    fn keys_that_a_server_does_not_know_are_left_out() {
        let server = Server { unknown_keys: BTreeSet::from(["features.networks.zones".into()]), clustered: false };
        let declared = LxdProject::default().declare(&server);
        assert!(!declared.config.contains_key("features.networks.zones"));
        assert!(declared.config.contains_key("features.networks"));
    }

    #[test]
    fn an_addition_may_not_weaken() {
        for (isolation, key, expected) in [
            (Isolation::Strict, "restricted.containers.lowlevel", Some("OPTION_COLLISION")),
            (Isolation::Strict, "restricted.virtual-machines.lowlevel", Some("OPTION_COLLISION")),
            (Isolation::Strict, "restricted.devices.disk.paths", Some("OPTION_COLLISION")),
            (Isolation::Strict, "restricted.snapshots", None),
            (Isolation::Reference, "restricted.containers.privilege", Some("OPTION_COLLISION")),
            (Isolation::Reference, "restricted.virtual-machines.lowlevel", None),
        ] {
            let extra_restrictions = BTreeMap::from([(key.into(), "allow".into())]);
            let step = LxdProject { isolation, extra_restrictions, ..LxdProject::default() };
            assert_eq!(step.preflight().err().map(|failure| failure.code), expected, "{key} in {isolation:?}");
        }
    }
}
