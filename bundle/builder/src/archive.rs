//! Container images, several in a file that container runtimes import.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use bundle::{Entry, Role};
use serde_json::json;

use crate::{
    Error,
    builder::{Builder, origins},
    definition::{Archive, Image},
    files,
    part::Inputs,
    tools::run_with,
};

/// An archive of container images.
pub struct Assembled {
    pub path: PathBuf,
    pub inputs: Inputs,
    pub origin: String,
    pub references: Vec<String>,
    sha256: String,
    version: String,
}

impl Builder<'_> {
    /// An archive that lies in the bundle.
    pub fn archive(&self, archive: &Archive) -> Result<Entry, Error> {
        let assembled = self.assembled(archive)?;
        let entry = self.entry(archive_path(archive), Role::Images, &archive.name, &assembled.version);
        let (origin, images, sha256) = (assembled.origin, assembled.references, assembled.sha256);
        Ok(Entry { origin, images, sha256, standin: archive.standin, differs: archive.differs.clone(), ..entry })
    }

    /// Assembles container images, in the bundle or beside it.
    pub fn assembled(&self, archive: &Archive) -> Result<Assembled, Error> {
        let assembler = self.program("assemble-images")?;
        let programs = self.programs(archive.images.iter().flat_map(|image| files_of(archive, image).values()))?;
        let version = self.version(&archive.of)?;
        let path = if archive.inside { &self.work } else { &self.bundle }.join(archive_path(archive));
        let references: Vec<_> = archive.images.iter().map(|image| image.reference.replace("{version}", &version)).collect();
        let debian = match &archive.debian_recipe {
            Some(recipe) => Some(self.debian_files(recipe, archive)?),
            None => None,
        };
        let mut parts: Vec<_> = programs.values().map(|built| &built.inputs).collect();
        parts.push(&assembler.inputs);
        parts.extend(debian.iter().map(|made| &made.inputs));
        let inputs = self.inputs(&json!([archive, version]), &[], &parts)?;
        let made = self.notes.make(&[&path], &inputs, |unfinished| {
            let mut shared: Vec<_> = archive.links.iter().map(|(path, target)| json!({"path": path, "link": target})).collect();
            if let Some(made) = &debian {
                for file in files::below(&made.path)? {
                    let inside = Path::new("/").join(file.strip_prefix(&made.path).unwrap_or(&file));
                    shared.push(match fs::read_link(&file) {
                        Ok(target) => json!({"path": inside, "link": target}),
                        Err(_) => json!({"path": inside, "source": file}),
                    });
                }
            }
            let images = archive.images.iter().zip(&references).map(|(image, reference)| {
                let files = files_of(archive, image).iter();
                let files = files.map(|(path, name)| json!({"path": path, "source": programs[name.as_str()].path}));
                let shared: &[_] = if image.files.is_empty() { &shared } else { &[] };
                json!({
                    "reference": reference,
                    "entrypoint": [image.entrypoint],
                    "user": image.user,
                    "files": files.chain(shared.iter().cloned()).collect::<Vec<_>>(),
                })
            });
            let recipe = json!({"archive": unfinished[0], "architecture": self.architecture, "images": images.collect::<Vec<_>>()});
            run_with(&mut Command::new(&assembler.path), recipe.to_string().as_bytes()).map(drop)
        })?;
        Ok(Assembled { path, inputs, origin: origins(programs.values()), references, sha256: made.whole, version })
    }
}

fn archive_path(archive: &Archive) -> String {
    format!("images/{}.tar", archive.name)
}

pub fn files_of<'a>(archive: &'a Archive, image: &'a Image) -> &'a BTreeMap<String, String> {
    if image.files.is_empty() { &archive.files } else { &image.files }
}
