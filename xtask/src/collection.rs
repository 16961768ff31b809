//! Packs the collection.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use bundle_builder::{
    lock,
    workspace::{Architecture, executable},
};
use sha2::{Digest as _, Sha256};

use crate::Error;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Builds `dist/k8slab-capi-VERSION.tar.gz` with executables for these CPUs, unless what is there holds the same.
pub fn build(root: &Path, architectures: &[&Architecture]) -> Result<(), Error> {
    let work = root.join("target/collection");
    fs::create_dir_all(&work).map_err(Error::at(&work))?;
    let lock = work.join(".lock");
    let _alone = lock::hold(&lock).map_err(Error::at(&lock))?;
    let stage = work.join("ansible_collections/k8slab/capi");
    let executables = architectures
        .iter()
        .map(|arch| Ok((arch.name, executable(root, arch, "release", "dispatch", "k8slab-steps")?)))
        .collect::<Result<Vec<_>, Error>>()?;
    assemble(root, &stage, &executables)?;

    let dist = root.join("dist");
    let tarball = dist.join(format!("k8slab-capi-{VERSION}.tar.gz"));
    let packed = work.join("packed");
    let digest = digest(&stage)?;
    if tarball.exists() && fs::read(&packed).is_ok_and(|last| last == digest) {
        return Ok(());
    }
    run(Command::new(root.join("embedded/python")))?;
    let mut pack = Command::new(root.join(".venv/bin/ansible-galaxy"));
    pack.args(["collection", "build", "--force", "--output-path"]).arg(&dist).arg(&stage);
    run(pack)?;
    fs::write(&packed, digest).map_err(Error::at(&packed))
}

fn assemble(root: &Path, stage: &Path, executables: &[(&str, PathBuf)]) -> Result<(), Error> {
    if stage.exists() {
        fs::remove_dir_all(stage).map_err(Error::at(stage))?;
    }
    let galaxy = root.join("collection/galaxy.yml");
    if !fs::read_to_string(&galaxy).map_err(Error::at(&galaxy))?.contains(&format!("\nversion: {VERSION}\n")) {
        return Err(Error::Version);
    }
    copy(&root.join("collection"), stage)?;
    for folder in ["roles", "playbooks"] {
        copy(&root.join(folder), &stage.join(folder))?;
    }
    for file in ["LICENSE", "CHANGELOG.md"] {
        copy(&root.join(file), &stage.join(file))?;
    }
    for (architecture, executable) in executables {
        // Outside `plugins`, where `ansible-doc` and `ansible-test` would try to read it as source; they pass over links.
        let file = format!("k8slab-{architecture}");
        copy(executable, &stage.join("libexec").join(&file))?;
        let links = stage.join("plugins/modules/bin").join(architecture);
        fs::create_dir_all(&links).map_err(Error::at(&links))?;
        for step in dispatch::steps() {
            let link = links.join(step.name);
            symlink(Path::new("../../../../libexec").join(&file), &link).map_err(Error::at(&link))?;
        }
    }
    Ok(())
}

/// Copies a file, or a folder with all that git would keep of it.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    if from.is_dir() {
        fs::create_dir_all(to).map_err(Error::at(to))?;
        for entry in entries(from)? {
            if entry.file_name().is_some_and(|name| name != "__pycache__") {
                copy(&entry, &to.join(entry.file_name().unwrap_or_default()))?;
            }
        }
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(Error::at(folder))?;
    }
    fs::copy(from, to).map(drop).map_err(Error::at(from))
}

/// One digest over the names and contents of all files of a folder.
fn digest(folder: &Path) -> Result<Vec<u8>, Error> {
    let mut digest = Sha256::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(path) = pending.pop() {
        digest.update(path.as_os_str().as_encoded_bytes());
        if path.is_symlink() {
            digest.update(fs::read_link(&path).map_err(Error::at(&path))?.as_os_str().as_encoded_bytes());
        } else if path.is_dir() {
            pending.extend(entries(&path)?);
        } else {
            digest.update(fs::read(&path).map_err(Error::at(&path))?);
        }
    }
    Ok(digest.finalize().to_vec())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    let mut entries = read().map_err(Error::at(folder))?;
    entries.sort();
    Ok(entries)
}

fn run(mut command: Command) -> Result<(), Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::Command { program, outcome: status.to_string() }),
        Err(error) => Err(Error::Command { program, outcome: error.to_string() }),
    }
}
