//! Kubeconfigs, read as a client reads them: the current context counts, and nothing else.
//!
//! One that is written has that context alone, so that it leads to one cluster wherever it is taken.

use std::{fmt, fs, io, path::Path};

use converge::Secret;
use serde_json::{Value, json};

use crate::{Error, yaml};

/// A name that every API server's certificate carries, whatever address the server is reached by.
pub const TLS_SERVER_NAME: &str = "kubernetes.default.svc";

/// What a kubeconfig carries that nobody may see.
const SECRETS: [&str; 5] = ["certificate-authority-data", "client-certificate-data", "client-key-data", "password", "token"];

/// What a kubeconfig says by pointing at this machine, in its clusters and in its users.
const BOUND: [&str; 6] = ["certificate-authority", "client-certificate", "client-key", "tokenFile", "exec", "auth-provider"];

/// A kubeconfig as it was read: keys that are not known here are kept. Of several contexts, the current one counts.
#[derive(Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    document: Value,
    /// The current context's cluster, by its place.
    cluster: usize,
    /// The current context's user, by its place.
    user: Option<usize>,
    server: String,
}

impl Kubeconfig {
    /// Reads a kubeconfig's text.
    pub fn parse(text: &str) -> Result<Self, Error> {
        // The parser's own words would quote the text, and with it a key.
        let mut options = serde_saphyr::Options::default();
        options.with_snippet = false;
        let document: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let place = error.location().map(|place| format!("line {}, column {}", place.line(), place.column()));
            Error::malformed(format!("it is no YAML ({})", place.unwrap_or_else(|| "at its end".into())))
        })?;
        Self::new(document)
    }

    /// Reads the kubeconfig at a real path.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::NoKubeconfig { path: path.to_owned() },
            _ => Error::KubeconfigUnreadable { path: path.to_owned(), source },
        })?;
        Self::parse(&text)
    }

    fn new(document: Value) -> Result<Self, Error> {
        for kind in ["clusters", "contexts", "users"] {
            if let Some(twice) = twice(&document[kind]) {
                return Err(Error::malformed(format!("it has two {kind} of the name {twice}")));
            }
        }
        let (cluster, user) = match document["current-context"].as_str().filter(|current| !current.is_empty()) {
            Some(current) => {
                let context = named(&document["contexts"], current);
                let context = context.ok_or_else(|| Error::malformed(format!("its current context {current} is not there")))?;
                let part = |kind: &str, of: &str| {
                    let name = document["contexts"][context]["context"][of].as_str()?;
                    named(&document[kind], name)
                };
                (part("clusters", "cluster"), part("users", "user"))
            }
            // Without a current context, there is a choice only where there are several clusters.
            None if document["clusters"].as_array().is_some_and(|all| all.len() > 1) => {
                return Err(Error::malformed("it has several clusters and no current context".into()));
            }
            None => (Some(0), Some(0)),
        };
        let server = cluster.and_then(|at| document["clusters"][at]["cluster"]["server"].as_str());
        let server = server.ok_or_else(|| Error::malformed("it names no cluster with a server".into()))?.to_owned();
        Ok(Self { cluster: cluster.unwrap_or_default(), user, server, document })
    }

    /// The address of the current context's cluster.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The host and the port of that address.
    pub fn address(&self) -> Result<(String, u16), Error> {
        let malformed = || Error::malformed(format!("its server {} is no https address with a port", self.server));
        let address = self.server.strip_prefix("https://").ok_or_else(malformed)?.trim_end_matches('/');
        let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
        Ok((host.trim_matches(['[', ']']).to_owned(), port.parse().map_err(|_| malformed())?))
    }

    /// Fails if it only works on the machine that it was made on: it points at files or runs a program there.
    pub fn travels(&self) -> Result<(), Error> {
        let (cluster, user) = (&self.document["clusters"][self.cluster], self.user.map(|at| &self.document["users"][at]));
        for (entry, part) in [(Some(cluster), "cluster"), (user, "user")] {
            let Some(entry) = entry else { continue };
            if let Some(bound) = BOUND.into_iter().find(|key| entry[part].get(key).is_some()) {
                let name = entry["name"].as_str().unwrap_or_default();
                return Err(Error::malformed(format!("its {part} {name} has {bound}, which works on one machine alone")));
            }
        }
        Ok(())
    }

    /// The same for the current context alone.
    #[must_use]
    pub fn current(self) -> Self {
        let names = ["cluster", "user"].map(|part| {
            let (list, at) = if part == "cluster" { ("clusters", Some(self.cluster)) } else { ("users", self.user) };
            at.map(|at| self.document[list][at]["name"].clone()).unwrap_or_default()
        });
        let [cluster, user] = &names;
        let only = |list: &str, at: Option<usize>| at.map(|at| self.document[list][at].clone()).into_iter().collect::<Vec<_>>();
        let document = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": cluster,
            "clusters": only("clusters", Some(self.cluster)), "users": only("users", self.user),
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        });
        let user = self.user.map(|_| 0);
        Self { document, cluster: 0, user, server: self.server }
    }

    /// The same kubeconfig with another address of the current context's cluster.
    #[must_use]
    pub fn with_server(mut self, url: &str) -> Self {
        url.clone_into(&mut self.server);
        self.set("server", url)
    }

    /// The same kubeconfig for a cluster whose certificate is to carry this name, whatever its address is.
    #[must_use]
    pub fn with_tls_server_name(self, name: &str) -> Self {
        self.set("tls-server-name", name)
    }

    fn set(mut self, key: &str, value: &str) -> Self {
        if let Some(cluster) = self.document["clusters"][self.cluster]["cluster"].as_object_mut() {
            cluster.insert(key.into(), value.into());
        }
        self
    }

    /// The certificate of the current context's user, as text.
    #[must_use]
    pub fn client_certificate(&self) -> Option<&str> {
        self.document["users"][self.user?]["user"]["client-certificate-data"].as_str()
    }

    /// Its text, to be written where only its owner reads.
    #[must_use]
    pub fn to_yaml(&self) -> Secret {
        yaml(&self.document).into()
    }

    /// What may be shown of it: keys and certificates are replaced by a short digest.
    #[must_use]
    pub fn redacted(&self) -> Value {
        let mut shown = self.document.clone();
        redact(&mut shown);
        shown
    }

    pub(crate) fn document(&self) -> &Value {
        &self.document
    }
}

