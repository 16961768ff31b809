//! Calls of the program `helm`: which flags it gets for what. Both majors take them.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use converge::Secret;
use host::{CommandError, Root};
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use crate::{Error, Secrets};

/// What Helm is given beyond its own deadline, so that it can end by itself and say why.
const GRACE: Duration = Duration::from_secs(15);
/// Settings in the environment that would lead to another cluster, or to records elsewhere.
const FOREIGN: [&str; 11] = [
    "HELM_DEBUG",
    "HELM_KUBEAPISERVER",
    "HELM_KUBEASGROUPS",
    "HELM_KUBEASUSER",
    "HELM_KUBECAFILE",
    "HELM_KUBECONTEXT",
    "HELM_KUBEINSECURE_SKIP_TLS_VERIFY",
    "HELM_KUBETLS_SERVER_NAME",
    "HELM_KUBETOKEN",
    "HELM_MAX_HISTORY",
    "HELM_NAMESPACE",
];

/// A release, and the program that works on it.
#[derive(Clone, Debug)]
pub struct Target {
    /// The program.
    pub program: PathBuf,
    /// Of the cluster.
    pub kubeconfig: PathBuf,
    /// Where the cluster is.
    pub server: String,
    /// The release's namespace.
    pub namespace: String,
    /// The release.
    pub name: String,
    /// How long one thing may take.
    pub timeout: Duration,
}

/// The program at work on a release.
pub struct Helm<'a> {
    target: &'a Target,
    /// What it may quote and nobody may see.
    secrets: &'a Secrets,
    /// A folder for what it keeps to itself.
    scratch: &'a Path,
    major: OnceCell<u32>,
}

/// What an install or an upgrade is made of.
pub struct Upgrade<'a> {
    /// Where the chart is: a folder or an archive.
    pub chart: &'a Path,
    /// What the user sets.
    pub values: &'a Map<String, Value>,
    /// What is kept with the revision.
    pub description: &'a str,
    /// Labels of the record; nothing for one that goes.
    pub labels: &'a BTreeMap<String, Option<String>>,
    /// How many revisions are kept.
    pub keep_history: u32,
    /// The namespace is made where there is none.
    pub create_namespace: bool,
    /// Fields of other managers are taken over.
    pub force_conflicts: bool,
}

impl<'a> Helm<'a> {
    /// The program, with what it may quote and nobody may see, and a folder for what it keeps to itself.
    #[must_use]
    pub fn new(target: &'a Target, secrets: &'a Secrets, scratch: &'a Path) -> Self {
        Self { target, secrets, scratch, major: OnceCell::new() }
    }

    /// Fails unless there is a program.
    pub fn look(program: &Path) -> Result<(), Error> {
        let is_there = program.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
        if is_there { Ok(()) } else { Err(Error::NoHelm { path: program.to_owned() }) }
    }

    /// Installs the release, or makes its next revision.
    pub async fn upgrade(&self, upgrade: &Upgrade<'_>) -> Result<(), Error> {
        self.run("upgrade", self.upgrading(upgrade).await?, Some(upgrade.values)).await.map(drop)
    }

    /// The manifest that an upgrade would have. Nothing is changed, and the API server does not judge it.
    pub async fn foresee(&self, upgrade: &Upgrade<'_>) -> Result<String, Error> {
        let mut arguments = self.upgrading(upgrade).await?;
        arguments.extend(["--dry-run=server", "--output", "json"].map(str::to_owned));
        let text = self.run("upgrade", arguments, Some(upgrade.values)).await?;
        let release: Value = serde_json::from_str(&text).unwrap_or_default();
        Ok(release["manifest"].as_str().unwrap_or_default().to_owned())
    }

