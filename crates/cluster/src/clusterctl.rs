//! Runs clusterctl.

use std::{env, path::PathBuf, time::Duration};

use ansible::{Explain, Secret};
use host::Root;

/// The external program, and what it works with.
#[derive(Clone, Debug)]
pub struct Clusterctl {
    /// Where it is.
    pub program: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// A folder for what it keeps to itself.
    pub home: PathBuf,
    /// Whom GitHub lets ask more often.
    pub github_token: Option<Secret>,
}

/// clusterctl ended badly.
#[derive(Debug, thiserror::Error)]
#[error("clusterctl could not {act}")]
pub struct Error {
    /// What it was to do: `init`.
    act: String,
    source: host::Error,
}

/// clusterctl's last words, what they mean, and what to do.
const MEANINGS: [(&str, &str, &str); 8] = [
    ("rate limit", "GITHUB_RATE_LIMIT", "set github_token, or take the providers from a bundle"),
    (
        "api.github.com",
        "GITHUB_UNREACHABLE",
        "the host must reach GitHub, by a proxy if need be, or take the providers from a bundle",
    ),
    (
        "there is already an instance",
        "PROVIDER_VERSION_DRIFT",
        "a provider of another version is there; upgrading is another operation",
    ),
    ("is being terminated", "NAMESPACE_TERMINATING", "wait until the namespace is gone, then run again"),
    ("failed calling webhook", "WEBHOOK_NOT_SERVING", "a controller did not come up in time; look at its pods"),
    ("cert-manager", "CERT_MANAGER_TIMEOUT", "images may come slowly; raise cert_manager_timeout, and init_timeout with it"),
    ("is not ready after", "PROVIDER_TIMEOUT", "look at the controller's pods; images may come slowly"),
    ("failed to read file", "PROVIDER_FILE_MISSING", "look whether the repository has the file for this version"),
];

impl Error {
    /// What has been asked for may succeed the next time, because something is only just starting.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.code() == "WEBHOOK_NOT_SERVING"
    }

    fn meaning(&self) -> Option<&'static (&'static str, &'static str, &'static str)> {
        let words = self.source.detail()?;
        MEANINGS.iter().find(|(part, ..)| words.contains(part))
    }
}

impl Explain for Error {
    fn code(&self) -> &'static str {
        match (&self.source, self.meaning()) {
            (host::Error::CommandFailed { .. }, Some((_, code, _))) => code,
            (host::Error::CommandFailed { .. }, None) => "CLUSTERCTL_FAILED",
            (host::Error::CommandTimeout { .. }, _) => "CLUSTERCTL_TIMEOUT",
            (source, _) => source.code(),
        }
    }

    fn hints(&self) -> Vec<String> {
        self.meaning().map_or_else(|| self.source.hints(), |(.., hint)| vec![(*hint).into()])
    }

    fn detail(&self) -> Option<String> {
        self.source.detail()
    }
}

impl Clusterctl {
    /// Runs a command of clusterctl's to its end; what it says goes to the progress. `server` is asked without any proxy.
    pub async fn execute(
        &self,
        arguments: &[String],
        variables: &[(&str, String)],
        server: &str,
        deadline: Duration,
    ) -> Result<(), Error> {
        let mut command = Root::default().command(&self.program).args(arguments).arg("--config").arg(&self.config);
        command = command.env("CLUSTERCTL_DISABLE_VERSIONCHECK", "true");
        command = command.env("HOME", &self.home).env("XDG_CONFIG_HOME", self.home.join(".config"));
        command = command.env("NO_PROXY", no_proxy(server));
        for (name, value) in variables {
            command = command.env(name, value);
        }
        if let Some(token) = &self.github_token {
            command = command.secret_env("GITHUB_TOKEN", token);
        }
        let act = arguments.first().cloned().unwrap_or_default();
        let told = command.within(deadline).execute_telling(|line| tracing::info!("{line}")).await;
        told.map(drop).map_err(|source| Error { act, source })
    }
}

/// The hosts that are asked without a proxy, and the cluster's among them.
fn no_proxy(server: &str) -> String {
    let host = server.trim_start_matches("https://").rsplit_once(':').map_or(server, |(host, _)| host);
    let known = ["NO_PROXY", "no_proxy"].into_iter().filter_map(|name| env::var(name).ok()).find(|hosts| !hosts.is_empty());
    known.into_iter().chain([host.trim_matches(['[', ']']).to_owned()]).collect::<Vec<_>>().join(",")
}
