//! The folder of the tools.

use converge::{Failure, Section};
use host::{
    Owner, Root,
    file::{Declared, FileChange, Live, mode},
};

use crate::BinaryFetch;

/// The folder of the tools.
pub(crate) struct Folder<'a>(pub &'a BinaryFetch);

impl Folder<'_> {
    fn wanted(&self, owner: Owner) -> Declared {
        Declared::folder(self.0.bin_dir(), owner, mode(&self.0.mode))
    }
}

impl Section for Folder<'_> {
    const NAME: &'static str = "folder";
    type Live = (Owner, Option<Live>);
    type Change = FileChange;

    async fn observe(&self) -> Result<Self::Live, Failure> {
        let root = Root::default();
        let owner = Owner::resolve(&root, &self.0.owner, &self.0.group).await?;
        Ok((owner, self.wanted(owner).observe(&root)?))
    }

    fn plan(&self, (owner, live): &Self::Live) -> Result<Vec<FileChange>, Failure> {
        Ok(self.wanted(*owner).compare(live.as_ref()).into_iter().collect())
    }

    async fn apply(&self, change: &FileChange) -> Result<(), Failure> {
        Ok(change.apply(&Root::default())?)
    }
}