    /// Fetches the chart of a reference into a new folder; gives the archive.
    pub async fn pull(&self, reference: &str, version: Option<&str>, folder: &Path) -> Result<PathBuf, Error> {
        std::fs::create_dir(folder).map_err(|source| Error::Io { act: "create", path: folder.to_owned(), source })?;
        let version = version.into_iter().flat_map(|version| ["--version".into(), version.to_owned()]);
        let arguments = [reference.to_owned(), "--destination".into(), folder.display().to_string()].into_iter().chain(version);
        self.run("pull", arguments.collect(), None).await?;
        let entries = std::fs::read_dir(folder).map_err(|source| Error::Io { act: "read", path: folder.to_owned(), source })?;
        let archive = entries.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "tgz"));
        archive.ok_or_else(|| Error::NoChart { chart: reference.to_owned() })
    }

    /// Makes the objects of a revision as that one has them.
    pub async fn roll_back(&self, revision: u64) -> Result<(), Error> {
        // Hooks are the next upgrade's, and one that fails would leave the release pending once more.
        let arguments = [self.target.name.clone(), revision.to_string(), "--no-hooks".into()].into_iter().chain(self.limits());
        self.run("rollback", arguments.collect(), None).await.map(drop)
    }

    /// Removes the release, and waits until its objects are gone: the next install would adopt those that are dying.
    pub async fn uninstall(&self, hooks: bool) -> Result<(), Error> {
        let no_hooks = (!hooks).then(|| "--no-hooks".to_owned());
        let arguments = [self.target.name.clone(), "--wait".into()].into_iter().chain(no_hooks).chain(self.limits());
        self.run("uninstall", arguments.collect(), None).await.map(drop)
    }

    /// Runs the release's tests.
    pub async fn test(&self) -> Result<(), Error> {
        let arguments = [self.target.name.clone()].into_iter().chain(self.limits());
        self.run("test", arguments.collect(), None).await.map(drop)
    }

    async fn upgrading(&self, upgrade: &Upgrade<'_>) -> Result<Vec<String>, Error> {
        let mut arguments = vec![self.target.name.clone(), upgrade.chart.display().to_string()];
        // The values come by standard input: on a command line everybody could read them.
        let flags = ["--install", "--reset-values", "--values", "-", "--description", upgrade.description];
        arguments.extend(flags.map(str::to_owned));
        arguments.extend(["--history-max".to_owned(), upgrade.keep_history.to_string()]);
        for (label, value) in upgrade.labels {
            arguments.extend(["--labels".to_owned(), format!("{label}={}", value.as_deref().unwrap_or("null"))]);
        }
        arguments.extend(upgrade.create_namespace.then(|| "--create-namespace".to_owned()));
        // Helm 3 knows no managers of fields.
        if upgrade.force_conflicts && self.major().await? >= 4 {
            arguments.extend(["--server-side=true".to_owned(), "--force-conflicts".to_owned()]);
        }
        arguments.extend(self.limits());
        Ok(arguments)
    }

    fn limits(&self) -> [String; 2] {
        ["--timeout".to_owned(), format!("{}s", self.target.timeout.as_secs())]
    }

    async fn major(&self) -> Result<u32, Error> {
        self.major
            .get_or_try_init(async || {
                let text = self.run("version", vec!["--short".to_owned()], None).await?;
                let version = text.trim().trim_start_matches('v');
                let mut parts = version.split(['.', '+', '-']).map_while(|part| part.parse::<u32>().ok());
                match (parts.next(), parts.next()) {
                    (Some(3), Some(minor)) if minor >= 19 => Ok(3),
                    (Some(4), Some(_)) => Ok(4),
                    _ => Err(Error::HelmVersion { path: self.target.program.clone(), version: version.to_owned() }),
                }
            })
            .await
            .copied()
    }

    async fn run(&self, act: &str, arguments: Vec<String>, values: Option<&Map<String, Value>>) -> Result<String, Error> {
        Self::look(&self.target.program)?;
        let mut command = Root::default().command(&self.target.program).arg(act).args(arguments);
        if act != "version" {
            command = command.arg("--kubeconfig").arg(&self.target.kubeconfig).args(["--namespace", &self.target.namespace]);
        }
        for name in FOREIGN {
            command = command.env(name, "");
        }
        command = command
            .env("HELM_DRIVER", "secret")
            .env("HELM_CACHE_HOME", self.scratch.join("cache"))
            .env("NO_PROXY", cluster::no_proxy(&[&self.target.server]));
        if let Some(values) = values {
            command = command.input(Secret::from(Value::Object(values.clone()).to_string()));
        }
        let tell = |line: &str| tracing::info!("helm: {}", self.secrets.hide(line));
        let ended = command.within(self.target.timeout + GRACE).execute_telling(tell).await;
        let act = format!("{act} {}/{}", self.target.namespace, self.target.name);
        match ended {
            Ok(output) => Ok(output.stdout),
            Err(host::Error::Command(CommandError::Failed { tail, .. })) => Err(Error::failed(&act, &self.secrets.hide(&tail))),
            Err(source @ host::Error::Command(CommandError::Timeout { .. })) => Err(Error::Timeout { act, source }),
            Err(error) => Err(error.into()),
        }
    }
}
