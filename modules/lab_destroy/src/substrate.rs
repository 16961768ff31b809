//! What the clusters stand on, as LXD tells it.

use converge::Failure;
use lab::{
    machine, names, profiles,
    teardown::{self, Scope, Shared, Substrate},
};
use lxd::{Image, Network, Pool, Profile, Project, Server};
use serde_json::Value;

use crate::LabDestroy;

/// Where LXD listens for the infrastructure provider.
pub(crate) const LISTENER_KEY: &str = "core.https_address";
/// The port of a listener that the lab has made.
const LISTENER_PORT: u16 = 8443;
/// A project that has images and profiles of its own says so; the others show the default project's.
const OWN: &str = "true";

impl LabDestroy {
    /// What the clusters stand on. Where it is not to go, it is not looked at: a cluster needs only to know of the project.
    pub(crate) async fn substrate(&self, project: Option<&Project>, foreign_forwards: Vec<String>) -> Result<Substrate, Failure> {
        let shared = |name: &str, description: &String, users: &[String]| Shared {
            name: name.to_owned(),
            is_ours: self.descriptions.contains(description),
            users: users.to_vec(),
        };
        let own = project.map(|project| shared(&project.name, &project.description, &project.used_by));
        if self.scope() != Scope::All {
            return Ok(Substrate { project: own, ..Substrate::default() });
        }
        let client = self.lxd.client().await?;
        let network = self.steadily("the network", || client.find::<Network>(&self.internal_network_name)).await?;
        let network = network.map(|found| found.object).filter(|network| network.managed);
        let pool = self.steadily("the pool", || client.find::<Pool>(&self.storage_pool_name)).await?.map(|found| found.object);
        let trust = self.steadily("whom it trusts", || client.trust_entries()).await?;
        let (identities, groups) = self.identities().await?;
        let listener = match &network {
            Some(network) => self.listener(network).await?,
            None => None,
        };
        let keys = self.opt_root.join(machine::PROVIDER_KEYS);
        Ok(Substrate {
            project: own,
            images: self.images(project).await?,
            profiles: self.profiles(project).await?,
            trust: trust.into_iter().filter(|entry| entry.reaches_only(&self.project)).map(|entry| entry.fingerprint).collect(),
            identities,
            groups,
            keys: if keys.exists() { vec![keys] } else { Vec::new() },
            listener,
            network: network
                .map(|network| shared(&network.name, &network.description, network.used_by.as_deref().unwrap_or_default())),
            foreign_forwards,
            pool: pool.map(|pool| shared(&pool.name, &pool.description, pool.used_by.as_deref().unwrap_or_default())),
        })
    }

    /// Identities whose reach their groups give, and these groups, where both are the provider's and the project's alone.
    async fn identities(&self) -> Result<(Vec<String>, Vec<String>), Failure> {
        let client = self.lxd.client().await?;
        if !client.has_fine_grained_identities() {
            return Ok(<(Vec<String>, Vec<String>)>::default());
        }
        let mut groups = self.steadily("whom it trusts", || client.auth_groups()).await?;
        groups.retain(|group| group.description == names::PROVIDER_GROUP_DESCRIPTION && group.reaches_only(&self.project));
        let mut identities = self.steadily("whom it trusts", || client.tls_identities()).await?;
        let is_ours = |name: &String| groups.iter().any(|group| group.name == *name);
        identities.retain(|identity| identity.groups.as_deref().is_some_and(|of| !of.is_empty() && of.iter().all(is_ours)));
        let fingerprints = identities.into_iter().map(|identity| identity.id).collect();
        Ok((fingerprints, groups.into_iter().map(|group| group.name).collect()))
    }

    /// The project's images. What the lab has not brought is its own too where it can be had again: of the default project, of which
    /// it is a copy, or of the image server that LXD keeps it for.
    async fn images(&self, project: Option<&Project>) -> Result<Vec<teardown::Image>, Failure> {
        if !has_own(project, "features.images") {
            return Ok(Vec::new());
        }
        let (within, default) = (self.project_client().await?, self.lxd.client().await?);
        let (images, originals): (Vec<Image>, Vec<Image>) =
            (self.steadily("images", || within.images()).await?, self.steadily("images", || default.images()).await?);
        let again = |image: &Image| image.cached || originals.iter().any(|original| original.fingerprint == image.fingerprint);
        let image = |image: Image| teardown::Image {
            is_ours: image.properties.contains_key(Image::MEANT_FOR) || again(&image),
            fingerprint: image.fingerprint,
        };
        Ok(images.into_iter().map(image).collect())
    }

    async fn profiles(&self, project: Option<&Project>) -> Result<Vec<teardown::Profile>, Failure> {
        if !has_own(project, "features.profiles") {
            return Ok(Vec::new());
        }
        let within = self.project_client().await?;
        let profiles: Vec<Profile> = self.steadily("profiles", || within.list()).await?;
        let profile = |profile: Profile| teardown::Profile {
            is_ours: profiles::is_ours(&profile.name, &profile.description),
            name: profile.name,
        };
        Ok(profiles.into_iter().map(profile).collect())
    }

    /// Where LXD listens, if that is the network's own address: it has gone when the network has.
    async fn listener(&self, network: &Network) -> Result<Option<String>, Failure> {
        let client = self.lxd.client().await?;
        let server = self.steadily("its settings", || client.get::<Server>("")).await?.object;
        let listens = server.config.as_ref().and_then(|config| config.get(LISTENER_KEY)).and_then(Value::as_str);
        let gateway = network.config.get("ipv4.address").and_then(|address| address.split('/').next());
        let own = gateway.map(|gateway| format!("{gateway}:{LISTENER_PORT}"));
        Ok(own.filter(|own| listens == Some(own)))
    }
}

fn has_own(project: Option<&Project>, feature: &str) -> bool {
    project.and_then(|project| project.config.get(feature)).is_some_and(|value| value == OWN)
}
