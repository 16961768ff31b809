//! Creates and starts the instance that carries the bootstrap cluster, and waits for its addresses.

mod change;
mod error;

use std::{collections::BTreeMap, time::Duration};

use ::bundle::{InstanceImage, Location};
use ansible::{OptionError, Run, Step};
use converge::{Failure, Section};
use lab::{
    Keys, keys,
    lifecycle::{self, PHASE_KEY},
    names, profiles,
};
use lxd::{Client, Connection, Declared, Instance, Power, Tagged};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use smart_default::SmartDefault;
use survey::{Addresses, Family};

use crate::{
    change::{Change, Move},
    error::Error,
};

/// Converge the instance that carries the bootstrap cluster.
///
/// The instance is an unprivileged container in the lab's project. Its configuration keys and devices that this step does not
/// declare are left alone; what it declared in an earlier run and does not declare any more is removed.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
pub struct LxdBootstrapInstance {
    /// Project of the instance.
    #[default(names::PROJECT.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "project_name"))]
    pub project: String,
    /// Name of the instance.
    #[default(names::BOOTSTRAP_INSTANCE.into())]
    #[schemars(regex(pattern = names::INSTANCE), extend("global" = "bootstrap_instance_name"))]
    pub name: String,
    /// Type of the instance.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Profiles to apply after C(capi-base) and C(capi-bootstrap).
    #[schemars(inner(length(min = 1)))]
    pub extra_profiles: Vec<String>,
    /// Where the image comes from when the instance is created.
    #[schemars(extend("global" = "bootstrap_image_source"))]
    pub image_source: ImageSource,
    /// Server of the image, with O(image_source=server).
    #[default("https://images.lxd.canonical.com")]
    #[schemars(regex(pattern = "^https?://"))]
    pub image_server: String,
    /// Protocol of the server.
    pub image_protocol: ImageProtocol,
    /// Alias of the image. Changing it later does not change the instance.
    #[default("debian/13/cloud")]
    #[schemars(length(min = 1), extend("global" = "bootstrap_image_alias"))]
    pub image_alias: String,
    /// A bundle's image is taken instead of any other.
    #[serde(flatten)]
    pub bundle: Location,
    /// Configuration keys of the instance.
    pub config: BTreeMap<String, String>,
    /// Devices of the instance.
    pub devices: BTreeMap<String, BTreeMap<String, String>>,
    /// What the instance should be.
    pub state: State,
    /// Wait until the instance has its addresses.
    #[default(true)]
    pub wait_ready: bool,
    /// Interface on the internal network, inside the instance. The step waits for its addresses.
    #[default(names::INTERNAL_INTERFACE.into())]
    #[schemars(
        regex(pattern = names::INTERFACE),
        extend("global" = "guest_internal_ifname", "aliases" = ["readiness_ifname"])
    )]
    pub internal_ifname: String,
    /// Address families of which a global address is waited for.
    #[default(Family::BOTH.into())]
    #[schemars(length(min = 1))]
    pub readiness_families: Vec<Family>,
    /// How long to wait for the addresses, in seconds.
    #[default(120)]
    #[schemars(range(min = 4))]
    pub wait_timeout: u64,
    /// Create the instance even though the management cluster has taken over.
    pub allow_rebootstrap: bool,
    /// Where LXD listens.
    #[serde(flatten)]
    pub lxd: Connection,
}

/// Types of instances that can carry the bootstrap cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The profiles are a container's.
    #[default]
    Container,
}

/// Where an image comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImageSource {
    /// An image server.
    #[default]
    Server,
    /// LXD itself, which has it in the lab's project or in C(default); nothing is downloaded.
    Alias,
}

/// Protocols of image servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImageProtocol {
    /// That of the public image servers.
    #[default]
    Simplestreams,
    /// That of another LXD.
    Lxd,
}

/// States of the instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is there and runs.
    #[default]
    Started,
    /// It is there and does not run.
    Stopped,
    /// It is not there.
    Absent,
}

/// What the step returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Facts {
    /// The instance; none after O(state=absent).
    pub instance: Option<InstanceFacts>,
}

/// The instance as it is now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InstanceFacts {
    /// Name of the instance.
    pub name: String,
    /// LXD project of the instance.
    pub project: String,
    /// This run made it.
    pub created: bool,
    /// Status that LXD tells, such as V(Running).
    pub status: String,
    /// Its global IPv4 address.
    pub ipv4: Option<String>,
    /// Its global IPv6 address.
    pub ipv6: Option<String>,
    /// Its profiles in the order in which they apply.
    pub profiles: Vec<String>,
    /// The image that it was made from.
    pub image_fingerprint: Option<String>,
}

