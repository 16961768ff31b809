//! What is mounted where.

use std::path::{Path, PathBuf};

use crate::{Error, Root};

/// A mounted filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted: a device, or a name for what has none.
    pub source: String,
    /// Where.
    pub point: PathBuf,
    /// The filesystem's type.
    pub kind: String,
}

/// All mounts, in the order in which they were made.
pub fn list(root: &Root) -> Result<Vec<Mount>, Error> {
    Ok(parse(&root.read("/proc/mounts")?.unwrap_or_default()))
}

/// The mounts at exactly this place.
pub fn at(root: &Root, point: &Path) -> Result<Vec<Mount>, Error> {
    Ok(list(root)?.into_iter().filter(|mount| mount.point == point).collect())
}

fn parse(mounts: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let mut fields = line.split(' ').map(unescape);
        Some(Mount { source: fields.next()?, point: fields.next()?.into(), kind: fields.next()? })
    };
    mounts.lines().filter_map(mount).collect()
}

/// The kernel writes blanks and backslashes in octal.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (octal, letter)| text.replace(octal, letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_unescaped() {
        let mounts = parse("/dev/vdb /srv/a\\040b btrfs rw,noatime 0 0\nproc /proc proc rw 0 0\n");
        assert_eq!(mounts[0], Mount { source: "/dev/vdb".into(), point: "/srv/a b".into(), kind: "btrfs".into() });
        assert_eq!(mounts.len(), 2);
    }
}
