//! clusterctl's configuration on the host.

use converge::{Failure, Section};
use host::{
    Owner, Root,
    file::{Content, Declared, FileChange, Live},
};

/// The section: the configuration, and its folder where nothing else makes that.
pub struct Config {
    /// The files, folders first.
    pub declared: Vec<Declared>,
}

impl Config {
    /// The file of a configuration.
    #[must_use]
    pub fn file(path: std::path::PathBuf, config: &serde_json::Value, mode: u32) -> Declared {
        Declared { path, content: Content::Text(cluster::yaml(config)), owner: Owner::default(), mode }
    }
}

impl Section for Config {
    const NAME: &'static str = "config";
    type Live = Vec<Option<Live>>;
    type Change = FileChange;

    async fn observe(&self) -> Result<Self::Live, Failure> {
        Ok(self.declared.iter().map(|declared| declared.observe(&Root::default())).collect::<Result<_, _>>()?)
    }

    fn plan(&self, live: &Self::Live) -> Result<Vec<FileChange>, Failure> {
        let live = |at| live.get(at).and_then(Option::as_ref);
        Ok(self.declared.iter().enumerate().filter_map(|(at, declared)| declared.compare(live(at))).collect())
    }

    async fn apply(&self, change: &FileChange) -> Result<(), Failure> {
        Ok(change.apply(&Root::default())?)
    }
}
