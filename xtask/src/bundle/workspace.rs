//! What a program of this workspace is made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use super::{Error, program, tools::run};

/// The files of a package and of all packages of this workspace that go into it; those of others are pinned by `Cargo.lock`.
pub fn sources(root: &Path, package: &str) -> Result<Vec<PathBuf>, Error> {
    let mut metadata = Command::new(env!("CARGO"));
    let target = crate::collection::native().target;
    metadata.current_dir(root).args(["metadata", "--quiet", "--format-version", "1", "--filter-platform", target]);
    let printed = run(&mut metadata)?;
    let metadata: Metadata = serde_json::from_str(&printed).map_err(|error| Error::Inconsistent {
        path: root.join("Cargo.toml"),
        problem: format!("cargo describes the workspace in a way that is not understood: {error}"),
    })?;
    let mut files = vec![root.join("Cargo.toml"), root.join("Cargo.lock")];
    for folder in metadata.folders_of(package) {
        // In the words that the caller has for the work tree, as cargo has its own.
        let folder = folder.strip_prefix(&metadata.workspace_root).map_or_else(|_| folder.to_owned(), |inside| root.join(inside));
        files.push(folder.join("Cargo.toml"));
        files.extend(program::sources(&folder.join("src"))?);
    }
    Ok(files)
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    /// None for a package of the workspace.
    source: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

impl Metadata {
    fn folders_of(&self, package: &str) -> BTreeSet<&Path> {
        let ours = self.packages.iter().filter(|package| package.source.is_none());
        let ours: BTreeMap<&str, &Package> = ours.map(|package| (package.id.as_str(), package)).collect();
        let mut pending: Vec<_> = ours.values().filter(|found| found.name == package).map(|found| found.id.as_str()).collect();
        let mut reached = BTreeSet::new();
        while let Some(id) = pending.pop() {
            if !reached.insert(id) {
                continue;
            }
            let node = self.resolve.nodes.iter().find(|node| node.id == id);
            let is_compiled_in =
                |dependency: &&Dependency| dependency.dep_kinds.iter().any(|held| held.kind.as_deref() != Some("dev"));
            let needed =
                node.into_iter().flat_map(|node| &node.deps).filter(is_compiled_in).map(|dependency| dependency.pkg.as_str());
            pending.extend(needed.filter(|id| ours.contains_key(id)));
        }
        reached.into_iter().filter_map(|id| ours.get(id)?.manifest_path.parent()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_made_of_what_it_depends_on_and_of_nothing_else() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let sources = sources(&root, "capn-manager").unwrap();
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
}
