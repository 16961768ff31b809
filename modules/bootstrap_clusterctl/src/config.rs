//! clusterctl's configuration on the host.

use converge::Failure;
use host::{
    Owner, Root,
    file::{Content, Declared, FileChange, Live as File, mode},
};

use crate::{BootstrapClusterctl, sources::Sources};

pub(crate) struct Section<'a> {
    pub step: &'a BootstrapClusterctl,
    pub sources: &'a Sources,
    /// Nothing else makes the folder.
    pub makes_folder: bool,
}

impl Section<'_> {
    fn declare(&self) -> Vec<Declared> {
        let file = Declared {
            path: self.step.config_path(),
            content: Content::Text(cluster::yaml(&self.sources.config(self.step))),
            owner: Owner::default(),
            mode: mode(&self.step.staging_mode_config),
        };
        self.makes_folder.then(|| self.step.folder()).into_iter().chain([file]).collect()
    }
}

impl converge::Section for Section<'_> {
    const NAME: &'static str = "config";
    type Live = Vec<Option<File>>;
    type Change = FileChange;

    async fn observe(&self) -> Result<Self::Live, Failure> {
        Ok(self.declare().iter().map(|declared| declared.observe(&Root::default())).collect::<Result<_, _>>()?)
    }

    fn plan(&self, live: &Self::Live) -> Result<Vec<FileChange>, Failure> {
        let live = |at| live.get(at).and_then(Option::as_ref);
        Ok(self.declare().iter().enumerate().filter_map(|(at, declared)| declared.compare(live(at))).collect())
    }

    async fn apply(&self, change: &FileChange) -> Result<(), Failure> {
        Ok(change.apply(&Root::default())?)
    }
}