/// On the instance: what its image was called when it was made.
const IMAGE_ALIAS: &str = "user.k8slab.image-alias";

/// What tells the lab's own instance from others.
fn own_keys() -> Keys {
    keys::set([(names::OWNER_KEY, names::BOOTSTRAP_ROLE)])
}

impl Step for LxdBootstrapInstance {
    const NAME: &'static str = "lxd_bootstrap_instance";
    const SECTIONS: &'static [&'static str] = &["instance"];
    const EXAMPLES: &'static str = "\
- name: Start the instance of the bootstrap cluster from a local image
  k8slab.capi.lxd_bootstrap_instance:
    image_source: alias
    image_alias: debian/13/cloud
  become: true
";
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        Ok(OptionError::refuse_overrides("config", &self.config, &own_keys())?)
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        let converged = run.section(&BootstrapInstance(self)).await?;
        let made_by = converged.live.as_ref().and_then(|live| live.instance.as_ref()?.object.config.get(IMAGE_ALIAS));
        if let Some(alias) = made_by.filter(|alias| **alias != self.image_alias && self.bundle.bundle.is_none()) {
            let (name, wanted) = (&self.name, &self.image_alias);
            run.warn(format!("instance {name} was made of image {alias}; image {wanted} counts when it is made anew"));
        }
        let created = converged.changes.iter().any(|change| matches!(change, Change::Converge(change) if change.creates()));
        run.verify(Box::pin(self.facts(converged.live, created))).await
    }
}

impl LxdBootstrapInstance {
    async fn client(&self) -> Result<Client, Failure> {
        Ok(self.lxd.client().await?.in_project(&self.project))
    }

    fn profiles(&self) -> Vec<&str> {
        [profiles::BASE, profiles::BOOTSTRAP].into_iter().chain(self.extra_profiles.iter().map(String::as_str)).collect()
    }

    fn declare(&self, live: &Live) -> Declared<Instance> {
        let own = Declared {
            config: own_keys(),
            at_creation: keys::set([(IMAGE_ALIAS, self.image_name(live))]),
            creation: [("type".to_owned(), json!(self.kind)), ("source".to_owned(), self.source(live))].into_iter().collect(),
            // An ephemeral instance would be gone once it stops.
            fields: [("profiles".to_owned(), json!(self.profiles())), ("ephemeral".to_owned(), json!(false))].into_iter().collect(),
            ..Declared::new(&self.name, "k8slab: bootstrap cluster")
        };
        own.with_additions(&self.config, &self.devices)
    }

    /// What the image is called: a bundle's has its own name.
    fn image_name(&self, live: &Live) -> String {
        match live.image.as_ref().map(|image| &image.place) {
            Some(Place::Bundle(image)) => image.alias.clone(),
            _ => self.image_alias.clone(),
        }
    }

    fn source(&self, live: &Live) -> Value {
        match (&live.image, self.image_source) {
            (Some(image), _) => json!({"type": "image", "fingerprint": image.fingerprint}),
            (None, ImageSource::Server) => json!({
                "type": "image",
                "mode": "pull",
                "server": self.image_server,
                "protocol": self.image_protocol,
                "alias": self.image_alias,
            }),
            (None, ImageSource::Alias) => json!({"type": "image", "alias": self.image_alias}),
        }
    }

    /// The image that is not fetched from a server: the bundle's, else the one behind the alias.
    async fn find_image(&self, client: &Client) -> Result<Option<LocalImage>, Failure> {
        if let Some(bundle) = self.bundle.open()? {
            let image = bundle.bootstrap_image()?;
            let fingerprint = image.fingerprint.clone();
            let place = if client.has_image(&fingerprint).await? { Place::Project } else { Place::Bundle(image) };
            return Ok(Some(LocalImage { fingerprint, place }));
        }
        match self.image_source {
            ImageSource::Server => Ok(None),
            ImageSource::Alias => self.find_aliased(client).await.map(Some),
        }
    }

    /// The image behind the alias: the project's own, else that of the default project.
    async fn find_aliased(&self, client: &Client) -> Result<LocalImage, Failure> {
        if let Some(fingerprint) = client.find_alias(&self.image_alias).await? {
            return Ok(LocalImage { fingerprint, place: Place::Project });
        }
        let Some(fingerprint) = self.lxd.client().await?.in_project("default").find_alias(&self.image_alias).await? else {
            return Err(Error::NoImage { alias: self.image_alias.clone(), project: self.project.clone() }.into());
        };
        let place = if client.has_image(&fingerprint).await? { Place::Project } else { Place::DefaultProject };
        Ok(LocalImage { fingerprint, place })
    }

