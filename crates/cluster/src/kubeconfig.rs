use std::{fmt, fs, io, path::Path};

use converge::Secret;
use serde_json::Value;

use crate::{Error, yaml};

/// A name that every API server's certificate carries, whatever address the server is reached by.
pub const TLS_SERVER_NAME: &str = "kubernetes.default.svc";

/// What a kubeconfig carries that nobody may see.
const SECRETS: [&str; 5] = ["certificate-authority-data", "client-certificate-data", "client-key-data", "password", "token"];

/// A kubeconfig as it was read: keys that are not known here are kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    document: Value,
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
        let server = document.pointer("/clusters/0/cluster/server").and_then(Value::as_str).map(str::to_owned);
        let server = server.ok_or_else(|| Error::malformed("it names no cluster with a server".into()))?;
        Ok(Self { document, server })
    }

    /// The address of the first cluster.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The same kubeconfig for clusters at another address.
    #[must_use]
    pub fn with_server(mut self, url: &str) -> Self {
        url.clone_into(&mut self.server);
        self.set("server", url)
    }

    /// The same kubeconfig for clusters whose certificates are to carry this name, whatever their address is.
    #[must_use]
    pub fn with_tls_server_name(self, name: &str) -> Self {
        self.set("tls-server-name", name)
    }

    fn set(mut self, key: &str, value: &str) -> Self {
        for entry in self.document["clusters"].as_array_mut().into_iter().flatten() {
            if let Some(cluster) = entry["cluster"].as_object_mut() {
                cluster.insert(key.into(), value.into());
            }
        }
        self
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
    use converge::Explain as _;
    use serde_json::json;

    use super::*;

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

    #[test]
    fn every_cluster_gets_the_address_and_the_name() {
        let two = K3S.replace(
            "contexts:",
            "- {name: other, cluster: {server: 'https://127.0.0.1:6443', proxy-url: 'http://kept'}}\ncontexts:",
        );
        let rebuilt = Kubeconfig::parse(&two).unwrap().with_server("https://10.77.0.5:6443").with_tls_server_name(TLS_SERVER_NAME);
        assert_eq!(rebuilt.server(), "https://10.77.0.5:6443");
        let read_again = Kubeconfig::parse(rebuilt.to_yaml().expose()).unwrap();
        assert_eq!(read_again, rebuilt);
        for cluster in read_again.document["clusters"].as_array().unwrap() {
            assert_eq!(cluster["cluster"]["server"], "https://10.77.0.5:6443");
            assert_eq!(cluster["cluster"]["tls-server-name"], "kubernetes.default.svc");
        }
        assert_eq!(read_again.document["clusters"][1]["cluster"]["proxy-url"], "http://kept", "other keys are kept");
        assert_eq!(read_again.document["clusters"][0]["cluster"]["certificate-authority-data"], "QVVUSE9SSVRZ");
    }

    #[test]
    fn the_address_in_a_name_or_a_comment_is_left_alone() {
        let odd = K3S.replace("name: default", "name: https://127.0.0.1:6443 # https://127.0.0.1:6443");
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
