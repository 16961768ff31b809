//! Tells how far a lab has come and where it is reached. Reads only.

use std::path::PathBuf;

use ansible::{Run, Step};
use cluster::{Condition, Kubeconfig};
use converge::{AbsolutePath, Failure};
use lab::{
    capi,
    lifecycle::{PHASE_KEY, Phase},
    machine, names,
    profiles::{BASE, BOOTSTRAP, CONTROL_PLANE, WORKER},
};
use lxd::{Client, Connection, Error, Instance};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

/// Tell the phase and the addresses of the lab.
///
/// Reads the live state and changes nothing. A host without LXD is a lab that is V(absent).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
pub struct LabFacts {
    /// Project of the lab.
    #[default(names::PROJECT.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "project_name"))]
    pub project: String,
    /// Pool of the lab.
    #[default(names::POOL.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "storage_pool_name"))]
    pub storage_pool: String,
    /// Internal network of the lab.
    #[default(names::INTERNAL_NETWORK.into())]
    #[schemars(regex(pattern = names::NETWORK), extend("global" = "internal_network_name"))]
    pub internal_network: String,
    /// Instance of the bootstrap cluster.
    #[default(names::BOOTSTRAP_INSTANCE.into())]
    #[schemars(regex(pattern = names::INSTANCE), extend("global" = "bootstrap_instance_name"))]
    pub bootstrap_instance: String,
    /// Interface on the internal network, inside instances.
    #[default(names::INTERNAL_INTERFACE.into())]
    #[schemars(length(min = 1), extend("global" = "guest_internal_ifname"))]
    pub internal_ifname: String,
    /// Folder of the lab's programs and settings on the host.
    #[default(machine::OPT_ROOT.into())]
    #[schemars(extend("global" = "opt_root"))]
    pub opt_root: AbsolutePath,
    /// The bootstrap cluster's kubeconfig on the host; the lab's own in O(opt_root) if unset.
    pub kubeconfig_path: Option<AbsolutePath>,
    /// Where LXD listens.
    #[serde(flatten)]
    pub lxd: Connection,
}

/// What the step returns.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Facts {
    /// The lab.
    pub lab: Lab,
}

/// A lab as it is now.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Lab {
    /// How far it has come.
    pub phase: Phase,
    /// The phase that a run recorded last; a hint, which the live state overrides.
    pub recorded_phase: Option<String>,
    /// What the next phase lacks: of the substrate, or once that is there, of the bootstrap cluster.
    pub missing: Vec<String>,
    /// The server: C(lxd) or C(incus), and its version.
    pub server: Option<String>,
    /// The internal network's IPv4 address with its prefix length.
    pub network_ipv4: Option<String>,
    /// The internal network's IPv6 address with its prefix length.
    pub network_ipv6: Option<String>,
    /// The bootstrap instance's global addresses.
    pub bootstrap_addresses: Vec<String>,
    /// Instances of the project.
    pub instances: Vec<String>,
}

impl Step for LabFacts {
    const NAME: &'static str = "lab_facts";
    const SECTIONS: &'static [&'static str] = &[];
    const EXAMPLES: &'static str = "\
- name: Ask how far the lab has come
  k8slab.capi.lab_facts:
  become: true
  register: lab

- name: Show it
  ansible.builtin.debug:
    var: lab.lab.phase
