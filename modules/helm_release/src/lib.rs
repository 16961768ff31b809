//! Converges one Helm release on a cluster.
//!
//! Helm is the engine; whether it has to run at all is read from its own records. A release that is as it should be costs two
//! requests and no process. What a killed run has left half-done is taken up where it stopped, and no object is made anew for it.

mod error;
mod release;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use ansible::{OptionError, Run, Step};
use converge::{AbsolutePath, Failure};
use lab::{machine, names};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smart_default::SmartDefault;

use crate::release::Section;

/// Names of releases, as Helm takes them.
const NAME: &str = r"^[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?$";

/// Converge a Helm release.
///
/// Runs on the host, with the host's C(helm) and a kubeconfig there. A release counts as it should be when its last revision is
/// deployed and was made of the same inputs, which are the chart with its subcharts, the values and the labels. Keys in another
/// order, and whole numbers that are written as C(1) or C(1.0), are the same. The digest of the inputs is in the description of
/// the revision, so that an upgrade or a rollback by hand is found out. If somebody changes or deletes objects without Helm,
/// the step does not see it.
///
/// A run that was killed leaves a release with which Helm itself refuses to go on. This step goes on: it rolls the unfinished
/// revision back to itself, which keeps every object, and upgrades from there. Only where nothing had been made yet, or where
/// the release was being removed, is it uninstalled. One run of a host works on a release at a time; the next one waits for it.
///
/// Values that the chart's schema marks C(writeOnly) are shown nowhere. Values reach Helm by standard input.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
#[schemars(extend("required" = ["name", "kubeconfig_path"]))]
// Each is an option of its own, and none implies another.
#[allow(clippy::struct_excessive_bools)]
pub struct HelmRelease {
    /// Name of the release.
    #[schemars(regex(pattern = NAME), extend("tells_apart" = true))]
    pub name: String,
    /// Namespace of the release.
    #[default("default".into())]
    #[schemars(regex(pattern = names::NAMESPACE), extend("tells_apart" = true))]
    pub namespace: String,
    /// Whether the namespace is made where there is none.
    pub create_namespace: bool,
    /// The chart; required with O(state=present). A bare name is one that the collection ships. Else the absolute path of a folder or
    /// an archive on the host, or an C(oci://) or C(https://) reference, which is taken to mean the same chart for ever.
    #[schemars(length(min = 1))]
    pub chart: Option<String>,
    /// Version of the chart. With an C(oci://) reference it is required unless that has a tag or a digest; a chart at hand must have
    /// this version.
    #[schemars(length(min = 1))]
    pub version: Option<String>,
    /// Values for the chart. Everything that is not set is the chart's default, whatever an earlier revision had.
    pub values: BTreeMap<String, Value>,
    /// Kubeconfig of the cluster, on the host.
    #[schemars(extend("tells_apart" = true))]
    pub kubeconfig_path: AbsolutePath,
    /// Whether the release is there.
    pub state: State,
    /// How long each part may take, in seconds. The parts are a run of Helm with its hooks, the roll-out and the tests.
    #[default(300)]
    #[schemars(range(min = 1))]
    pub timeout: u64,
    /// Whether to wait until the release's Deployments, DaemonSets, StatefulSets and Jobs are rolled out. A revision that was seen
    /// rolled out once is not looked at again.
    #[default(true)]
    pub wait: bool,
    /// Whether the tests of the chart have to pass. Helm records how they went; those of a revision that has passed them all do not run
    /// again.
    pub tests: bool,
    /// How many revisions Helm keeps.
    #[default(5)]
    #[schemars(range(min = 1))]
    pub keep_history: u32,
    /// Labels for the release's records. With C(clusterctl.cluster.x-k8s.io/move) set to an empty text, C(clusterctl move) takes the
    /// release along.
    pub labels: BTreeMap<String, String>,
    /// Whether fields that another manager has set are taken over. Helm 3 does not know managers and always takes them over.
    pub take_over: TakeOver,
    /// Folder of the lab's programs and settings.
    #[default(machine::OPT_ROOT.into())]
    #[schemars(extend("global" = "opt_root"))]
    pub opt_root: AbsolutePath,
    /// Path of Helm. If unset, C(bin/helm) in O(opt_root).
    pub helm_path: Option<AbsolutePath>,
}

/// Whether a release is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is installed, as the options say.
    #[default]
    Present,
    /// It is uninstalled, and its objects are gone.
    Absent,
}

/// Which fields of other managers are taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TakeOver {
    /// Those of C(clusterctl), which has them after it has moved the objects from another cluster.
    #[default]
    Moved,
    /// All.
    Always,
    /// None.
    Never,
}

/// What the step returns.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Facts {
    /// The release as it is now.
    pub release: ReleaseFacts,
}

/// A release as it is now.
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReleaseFacts {
    /// Name of the release.
    pub name: String,
    /// Namespace of the release.
    pub namespace: String,
    /// Revision that is installed. It is empty if none is.
    pub revision: Option<u64>,
    /// Name of the chart.
    pub chart: Option<String>,
    /// Version of the chart.
    pub chart_version: Option<String>,
    /// Whether its tests have passed; nothing if it has none.
    pub tests_passed: Option<bool>,
}

impl Step for HelmRelease {
    const NAME: &'static str = "helm_release";
    const SECTIONS: &'static [&'static str] = &["release"];
    const EXAMPLES: &'static str = "\
- name: MetalLB on the management cluster, from the chart that the collection ships
  k8slab.capi.helm_release:
    name: metallb
    namespace: metallb-system
    create_namespace: true
    chart: metallb
    kubeconfig_path: /opt/capi-lab/etc/clusters/capi-clusters/mgmt-1.kubeconfig
  become: true

- name: A cluster whose release moves with it, judged by the chart's own tests
  k8slab.capi.helm_release:
    name: mgmt-1
    namespace: capi-clusters
    chart: capi-workload-cluster
    values:
      cluster:
        name: mgmt-1
    labels:
      clusterctl.cluster.x-k8s.io/move: ''
    kubeconfig_path: /opt/capi-lab/etc/bootstrap_clusterctl/bootstrap.kubeconfig
    tests: true
    timeout: 1200
  become: true
";
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        if self.state == State::Present && self.chart.is_none() {
            return Err(OptionError::Missing { option: "chart".into() }.into());
        }
        if let (Some(chart), None) = (&self.chart, &self.version)
            && let Some(reference) = chart.strip_prefix("oci://")
            && !reference.rsplit('/').next().unwrap_or_default().contains([':', '@'])
        {
            let reason = format!("is needed, since {chart} names no version and could mean another chart tomorrow");
            return Err(OptionError::invalid("version", reason).into());
        }
        Ok(())
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        let section = Section::new(self)?;
        let live = run.section(&section).await?.live.unwrap_or_default();
        run.verify(async { Ok(Facts { release: section.facts(&live) }) }).await
    }
}

impl HelmRelease {
    fn helm_path(&self) -> PathBuf {
        self.helm_path.as_ref().map_or_else(|| self.opt_root.join(machine::HELM), |path| path.to_path_buf())
    }

    /// Where runs of this host meet that work on the same release.
    fn locks(&self) -> PathBuf {
        self.opt_root.join(machine::HELM_LOCKS)
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    fn pivot_is_open(&self) -> bool {
        machine::open_pivot(&self.opt_root).exists()
    }
}

#[cfg(test)]
mod tests;
