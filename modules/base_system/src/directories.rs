//! The lab's folders.

use std::path::PathBuf;

use converge::{Failure, Section};
use host::{
    Owner,
    file::{Declared, FileChange, Live, mode},
};

use crate::BaseSystem;

/// The lab's own folders.
pub(crate) struct Directories<'a>(pub &'a BaseSystem);

impl Directories<'_> {
    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        let top = self.0.opt_root.to_path_buf();
        [top.clone(), top.join("bin"), top.join("etc")].into_iter()
    }

    fn wanted(&self, owner: Owner) -> Vec<Declared> {
        self.paths().map(|path| Declared::folder(path, owner, mode(&self.0.opt_mode))).collect()
    }
}

/// The owner that the option's names stand for, and each folder as it is.
#[derive(Default)]
pub(crate) struct Found {
    owner: Owner,
    folders: Vec<Option<Live>>,
}

impl Section for Directories<'_> {
    const NAME: &'static str = "directories";
    type Live = Found;
    type Change = FileChange;

    async fn observe(&self) -> Result<Found, Failure> {
        let step = self.0;
        let owner = Owner::resolve(&step.root, &step.opt_owner, &step.opt_group).await?;
        let folders = self.wanted(owner).iter().map(|folder| folder.observe(&step.root)).collect::<Result<_, _>>()?;
        Ok(Found { owner, folders })
    }

    fn plan(&self, live: &Found) -> Result<Vec<FileChange>, Failure> {
        let found = live.folders.iter().map(Option::as_ref).chain(std::iter::repeat(None));
        Ok(self.wanted(live.owner).iter().zip(found).filter_map(|(folder, live)| folder.compare(live)).collect())
    }

    async fn apply(&self, change: &FileChange) -> Result<(), Failure> {
        Ok(change.apply(&self.0.root)?)
    }
}

#[cfg(test)]
mod tests {
    use host::file::Content;

    use super::*;

    #[test]
    fn plans() {
        let folder = |user, mode| Some(Live { content: Some(Content::Folder), owner: Owner { user, group: 0 }, mode });
        for (case, folders, expected) in [
            ("bare", vec![], "create /opt/capi-lab; create /opt/capi-lab/bin; create /opt/capi-lab/etc"),
            ("as wanted", vec![folder(0, 0o755), folder(0, 0o755), folder(0, 0o755)], ""),
            ("another mode", vec![folder(0, 0o755), folder(0, 0o700), folder(0, 0o755)], "set owner and mode of /opt/capi-lab/bin"),
            ("another owner", vec![folder(1000, 0o755), folder(0, 0o755), folder(0, 0o755)], "set owner and mode of /opt/capi-lab"),
        ] {
            let step = BaseSystem::default();
            let plan = Directories(&step).plan(&Found { owner: Owner::default(), folders }).unwrap();
            assert_eq!(plan.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), expected, "{case}");
        }
    }
}
