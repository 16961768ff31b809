//! Runs clusterctl.

use std::{env, fs::File, path::PathBuf, sync::Arc, time::Duration};

use converge::{Explain, Explanation, Secret};
use host::{CommandError, Root};

/// In whose name clusterctl sets fields, as API servers write it down.
pub const FIELD_MANAGER: &str = "clusterctl";

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
    /// What it holds until it ends, even if whoever started it is killed before: a lock.
    pub lock: Option<Arc<File>>,
}

/// clusterctl ended badly.
#[derive(Debug, thiserror::Error)]
#[error("clusterctl could not {act}")]
pub struct Error {
    /// What it was to do: `init`.
    act: String,
    source: host::Error,
}

/// What clusterctl's error means, and what to do.
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
    ("being terminated", "NAMESPACE_TERMINATING", "wait until the namespace is gone, then run again"),
    ("failed calling webhook", "WEBHOOK_NOT_SERVING", "a controller did not come up in time; look at its pods"),
    ("is not ready after", "PROVIDER_TIMEOUT", "look at the controller's pods; images may come slowly"),
    ("failed to read file", "PROVIDER_FILE_MISSING", "look whether the repository has the file for this version"),
    // clusterctl gives no reason when it has waited for cert-manager in vain.
    (
        "timed out waiting for the condition",
        "CERT_MANAGER_TIMEOUT",
        "images may come slowly; raise cert_manager_timeout, and init_timeout with it",
    ),
];

impl Error {
    /// What has been asked for may succeed the next time, because something is only just starting.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.code() == "WEBHOOK_NOT_SERVING"
    }

    fn meaning(&self) -> Option<&'static (&'static str, &'static str, &'static str)> {
        meaning(&self.source.detail()?)
    }
}

/// Only the error counts: what comes before it says what went well.
fn meaning(words: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
    let (_, error) = words.rsplit_once("Error: ")?;
    MEANINGS
        .iter()
        .find(|(part, ..)| error.replace("context deadline exceeded", "timed out waiting for the condition").contains(part))
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        let explanation = self.source.explain();
        match (&self.source, self.meaning()) {
            (_, Some((_, code, hint))) => explanation.with_code(code).with_hint(*hint),
            (host::Error::Command(CommandError::Failed { .. }), None) => explanation.with_code("CLUSTERCTL_FAILED"),
            (host::Error::Command(CommandError::Timeout { .. }), None) => explanation.with_code("CLUSTERCTL_TIMEOUT"),
            _ => explanation,
        }
    }
}

impl Clusterctl {
    /// Runs a command of clusterctl's to its end; what it says goes to the progress. `servers` are asked without any proxy.
    pub async fn execute(
        &self,
        arguments: &[String],
        variables: &[(&str, String)],
        servers: &[&str],
        deadline: Duration,
    ) -> Result<(), Error> {
        let mut command = Root::default().command(&self.program).args(arguments).arg("--config").arg(&self.config);
        command = command.env("CLUSTERCTL_DISABLE_VERSIONCHECK", "true");
        command = command.env("HOME", &self.home).env("XDG_CONFIG_HOME", self.home.join(".config"));
        command = command.env("NO_PROXY", no_proxy(servers));
        for (name, value) in variables {
            command = command.env(name, value);
        }
        if let Some(token) = &self.github_token {
            command = command.secret_env("GITHUB_TOKEN", token);
        }
        if let Some(lock) = &self.lock {
            command = command.holding(lock);
        }
        let act = arguments.first().cloned().unwrap_or_default();
        let told = command.within(deadline).execute_telling(|line| tracing::info!("{line}")).await;
        told.map(drop).map_err(|source| Error { act, source })
    }
}

/// The hosts that are asked without a proxy, and the clusters' among them: the value of `NO_PROXY` for a program that talks to them.
#[must_use]
pub fn no_proxy(servers: &[&str]) -> String {
    let host = |server: &&str| {
        let host = server.trim_start_matches("https://").rsplit_once(':').map_or(*server, |(host, _)| host);
        host.trim_matches(['[', ']']).to_owned()
    };
    let known = ["NO_PROXY", "no_proxy"].into_iter().filter_map(|name| env::var(name).ok()).find(|hosts| !hosts.is_empty());
    known.into_iter().chain(servers.iter().map(host)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_codes() {
        for (words, code) in [
            ("Fetching providers\nInstalling cert-manager version=\"v1.20.1\"", None),
            ("Fetching providers\nError: the cluster is odd", None),
            ("Error: failed to get repository: rate limit for github api has been reached", Some("GITHUB_RATE_LIMIT")),
            ("Error: Get \"https://api.github.com/repos/x\": dial tcp: lookup failed", Some("GITHUB_UNREACHABLE")),
            (
                "Error: installing provider \"cluster-api\" can lead to a non functioning management cluster: there is already an \
                 instance of the \"cluster-api\" provider installed in the \"capi-system\" namespace",
                Some("PROVIDER_VERSION_DRIFT"),
            ),
            (
                "Error: action failed after 9 attempts: namespaces \"capi-system\" not found: unable to create new content in namespace \
                 capi-system because it is being terminated",
                Some("NAMESPACE_TERMINATING"),
            ),
            (
                "Waiting for cert-manager to be available...\nError: Internal error occurred: failed calling webhook \
                 \"webhook.cert-manager.io\": connect: connection refused",
                Some("WEBHOOK_NOT_SERVING"),
            ),
            ("Error: deployment \"capi\" is not ready after 5m0s: context deadline exceeded", Some("PROVIDER_TIMEOUT")),
            ("Waiting for cert-manager to be available...\nError: context deadline exceeded", Some("CERT_MANAGER_TIMEOUT")),
        ] {
            assert_eq!(meaning(words).map(|(_, code, _)| *code), code, "{words}");
        }
    }

    #[test]
    fn the_cluster_is_asked_without_a_proxy() {
        for (server, host) in [("https://10.77.0.5:6443", "10.77.0.5"), ("https://[fd42::5]:6443", "fd42::5")] {
            assert!(no_proxy(&["https://10.77.0.6:6443", server]).split(',').any(|part| part == host), "{server}");
        }
    }
}
