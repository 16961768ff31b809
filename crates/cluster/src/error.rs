//! What a cluster, or a kubeconfig, can answer a step with.

use std::{io, path::PathBuf};

use converge::{Explain, Explanation, WaitError, cause};
use kube::core::{Status, response::reason};

/// What can go wrong between a step and a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no kubeconfig.
    #[error("there is no kubeconfig {}", path.display())]
    NoKubeconfig {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A kubeconfig cannot be read.
    #[error("the kubeconfig {} cannot be read", path.display())]
    KubeconfigUnreadable {
        /// Where it is.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A kubeconfig is not of the form it should have, or leaves out what is needed.
    #[error("the kubeconfig cannot be used: {reason}")]
    KubeconfigMalformed {
        /// What is wrong.
        reason: String,
    },
    /// Nothing answers at the address.
    #[error("the cluster at {server} cannot be reached: {reason}")]
    Unreachable {
        /// The address.
        server: String,
        /// The system's words.
        reason: String,
    },
    /// The server's certificate is not one that the kubeconfig trusts.
    #[error("the server at {server} is not the cluster of the kubeconfig: {reason}")]
    Tls {
        /// The address.
        server: String,
        /// What TLS found.
        reason: String,
    },
    /// The server does not know the kubeconfig's user.
    #[error("the cluster at {server} does not know the kubeconfig's user")]
    Unauthorised {
        /// The address.
        server: String,
    },
    /// The server answers, but not as it should in the long run: it starts, is overloaded or stops.
    #[error("the cluster at {server} does not serve yet: {reason}")]
    NotServing {
        /// The address.
        server: String,
        /// What it said, or how the connection ended.
        reason: String,
    },
    /// Something answers, but not as Kubernetes does.
    #[error("{server} does not answer as Kubernetes does: {reason}")]
    NotKubernetes {
        /// The address.
        server: String,
        /// What was odd.
        reason: String,
    },
    /// The object, or its kind, does not exist.
    #[error("there is no {what}")]
    NotFound {
        /// The kind, and the object's name.
        what: String,
    },
    /// The namespace goes away, and takes nothing new.
    #[error("the namespace of {what} is being deleted")]
    Terminating {
        /// The kind, and the object's name.
        what: String,
    },
    /// Fields of the object belong to somebody else.
    #[error("{} of {what} is managed by {}", fields.join(", "), managers.join(", "))]
    ApplyConflict {
        /// The kind, and the object's name.
        what: String,
        /// The other managers.
        managers: Vec<String>,
        /// The fields.
        fields: Vec<String>,
    },
    /// The object was changed by somebody else since it was read.
    #[error("{what} was changed by somebody else meanwhile")]
    Conflict {
        /// The kind, and the object's name.
        what: String,
    },
    /// The server said no.
    #[error("the cluster refused {what}: {message}")]
    Refused {
        /// The kind, and the object's name.
        what: String,
        /// The status code.
        status: u16,
        /// The server's own words.
        message: String,
    },
    /// A condition did not come to hold.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// What is waited for will not come.
    #[error("{condition}: {seen}")]
    Hopeless {
        /// What has come instead.
        condition: String,
        /// How it looks.
        seen: String,
    },
    /// Conditions did not come to hold, and these pods are in the way.
    #[error("{source}")]
    Unmet {
        /// What was waited for, and what was seen last.
        source: WaitError,
        /// What holds the pods up, a line each.
        pods: Vec<String>,
    },
}

impl Error {
    pub(crate) fn malformed(reason: String) -> Self {
        Self::KubeconfigMalformed { reason }
    }

    /// What the library's error means for a request about `what`.
    pub(crate) fn of(error: kube::Error, server: &str, what: &str) -> Self {
        let server = server.to_owned();
        match error {
            kube::Error::Api(status) => Self::answered(&status, server, what.to_owned()),
            kube::Error::SerdeError(error) => Self::NotKubernetes { server, reason: error.to_string() },
            error => Self::broken(&error, server),
        }
    }

    pub(crate) fn answered(status: &Status, server: String, what: String) -> Self {
        let causes = || status.details.iter().flat_map(|details| &details.causes);
        let message = if status.message.is_empty() { &status.reason } else { &status.message };
        match status.code {
            401 => Self::Unauthorised { server },
            403 if causes().any(|cause| cause.reason == "NamespaceTerminating") || message.contains("is being terminated") => {
                Self::Terminating { what }
            }
            404 => Self::NotFound { what },
            409 if causes().any(|cause| cause.reason == "FieldManagerConflict") => {
                let conflicts = causes().filter(|cause| cause.reason == "FieldManagerConflict");
                let (mut managers, fields): (Vec<_>, Vec<_>) =
                    conflicts.map(|cause| (manager(&cause.message), cause.field.clone())).unzip();
                managers.sort();
                managers.dedup();
                Self::ApplyConflict { what, managers, fields }
            }
            409 if status.reason != reason::ALREADY_EXISTS => Self::Conflict { what },
            429 | 503 | 504 => Self::NotServing { server, reason: message.clone() },
            code => Self::Refused { what, status: code, message: message.clone() },
        }
    }

    /// A request that got no answer. Which layer gave up tells what is wrong, and each wraps the one below in its own way.
    fn broken(error: &kube::Error, server: String) -> Self {
        let reason = cause(error);
        let mut layer: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = layer {
            let io = error.downcast_ref::<io::Error>();
            if error.is::<rustls::Error>() {
                return Self::Tls { server, reason };
            }
            if let Some(
                io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::TimedOut,
            ) = io.map(io::Error::kind)
            {
                return Self::Unreachable { server, reason };
            }
            // An I/O error that wraps another one names that one's cause as its own, and so hides it.
            let wrapped = io.and_then(io::Error::get_ref).map(|inner| inner as &(dyn std::error::Error + 'static));
            layer = wrapped.or_else(|| error.source());
        }
        Self::NotServing { server, reason }
    }

    /// The cluster may come to answer by itself.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NotServing { .. })
    }

    /// The cluster is there, and may only just be starting.
    pub(crate) fn is_starting(&self) -> bool {
        matches!(self, Self::NotServing { .. })
    }

    /// The object, or its kind, does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// The name in `conflict with "kubectl" using v1`.
fn manager(message: &str) -> String {
    message.split('"').nth(1).unwrap_or(message).to_owned()
}

/// What a cluster answers with, or nothing where it knows no such object or no such kind.
pub fn if_there<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoKubeconfig { .. } => Explanation::new("KUBECONFIG_MISSING")
                .hint("run the role bootstrap_clusterctl first, or set kubeconfig_path")
                .prerequisite(),
            Self::KubeconfigUnreadable { .. } => {
                Explanation::new("KUBECONFIG_UNREADABLE").hint("run the task with become: true, or look at the file's mode")
            }
            Self::KubeconfigMalformed { .. } => Explanation::new("KUBECONFIG_MALFORMED")
                .hint("run the role bootstrap_clusterctl; it reads the kubeconfig from the cluster again"),
            Self::Unreachable { .. } => Explanation::new("CLUSTER_UNREACHABLE")
                .hint("look whether the instance runs and has this address, and whether the API server is up in it"),
            Self::Tls { .. } => Explanation::new("CLUSTER_TLS").hint(
                "the address belongs to another cluster now, or the cluster was made anew; run the role bootstrap_clusterctl again",
            ),
            Self::Unauthorised { .. } => {
                Explanation::new("CLUSTER_UNAUTHORISED").hint("the cluster was made anew; run the role bootstrap_clusterctl again")
            }
            Self::NotServing { .. } => Explanation::new("CLUSTER_NOT_SERVING")
                .hint("look at the API server's log; it may still be starting, or short of memory"),
            Self::NotKubernetes { .. } => {
                Explanation::new("CLUSTER_UNEXPECTED_ANSWER").hint("look at the kubeconfig's server, and at any proxy on the way")
            }
            Self::NotFound { .. } => Explanation::new("CLUSTER_NOT_FOUND"),
            Self::Terminating { .. } => Explanation::new("NAMESPACE_TERMINATING")
                .hint("wait until it is gone, then run again; `kubectl get namespace` shows what it waits for"),
            Self::ApplyConflict { .. } => Explanation::new("CLUSTER_APPLY_CONFLICT")
                .hint("let the other manager give the fields up, or have it set the same values"),
            Self::Conflict { .. } => Explanation::new("CLUSTER_CHANGED_MEANWHILE")
                .hint("another program changes the same object; run again when it is done")
                .conflict(),
            Self::Refused { status: 403, .. } => Explanation::new("CLUSTER_FORBIDDEN"),
            // Another run has made it since it was looked for.
            Self::Refused { status: 409, .. } => Explanation::new("CLUSTER_REFUSED").conflict(),
            Self::Refused { message, .. } => {
                let explanation = Explanation::new("CLUSTER_REFUSED");
                match () {
                    () if message.contains("database space exceeded") => explanation.hint(
                        "its etcd has no space left: compact and defragment it, or raise its quota, then end the alarm with `etcdctl alarm disarm`",
                    ),
                    () if message.contains("failed calling webhook") => {
                        explanation.hint("a webhook does not serve: look at the pods of the controller that it belongs to")
                    }
                    () => explanation,
                }
            }
            Self::Wait(error) => error.explain(),
            Self::Hopeless { .. } => Explanation::new("CLUSTER_FAILED"),
            Self::Unmet { source, pods } => source.explain().detail(pods.join("\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_have_codes() {
        for (status, code, words) in [
            (json!({"code": 401, "reason": "Unauthorized"}), "CLUSTER_UNAUTHORISED", "user"),
            (json!({"code": 403, "reason": "Forbidden", "message": "not you"}), "CLUSTER_FORBIDDEN", "not you"),
            (
                json!({"code": 403, "reason": "Forbidden", "details": {"causes": [{"reason": "NamespaceTerminating"}]}}),
                "NAMESPACE_TERMINATING",
                "Secret x",
            ),
            (json!({"code": 404, "reason": "NotFound"}), "CLUSTER_NOT_FOUND", "Secret x"),
            (json!({"code": 409, "reason": "Conflict"}), "CLUSTER_CHANGED_MEANWHILE", "Secret x"),
            (
                json!({"code": 409, "reason": "Conflict", "details": {"causes": [
                    {"reason": "FieldManagerConflict", "message": "conflict with \"kubectl\" using v1", "field": ".data.server"},
                    {"reason": "FieldManagerConflict", "message": "conflict with \"kubectl\" using v1", "field": ".data.project"},
                ]}}),
                "CLUSTER_APPLY_CONFLICT",
                ".data.server, .data.project of Secret x is managed by kubectl",
            ),
            (json!({"code": 503, "message": "starting"}), "CLUSTER_NOT_SERVING", "starting"),
            (json!({"code": 422, "message": "odd value"}), "CLUSTER_REFUSED", "odd value"),
        ] {
            let status: Status = serde_json::from_value(status).unwrap();
            let error = Error::answered(&status, "https://10.77.0.5:6443".into(), "Secret x".into());
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn what_has_to_be_mended_in_the_cluster_is_said() {
        for (message, hint) in [
            ("etcdserver: mvcc: database space exceeded", Some("its etcd has no space left")),
            ("Internal error occurred: failed calling webhook \"x\"", Some("a webhook does not serve")),
            ("odd value", None),
        ] {
            let error = Error::Refused { what: "Secret x".into(), status: 500, message: message.into() };
            let hints = error.explain().hints;
            assert_eq!(hints.first().map(|said| said.split(':').next().unwrap()), hint, "{message}: {hints:?}");
        }
    }
}
