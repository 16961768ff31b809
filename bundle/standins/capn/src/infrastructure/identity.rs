//! Who the provider is to LXD: one connection for each identity, and what LXD tells over it.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use lxd::{Event, Notice};
use tokio::{
    sync::{Mutex, mpsc},
    task::AbortHandle,
};

use crate::api::{
    SecretRef,
    conditions::{Cause, ConditionState},
};

/// The project of an identity that names none.
const DEFAULT_PROJECT: &str = "default";

/// Why there is no connection to LXD.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No Secret is named.
    #[error("spec.secretRef names no Secret with an identity for LXD")]
    Unnamed,
    /// There is no such Secret.
    #[error("there is no Secret {0} with the identity for LXD in this namespace")]
    Missing(String),
    /// The Secret lacks something.
    #[error("the Secret {secret} lacks {}", keys.join(", "))]
    Incomplete {
        /// Its name.
        secret: String,
        /// What it lacks.
        keys: Vec<&'static str>,
    },
    /// The Secret asks for a connection to nobody in particular.
    #[error("the Secret {0} sets insecure-skip-verify; this provider speaks only to the server whose certificate is server-crt")]
    Unpinned(String),
    /// LXD does not answer as it should.
    #[error(transparent)]
    Lxd(#[from] lxd::Error),
    /// Kubernetes does not answer as it should.
    #[error("cannot read the Secret with the identity")]
    Kube(#[from] kube::Error),
}

impl Error {
    /// The Secret has to be another, and that is seen when it happens.
    pub fn is_watched(&self) -> bool {
        matches!(self, Self::Unnamed | Self::Missing(_) | Self::Incomplete { .. } | Self::Unpinned(_))
    }

    /// What is said of it; nothing if only trying again helps.
    pub fn state(&self) -> Option<ConditionState> {
        match self {
            Self::Lxd(error) => Some(refusal(error)),
            Self::Kube(_) => None,
            Self::Unnamed | Self::Missing(_) | Self::Incomplete { .. } | Self::Unpinned(_) => {
                Some(ConditionState::new(Cause::Failed, self.to_string()))
            }
        }
    }
}

/// What an error of LXD says, and where to look if it is about the identity.
pub fn refusal(error: &lxd::Error) -> ConditionState {
    match error {
        lxd::Error::OtherCertificate { .. } | lxd::Error::Setup { .. } | lxd::Error::Refused { status: 403, .. } => {
            unwelcome(error)
        }
        lxd::Error::NotLxd { reason, .. } if reason.contains("untrusted") => unwelcome(error),
        _ => ConditionState::of(error),
    }
}

fn unwelcome(error: &lxd::Error) -> ConditionState {
    let advice = "look at the Secret with the identity, and at `lxc config trust list` on the server";
    ConditionState::new(Cause::Failed, format!("{error}; {advice}"))
}

/// What has an object looked at again: LXD told of something, in one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// An instance has changed.
    Instance {
        /// The namespace of the identity that learned of it.
        namespace: String,
        /// The instance.
        name: String,
    },
    /// Something else has changed, or things may have been missed.
    Anything,
}

/// All identities that are in use.
pub struct Identities {
    kube: Client,
    listeners: Vec<mpsc::UnboundedSender<Trigger>>,
    /// By namespace and name of the Secret.
    known: Mutex<BTreeMap<(String, String), Slot>>,
}

/// Held while the connection is made, so that it is made once.
type Slot = Arc<Mutex<Option<Connected>>>;

struct Connected {
    /// The version of the Secret that it was made of.
    version: Option<String>,
    client: lxd::Client,
    follower: AbortHandle,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Identities {
    /// No connection yet. What LXD will tell goes to the listeners.
    pub fn new(kube: Client, listeners: Vec<mpsc::UnboundedSender<Trigger>>) -> Self {
        Self { kube, listeners, known: Mutex::default() }
    }

    /// The connection of the identity in a Secret; it is made when it is first asked for, and anew when the Secret changes.
    pub async fn connect(&self, namespace: &str, secret: Option<&SecretRef>) -> Result<lxd::Client, Error> {
        let name = secret.map(|secret| secret.name.as_str()).ok_or(Error::Unnamed)?;
        let secrets = Api::<Secret>::namespaced(self.kube.clone(), namespace);
        let secret = secrets.get_opt(name).await?.ok_or_else(|| Error::Missing(name.to_owned()))?;
        let slot = self.known.lock().await.entry((namespace.to_owned(), name.to_owned())).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(connected) = slot.as_ref().filter(|connected| connected.version == secret.metadata.resource_version) {
            return Ok(connected.client.clone());
        }
        *slot = None;
        let credentials = Credentials::of(name, &secret)?;
        let client = credentials.connect().await?;
        let follower = tokio::spawn(follow(client.clone(), namespace.to_owned(), self.listeners.clone())).abort_handle();
        *slot = Some(Connected { version: secret.metadata.resource_version, client: client.clone(), follower });
        Ok(client)
    }
}

async fn follow(client: lxd::Client, namespace: String, listeners: Vec<mpsc::UnboundedSender<Trigger>>) {
    let mut notices = std::pin::pin!(client.events());
    while let Some(notice) = notices.next().await {
        for trigger in triggers(&notice, &namespace) {
            for listener in &listeners {
                // Nobody listens any more when the manager ends.
                let _ = listener.send(trigger.clone());
            }
        }
        if let Notice::Lost(error) = notice {
            tracing::warn!("LXD's events: {error}");
        }
    }
}

/// What a notice means to whoever looks after instances. What the provider itself does inside them is not news.
fn triggers(notice: &Notice, namespace: &str) -> Vec<Trigger> {
    const WITHIN: [&str; 5] = ["instance-exec", "instance-file-", "instance-log-", "instance-metadata-", "instance-console-"];
    match notice {
        Notice::Connected => vec![Trigger::Anything],
        Notice::Lost(_) => Vec::new(),
        Notice::Happened(Event { action, .. }) if WITHIN.iter().any(|within| action.starts_with(within)) => Vec::new(),
        Notice::Happened(event) => {
            let trigger = |name: &str| Trigger::Instance { namespace: namespace.to_owned(), name: name.to_owned() };
            let triggers: Vec<_> = event.instances().map(trigger).collect();
            // An image, a profile, a limit of the project: somebody may have waited for it.
            if triggers.is_empty() && event.action != "operation" { vec![Trigger::Anything] } else { triggers }
        }
    }
}

/// What a Secret says.
#[derive(Debug, PartialEq, Eq)]
struct Credentials {
    server: String,
    server_certificate: String,
    certificate: String,
    key: String,
    project: String,
}

impl Credentials {
    fn of(name: &str, secret: &Secret) -> Result<Self, Error> {
        let value = |key: &str| {
            let bytes = secret.data.as_ref()?.get(key)?;
            Some(String::from_utf8_lossy(&bytes.0).trim().to_owned()).filter(|value| !value.is_empty())
        };
        let mut lacking = Vec::new();
        let mut required = |key: &'static str| {
            value(key).unwrap_or_else(|| {
                lacking.push(key);
                String::new()
            })
        };
        let credentials = Self {
            server: required("server"),
            server_certificate: required("server-crt"),
            certificate: required("client-crt"),
            key: required("client-key"),
            project: value("project").unwrap_or_else(|| DEFAULT_PROJECT.to_owned()),
        };
        if value("insecure-skip-verify").is_some_and(|value| value == "true") {
            return Err(Error::Unpinned(name.to_owned()));
        }
        if !lacking.is_empty() {
            return Err(Error::Incomplete { secret: name.to_owned(), keys: lacking });
        }
        Ok(credentials)
    }

