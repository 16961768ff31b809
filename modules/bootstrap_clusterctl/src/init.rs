//! Cluster API in the bootstrap cluster.

use cluster::providers::Provider;
use converge::Failure;
use providers::{Init, Installer, Sources};

use crate::BootstrapClusterctl;

pub(crate) struct Section<'a> {
    pub step: &'a BootstrapClusterctl,
    pub sources: &'a Sources,
}

impl Section<'_> {
    fn installer(&self) -> Installer<'_> {
        Installer {
            options: &self.step.providers,
            sources: self.sources,
            clusterctl: self.step.clusterctl(),
            kubeconfig: self.step.kubeconfig_path(),
            patience: self.step.patience(),
        }
    }
}

impl converge::Section for Section<'_> {
    const NAME: &'static str = "init";
    /// clusterctl's inventory.
    type Live = Vec<Provider>;
    type Change = Init;

    async fn observe(&self) -> Result<Vec<Provider>, Failure> {
        self.installer().observe(&self.step.cluster().await?).await
    }

    fn plan(&self, live: &Vec<Provider>) -> Result<Vec<Init>, Failure> {
        Ok(self.installer().plan(live)?.into_iter().collect())
    }

    async fn apply(&self, _: &Init) -> Result<(), Failure> {
        self.installer().apply(&self.step.cluster().await?).await
    }
}
