//! How cargo compiles the programs of this workspace, and what they are made of.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

use toml::{Table, Value};

use crate::{Error, files};

/// A CPU as bundle and collection name it, and the target that makes its executables.
pub struct Architecture {
    /// Go's and Debian's name.
    pub name: &'static str,
    /// Rust's name for it, with a C library.
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

/// Compiles a package for a CPU, as one of cargo's profiles says. Returns where its executable of this name is.
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
    let failed = |outcome: String| Error::Compilation { package: package.to_owned(), outcome };
    let status = cargo.status().map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        return Err(failed(format!("cargo ended with {status}")));
    }
    Ok(target.join(architecture.target).join(profile).join(name))
}

/// The files of the package in this folder below `root`, and of all packages of the workspace that go into it. Those of others are pinned
/// by `Cargo.lock`. It is read from the manifests, since asking cargo takes longer than everything else that a look at a bundle needs.
pub fn sources(root: &Path, folder: &str) -> Result<Vec<PathBuf>, Error> {
    let workspace = manifest(&root.join("Cargo.toml"))?;
    let shared = workspace.get("workspace").and_then(|workspace| workspace.get("dependencies")).and_then(Value::as_table);
    let mut reached = BTreeSet::new();
    let mut pending = vec![PathBuf::from(folder)];
    while let Some(folder) = pending.pop() {
        if reached.contains(&folder) {
            continue;
        }
        let package = manifest(&root.join(&folder).join("Cargo.toml"))?;
        for (name, wanted) in compiled_in(&package) {
            let (wanted, at) = match shared.and_then(|shared| shared.get(name)) {
                Some(shared) if wanted.get("workspace").is_some() => (shared, Path::new("")),
                _ => (wanted, folder.as_path()),
            };
            pending.extend(wanted.get("path").and_then(Value::as_str).map(|path| plain(&at.join(path))));
        }
        reached.insert(folder);
    }
    let mut sources = vec![root.join("Cargo.toml"), root.join("Cargo.lock")];
    for folder in reached {
        sources.push(root.join(&folder).join("Cargo.toml"));
        sources.extend(files::below(&root.join(&folder).join("src"))?);
    }
    Ok(sources)
}

fn manifest(path: &Path) -> Result<Table, Error> {
    let text = fs::read_to_string(path).map_err(Error::at(path))?;
    text.parse().map_err(|source| Error::Definition { path: path.to_owned(), source })
}

/// What a package needs to be compiled, for whatever target, with whatever features.
fn compiled_in(package: &Table) -> impl Iterator<Item = (&str, &Value)> {
    let targets = package.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values).filter_map(Value::as_table);
    let lists = [package].into_iter().chain(targets).flat_map(|of| ["dependencies", "build-dependencies"].map(|list| of.get(list)));
    lists.flatten().filter_map(Value::as_table).flatten().map(|(name, wanted)| (name.as_str(), wanted))
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_made_of_what_it_depends_on_and_of_nothing_else() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let sources = sources(&root, "bundle/standins/capn").unwrap();
        for (file, expected) in [
            ("Cargo.lock", true),
            ("bundle/standins/capn/src/main.rs", true),
            ("bundle/standins/capn/Cargo.toml", true),
            ("crates/lxd/src/client.rs", true),
            ("crates/transport/src/lib.rs", true),
            ("crates/host/src/lib.rs", false),
            ("modules/lxd_project/src/lib.rs", false),
            ("tests/contract/src/lib.rs", false),
        ] {
            assert!(root.join(file).exists(), "{file}");
            assert_eq!(sources.contains(&root.join(file)), expected, "{file}");
        }
    }

    #[test]
    fn dependencies_are_followed_wherever_a_manifest_has_them() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("Cargo.lock", "");
        write("Cargo.toml", "[workspace.dependencies]\nshared = { path = \"libraries/shared\" }\nforeign = \"1\"\n");
        write(
            "programs/tool/Cargo.toml",
            "[dependencies]\nshared = { workspace = true, features = [\"x\"] }\nforeign.workspace = true\nbeside = { path = \"../beside\" }\n\
             [target.'cfg(unix)'.dependencies]\nunix = { path = \"../unix\" }\n\
             [build-dependencies]\nmaker = { path = \"../maker\" }\n[dev-dependencies]\ntests = { path = \"../tests\" }\n",
        );
        for (package, dependencies) in [
            ("libraries/shared", "[dependencies]\ndeep = { path = \"../deep\" }\n"),
            ("libraries/deep", "[dev-dependencies]\nshared = { path = \"../shared\" }\n"),
            ("programs/beside", ""),
            ("programs/unix", ""),
            ("programs/maker", ""),
            ("programs/tests", ""),
        ] {
            write(&format!("{package}/Cargo.toml"), dependencies);
        }
        for package in [
            "programs/tool",
            "programs/beside",
            "programs/unix",
            "programs/maker",
            "programs/tests",
            "libraries/shared",
            "libraries/deep",
        ] {
            write(&format!("{package}/src/lib.rs"), "");
        }
        let sources = sources(root.path(), "programs/tool").unwrap();
        let found: Vec<_> = sources.iter().filter_map(|file| file.strip_prefix(root.path()).unwrap().to_str()).collect();
        let found: Vec<_> = found.into_iter().filter_map(|file| file.strip_suffix("/src/lib.rs")).collect();
        assert_eq!(
            found,
            ["libraries/deep", "libraries/shared", "programs/beside", "programs/maker", "programs/tool", "programs/unix"]
        );
    }
}
