use std::{
    env, fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest as _, Sha256};

use crate::{Error, lock};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A CPU as the collection names it, and the target that makes its executables.
pub struct Architecture {
    /// Go's and Debian's name.
    pub name: &'static str,
    pub target: &'static str,
}

/// Every CPU that an executable can be made for.
pub const ARCHITECTURES: [Architecture; 2] = [
    Architecture { name: "amd64", target: "x86_64-unknown-linux-gnu" },
    Architecture { name: "arm64", target: "aarch64-unknown-linux-gnu" },
];

/// The CPU of the machine that builds.
#[must_use]
pub fn native() -> &'static Architecture {
    if cfg!(target_arch = "aarch64") { &ARCHITECTURES[1] } else { &ARCHITECTURES[0] }
}

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

/// Compiles a package of the workspace for a CPU, as one of cargo's profiles says. Returns where its executable of this name is.
pub fn executable(root: &Path, architecture: &Architecture, profile: &str, package: &str, name: &str) -> Result<PathBuf, Error> {
    let rust_flags = format!("CARGO_TARGET_{}_RUSTFLAGS", architecture.target.to_uppercase().replace('-', "_"));
    let target = root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into()));
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(root)
        // Static, so that it runs whatever C library the host has.
        .env(rust_flags, "-C target-feature=+crt-static")
        .args(["build", "--profile", profile, "--package", package, "--target", architecture.target, "--target-dir"])
        .arg(&target);
    run(cargo)?;
    Ok(target.join(architecture.target).join(profile).join(name))
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
