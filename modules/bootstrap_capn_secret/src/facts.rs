//! What the step returns, read back from LXD and the cluster.

use std::collections::BTreeSet;

use converge::Failure;
use lab::publication::Publication;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    BootstrapCapnSecret,
    identity::Identity,
    listener::Listener,
    pair::Pair,
    residual::{self, Residual},
    secret::Secrets,
    trust,
};

/// What the step returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Facts {
    /// Where LXD listens for the provider.
    pub https_address: String,
    /// The SHA-256 of the certificate.
    pub fingerprint: String,
    /// When the certificate expires.
    pub not_after: String,
    /// What became of LXD's trust in it.
    pub trust: TrustFacts,
    /// What the certificate reaches beyond the project; it depends on the server.
    ///
    /// With C(network-edit) it edits networks that the project uses.
    ///
    /// With C(network-forward) it forwards any port of the host, LXD's own included, into networks that the project uses.
    ///
    /// With C(project-copy) it copies instances and volumes of every other project, if it knows their names.
    ///
    /// With C(project-events) it hears what happens in every other project.
    pub residual: Vec<String>,
    /// The Secrets.
    pub secrets: Vec<SecretFacts>,
    /// Ports of the host that network forwards of the internal network take and that are not the lab's.
    pub foreign_forwards: Vec<String>,
    /// Other namespaces that hold clusters and have no Secret for them.
    pub unserved_namespaces: Vec<String>,
}

/// What became of LXD's trust.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct TrustFacts {
    /// This run made it.
    pub created: bool,
    /// This run restricted it to the project.
    pub repaired: bool,
}

/// A Secret as it is now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SecretFacts {
    /// Namespace of the Secret.
    pub namespace: String,
    /// This run made or updated it.
    pub changed: bool,
}

impl BootstrapCapnSecret {
    /// What the step promises, tried out: LXD lets the certificate into the project.
    pub(crate) async fn facts(
        &self,
        listener: &Listener<'_>,
        identity: &Identity,
        secrets: &Secrets<'_>,
        trust: TrustFacts,
        delivered: Vec<SecretFacts>,
    ) -> Result<(Facts, Vec<String>), Failure> {
        let pair = identity.pair.now().ok_or_else(|| self.no_certificate())?;
        let client = self.lxd.client().await?;
        self.enter(listener, identity).await?;
        let reach = Residual { step: self, listener, identity };
        let (project, ground) = (reach.project().await?, reach.ground().await?);
        let residual = project.and_then(|project| residual::recorded(&project.object, &ground)).unwrap_or_default();
        let foreign_forwards = client.unclaimed_forwards(&self.internal_network_name, Publication::marks).await?;

        let unserved = if self.namespaces.is_empty() { Vec::new() } else { secrets.unserved().await?.into_iter().collect() };
        let mut warnings = self.warnings(client, pair, &unserved).await?;
        for port in &foreign_forwards {
            let network = &self.internal_network_name;
            warnings.push(format!("network {network}: {port} is no forward of the lab's, and takes the port from the host"));
        }
        let facts = Facts {
            https_address: listener.address().await?.to_string(),
            fingerprint: pair.fingerprint.clone(),
            not_after: pair.not_after.text.clone(),
            trust,
            residual,
            foreign_forwards,
            secrets: delivered,
            unserved_namespaces: unserved,
        };
        Ok((facts, warnings))
    }

    async fn warnings(&self, client: &lxd::Client, pair: &Pair, unserved: &[String]) -> Result<Vec<String>, Failure> {
        let mut warnings: Vec<_> = unserved
            .iter()
            .map(|namespace| format!("namespace {namespace} holds clusters, but no Secret {} for them", self.name))
            .collect();
        let retired = self.retired().read()?;
        for fingerprint in &retired {
            warnings.push(format!(
                "certificate {fingerprint} was replaced and is still trusted: not every Secret is known to be updated"
            ));
        }
        let entries = client.trust_entries().await?;
        let is_unrestricted = |found: &str| entries.iter().any(|entry| entry.fingerprint == found && !entry.restricted);
        let found: BTreeSet<_> = trust::trusted(self).await?.into_iter().map(|(fingerprint, _)| fingerprint).collect();
        for other in found.iter().filter(|found| **found != pair.fingerprint && !retired.contains(found)) {
            let project = format!("for project {}", self.lxd_project);
            let reach = if is_unrestricted(other) { "without restriction" } else { project.as_str() };
            warnings.push(format!(
                "LXD trusts certificate {other} in the name {} {reach}, and it is not this one: an earlier one that cannot be read any \
                 more, or somebody else's; prune_old_trust: true removes it",
                self.trust_name
            ));
        }
        Ok(warnings)
    }
}