    async fn facts(&self, last: Option<Live>, created: bool) -> Result<Facts, Failure> {
        if self.state == State::Absent {
            return Ok(Facts { instance: None });
        }
        let client = self.client().await?;
        let addresses = match self.state {
            State::Started if self.wait_ready => self.ready(&client).await?,
            _ => Addresses::default(),
        };
        let live: Instance = match last.and_then(|live| live.instance) {
            Some(found) => found.object,
            None => client.get(&format!("instances/{}", self.name)).await?.object,
        };
        Ok(Facts {
            instance: Some(InstanceFacts {
                name: live.name,
                project: self.project.clone(),
                created,
                status: live.status,
                ipv4: addresses.ipv4.map(|address| address.to_string()),
                ipv6: addresses.ipv6.map(|address| address.to_string()),
                profiles: live.profiles,
                image_fingerprint: live.config.get("volatile.base_image").cloned(),
            }),
        })
    }

    /// Waits until the instance can be reached by every family that is asked for.
    async fn ready(&self, client: &Client) -> Result<Addresses, Failure> {
        let deadline = Duration::from_secs(self.wait_timeout);
        Ok(survey::addresses(client, &self.name, &self.internal_ifname, &self.readiness_families, deadline).await?)
    }
}

#[derive(Default)]
struct Live {
    instance: Option<Tagged<Instance>>,
    image: Option<LocalImage>,
    phase: Option<String>,
}

#[derive(Clone, Debug)]
struct LocalImage {
    fingerprint: String,
    place: Place,
}

/// Where an image is found.
#[derive(Clone, Debug)]
enum Place {
    Project,
    DefaultProject,
    Bundle(InstanceImage),
}

struct BootstrapInstance<'a>(&'a LxdBootstrapInstance);

impl Section for BootstrapInstance<'_> {
    const NAME: &'static str = "instance";
    type Live = Live;
    type Change = Change;

    async fn observe(&self) -> Result<Live, Failure> {
        let client = self.0.client().await?;
        let mut live = Live { instance: client.find(&self.0.name).await?, ..Live::default() };
        if live.instance.is_none() && self.0.state != State::Absent {
            let project = survey::project(&client, &self.0.project).await?;
            live.phase = project.object.config.get(PHASE_KEY).cloned();
            live.image = self.0.find_image(&client).await?;
        }
        Ok(live)
    }

    fn plan(&self, live: &Live) -> Result<Vec<Change>, Failure> {
        let step = self.0;
        let name = || step.name.clone();
        // One that is still to be made is stopped at first.
        let power = live.instance.as_ref().map_or(Power::Stopped, |live| live.object.power());
        let before = || live.instance.as_ref().map_or_else(|| "Stopped".to_owned(), |live| live.object.status.clone());
        let from = || Move { name: name(), before: before() };
        if step.state == State::Absent {
            let halt = (power != Power::Stopped).then(|| Change::Stop(from()));
            return Ok(halt.into_iter().chain(live.instance.as_ref().map(|_| Change::Delete(name()))).collect());
        }
        lifecycle::may_bootstrap(live.phase.as_deref(), step.allow_rebootstrap)
            .map_err(|phase| survey::Error::Pivoted { project: step.project.clone(), phase })?;
        let wanted = json!(step.kind);
        if let Some(found) = &live.instance
            && wanted != found.object.kind.as_str()
        {
            let (found, wanted) = (found.object.kind.clone(), wanted.as_str().unwrap_or_default().to_owned());
            return Err(Error::OtherType { name: name(), found, wanted }.into());
        }
        let mut changes = Vec::new();
        match live.image.as_ref().map(|image| &image.place) {
            Some(Place::DefaultProject) => {
                let fingerprint = live.image.iter().map(|image| image.fingerprint.clone()).collect();
                changes.push(Change::CopyImage { alias: step.image_alias.clone(), fingerprint });
            }
            Some(Place::Bundle(image)) => changes.push(Change::ImportImage(image.clone())),
            Some(Place::Project) | None => {}
        }
        changes.extend(step.declare(live).compare(live.instance.as_ref()).map(|change| Change::Converge(Box::new(change))));
        match step.state {
            State::Started if power != Power::Running => changes.push(Change::Start(from())),
            State::Stopped if power != Power::Stopped => changes.push(Change::Stop(from())),
            _ => {}
        }
        Ok(changes)
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        change.apply(&self.0.client().await?).await
    }
}

#[cfg(test)]
mod tests;