";
    type Facts = Facts;

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        run.verify(async {
            match self.lxd.client().await {
                Ok(client) => Ok(Facts { lab: self.look(client).await? }),
                Err(Error::NoSocket { .. }) => Ok(Facts { lab: Seen::default().lab() }),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }
}

/// What was found of the lab.
#[derive(Debug, Default)]
struct Seen {
    server: Option<String>,
    project: Option<lxd::Project>,
    pool: Option<lxd::Pool>,
    network: Option<lxd::Network>,
    profiles: Vec<String>,
    instances: Vec<Instance>,
    bootstrap: String,
    bootstrap_addresses: Vec<String>,
    /// What keeps the bootstrap cluster from carrying the providers; nothing if nobody has looked.
    unmet: Option<Vec<String>>,
}

impl LabFacts {
    async fn look(&self, client: &Client) -> Result<Lab, Failure> {
        let environment = &client.server().environment;
        let mut seen = Seen {
            server: Some(format!("{} {}", environment.server, environment.server_version)),
            project: client.find(&self.project).await?.map(|found| found.object),
            pool: client.find(&self.storage_pool).await?.map(|found| found.object),
            network: client.find(&self.internal_network).await?.map(|found| found.object),
            bootstrap: self.bootstrap_instance.clone(),
            ..Seen::default()
        };
        if seen.project.is_some() {
            let client = client.in_project(&self.project);
            seen.profiles = client.list::<lxd::Profile>().await?.into_iter().map(|profile| profile.name).collect();
            seen.instances = client.list().await?;
            if seen.bootstrap_runs() {
                let state = client.instance_state(&self.bootstrap_instance).await?;
                seen.bootstrap_addresses =
                    state.global_addresses(&self.internal_ifname).map(|address| address.to_string()).collect();
            }
        }
        if seen.missing_of_substrate().is_empty() {
            let unmet = self.look_at_cluster(&seen.bootstrap_addresses).await;
            seen.unmet = Some(unmet.unwrap_or_else(|error| vec![format!("bootstrap cluster: {error}")]));
        }
        Ok(seen.lab())
    }

    /// The conditions of the bootstrap cluster that do not hold.
    async fn look_at_cluster(&self, addresses: &[String]) -> Result<Vec<String>, cluster::Error> {
        let kubeconfig = Kubeconfig::read(&self.kubeconfig())?;
        let server = kubeconfig.server();
        if !addresses.iter().any(|address| server == format!("https://{address}:{}", capi::API_PORT)) {
            return Ok(vec![format!("kubeconfig of the bootstrap cluster; that on the host is of {server}")]);
        }
        let conditions = capi::DEPLOYMENTS.map(|(namespace, name)| Condition::deployment_available(namespace, name));
        cluster::Client::connect(&kubeconfig)?.unmet(&conditions).await
    }

    fn kubeconfig(&self) -> PathBuf {
        let own = || self.opt_root.join(machine::BOOTSTRAP_KUBECONFIG);
        self.kubeconfig_path.as_ref().map_or_else(own, |path| path.to_path_buf())
    }
}

impl Seen {
    fn bootstrap_runs(&self) -> bool {
        self.instances.iter().any(|instance| instance.name == self.bootstrap && instance.status == "Running")
    }

    fn missing_of_substrate(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let mut need = |there: bool, what: &str| {
            if !there {
                missing.push(what.to_owned());
            }
        };
        need(self.server.is_some(), "LXD");
        need(self.project.is_some(), "project");
        need(self.pool.is_some(), "storage pool");
        need(self.network.as_ref().is_some_and(|network| network.managed), "internal network");
        for profile in [BASE, BOOTSTRAP, CONTROL_PLANE, WORKER] {
            need(self.profiles.iter().any(|found| found == profile), &format!("profile {profile}"));
        }
        need(self.bootstrap_runs(), "running bootstrap instance");
        missing
    }

    fn lab(self) -> Lab {
        let substrate = self.missing_of_substrate();
        let (phase, missing) = match self.unmet {
            _ if !substrate.is_empty() => (Phase::Absent, substrate),
            Some(unmet) if unmet.is_empty() => (Phase::Bootstrapped, unmet),
            unmet => (Phase::Substrate, unmet.unwrap_or_default()),
        };
        let address = |key: &str| self.network.as_ref().and_then(|network| network.config.get(key).cloned());
        Lab {
            phase,
            recorded_phase: self.project.as_ref().and_then(|project| project.config.get(PHASE_KEY).cloned()),
            missing,
            network_ipv4: address("ipv4.address"),
            network_ipv6: address("ipv6.address"),
            server: self.server,
            bootstrap_addresses: self.bootstrap_addresses,
            instances: self.instances.into_iter().map(|instance| instance.name).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> Seen {
        let bootstrap = Instance { name: "capi-bootstrap-0".into(), status: "Running".into(), ..Instance::default() };
        Seen {
            server: Some("lxd 5.0.2".into()),
            project: Some(lxd::Project::default()),
            pool: Some(lxd::Pool::default()),
            network: Some(lxd::Network { managed: true, ..lxd::Network::default() }),
            profiles: [BASE, BOOTSTRAP, CONTROL_PLANE, WORKER].map(str::to_owned).into(),
            instances: vec![bootstrap],
            bootstrap: "capi-bootstrap-0".into(),
            bootstrap_addresses: Vec::new(),
            unmet: Some(Vec::new()),
        }
    }

    #[test]
    fn the_live_state_decides_the_phase() {
        let bent = |bend: fn(&mut Seen)| {
            let mut seen = complete();
            bend(&mut seen);
            seen
        };
        for (case, seen, phase, missing) in [
            ("everything", complete(), Phase::Bootstrapped, ""),
            (
                "a Deployment not available",
                bent(|seen| seen.unmet = Some(vec!["Deployment x: not there".into()])),
                Phase::Substrate,
                "Deployment x: not there",
            ),
            ("a profile gone", bent(|seen| drop(seen.profiles.pop())), Phase::Absent, "profile capi-worker"),
            (
                "the instance stopped",
                bent(|seen| seen.instances[0].status = "Stopped".into()),
                Phase::Absent,
                "running bootstrap instance",
            ),
            (
                "a record that is not true",
                bent(|seen| {
                    seen.pool = None;
                    seen.project.as_mut().unwrap().config.insert(PHASE_KEY.into(), "substrate".into());
                }),
                Phase::Absent,
                "storage pool",
            ),
        ] {
            let lab = seen.lab();
            assert_eq!((lab.phase, lab.missing.join(", ").as_str()), (phase, missing), "{case}");
        }
        assert_eq!(Seen::default().lab().missing[0], "LXD");
    }
}
