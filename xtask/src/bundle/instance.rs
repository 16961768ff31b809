//! LXD images of Debian systems.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use bundle::{Entry, Role, hexadecimal};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    Error,
    builder::{Builder, origins},
    definition::{Archive, Instance},
    part::Inputs,
    program::sources,
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
        let output = self.output(&folder);
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
        let rootfs = output.join("rootfs.squashfs");
        self.notes.make(&rootfs, &inputs, || {
            let overlay = self.work.join(&folder);
            let path_of = |name: &String| programs[name.as_str()].path.as_path();
            lay_out(&overlay.join("rootfs"), instance, path_of)?;
            let mut make = self.make_instances("image");
            make.arg(&tree.path).args([&output]).arg(&instance.description);
            make.args([recipes.join(COMMON), recipes.join(&instance.recipe), overlay]);
            if !archives.is_empty() {
                make.arg("--").args(archives.iter().map(|archive| &archive.path));
            }
            run(&mut make).map(drop)
        })?;

        let entry = |file: &str, role| {
            let origin = ["Debian", &origins(programs.values())].join(" ").trim_end().to_owned();
            let entry = self.entry(format!("{folder}/{file}"), role, &instance.alias, &instance.version);
            self.sealed(Entry { origin, differs: differs(instance, &wanted), ..entry })
        };
        let fingerprint = Some(fingerprint(&[output.join("metadata.tar.gz"), rootfs])?);
        let mut entries = vec![
            entry("metadata.tar.gz", Role::InstanceMetadata)?,
            Entry { fingerprint, ..entry("rootfs.squashfs", Role::InstanceImage)? },
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
        self.notes.make(&path, &inputs, || run(self.make_instances("tree").arg(&path).args(&folders)).map(drop))?;
        Ok(Made { path, inputs })
    }

    /// A folder with programs of such a system, and the libraries that they need.
    pub fn debian_programs(&self, recipe: &str, programs: &[String]) -> Result<Made, Error> {
        let tree = self.tree(recipe)?;
        let path = self.work.join(format!("systems/{recipe}-programs"));
        let inputs = self.inputs(&json!(programs), &[], &[&tree.inputs])?;
        self.notes
            .make(&path, &inputs, || run(self.make_instances("programs").arg(&tree.path).arg(&path).args(programs)).map(drop))?;
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

/// How LXD calls an image of these files.
pub fn fingerprint(files: &[PathBuf]) -> Result<String, Error> {
    let mut digest = Sha256::new();
    for file in files {
        let read = File::open(file).and_then(|mut file| io::copy(&mut file, &mut HashWriter(&mut digest)));
        read.map_err(Error::at(file))?;
    }
    Ok(hexadecimal(&digest.finalize()))
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_of_both_files_in_turn() {
        let folder = tempfile::tempdir().unwrap();
        let (metadata, rootfs) = (folder.path().join("metadata"), folder.path().join("rootfs"));
        fs::write(&metadata, "meta").unwrap();
        fs::write(&rootfs, "root").unwrap();
        assert_eq!(fingerprint(&[metadata, rootfs]).unwrap(), hexadecimal(&Sha256::digest("metaroot")));
    }
}
