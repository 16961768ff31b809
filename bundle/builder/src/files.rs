//! Which files a folder holds, and what is in them.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::Error;

/// The files and links below a folder, in order.
pub fn below(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::at(&folder))? {
            let entry = entry.map_err(Error::at(&folder))?;
            let is_folder = entry.file_type().map_err(Error::at(&folder))?.is_dir();
            if is_folder { &mut pending } else { &mut files }.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// The same, without Go's tests.
pub fn sources(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let is_test = |file: &PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().ends_with("_test.go"));
    let mut files = below(folder)?;
    files.retain(|file| !is_test(file));
    Ok(files)
}

/// One digest over the contents of these files, one after the other. LXD calls an image so.
pub fn digest(files: &[impl AsRef<Path>]) -> Result<String, Error> {
    let mut digest = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    for path in files {
        let path = path.as_ref();
        let mut file = File::open(path).map_err(Error::at(path))?;
        loop {
            let length = file.read(&mut piece).map_err(Error::at(path))?;
            if length == 0 {
                break;
            }
            digest.update(&piece[..length]);
        }
    }
    Ok(HEXLOWER.encode(&digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_of_all_files_in_turn() {
        let folder = tempfile::tempdir().unwrap();
        let (metadata, rootfs) = (folder.path().join("metadata"), folder.path().join("rootfs"));
        fs::write(&metadata, "meta").unwrap();
        fs::write(&rootfs, "root").unwrap();
        assert_eq!(digest(&[metadata, rootfs]).unwrap(), HEXLOWER.encode(&Sha256::digest("metaroot")));
    }

    #[test]
    fn a_link_is_no_folder_and_go_s_tests_are_no_sources() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("inner")).unwrap();
        for name in ["inner/main.go", "inner/main_test.go"] {
            fs::write(path(name), "").unwrap();
        }
        std::os::unix::fs::symlink("inner", path("link")).unwrap();
        assert_eq!(below(folder.path()).unwrap(), ["inner/main.go", "inner/main_test.go", "link"].map(path));
        assert_eq!(sources(folder.path()).unwrap(), ["inner/main.go", "link"].map(path));
    }
}
