//! Cluster API in the bootstrap cluster.

use std::{collections::BTreeSet, fmt, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use cluster::{Condition, clusterctl, condition::Test, providers::Provider, resource};
use converge::{Failure, Wait, WaitError};
use lab::capi;
use serde_json::{Value, json};

use crate::{BootstrapClusterctl, error::Error, sources::Sources};

/// Flags that say what the step says itself.
pub(crate) const OWN_FLAGS: [&str; 9] = [
    "--config",
    "--core",
    "--kubeconfig",
    "--kubeconfig-context",
    "--target-namespace",
    "-n",
    "--validate",
    "--wait-provider-timeout",
    "--wait-providers",
];

pub(crate) struct Section<'a> {
    pub step: &'a BootstrapClusterctl,
    pub sources: &'a Sources,
}

/// `clusterctl init`, because these are missing.
pub(crate) struct Init {
    pub before: Vec<Provider>,
    pub missing: Vec<Provider>,
    pub after: Vec<Provider>,
}

impl converge::Section for Section<'_> {
    const NAME: &'static str = "init";
    /// clusterctl's inventory.
    type Live = Vec<Provider>;
    type Change = Init;

    async fn observe(&self) -> Result<Vec<Provider>, Failure> {
        let live = self.step.cluster().await?.providers().await?;
        if self.step.wanted().iter().any(|wanted| !live.contains(wanted)) {
            look(&self.step.clusterctl().program)?;
        }
        Ok(live)
    }

    fn plan(&self, live: &Vec<Provider>) -> Result<Vec<Init>, Failure> {
        let after = self.step.wanted();
        let (mut missing, mut drifted) = (Vec::new(), Vec::new());
        for wanted in &after {
            match live.iter().filter(|live| live.is_same(wanted)).collect::<Vec<_>>().as_slice() {
                [] => missing.push(wanted.clone()),
                [live] if live.version == wanted.version => {}
                [live] => drifted.push(format!("{live} instead of {}", wanted.version)),
                _ => return Err(Error::Twice { label: wanted.label() }.into()),
            }
        }
        if !drifted.is_empty() {
            return Err(Error::Drift { drifted }.into());
        }
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let before = after.iter().filter(|wanted| live.contains(wanted)).cloned().collect();
        Ok(vec![Init { before, missing, after: after.to_vec() }])
    }

    async fn apply(&self, _: &Init) -> Result<(), Failure> {
        self.sources.verify()?;
        let cluster = self.step.cluster().await?;
        match self.init(&cluster).await {
            Ok(()) => Ok(()),
            Err(Ended::Over(error)) => Err(error.into()),
            Err(Ended::Terminating(error)) => Err(Error::Terminating(error).into()),
            Err(Ended::Failed(source)) => {
                // Why clusterctl failed is worth more than why its controllers cannot be looked at.
                let unmet = cluster.unmet(&self.step.deployments()).await.unwrap_or_default();
                Err(Error::Init { source: Box::new(source), unmet }.into())
            }
        }
    }
}

impl Section<'_> {
    /// Runs until it ends well, as long as what keeps it from that is only just starting.
    async fn init(&self, cluster: &cluster::Client) -> Result<(), Ended> {
        let (clusterctl, limit) = (self.step.clusterctl(), Duration::from_secs(self.step.init_timeout));
        let topology = [("CLUSTER_TOPOLOGY", self.step.cluster_topology_enabled.to_string())];
        let wait = Wait::for_condition("clusterctl init: every webhook answers", limit);
        let namespaces = namespaces();
        wait.until(async || {
            // clusterctl, killed at the right moment, leaves a namespace behind that is being deleted. It would take it for one that
            // stays, and wait until its timeout for what can never be made in it.
            let settled = cluster.wait_for("Cluster API: its namespaces are there to stay", &namespaces, self.step.patience());
            settled.await.map_err(Ended::Terminating)?;
            match clusterctl.execute(&self.arguments(), &topology, cluster.server(), limit).await {
                Err(error) if error.is_passing() => Ok(Err(error.to_string())),
                ended => ended.map(Ok).map_err(Ended::Failed),
            }
        })
        .await
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["init".to_owned(), "--kubeconfig".to_owned(), self.step.kubeconfig_path().display().to_string()];
        arguments
            .extend(self.step.wanted().iter().flat_map(|it| [it.kind.flag().to_owned(), format!("{}:{}", it.name, it.version)]));
        arguments.push("--wait-providers".to_owned());
        arguments.extend(self.step.extra_init_flags.iter().cloned());
        arguments
    }
}

/// The namespaces that clusterctl installs into, and the one in which it tries cert-manager out.
fn namespaces() -> Vec<Condition> {
    let names = capi::DEPLOYMENTS.iter().map(|(namespace, _)| *namespace).chain(["cert-manager-test"]);
    let distinct: BTreeSet<_> = names.collect();
    distinct.into_iter().map(|name| Condition::of(resource::NAMESPACE, None, name, Test::going().negated())).collect()
}

/// Why `clusterctl init` did not end well.
enum Ended {
    Terminating(cluster::Error),
    Failed(clusterctl::Error),
    Over(WaitError),
}

impl From<WaitError> for Ended {
    fn from(error: WaitError) -> Self {
        Self::Over(error)
    }
}

/// Fails unless there is a program.
fn look(path: &Path) -> Result<(), Error> {
    let Ok(metadata) = path.metadata() else { return Err(Error::NoClusterctl { path: path.to_owned() }) };
    if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        return Ok(());
    }
    Err(Error::NotExecutable { path: path.to_owned() })
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing: Vec<_> = self.missing.iter().map(ToString::to_string).collect();
        write!(f, "run clusterctl init for {}", missing.join(", "))
    }
}

impl converge::Change for Init {
    fn object(&self) -> String {
        "Cluster API's providers".to_owned()
    }

    fn before(&self) -> Value {
        if self.before.is_empty() { Value::Null } else { listed(&self.before) }
    }

    fn after(&self) -> Value {
        listed(&self.after)
    }
}

fn listed(providers: &[Provider]) -> Value {
    json!(providers.iter().map(|provider| (provider.label(), json!(provider.version))).collect::<serde_json::Map<_, _>>())
}