/// The place of the entry that has a name.
fn named(entries: &Value, name: &str) -> Option<usize> {
    entries.as_array()?.iter().position(|entry| entry["name"] == name)
}

/// A name that two entries have.
fn twice(entries: &Value) -> Option<&str> {
    let mut names: Vec<_> = entries.as_array()?.iter().filter_map(|entry| entry["name"].as_str()).collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match field {
                    Value::String(text) if SECRETS.contains(&key.as_str()) => *text = Secret::from(text.clone()).redacted(),
                    _ => redact(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

impl fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubeconfig").field("server", &self.server).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use converge::Explain as _;

    const K3S: &str = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: QVVUSE9SSVRZ
    server: https://127.0.0.1:6443
  name: default
contexts:
- context: {cluster: default, user: default}
  name: default
current-context: default
kind: Config
preferences: {}
users:
- name: default
  user:
    client-certificate-data: Q0VSVElGSUNBVEU=
    client-key-data: S0VZ
";

    /// Another cluster, user and context beside those of k3s, in the first place.
    fn beside_another() -> String {
        let other = |kind: &str, entry: &str| format!("{kind}:\n- {entry}");
        K3S.replace(
            "clusters:",
            &other("clusters", "{name: prod, cluster: {server: 'https://prod:6443', proxy-url: 'http://kept'}}"),
        )
        .replace("users:", &other("users", "{name: prod, user: {exec: {command: login}}}"))
        .replace("contexts:", &other("contexts", "{name: prod, context: {cluster: prod, user: prod}}"))
    }

    #[test]
    fn the_current_context_counts() {
        let rebuilt = Kubeconfig::parse(&beside_another()).unwrap();
        assert_eq!(rebuilt.server(), "https://127.0.0.1:6443");
        assert!(rebuilt.travels().is_ok(), "what the other context has is nobody's business");
        let rebuilt = rebuilt.with_server("https://10.77.0.5:6443").with_tls_server_name(TLS_SERVER_NAME);
        assert_eq!(rebuilt.address().unwrap(), ("10.77.0.5".into(), 6443));
        let read_again = Kubeconfig::parse(rebuilt.to_yaml().expose()).unwrap();
        assert_eq!(read_again, rebuilt);
        let clusters = read_again.document["clusters"].as_array().unwrap();
        assert_eq!(clusters[0]["cluster"], json!({"server": "https://prod:6443", "proxy-url": "http://kept"}));
        assert_eq!(clusters[1]["cluster"]["server"], "https://10.77.0.5:6443");
        assert_eq!(clusters[1]["cluster"]["tls-server-name"], "kubernetes.default.svc");
        assert_eq!(clusters[1]["cluster"]["certificate-authority-data"], "QVVUSE9SSVRZ");
        let alone = rebuilt.current();
        assert!(!format!("{}", alone.document).contains("prod"), "{}", alone.document);
        assert_eq!(Kubeconfig::parse(alone.to_yaml().expose()).unwrap(), alone);
        assert_eq!(alone.client_certificate(), Some("Q0VSVElGSUNBVEU="));
    }

    #[test]
    fn what_works_on_one_machine_alone_is_named() {
        for (text, words) in [
            (K3S.replace("client-key-data: S0VZ", "client-key: /root/key"), "user default has client-key,"),
            (K3S.replace("client-key-data: S0VZ", "exec: {command: login}"), "user default has exec,"),
            (
                K3S.replace("certificate-authority-data: QVVUSE9SSVRZ", "certificate-authority: ca.crt"),
                "cluster default has certificate-authority,",
            ),
            (beside_another().replace("current-context: default", "current-context: prod"), "user prod has exec,"),
        ] {
            let error = Kubeconfig::parse(&text).unwrap().travels().unwrap_err();
            assert!(error.to_string().contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn the_address_in_a_name_or_a_comment_is_left_alone() {
        let odd =
            K3S.replace("default", "'https://127.0.0.1:6443'").replace("kind: Config", "kind: Config # https://127.0.0.1:6443");
        let rebuilt = Kubeconfig::parse(&odd).unwrap().with_server("https://10.77.0.5:6443");
        assert_eq!(rebuilt.document["clusters"][0]["name"], "https://127.0.0.1:6443");
    }

    #[test]
    fn long_values_stay_on_their_line() {
        let long = "QUJD".repeat(1000);
        let rebuilt = Kubeconfig::parse(&K3S.replace("S0VZ", &long)).unwrap();
        let text = rebuilt.to_yaml();
        assert!(text.expose().lines().any(|line| line.trim() == format!("client-key-data: {long}")));
        assert_eq!(Kubeconfig::parse(text.expose()).unwrap(), rebuilt);
    }

    #[test]
    fn nothing_secret_is_shown() {
        let config = Kubeconfig::parse(K3S).unwrap();
        let shown = format!("{config:?} {}", config.redacted());
        for secret in ["QVVUSE9SSVRZ", "Q0VSVElGSUNBVEU", "S0VZ"] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
        let user = &config.redacted()["users"][0]["user"];
        assert_eq!(user["client-key-data"], json!(Secret::from("S0VZ".to_owned()).redacted()));
        assert_eq!(config.redacted()["current-context"], "default");
    }

    #[test]
    fn what_is_no_kubeconfig_says_why_without_quoting_it() {
        for (text, words) in [
            ("", "no cluster"),
            ("hello", "no cluster"),
            ("clusters: []", "no cluster"),
            ("clusters: [{name: x, cluster: {}}]", "no cluster"),
            (&K3S.replace("current-context: default", "current-context: lab"), "current context lab"),
            (&beside_another().replace("current-context: default", ""), "no current context"),
            (&beside_another().replace("name: prod,", "name: default,"), "two clusters of the name default"),
            ("users: [{user: {client-key-data: hunter2}}\n  x: [", "line "),
        ] {
            let error = Kubeconfig::parse(text).unwrap_err();
            assert_eq!(error.code(), "KUBECONFIG_MALFORMED", "{text}");
            assert!(error.to_string().contains(words), "{text}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn one_that_is_not_there_yet_is_awaited_in_check_mode() {
        let error = Kubeconfig::read(Path::new("/nowhere/kubeconfig")).unwrap_err();
        assert!(error.is_prerequisite(), "{error}");
    }
}
