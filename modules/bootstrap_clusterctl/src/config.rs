//! clusterctl's configuration on the host.

use ansible::Failure;
use host::{
    Owner, Root,
    file::{Content, Declared, FileChange, Live as File, mode},
};

use crate::{BootstrapClusterctl, sources::Sources};

pub(crate) struct Section<'a> {
    pub step: &'a BootstrapClusterctl,
    pub sources: &'a Sources,
}

impl Section<'_> {
    /// The folder comes first.
    fn declare(&self) -> [Declared; 2] {
        let file = Declared {
            path: self.step.config_path(),
            content: Content::Text(cluster::yaml(&self.sources.config(self.step))),
            owner: Owner::default(),
            mode: mode(&self.step.staging_mode_config),
        };
        [self.step.folder(), file]
    }
}

impl ansible::Section for Section<'_> {
    const NAME: &'static str = "config";
    type Live = [Option<File>; 2];
    type Change = FileChange;

    async fn observe(&self) -> Result<Self::Live, Failure> {
        let [folder, file] = self.declare();
        Ok([folder.observe(&Root::default())?, file.observe(&Root::default())?])
    }

    fn plan(&self, live: &Self::Live) -> Result<Vec<FileChange>, Failure> {
        Ok(self.declare().iter().zip(live).filter_map(|(declared, live)| declared.compare(live.as_ref())).collect())
    }

    async fn apply(&self, change: &FileChange) -> Result<(), Failure> {
        Ok(change.apply(&Root::default())?)
    }
}
