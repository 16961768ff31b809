//! Writes what follows from the steps' option tables.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ansible::{Format, Reference};

use crate::{Error, routing};

/// Writes every generated file that is not as it should be; with `check` only says which.
pub fn run(root: &Path, check: bool) -> Result<(), Error> {
    let mut stale = Vec::new();
    let steps = dispatch::steps();
    let of_steps = steps.iter().flat_map(|step| files(&(step.reference)()));
    for (path, text) in of_steps.chain(routing::files(&steps)) {
        let target = root.join(&path);
        if fs::read_to_string(&target).is_ok_and(|found| found == text) {
            continue;
        }
        if check {
            stale.push(path.display().to_string());
        } else {
            write(&target, &text).map_err(Error::at(&target))?;
        }
    }
    if stale.is_empty() { Ok(()) } else { Err(Error::Stale(stale)) }
}

fn files(step: &Reference) -> Vec<(PathBuf, String)> {
    let role = Path::new("roles").join(step.name);
    let stub = Path::new("collection/plugins/modules").join(step.name).with_extension("py");
    vec![
        (role.join("defaults/main.yml"), step.render(Format::Defaults)),
        (role.join("meta/argument_specs.yml"), step.render(Format::ArgumentSpecs)),
        (role.join("meta/main.yml"), step.render(Format::RoleMeta)),
        (role.join("tasks/main.yml"), step.render(Format::Tasks)),
        (role.join("README.md"), step.render(Format::Readme)),
        (stub, step.render(Format::Stub)),
    ]
}

fn write(target: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(target, text)
}
