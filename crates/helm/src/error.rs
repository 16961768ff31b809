//! Why a release is not as it should be.

use std::{io, path::PathBuf};

use converge::{Explain, Explanation, WaitError};

use crate::gate::Check;

/// What can go wrong with a release.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is where a chart should be.
    #[error("there is no chart {chart}")]
    NoChart {
        /// What names it.
        chart: String,
    },
    /// What should be a chart is none.
    #[error("{chart} is no chart: {reason}")]
    NotAChart {
        /// What names it.
        chart: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be read, written or locked.
    #[error("cannot {act} {}", path.display())]
    Io {
        /// What was tried: `write`.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A record of Helm's is not as Helm writes it.
    #[error("Helm's record {record} cannot be read: {reason}")]
    RecordUnreadable {
        /// The Secret.
        record: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The release is not as it was when it was looked at.
    #[error("release {release} was changed by somebody else meanwhile")]
    Overtaken {
        /// The release.
        release: String,
    },
    /// Another run works on the release.
    #[error("another run works on release {release}")]
    Busy {
        /// The release.
        release: String,
        /// What was waited for.
        source: WaitError,
    },
    /// There is no helm.
    #[error("there is no helm at {}", path.display())]
    NoHelm {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It is a Helm that is not known here.
    #[error("{} is Helm {version}, and this version works with Helm 3.19 or later and Helm 4", path.display())]
    HelmVersion {
        /// Where it is.
        path: PathBuf,
        /// What it says.
        version: String,
    },
    /// Helm ended badly.
    #[error("helm could not {act}: {words}")]
    Failed {
        /// What it was to do.
        act: String,
        /// Its last words.
        words: String,
        /// All of them.
        detail: String,
    },
    /// Helm took too long.
    #[error("helm could not {act} in time")]
    Timeout {
        /// What it was to do.
        act: String,
        /// How long it had.
        source: host::Error,
    },
    /// A test of the release has failed.
    #[error("{}", gate(release, checks))]
    Gate {
        /// The release.
        release: String,
        /// The checks that did not pass.
        checks: Vec<Check>,
        /// What Helm said.
        words: String,
    },
    /// The host.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// A condition did not come to hold.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

fn gate(release: &str, checks: &[Check]) -> String {
    if checks.is_empty() {
        return format!("the tests of release {release} have failed");
    }
    let checks: Vec<_> = checks.iter().map(ToString::to_string).collect();
    format!("the tests of release {release} have failed: {}", checks.join("; "))
}

/// What Helm begins its words with, which say what it was to do anyway.
const FAILED: [&str; 2] = ["INSTALLATION FAILED:", "UPGRADE FAILED:"];

/// What Helm's words mean: a part of them, a code, and what to do.
type Meaning = (&'static str, &'static str, &'static str);

/// The first that fits counts.
const MEANINGS: [Meaning; 24] = [
    ("another operation (install/upgrade/rollback) is in progress", "RELEASE_CHANGED_MEANWHILE", "run again"),
    (
        "values don't meet the specifications of the schema",
        "CHART_VALUES_REFUSED",
        "set the values that are named as the chart's schema wants them",
    ),
    ("execution error at (", "CHART_REFUSES", "the chart itself says what it needs; set its values so"),
    ("chart requires kubeVersion", "CHART_KUBERNETES_VERSION", "take another version of the chart, or of Kubernetes"),
    (
        "missing in charts/ directory",
        "CHART_DEPENDENCY_MISSING",
        "run `helm dependency build` in the chart's folder where it was packed",
    ),
    ("parse error at (", "CHART_BROKEN", "mend the chart's template"),
    ("YAML parse error", "CHART_BROKEN", "mend the chart's template: what it renders is no YAML"),
    ("template:", "CHART_BROKEN", "mend the chart's template"),
    ("no matches for kind", "CHART_CRD_MISSING", "install what brings the custom resource definitions first"),
    (
        "field not declared in schema",
        "CHART_FIELD_UNKNOWN",
        "the cluster does not know a field that the chart sets; look at the versions of both",
    ),
    ("unknown field", "CHART_FIELD_UNKNOWN", "the cluster does not know a field that the chart sets; look at the versions of both"),
    ("invalid ownership metadata", "OBJECT_OF_ANOTHER_RELEASE", "remove the object, or give this release another name"),
    ("Apply failed with", "RELEASE_FIELD_CONFLICT", "let the other manager give the fields up, or set take_over to always"),
    ("failed calling webhook", "WEBHOOK_NOT_SERVING", "a controller did not come up in time; look at its pods"),
    ("admission webhook", "ADMISSION_REFUSED", "set the values so that the cluster takes the objects"),
    ("is immutable", "OBJECT_IMMUTABLE", "give the object another name in the chart, or remove it first"),
    ("being terminated", "NAMESPACE_TERMINATING", "wait until the namespace is gone, then run again"),
    ("hooks failed", "RELEASE_HOOK_FAILED", "look at the hook's pods"),
    ("cluster unreachable", "CLUSTER_UNREACHABLE", "look whether the API server is up"),
    ("connection refused", "CLUSTER_UNREACHABLE", "look whether the API server is up"),
    ("namespaces \"", "NAMESPACE_NOT_FOUND", "make the namespace first, or set create_namespace"),
    ("failed to authorize", "CHART_NOT_FOUND", "log in to the registry, or look at the reference"),
    ("failed to fetch", "CHART_NOT_FOUND", "look at the reference, and whether the host reaches it"),
    ("failed to perform", "CHART_NOT_FOUND", "look at the reference, and whether the host reaches it"),
];

fn meaning(words: &str) -> Option<&'static Meaning> {
    MEANINGS.iter().find(|(part, ..)| words.contains(part))
}

impl Error {
    /// Helm's own words, of which the last ones count: what comes before says what went well.
    pub(crate) fn failed(act: &str, tail: &str) -> Self {
        let error = tail.rsplit_once("Error: ").map_or(tail, |(_, error)| error).trim();
        let error = FAILED.iter().find_map(|prefix| error.strip_prefix(prefix)).unwrap_or(error).trim();
        // What Helm lists below its first line are the places in the values, which is what the user needs first.
        let mut lines = error.lines().map(str::trim).filter(|line| !line.is_empty() && !line.ends_with(".yaml:"));
        let first = lines.next().unwrap_or("it gave no reason");
        let places: Vec<_> = lines.filter(|line| line.starts_with("- ")).collect();
        let words = if places.is_empty() { first.to_owned() } else { format!("{first} {}", places.join("; ")) };
        Self::Failed { act: act.to_owned(), words, detail: tail.trim().to_owned() }
    }

    /// What has been asked for may succeed the next time, because something is only just starting.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.code() == "WEBHOOK_NOT_SERVING"
    }

    /// The managers of fields that are in the way.
    #[must_use]
    pub fn managers(&self) -> Vec<&str> {
        let Self::Failed { detail, .. } = self else { return Vec::new() };
        let parts = ["conflict with \"", "conflicts with \""].into_iter().flat_map(|before| detail.split(before).skip(1));
        parts.filter_map(|rest| rest.split('"').next()).collect()
    }
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoChart { .. } => Explanation::new("CHART_NOT_FOUND").hint(format!(
                "name one that the collection ships ({}), a folder or an archive by its absolute path, or an oci:// or https:// reference",
                charts::names().join(", ")
            )),
            Self::NotAChart { .. } => Explanation::new("CHART_MALFORMED")
                .hint("name the folder that holds the Chart.yaml, or the archive that `helm package` made"),
            Self::Io { .. } => Explanation::new("FILE_IO"),
            Self::RecordUnreadable { .. } => Explanation::new("RELEASE_RECORD_UNREADABLE").hint(
                "look at it with `helm history`; if it cannot be mended, delete that Secret, and the next run goes on from the revision before",
            ),
            Self::Overtaken { .. } => {
                Explanation::new("RELEASE_CHANGED_MEANWHILE").hint("run again when the other is done").conflict()
            }
            Self::Busy { source, .. } => {
                overdue(source.explain(), "RELEASE_BUSY", "wait for its end; if a helm hangs, end it with SIGTERM")
            }
            Self::NoHelm { .. } => {
                Explanation::new("HELM_MISSING").hint("run the role binary_fetch first, or set helm_path").prerequisite()
            }
            Self::HelmVersion { .. } => {
                Explanation::new("HELM_VERSION").hint("run the role binary_fetch again, or set helm_path")
            }
            Self::Failed { detail, words, .. } => {
                let explanation = meaning(detail).map_or_else(|| Explanation::new("HELM_FAILED"), explained);
                if detail == words { explanation } else { explanation.detail(detail.clone()) }
            }
            Self::Timeout { source, .. } => {
                overdue(source.explain(), "HELM_TIMEOUT", "raise timeout if what was last seen is still moving")
            }
            Self::Gate { words, .. } => Explanation::new("GATE_FAILED")
                .hint("the check's container has more to say: `kubectl logs <pod> -c <check>`")
                .detail(words.clone()),
            Self::Host(error) => error.explain(),
            Self::Cluster(error) => error.explain(),
            Self::Wait(error) => error.explain(),
        }
    }
}

/// A wait that was too long has a name and a hint of its own here; one that was stopped has not failed by itself.
fn overdue(wait: Explanation, code: &'static str, hint: &'static str) -> Explanation {
    if wait.code == "WAIT_TIMEOUT" { wait.with_code(code).with_hint(hint) } else { wait }
}

fn explained((_, code, hint): &Meaning) -> Explanation {
    let explanation = Explanation::new(code).hint(*hint);
    if *code == "RELEASE_CHANGED_MEANWHILE" { explanation.conflict() } else { explanation }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helms_words_have_codes() {
        for (tail, code, words) in [
            (
                "Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress",
                "RELEASE_CHANGED_MEANWHILE",
                "progress",
            ),
            (
                "Error: values don't meet the specifications of the schema(s) in the following chart(s):\ndemo:\n- at '/web/replicas': got string, want integer\n",
                "CHART_VALUES_REFUSED",
                "- at '/web/replicas': got string, want integer",
            ),
            ("Error: execution error at (demo/templates/a.yaml:1:4): set cluster.name", "CHART_REFUSES", "set cluster.name"),
            (
                "Error: INSTALLATION FAILED: unable to build kubernetes objects from release manifest: resource mapping not found for name: \"x\" \
                 namespace: \"\" from \"\": no matches for kind \"Cluster\" in version \"cluster.x-k8s.io/v1beta2\"\nensure CRDs are installed first",
                "CHART_CRD_MISSING",
                "Cluster",
            ),
            ("Error: parse error at (demo/templates/a.yaml:1): unclosed action", "CHART_BROKEN", "a.yaml:1"),
            (
                "Error: INSTALLATION FAILED: create: failed to create: namespaces \"nowhere\" not found",
                "NAMESPACE_NOT_FOUND",
                "nowhere",
            ),
            ("Error: UPGRADE FAILED: something new", "HELM_FAILED", "something new"),
            ("", "HELM_FAILED", "no reason"),
        ] {
            let error = Error::failed("upgrade ns/demo", tail);
            assert_eq!(error.code(), code, "{tail}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn those_in_the_way_are_named() {
        let tail = "Error: UPGRADE FAILED: conflict occurred while applying object ns/x cluster.x-k8s.io/v1beta2, Kind=Cluster: Apply failed with 2 \
                    conflicts: conflicts with \"clusterctl\" using cluster.x-k8s.io/v1beta2:\n- .spec.a\nconflict with \"kubectl\" using v1: .b";
        assert_eq!(Error::failed("upgrade", tail).managers(), ["kubectl", "clusterctl"]);
    }
}
