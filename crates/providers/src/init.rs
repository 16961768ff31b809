//! `clusterctl init`.

use std::{
    collections::BTreeSet,
    fmt,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use cluster::{Client, Clusterctl, Condition, clusterctl, condition::Test, providers::Provider, resource};
use converge::{Change, Failure, Wait, WaitError};
use futures_util::future::{try_join, try_join_all};
use lab::capi;
use serde_json::{Map, Value, json};

use crate::{
    Error, Options, Sources, cert_manager,
    concurrency::{self, Concurrency},
};

/// Flags that say what the installer says itself.
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

/// What the wait for clusterctl has over clusterctl itself, whose last words say more than that the time is over.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How one cluster comes to its providers.
pub struct Installer<'a> {
    /// What is wanted.
    pub options: &'a Options,
    /// Where it comes from.
    pub sources: &'a Sources,
    /// Who installs it.
    pub clusterctl: Clusterctl,
    /// Whose kubeconfig it is.
    pub kubeconfig: PathBuf,
    /// How long what is only just starting may take.
    pub patience: Duration,
}

/// `clusterctl init`, because these are missing.
#[derive(Debug)]
pub struct Init {
    before: Vec<Provider>,
    missing: Vec<Provider>,
    /// They are in the inventory, and their Deployments are gone.
    broken: Vec<Provider>,
    /// What is missing of cert-manager, where clusterctl would not see it.
    cert_manager: Vec<String>,
    after: Vec<Provider>,
}

/// What there is on a cluster, and what its server asks for.
#[derive(Debug, Default)]
pub struct Live {
    /// clusterctl's inventory.
    pub providers: Vec<Provider>,
    /// Deployments of those that are gone: namespace and name.
    pub gone: Vec<capi::Deployment>,
    /// Parts of a cert-manager of clusterctl's that are not there.
    pub cert_manager: Vec<String>,
    /// The arguments of the infrastructure provider's manager.
    pub arguments: Vec<String>,
    /// How many machines it may make at once; nothing where its default will do.
    pub concurrency: Option<u16>,
}

/// A step on the way to the providers.
#[derive(Debug)]
pub enum Installation {
    /// They are installed.
    Init(Init),
    /// The infrastructure provider is told what its server can bear.
    Concurrency(Concurrency),
}

