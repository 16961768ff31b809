//! Cluster API in the bootstrap cluster.

use converge::Failure;
use lab::capi;
use providers::{Installation, Installer, Live, Sources};

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
    type Live = Live;
    type Change = Installation;

    async fn observe(&self) -> Result<Live, Failure> {
        let cluster = self.step.cluster().await?;
        let server = &self.step.lxd.client().await?.server().environment;
        self.installer().observe(&cluster, capi::concurrency(&server.server, &server.server_version)).await
    }

    fn plan(&self, live: &Live) -> Result<Vec<Installation>, Failure> {
        Ok(self.installer().plan(live)?)
    }

    async fn apply(&self, installation: &Installation) -> Result<(), Failure> {
        self.installer().apply(&self.step.cluster().await?, installation).await
    }
}
