//! Terraform's variables.

use std::collections::BTreeMap;

use ansible::OptionError;
use converge::{Failure, Section};
use host::{
    Owner, Root,
    file::{self, Content, Declared, FileChange},
};
use serde_json::{Value, json};

use crate::{ExportArtifacts, kubeconfig};

pub(crate) struct Tfvars<'a>(pub &'a ExportArtifacts);

#[derive(Default)]
pub(crate) struct Live {
    /// Where the cluster is reached.
    server: Option<String>,
    file: Option<file::Live>,
}

impl Tfvars<'_> {
    fn declare(&self, server: &str) -> Declared {
        let mut variables = baseline(self.0);
        variables.insert("k8s_lab_mgmt_api_server_url".into(), json!(server));
        variables.extend(self.0.tfvars_extra.clone());
        // Sorted by name, and nothing in them can fail to serialise.
        let text = serde_json::to_string_pretty(&variables).unwrap_or_default() + "\n";
        Declared { path: self.0.tfvars_path(), content: Content::Text(text), owner: Owner::own(), mode: 0o600 }
    }
}

impl Section for Tfvars<'_> {
    const NAME: &'static str = "tfvars";
    type Live = Live;
    type Change = FileChange;

    async fn observe(&self) -> Result<Live, Failure> {
        let server = kubeconfig::shipped(self.0)?.server().to_owned();
        Ok(Live { file: self.declare(&server).observe(&Root::default())?, server: Some(server) })
    }

    fn plan(&self, live: &Live) -> Result<Vec<FileChange>, Failure> {
        let change = |server: &String| self.declare(server).compare(live.file.as_ref());
        Ok(live.server.as_ref().and_then(change).into_iter().collect())
    }

    async fn apply(&self, change: &FileChange) -> Result<(), Failure> {
        Ok(change.apply(&Root::default())?)
    }
}

/// What the lab sets, but for the cluster's address.
fn baseline(step: &ExportArtifacts) -> BTreeMap<String, Value> {
    let variables = [
        ("project_name", json!(step.project)),
        ("infrastructure_secret_name", json!(step.infrastructure_secret_name)),
        ("cluster_topology_enabled", json!(step.cluster_topology_enabled)),
        ("unprivileged_nodes", json!(step.unprivileged_nodes)),
        ("management_cluster_name", json!(step.management_cluster_name)),
        ("workload_cluster_name", json!(step.workload_cluster_name)),
        ("kubernetes_version", json!(step.kubernetes_version)),
        ("management_controlplane_count", json!(step.management_controlplane_count)),
        ("management_worker_count", json!(step.management_worker_count)),
        ("workload_controlplane_count", json!(step.workload_controlplane_count)),
        ("workload_worker_count", json!(step.workload_worker_count)),
        ("capn_provider_version", json!(step.capn_provider_version)),
        ("mgmt_kubeconfig_path", json!(step.kubeconfig_path())),
    ];
    variables.into_iter().map(|(name, value)| (format!("k8s_lab_{name}"), value)).collect()
}

/// Refuses a variable that the lab sets itself.
pub(crate) fn refuse_overrides(step: &ExportArtifacts) -> Result<(), OptionError> {
    let mut required = baseline(step);
    required.insert("k8s_lab_mgmt_api_server_url".into(), json!("the kubeconfig's"));
    match step.tfvars_extra.keys().find(|key| required.contains_key(*key)) {
        Some(key) => Err(OptionError::Collision {
            option: "tfvars_extra".into(),
            key: key.clone(),
            required: required[key].to_string().trim_matches('"').to_owned(),
        }),
        None => Ok(()),
    }
}
