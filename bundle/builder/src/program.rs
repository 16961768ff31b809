//! Programs built from Go modules, and from this workspace.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use serde::Deserialize;
use serde_json::json;

use crate::{
    Error,
    builder::{Builder, Built},
    definition::{Crate, Program},
    files::sources,
    tools::run,
    workspace,
};

/// By which cargo builds the programs of this workspace that a bundle carries.
const PROFILE: &str = "bundle";

impl Builder<'_> {
    /// Builds a program, once in a run.
    pub fn program(&self, name: &str) -> Result<Arc<Built>, Error> {
        if let Some(built) = self.built().get(name) {
            return Ok(Arc::clone(built));
        }
        let built = match (self.modules.programs.get(name), self.modules.crates.get(name)) {
            (Some(program), _) => self.go_program(name, program)?,
            (_, Some(wanted)) => self.crate_program(name, wanted)?,
            _ => return Err(self.inconsistent(format!("there is no program {name}"))),
        };
        let built = Arc::new(built);
        self.built().insert(name.to_owned(), Arc::clone(&built));
        Ok(built)
    }

    /// Builds each of these, by name.
    pub fn programs<'n>(&self, names: impl IntoIterator<Item = &'n String>) -> Result<BTreeMap<&'n str, Arc<Built>>, Error> {
        names.into_iter().map(|name| Ok((name.as_str(), self.program(name)?))).collect()
    }

    fn go_program(&self, name: &str, program: &Program) -> Result<Built, Error> {
        let folder = self.source.join(&program.folder);
        let (pin, version) = (pin(&folder, program)?, version(&folder, program)?);
        let path = self.work.join("bin").join(name);
        let modfile = program.modfile.as_deref().unwrap_or("go.mod");
        let is_ours = |file: &PathBuf| {
            let is_requirement = file.extension().is_some_and(|extension| extension == "mod" || extension == "sum");
            !is_requirement || file.file_stem() == Path::new(modfile).file_stem()
        };
        let files: Vec<_> = sources(&folder)?.into_iter().filter(is_ours).collect();
        let inputs = self.inputs(&json!([program, self.go]), &files, &[])?;
        self.notes.make(&[&path], &inputs, |unfinished| {
            let mut go = go(&folder, program);
            // Debugging information would be stripped in the end, and takes a tenth of the time and a quarter of the cache.
            go.env("CGO_ENABLED", if program.cgo { "1" } else { "0" })
                // The compiler is over before most of its garbage is worth collecting: a fifth of the time.
                .envs([("GOGC", "off"), ("GOMEMLIMIT", "2GiB")])
                .args([
                    "-buildvcs=false",
                    "-trimpath",
                    "-gcflags=all=-dwarf=false",
                    "-ldflags",
                    &linker_flags(program, &version),
                    "-o",
                ])
                .args(unfinished);
            if !program.tags.is_empty() {
                go.args(["-tags", &program.tags.join(",")]);
            }
            run(go.arg(&program.package)).map(drop)
        })?;
        Ok(Built { path, inputs, origin: format!("{}@{pin}", program.module), version })
    }

    fn crate_program(&self, name: &str, wanted: &Crate) -> Result<Built, Error> {
        let path = self.work.join("bin").join(name);
        let compiler = run(Command::new(Path::new(env!("CARGO")).with_file_name("rustc")).arg("--version"))?;
        let inputs = self.inputs(&json!([name, compiler]), &workspace::sources(&self.root, &wanted.folder)?, &[])?;
        self.notes.make(&[&path], &inputs, |unfinished| {
            let made = workspace::executable(&self.root, workspace::native(), PROFILE, name, name)?;
            fs::copy(&made, &unfinished[0]).map(drop).map_err(Error::at(&made))
        })?;
        Ok(Built { path, inputs, version: wanted.version.clone(), origin: wanted.folder.clone() })
    }

    /// The version of a program, which need not be built for it.
    pub fn version(&self, name: &str) -> Result<String, Error> {
        match self.modules.crates.get(name) {
            Some(wanted) => Ok(wanted.version.clone()),
            None => self.go_definition(name).and_then(|program| version(&self.source.join(&program.folder), program)),
        }
    }

    /// What a program is made of.
    pub fn origin(&self, name: &str) -> Result<String, Error> {
        let program = self.go_definition(name)?;
        Ok(format!("{}@{}", program.module, pin(&self.source.join(&program.folder), program)?))
    }

    fn go_definition(&self, name: &str) -> Result<&Program, Error> {
        self.modules.programs.get(name).ok_or_else(|| self.inconsistent(format!("there is no Go program {name}")))
    }

    /// Where Go keeps the files of a program's module, which are read-only.
    pub fn module(&self, name: &str) -> Result<PathBuf, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Download {
            dir: PathBuf,
        }
        let program = self.go_definition(name)?;
        let mut download = Command::new("go");
        download.current_dir(self.source.join(&program.folder)).args(["mod", "download", "-json", &program.module]);
        let printed = run(&mut download)?;
        let download: Download =
            serde_json::from_str(&printed).map_err(|error| self.inconsistent(format!("{}: {error}", program.module)))?;
        Ok(download.dir)
    }
}

