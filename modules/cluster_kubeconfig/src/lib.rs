//! Brings the kubeconfig of a cluster that Cluster API made to the host, and one for those who reach it from outside.

mod error;
mod files;
mod source;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use ansible::{OptionError, Run, Step};
use converge::{AbsolutePath, Failure};
use lab::{machine, names};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use crate::files::Section;

/// Converge the kubeconfigs of a cluster that Cluster API made.
///
/// Cluster API keeps the administrator's kubeconfig in a Secret. It is read, checked and rebuilt. There is one file by the address of the load
/// balancer, for the host, and where O(external_address) is set another one for those who reach the cluster from outside. In both the
/// server's certificate is checked. The files are written anew when the Secret's certificate changes.
///
/// Where the Secret is not there yet, the step waits for it.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
#[schemars(extend("required" = ["name"]))]
pub struct ClusterKubeconfig {
    /// Name of the Cluster.
    #[schemars(regex(pattern = names::INSTANCE), extend("tells_apart" = true))]
    pub name: String,
    /// Namespace of the Cluster.
    #[default(names::CLUSTERS_NAMESPACE.into())]
    #[schemars(regex(pattern = names::NAMESPACE), extend("tells_apart" = true, "global" = "clusters_namespace"))]
    pub namespace: String,
    /// Kubeconfig of the cluster that has the Cluster's objects, on the host. Required with O(state=present).
    #[schemars(extend("tells_apart" = true))]
    pub kubeconfig_path: Option<AbsolutePath>,
    /// Where the kubeconfig is written; C(etc/clusters/<namespace>/<name>.kubeconfig) in O(opt_root) if unset.
    pub path: Option<AbsolutePath>,
    /// Address at which the host reaches the cluster. If unset, the address in the Secret, which is the load balancer's.
    #[schemars(length(min = 1))]
    pub address: Option<String>,
    /// Port at which the host reaches the cluster. If unset, the port in the Secret.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Address at which others reach the cluster. If unset, no kubeconfig is written for them, and one from an earlier run is
    /// removed.
    #[schemars(length(min = 1))]
    pub external_address: Option<String>,
    /// Port at which others reach the cluster. If unset, the port in the Cluster's annotation C(k8s-lab.io/api-proxy-port).
    #[schemars(range(min = 1, max = 65535))]
    pub external_port: Option<u16>,
    /// Where the kubeconfig for others is written; C(etc/clusters/<namespace>/<name>.external.kubeconfig) in O(opt_root) if unset.
    pub external_path: Option<AbsolutePath>,
    /// Whether the files are there.
    pub state: State,
    /// How long to wait for the Secret, in seconds.
    #[default(600)]
    #[schemars(range(min = 1))]
    pub timeout: u64,
    /// Folder of the lab's programs and settings.
    #[default(machine::OPT_ROOT.into())]
    #[schemars(extend("global" = "opt_root"))]
    pub opt_root: AbsolutePath,
}

/// Whether the files are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The files are there, with what the Secret says.
    #[default]
    Present,
    /// The files are not there.
    Absent,
}

/// What the step returns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Facts {
    /// Where the kubeconfig is.
    pub kubeconfig_path: Option<String>,
    /// Where the host reaches the cluster.
    pub server: Option<String>,
    /// Where the kubeconfig for others is.
    pub external_kubeconfig_path: Option<String>,
    /// Where others reach the cluster.
    pub external_server: Option<String>,
    /// Until when the administrator's certificate is good.
    pub certificate_expires: Option<String>,
}

impl Step for ClusterKubeconfig {
    const NAME: &'static str = "cluster_kubeconfig";
    const SECTIONS: &'static [&'static str] = &["kubeconfigs"];
    const EXAMPLES: &'static str = "\
- name: The management cluster's kubeconfig on the host
  k8slab.capi.cluster_kubeconfig:
    name: mgmt-1
    kubeconfig_path: /opt/capi-lab/etc/bootstrap_clusterctl/bootstrap.kubeconfig
  become: true

- name: And one for those who reach it at the host's address
  k8slab.capi.cluster_kubeconfig:
    name: mgmt-1
    kubeconfig_path: /opt/capi-lab/etc/bootstrap_clusterctl/bootstrap.kubeconfig
    external_address: 192.0.2.10
  become: true
";
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        if self.state == State::Present && self.kubeconfig_path.is_none() {
            return Err(OptionError::Missing { option: "kubeconfig_path".into() }.into());
        }
        if self.path() == self.external_path() {
            return Err(OptionError::invalid("external_path", "is the path of the other kubeconfig").into());
        }
        Ok(())
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        let section = Section::new(self);
        let live = run.section(&section).await?.live.unwrap_or_default();
        run.verify(async { Ok(section.facts(&live)) }).await
    }
}

impl ClusterKubeconfig {
    fn path(&self) -> PathBuf {
        let default = || machine::cluster_kubeconfig(&self.opt_root, &self.namespace, &self.name);
        self.path.as_ref().map_or_else(default, |path| path.to_path_buf())
    }

    fn external_path(&self) -> PathBuf {
        let default = || machine::external_kubeconfig(&self.opt_root, &self.namespace, &self.name);
        self.external_path.as_ref().map_or_else(default, |path| path.to_path_buf())
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// An API server's address as a kubeconfig has it.
fn url(address: &str, port: u16) -> String {
    match address.parse() {
        Ok(IpAddr::V6(address)) => format!("https://[{address}]:{port}"),
        _ => format!("https://{address}:{port}"),
    }
}

#[cfg(test)]
mod tests;
