//! LXD images of Debian systems.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    slice,
};

use bundle::{Entry, Role};
use serde_json::json;

use crate::{
    Error,
    builder::{Builder, origins},
    definition::{Archive, Instance},
    files::sources,
    part::Inputs,
    tools::run,
};

/// The recipe under all others.
const COMMON: &str = "common";

/// Something that is made on the way, and lies in no bundle.
pub struct Made {
    pub path: PathBuf,
    pub inputs: Inputs,
}

impl Builder<'_> {
    /// An image in its two parts.
    pub fn instance(&self, instance: &Instance) -> Result<Vec<Entry>, Error> {
        let folder = instance.folder();
        let tree = self.tree(&instance.recipe)?;
        let programs = self.programs(instance.files.values())?;
        let named = |name: &String| {
            let found = self.modules.archives.iter().find(|archive| archive.name == *name);
            found.ok_or_else(|| self.inconsistent(format!("there are no images {name}")))
        };
        let wanted = instance.archives.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        let archives = wanted.iter().map(|archive| self.assembled(archive)).collect::<Result<Vec<_>, _>>()?;

        let recipes = self.source.join("instances");
        let mut files = vec![recipes.join("make")];
        for part in [COMMON, "templates", &instance.recipe] {
            files.extend(sources(&recipes.join(part))?);
        }
        let mut parts: Vec<_> = programs.values().map(|built| &built.inputs).collect();
        parts.extend(archives.iter().map(|archive| &archive.inputs));
        parts.push(&tree.inputs);
        let inputs = self.inputs(instance, &files, &parts)?;
        let outputs = ["metadata.tar.gz", "rootfs.squashfs"].map(|file| self.bundle.join(&folder).join(file));
        let made = self.notes.make(&[&outputs[0], &outputs[1]], &inputs, |unfinished| {
            let overlay = self.work.join(&folder);
            let path_of = |name: &String| programs[name.as_str()].path.as_path();
            lay_out(&overlay.join("rootfs"), instance, path_of)?;
            let mut make = self.make_instances("image");
            make.arg(&tree.path).arg(unfinished[0].parent().unwrap_or(Path::new("/"))).arg(&instance.description);
            make.args([recipes.join(COMMON), recipes.join(&instance.recipe), overlay]);
            if !archives.is_empty() {
                make.arg("--").args(archives.iter().map(|archive| &archive.path));
            }
            run(&mut make).map(drop)
        })?;

        let entry = |number: usize, role| {
            let file = outputs[number].file_name().unwrap_or_default().to_string_lossy();
            let origin = ["Debian", &origins(programs.values())].join(" ").trim_end().to_owned();
            let entry = self.entry(format!("{folder}/{file}"), role, &instance.alias, &instance.version);
            Entry { origin, sha256: made.digests[number].clone(), differs: differs(instance, &wanted), ..entry }
        };
        let images = archives.iter().flat_map(|archive| archive.references.clone()).collect();
        let mut entries = vec![
            entry(0, Role::InstanceMetadata),
            // LXD calls an image by the digest of both.
            Entry { images, fingerprint: Some(made.whole.clone()), ..entry(1, Role::InstanceImage) },
        ];
        // Those that lie in the bundle too may have been made anew for this.
        for archive in wanted.into_iter().filter(|archive| !archive.inside) {
            entries.push(self.archive(archive)?);
        }
        Ok(entries)
    }

    /// A system with the recipe's packages.
    fn tree(&self, recipe: &str) -> Result<Made, Error> {
        let recipes = self.source.join("instances");
        let folders = [recipes.join(COMMON), recipes.join(recipe)];
        let mut files = vec![recipes.join("make")];
        files.extend(folders.iter().map(|folder| folder.join("packages")));
        let path = self.work.join(format!("systems/{recipe}.tar"));
        let inputs = self.inputs(&"tree", &files, &[])?;
        self.notes
            .make(&[&path], &inputs, |unfinished| run(self.make_instances("tree").args(unfinished).args(&folders)).map(drop))?;
        Ok(Made { path, inputs })
    }

    /// A folder with files of such a system, for the images of an archive.
    pub fn debian_files(&self, recipe: &str, archive: &Archive) -> Result<Made, Error> {
        let tree = self.tree(recipe)?;
        let script = self.source.join("instances/files");
        let path = self.work.join(format!("files/{}", archive.name));
        let inputs = self.inputs(&json!(archive.debian), slice::from_ref(&script), &[&tree.inputs])?;
        self.notes.make(&[&path], &inputs, |unfinished| {
            run(Command::new(&script).arg(&tree.path).args(unfinished).args(&archive.debian)).map(drop)
        })?;
        Ok(Made { path, inputs })
    }

    fn make_instances(&self, task: &str) -> Command {
        let mut make = Command::new(self.source.join("instances/make"));
        make.arg(task);
        make
    }
}

/// How an image differs from what others make under its name, with what lies in it alone.
fn differs(instance: &Instance, archives: &[&Archive]) -> Option<String> {
    let inside = archives.iter().filter(|archive| archive.inside);
    let inside = inside.filter_map(|archive| Some(format!("{}: {}", archive.name, archive.differs.as_ref()?)));
    let notes: Vec<_> = instance.differs.clone().into_iter().chain(inside).collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// Lays programs and links at their paths below a folder.
fn lay_out<'a>(folder: &Path, instance: &Instance, path_of: impl Fn(&String) -> &'a Path) -> Result<(), Error> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(Error::at(folder))?;
    }
    fs::create_dir_all(folder).map_err(Error::at(folder))?;
    let place = |path: &String| -> Result<PathBuf, Error> {
        let place = folder.join(path.trim_start_matches('/'));
        if let Some(above) = place.parent() {
            fs::create_dir_all(above).map_err(Error::at(above))?;
        }
        Ok(place)
    };
    for (path, name) in &instance.files {
        let place = place(path)?;
        fs::copy(path_of(name), &place).map_err(Error::at(&place))?;
    }
    for (path, target) in &instance.links {
        let place = place(path)?;
        symlink(target, &place).map_err(Error::at(&place))?;
    }
    Ok(())
}