    async fn connect(&self) -> Result<lxd::Client, lxd::Error> {
        let identity =
            lxd::Identity { certificate: &self.certificate, key: &self.key, server_certificate: &self.server_certificate };
        Ok(lxd::Client::https(&self.server, &identity).await?.in_project(&self.project))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(pairs: &[(&str, &str)]) -> Secret {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect();
        Secret { data: Some(data), ..Secret::default() }
    }

    const COMPLETE: [(&str, &str); 4] =
        [("server", "https://10.77.0.1:8443"), ("server-crt", "S"), ("client-crt", "C"), ("client-key", "-K-")];

    #[test]
    fn a_secret_is_complete_or_refused() {
        let with = |key: &'static str, value: &'static str| [&COMPLETE[..], &[(key, value)]].concat();
        for (case, pairs, expected) in [
            ("the default project", COMPLETE.to_vec(), "default"),
            ("a project", with("project", "capi-lab"), "capi-lab"),
            ("not verified", with("insecure-skip-verify", "true"), "the Secret incus-identity sets insecure-skip-verify"),
            ("verified", with("insecure-skip-verify", "false"), "default"),
            ("no key", COMPLETE[..3].to_vec(), "the Secret incus-identity lacks client-key"),
            ("nothing", vec![], "the Secret incus-identity lacks server, server-crt, client-crt, client-key"),
        ] {
            let outcome = match Credentials::of("incus-identity", &secret(&pairs)) {
                Ok(credentials) => credentials.project,
                Err(error) => error.state().unwrap().message,
            };
            assert!(outcome.starts_with(expected), "{case}: {outcome}");
            assert!(!outcome.contains("-K-"), "{case}: {outcome}");
        }
    }

    #[test]
    fn events_are_triggers() {
        let happened = |action: &str, resources: &[&str]| {
            let resources = resources.iter().map(|path| (*path).to_owned()).collect();
            Notice::Happened(Event { action: action.to_owned(), resources })
        };
        let instance = |name: &str| Trigger::Instance { namespace: "lab".into(), name: name.into() };
        for (notice, expected) in [
            (Notice::Connected, vec![Trigger::Anything]),
            (happened("instance-started", &["instances/cp-1"]), vec![instance("cp-1")]),
            (happened("operation", &["instances/cp-1", "instances/cp-2"]), vec![instance("cp-1"), instance("cp-2")]),
            (happened("operation", &[]), vec![]),
            (happened("instance-file-pushed", &["instances/cp-1"]), vec![]),
            (happened("image-alias-created", &["images/aliases/haproxy"]), vec![Trigger::Anything]),
        ] {
            assert_eq!(triggers(&notice, "lab"), expected, "{notice:?}");
        }
    }

    #[test]
    fn what_lxd_thinks_of_an_identity_is_said() {
        let address = || "https://10.77.0.1:8443".to_owned();
        let untrusted = "it answers, but says that this client is untrusted".to_owned();
        for (error, says) in [
            (lxd::Error::OtherCertificate { address: address() }, "look at the Secret"),
            (lxd::Error::NotLxd { address: address(), reason: untrusted }, "look at the Secret"),
            (
                lxd::Error::Refused { request: "GET /1.0/instances".into(), status: 403, message: "not authorized".into() },
                "look at the Secret",
            ),
            (
                lxd::Error::Unreachable { address: address(), reason: "connection refused".into(), denied: false },
                "connection refused",
            ),
        ] {
            let state = refusal(&error);
            assert!(state.cause == Cause::Failed && state.message.contains(says), "{state:?}");
        }
    }
}