/// `go build` in a folder, with the requirements that the program has.
fn go(folder: &Path, program: &Program) -> Command {
    let mut go = Command::new("go");
    go.current_dir(folder).arg("build");
    if let Some(modfile) = &program.modfile {
        go.args(["-modfile", modfile]);
    }
    go
}

/// The version of a program.
pub fn version(folder: &Path, program: &Program) -> Result<String, Error> {
    program.version.clone().map_or_else(|| pin(folder, program), Ok)
}

/// The version that its folder pins a program's module to.
fn pin(folder: &Path, program: &Program) -> Result<String, Error> {
    let path = folder.join(program.modfile.as_deref().unwrap_or("go.mod"));
    let text = fs::read_to_string(&path).map_err(Error::at(&path))?;
    pinned(&text, &program.module).ok_or_else(|| Error::Inconsistent { path, problem: format!("requires no {}", program.module) })
}

/// The version in a `go.mod`'s list of requirements.
fn pinned(text: &str, module: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten().filter(|word| word.starts_with('v')).map(str::to_owned)
    })
}

fn linker_flags(program: &Program, version: &str) -> String {
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut flags = String::from("-s -w");
    if program.cgo {
        flags += " -extldflags -static";
    }
    for (variable, value) in &program.stamp {
        let value = value.replace("{version}", version).replace("{major}", major).replace("{minor}", minor);
        flags.extend([" -X ", variable, "=", &value]);
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_requirements() {
        let text = "module x\n\ngo 1.25.0\n\nrequire example.org/alone v1.2.3\n\nrequire (\n\texample.org/a v0.1.0\n\texample.org/a/b v0.2.0 // indirect\n)\n\ntool example.org/alone\n\nreplace (\n\texample.org/replaced => example.org/replaced v9.0.0\n)\n";
        for (module, version) in [
            ("example.org/alone", Some("v1.2.3")),
            ("example.org/a", Some("v0.1.0")),
            ("example.org/a/b", Some("v0.2.0")),
            ("example.org/replaced", None),
            ("example.org/absent", None),
        ] {
            assert_eq!(pinned(text, module).as_deref(), version, "{module}");
        }
    }

    #[test]
    fn stamps_carry_the_version() {
        let stamp = [("a.gitVersion", "{version}"), ("a.gitMinor", "{minor}")];
        let program = |cgo| Program {
            folder: String::new(),
            modfile: None,
            package: String::new(),
            module: String::new(),
            version: None,
            cgo,
            tags: Vec::new(),
            libraries: Vec::new(),
            stamp: stamp.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        };
        assert_eq!(linker_flags(&program(false), "v1.35.0"), "-s -w -X a.gitMinor=35 -X a.gitVersion=v1.35.0");
        assert_eq!(linker_flags(&program(true), "v1.35.0"), "-s -w -extldflags -static -X a.gitMinor=35 -X a.gitVersion=v1.35.0");
    }
}
