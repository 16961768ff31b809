//! Looks at what a pool is to be made on.

use std::{
    fs, io,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

/// A pool's source as the host has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    /// The path behind all links; nothing if there is none.
    pub node: Option<PathBuf>,
    /// What it carries, if it is a block device or a file.
    pub signature: Option<&'static str>,
    /// Where it is mounted.
    pub mounted: Option<String>,
}

impl Source {
    /// Where a source is, whatever it carries.
    pub(crate) fn place(source: &str) -> Self {
        Self { node: fs::canonicalize(source).ok(), ..Self::default() }
    }

    /// Looks at a source, which need not exist. Reads only.
    pub(crate) fn look(source: &str) -> io::Result<Self> {
        let Some(node) = Self::place(source).node else { return Ok(Self::default()) };
        let kind = fs::metadata(&node)?.file_type();
        let signature = if kind.is_block_device() || kind.is_file() { host::signature::detect(&node)? } else { None };
        let mounted = mount_point(&fs::read_to_string("/proc/self/mounts")?, &node);
        Ok(Self { node: Some(node), signature, mounted })
    }
}

fn mount_point(mounts: &str, node: &Path) -> Option<String> {
    let mut entries = mounts.lines().filter_map(|line| line.split_once(' '));
    let (_, rest) = entries.find(|(device, _)| Path::new(device) == node)?;
    rest.split(' ').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_where_a_device_is_mounted() {
        let mounts = "/dev/vda1 / ext4 rw 0 0\n/dev/sdb /srv btrfs rw 0 0\n";
        assert_eq!(mount_point(mounts, Path::new("/dev/sdb")).as_deref(), Some("/srv"));
        assert_eq!(mount_point(mounts, Path::new("/dev/sd")), None);
    }

    #[test]
    fn a_source_that_is_not_there_is_no_error() {
        assert_eq!(Source::look("/nonexistent/k8slab").unwrap(), Source::default());
    }
}