impl Installer<'_> {
    /// clusterctl's inventory, and what the infrastructure provider was told. Where something is missing, clusterctl has to be there.
    pub async fn observe(&self, cluster: &Client, concurrency: Option<u16>) -> Result<Live, Failure> {
        let providers = cluster.providers().await?;
        let (gone, cert_manager) = try_join(gone(cluster, &providers), cert_manager::missing(cluster)).await?;
        if !gone.is_empty() || !cert_manager.is_empty() || self.options.wanted().iter().any(|wanted| !providers.contains(wanted)) {
            look(&self.clusterctl.program)?;
        }
        Ok(Live { providers, gone, cert_manager, arguments: concurrency::arguments(cluster).await?, concurrency })
    }

    /// What is to be done; nothing where the inventory has every provider at its version, the Deployments of all are there, and the
    /// infrastructure provider was told.
    pub fn plan(&self, live: &Live) -> Result<Vec<Installation>, Error> {
        let init = self.plan_init(live)?.map(Installation::Init);
        let concurrency = Concurrency::plan(live.concurrency, &live.arguments).map(Installation::Concurrency);
        Ok(init.into_iter().chain(concurrency).collect())
    }

    /// Carries one of them out.
    pub async fn apply(&self, cluster: &Client, installation: &Installation) -> Result<(), Failure> {
        match installation {
            Installation::Init(init) => self.install(cluster, init).await,
            Installation::Concurrency(concurrency) => Ok(concurrency.apply(cluster).await?),
        }
    }

    fn plan_init(&self, found: &Live) -> Result<Option<Init>, Error> {
        let live = &found.providers;
        let after = self.options.wanted();
        let (mut missing, mut drifted) = (Vec::new(), Vec::new());
        for wanted in &after {
            match live.iter().filter(|live| live.is_same(wanted)).collect::<Vec<_>>().as_slice() {
                [] => missing.push(wanted.clone()),
                [live] if live.version == wanted.version => {}
                [live] => drifted.push(format!("{live} instead of {}", wanted.version)),
                _ => return Err(Error::Twice { label: wanted.label() }),
            }
        }
        if !drifted.is_empty() {
            return Err(Error::Drift { drifted });
        }
        let is_broken = |provider: &&Provider| {
            let own = capi::deployment_of(&provider.label());
            !missing.contains(provider) && own.is_some_and(|own| found.gone.contains(&own))
        };
        let broken: Vec<_> = after.iter().filter(is_broken).cloned().collect();
        if missing.is_empty() && broken.is_empty() && found.cert_manager.is_empty() {
            return Ok(None);
        }
        let before = after.iter().filter(|wanted| live.contains(wanted) && !broken.contains(wanted)).cloned().collect();
        let cert_manager = found.cert_manager.clone();
        Ok(Some(Init { before, missing, broken, cert_manager, after: after.to_vec() }))
    }

    /// Has clusterctl install what is missing, and once more what is broken. A run that is killed in between finds that missing.
    async fn install(&self, cluster: &Client, init: &Init) -> Result<(), Failure> {
        self.sources.verify()?;
        if !init.cert_manager.is_empty() {
            cert_manager::shut(cluster).await?;
        }
        for provider in &init.broken {
            cluster.forget_provider(provider).await?;
        }
        match self.init(cluster).await {
            Ok(()) => Ok(()),
            Err(Ended::Over(error)) => Err(error.into()),
            Err(Ended::Terminating(error)) => Err(Error::Terminating(error).into()),
            Err(Ended::Failed(source)) => {
                // Why clusterctl failed is worth more than why its controllers cannot be looked at.
                let unmet = cluster.unmet(&self.options.deployments()).await.unwrap_or_default();
                Err(Error::Init { source: Box::new(source), unmet }.into())
            }
        }
    }

    /// Runs until it ends well, as long as what keeps it from that is only just starting.
    async fn init(&self, cluster: &Client) -> Result<(), Ended> {
        let (begun, limit) = (Instant::now(), Duration::from_secs(self.options.init_timeout));
        let topology = [("CLUSTER_TOPOLOGY", self.options.cluster_topology_enabled.to_string())];
        let wait = Wait::for_condition("clusterctl init: every webhook answers", limit + LAST_WORDS);
        let namespaces = namespaces();
        wait.until(async || {
            // clusterctl, killed at the right moment, leaves a namespace behind that is being deleted. It would take it for one that
            // stays, and wait until its timeout for what can never be made in it.
            let settled = cluster.wait_for("Cluster API: its namespaces are there to stay", &namespaces, self.patience);
            settled.await.map_err(Ended::Terminating)?;
            let left = limit.saturating_sub(begun.elapsed()).max(LAST_WORDS);
            match self.clusterctl.execute(&self.arguments(), &topology, &[cluster.server()], left).await {
                Err(error) if error.is_passing() => Ok(Err(error.to_string())),
                ended => ended.map(Ok).map_err(Ended::Failed),
            }
        })
        .await
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["init".to_owned(), "--kubeconfig".to_owned(), self.kubeconfig.display().to_string()];
        let wanted = self.options.wanted();
        arguments.extend(wanted.iter().flat_map(|it| [it.kind.flag().to_owned(), format!("{}:{}", it.name, it.version)]));
        arguments.push("--wait-providers".to_owned());
        arguments.extend(self.options.extra_init_flags.iter().cloned());
        arguments
    }
}

/// The Deployments of the providers in the inventory that are not there.
async fn gone(cluster: &Client, providers: &[Provider]) -> Result<Vec<capi::Deployment>, cluster::Error> {
    let look = async |(namespace, name): capi::Deployment| {
        let found = cluster.find(resource::DEPLOYMENT, Some(namespace), name).await?;
        Ok::<_, cluster::Error>(found.is_none().then_some((namespace, name)))
    };
    let own = providers.iter().filter_map(|provider| capi::deployment_of(&provider.label()));
    Ok(try_join_all(own.map(look)).await?.into_iter().flatten().collect())
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

impl fmt::Display for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Init(init) => init.fmt(f),
            Self::Concurrency(concurrency) => concurrency.fmt(f),
        }
    }
}

impl Change for Installation {
    fn object(&self) -> String {
        match self {
            Self::Init(init) => init.object(),
            Self::Concurrency(concurrency) => concurrency.object(),
        }
    }

    fn before(&self) -> Value {
        match self {
            Self::Init(init) => init.before(),
            Self::Concurrency(concurrency) => concurrency.before(),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Init(init) => init.after(),
            Self::Concurrency(concurrency) => concurrency.after(),
        }
    }
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |providers: &[Provider]| providers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let missing = (!self.missing.is_empty()).then(|| format!("for {}", listed(&self.missing)));
        let broken = (!self.broken.is_empty()).then(|| format!("again for {}, whose Deployment is gone", listed(&self.broken)));
        let cert_manager = (!self.cert_manager.is_empty())
            .then(|| format!("again for cert-manager, which lacks {}", self.cert_manager.join(", ")));
        let why: Vec<_> = missing.into_iter().chain(broken).chain(cert_manager).collect();
        write!(f, "run clusterctl init {}", why.join(", and "))
    }
}

impl Change for Init {
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
    json!(providers.iter().map(|provider| (provider.label(), json!(provider.version))).collect::<Map<_, _>>())
}
