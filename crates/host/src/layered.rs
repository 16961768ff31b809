//! Configuration that lies in several folders, as systemd and its peers read it.
//!
//! A file hides those of its own name in the folders after its own, and what is left is read in the order of the names.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{Error, Root};

/// The folders, the one that wins first.
const FOLDERS: [&str; 5] = ["/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"];

/// The files of a kind (`sysctl.d`) in the order in which they are read.
pub(crate) fn files(root: &Root, kind: &str, suffix: &str) -> Result<Vec<PathBuf>, Error> {
    let mut files = BTreeMap::new();
    for folder in FOLDERS.map(|folder| Path::new(folder).join(kind)) {
        for name in root.list(&folder)?.into_iter().filter(|name| name.ends_with(suffix)) {
            let path = folder.join(&name);
            files.entry(name).or_insert(path);
        }
    }
    Ok(files.into_values().collect())
}

/// Whether a line says something.
pub(crate) fn is_said(line: &str) -> bool {
    !line.is_empty() && !line.starts_with(['#', ';'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::machine;

    #[test]
    fn a_file_hides_those_of_its_name() {
        let (_folder, root) = machine(&[
            ("/usr/lib/sysctl.d/50-default.conf", ""),
            ("/usr/lib/sysctl.d/10-early.conf", ""),
            ("/run/sysctl.d/50-default.conf", ""),
            ("/etc/sysctl.d/90-own.conf", ""),
            ("/etc/sysctl.d/README", ""),
        ]);
        let found = files(&root, "sysctl.d", ".conf").unwrap();
        let expected =
            ["/usr/lib/sysctl.d/10-early.conf", "/run/sysctl.d/50-default.conf", "/etc/sysctl.d/90-own.conf"].map(PathBuf::from);
        assert_eq!(found, expected);
    }
}
