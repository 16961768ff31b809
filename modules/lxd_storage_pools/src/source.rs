//! Looks at what a pool is to be made on.

use std::{
    fs,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use converge::Failure;

use crate::error::Error;

/// A pool's source as the host has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    /// The path behind all links; nothing if there is none.
    pub node: Option<PathBuf>,
    /// What it carries, if it is a block device or a file.
    pub signature: Option<String>,
    /// Who uses it.
    pub user: Option<String>,
}

impl Source {
    /// Where a source is, whatever it carries.
    pub(crate) fn place(source: &str) -> Self {
        Self { node: fs::canonicalize(source).ok(), ..Self::default() }
    }

    /// Looks at a source, which need not exist. Reads only.
    pub(crate) async fn look(source: &str) -> Result<Self, Failure> {
        let Some(node) = Self::place(source).node else { return Ok(Self::default()) };
        let unreadable = |source| Error::Unreadable { path: node.display().to_string(), source };
        let kind = fs::metadata(&node).map_err(unreadable)?.file_type();
        let user = host::block::user(&node).map_err(unreadable)?;
        let signature = if kind.is_block_device() || kind.is_file() { host::signature::detect(&node).await? } else { None };
        Ok(Self { node: Some(node), signature, user })
    }

    /// Makes it blank, and looks first: what is in use is never touched.
    pub(crate) async fn wipe(pool: &str, source: &str) -> Result<(), Failure> {
        let found = Self::look(source).await?;
        if let Some(by) = found.user {
            return Err(Error::SourceInUse { pool: pool.to_owned(), path: source.to_owned(), by }.into());
        }
        if found.signature.is_some() {
            host::signature::erase(Path::new(source)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_source_that_is_not_there_is_no_error() {
        assert_eq!(Source::look("/nonexistent/k8slab").await.unwrap(), Source::default());
    }
}
