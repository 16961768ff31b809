//! A bundle from package registries alone: programs built from Go modules, and what is rendered and assembled from them.

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use bundle::{Entry, Role, digest};
use serde_json::json;

use super::{
    Error,
    definition::{self, Archive, CertManager, Executable, Image, K3s, Modules, Program, Provider},
    part::{Inputs, Notes},
};

/// The oldest Go that all modules are content with.
const GO: (u32, u32) = (1, 25);

/// Builds what is missing or out of date, and tells what the bundle then holds.
pub fn fill(root: &Path, work: &Path, bundle: &Path) -> Result<Vec<Entry>, Error> {
    let definition = root.join("bundle/modules.toml");
    let modules: Modules = definition::read(&definition)?;
    let builder = Builder {
        go: go_version()?,
        architecture: crate::collection::native(),
        source: root.join("bundle"),
        definition,
        work: work.to_owned(),
        bundle: bundle.to_owned(),
        notes: Notes::in_folder(&work.join("notes"))?,
        programs: &modules.programs,
    };
    require_libraries(modules.programs.values().flat_map(|program| &program.libraries))?;
    let mut entries = Vec::new();
    for executable in &modules.executables {
        entries.push(builder.executable(executable)?);
    }
    entries.push(builder.k3s(&modules.k3s)?);
    for provider in &modules.providers {
        entries.extend(builder.provider(provider)?);
    }
    entries.push(builder.cert_manager(&modules.cert_manager)?);
    for archive in &modules.archives {
        entries.push(builder.archive(archive)?);
    }
    Ok(entries)
}

struct Builder<'a> {
    go: String,
    architecture: &'static str,
    /// `bundle/` of the work tree.
    source: PathBuf,
    definition: PathBuf,
    /// Where programs are that serve the build alone, or lie in the bundle inside other files.
    work: PathBuf,
    bundle: PathBuf,
    notes: Notes,
    programs: &'a BTreeMap<String, Program>,
}

/// A program that is built.
struct Built {
    path: PathBuf,
    inputs: Inputs,
    version: String,
    origin: String,
}

impl Builder<'_> {
    fn program(&self, name: &str) -> Result<Built, Error> {
        let program = self.programs.get(name).ok_or_else(|| self.inconsistent(format!("there is no program {name}")))?;
        let folder = self.source.join(&program.folder);
        let version = self.version(&program.folder, &program.module)?;
        let path = self.work.join("bin").join(name);
        let inputs = Inputs::of(&json!([program, self.go]), &sources(&folder)?, &[])?;
        self.notes.make(&path, &inputs, || {
            let mut go = Command::new("go");
            go.current_dir(&folder)
                .env("CGO_ENABLED", if program.cgo { "1" } else { "0" })
                .args(["build", "-buildvcs=false", "-trimpath", "-ldflags", &linker_flags(program, &version), "-o"])
                .arg(&path);
            if !program.tags.is_empty() {
                go.args(["-tags", &program.tags.join(",")]);
            }
            run(go.arg(&program.package)).map(drop)
        })?;
        Ok(Built { path, inputs, origin: format!("{}@{version}", program.module), version })
    }

    fn executable(&self, executable: &Executable) -> Result<Entry, Error> {
        let built = self.program(&executable.program)?;
        let path = format!("bin/{}", executable.name);
        let output = self.bundle.join(&path);
        self.notes.make(&output, &built.inputs, || fs::copy(&built.path, &output).map(drop).map_err(Error::at(&output)))?;
        let entry =
            Entry { differs: executable.differs.clone(), ..self.entry(path, Role::Executable, &executable.name, built.version) };
        Self::sealed(Entry { origin: built.origin, ..entry }, &output)
    }

    fn k3s(&self, k3s: &K3s) -> Result<Entry, Error> {
        let (launcher, pack) = (self.program(&k3s.launcher)?, self.program(&k3s.pack)?);
        let carried = k3s.carries.iter().map(|name| self.program(name)).collect::<Result<Vec<_>, _>>()?;
        let parts: Vec<_> = [&launcher, &pack].into_iter().chain(&carried).map(|built| &built.inputs).collect();
        let output = self.bundle.join("bin/k3s");
        self.notes.make(&output, &Inputs::of(k3s, &[], &parts)?, || {
            let programs = carried.iter().map(|built| &built.path);
            run(Command::new(&pack.path).arg(&output).arg(&launcher.path).args(programs)).map(drop)
        })?;
        let origins: Vec<_> = carried.iter().map(|built| built.origin.as_str()).collect();
        let entry = self.entry("bin/k3s".into(), Role::Executable, "k3s", k3s.version.clone());
        let mut origins = origins;
        origins.dedup();
        let entry = Entry { origin: origins.join(" "), standin: true, differs: Some(k3s.differs.clone()), ..entry };
        Self::sealed(entry, &output)
    }

    fn provider(&self, provider: &Provider) -> Result<[Entry; 2], Error> {
        let version = self.version(&provider.folder, &provider.module)?;
        let kustomize = self.program("kustomize")?;
        let folder = format!("providers/{}/{version}", provider.name);
        let inputs = Inputs::of(&json!([provider, version]), &[], &[&kustomize.inputs])?;

        let path = format!("{folder}/{}", provider.components);
        let output = self.bundle.join(&path);
        self.notes.make(&output, &inputs, || {
            let tree = self.module(&provider.folder, &provider.module)?.join(&provider.tree);
            let rendered = run(Command::new(&kustomize.path).arg("build").arg(tree))?;
            let missing = || self.inconsistent(format!("{} does not name the image {}", provider.tree, provider.image));
            if !rendered.contains(&provider.image) {
                return Err(missing());
            }
            // As the project's own release does it.
            let released = rendered
                .replace(&provider.image, &provider.released_image.replace("{version}", &version))
                .replace("imagePullPolicy: Always", "imagePullPolicy: IfNotPresent");
            fs::write(&output, released).map_err(Error::at(&output))
        })?;
        let components = self.entry(path, Role::Components, &provider.name, version.clone());

        let path = format!("{folder}/metadata.yaml");
        let metadata_output = self.bundle.join(&path);
        self.notes.make(&metadata_output, &inputs, || {
            let source = self.module(&provider.folder, &provider.module)?.join("metadata.yaml");
            let content = fs::read(&source).map_err(Error::at(&source))?;
            fs::write(&metadata_output, content).map_err(Error::at(&metadata_output))
        })?;
        let metadata = self.entry(path, Role::Metadata, &provider.name, version.clone());

        let origin = format!("{}@{version}", provider.module);
        let shared = |entry| Entry { architecture: None, origin: origin.clone(), ..entry };
        Ok([Self::sealed(shared(components), &output)?, Self::sealed(shared(metadata), &metadata_output)?])
    }

    fn cert_manager(&self, wanted: &CertManager) -> Result<Entry, Error> {
        let version = self.version(&wanted.folder, &wanted.module)?;
        let kubernetes = self.program("kubernetes")?.version;
        let helm = self.program("helm")?;
        let path = format!("cert-manager/{version}/cert-manager.yaml");
        let output = self.bundle.join(&path);
        self.notes.make(&output, &Inputs::of(&json!([wanted, version, kubernetes]), &[], &[&helm.inputs])?, || {
            let chart = self.work.join("cert-manager-chart");
            if chart.exists() {
                fs::remove_dir_all(&chart).map_err(Error::at(&chart))?;
            }
            copy(&self.module(&wanted.folder, &wanted.module)?.join(&wanted.chart), &chart)?;
            name_chart(&chart, &version)?;
            let mut template = Command::new(&helm.path);
            template.args(["template", "cert-manager"]).arg(&chart);
            template.args(["--namespace", "cert-manager", "--kube-version", &kubernetes]);
            template.args(["--set", "crds.enabled=true", "--set", "startupapicheck.enabled=false"]);
            let rendered = run(&mut template)?;
            let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: cert-manager\n";
            fs::write(&output, namespace.to_owned() + &rendered).map_err(Error::at(&output))
        })?;
        let entry = self.entry(path, Role::Manifest, "cert-manager", version.clone());
        let origin = format!("{}@{version}", wanted.module);
        Self::sealed(Entry { architecture: None, origin, differs: Some(wanted.differs.clone()), ..entry }, &output)
    }

    fn archive(&self, archive: &Archive) -> Result<Entry, Error> {
        let version = self.version(&archive.folder, &archive.module)?;
        let assembler = self.program("assemble-images")?;
        let path = format!("images/{}.tar", archive.name);
        let output = self.bundle.join(&path);
        let mut programs = BTreeMap::new();
        for name in archive.images.iter().flat_map(|image| files_of(archive, image).values()) {
            if !programs.contains_key(name) {
                programs.insert(name.clone(), self.program(name)?);
            }
        }
        let references: Vec<_> = archive.images.iter().map(|image| image.reference.replace("{version}", &version)).collect();
        let mut parts: Vec<_> = programs.values().map(|built| &built.inputs).collect();
        parts.push(&assembler.inputs);
        self.notes.make(&output, &Inputs::of(&json!([archive, version]), &[], &parts)?, || {
            let images = archive.images.iter().zip(&references).map(|(image, reference)| {
                let files =
                    files_of(archive, image).iter().map(|(path, name)| json!({"path": path, "source": programs[name].path}));
                let links = archive.links.iter().map(|(path, target)| json!({"path": path, "link": target}));
                json!({
                    "reference": reference,
                    "entrypoint": [image.entrypoint],
                    "user": image.user,
                    "files": files.chain(links).collect::<Vec<_>>(),
                })
            });
            let recipe = json!({"archive": output, "architecture": self.architecture, "images": images.collect::<Vec<_>>()});
            run_with(&mut Command::new(&assembler.path), recipe.to_string().as_bytes()).map(drop)
        })?;
        let mut origins: Vec<_> = programs.values().map(|built| built.origin.clone()).collect();
        origins.dedup();
        let entry = self.entry(path, Role::Images, &archive.name, version);
        let entry = Entry { origin: origins.join(" "), differs: archive.differs.clone(), images: references, ..entry };
        Self::sealed(entry, &output)
    }

    fn entry(&self, path: String, role: Role, name: &str, version: String) -> Entry {
        Entry {
            path,
            role,
            name: name.to_owned(),
            version,
            architecture: Some(self.architecture.to_owned()),
            origin: String::new(),
            sha256: String::new(),
            standin: false,
            differs: None,
            images: Vec::new(),
            fingerprint: None,
        }
    }

    fn sealed(entry: Entry, output: &Path) -> Result<Entry, Error> {
        Ok(Entry { sha256: digest(output).map_err(Error::at(output))?, ..entry })
    }

    /// The version that a group's `go.mod` pins a module to.
    fn version(&self, folder: &str, module: &str) -> Result<String, Error> {
        let path = self.source.join(folder).join("go.mod");
        let text = fs::read_to_string(&path).map_err(Error::at(&path))?;
        pinned(&text, module).ok_or_else(|| Error::Inconsistent { path, problem: format!("requires no {module}") })
    }

    /// Where Go keeps a module's files.
    fn module(&self, folder: &str, module: &str) -> Result<PathBuf, Error> {
        let mut list = Command::new("go");
        list.current_dir(self.source.join(folder)).args(["list", "-m", "-f", "{{.Dir}}", module]);
        Ok(PathBuf::from(run(&mut list)?.trim()))
    }

    fn inconsistent(&self, problem: String) -> Error {
        Error::Inconsistent { path: self.definition.clone(), problem }
    }
}

fn files_of<'a>(archive: &'a Archive, image: &'a Image) -> &'a BTreeMap<String, String> {
    if image.files.is_empty() { &archive.files } else { &image.files }
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

/// What a program of this folder may be made of, beside its modules.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::at(&folder))? {
            let path = entry.map_err(Error::at(&folder))?.path();
            let is_test = path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("_test.go"));
            if path.is_dir() {
                pending.push(path);
            } else if !is_test {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// cert-manager's source has its chart without a name for its version.
fn name_chart(chart: &Path, version: &str) -> Result<(), Error> {
    let (template, named) = (chart.join("Chart.template.yaml"), chart.join("Chart.yaml"));
    let text = fs::read_to_string(&template).map_err(Error::at(&template))?;
    let text = text.replace("v0.0.0", version).replace("{{IS_PRERELEASE}}", "false");
    fs::write(&named, text).map_err(Error::at(&named))
}

/// Copies a folder of the module cache, which is read-only, into one that is not.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    for file in sources(from)? {
        let target = to.join(file.strip_prefix(from).unwrap_or(&file));
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(Error::at(folder))?;
        }
        let content = fs::read(&file).map_err(Error::at(&file))?;
        fs::write(&target, content).map_err(Error::at(&target))?;
    }
    Ok(())
}

/// Programs with C in them are linked with static libraries.
fn require_libraries<'a>(libraries: impl Iterator<Item = &'a String>) -> Result<(), Error> {
    const HINT: &str = "install it with `apt-get install gcc libc6-dev libseccomp-dev pkg-config`";
    require("cc", HINT)?;
    require("pkg-config", HINT)?;
    for library in libraries {
        run(Command::new("pkg-config").args(["--exists", library]))
            .map_err(|_| Error::ToolMissing { program: library.clone(), hint: HINT })?;
    }
    Ok(())
}

fn go_version() -> Result<String, Error> {
    require("go", "install it from go.dev/dl, or with `apt-get install -t bookworm-backports golang-go`")?;
    let found = run(Command::new("go").args(["env", "GOVERSION"]))?.trim().to_owned();
    let mut parts = found.trim_start_matches("go").split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < GO { Err(Error::GoTooOld { found, needed: format!("{}.{}", GO.0, GO.1) }) } else { Ok(found) }
}

fn require(program: &str, hint: &'static str) -> Result<(), Error> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders).any(|folder| folder.join(program).is_file());
    if found { Ok(()) } else { Err(Error::ToolMissing { program: program.to_owned(), hint }) }
}

fn run(command: &mut Command) -> Result<String, Error> {
    run_with(command, &[])
}

fn run_with(command: &mut Command, input: &[u8]) -> Result<String, Error> {
    let line = [command.get_program()].into_iter().chain(command.get_args());
    let line = line.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let failed = |outcome: String, words: &[u8]| Error::Command {
        command: line.clone(),
        outcome,
        words: String::from_utf8_lossy(words).trim_end().to_owned(),
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(format!("cannot be started: {error}"), &[]))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that reads nothing has closed its end; its exit status tells whether that was right.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string(), &[]))?;
    if !output.status.success() {
        return Err(failed(format!("ended with {}", output.status), &output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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
            package: String::new(),
            module: String::new(),
            cgo,
            tags: Vec::new(),
            libraries: Vec::new(),
            stamp: stamp.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        };
        assert_eq!(linker_flags(&program(false), "v1.35.0"), "-s -w -X a.gitMinor=35 -X a.gitVersion=v1.35.0");
        assert_eq!(linker_flags(&program(true), "v1.35.0"), "-s -w -extldflags -static -X a.gitMinor=35 -X a.gitVersion=v1.35.0");
    }

    #[test]
    fn the_definition_fits_the_module_groups() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bundle");
        let modules: Modules = definition::read(&source.join("modules.toml")).unwrap();
        for (name, program) in &modules.programs {
            let text = fs::read_to_string(source.join(&program.folder).join("go.mod")).unwrap();
            assert!(pinned(&text, &program.module).is_some(), "{name}: {} has no {}", program.folder, program.module);
        }
        let carried = modules.k3s.carries.iter().chain([&modules.k3s.launcher, &modules.k3s.pack]);
        let assembled = modules
            .archives
            .iter()
            .flat_map(|archive| archive.images.iter().flat_map(move |image| files_of(archive, image).values()));
        for name in carried.chain(assembled).chain(modules.executables.iter().map(|executable| &executable.program)) {
            assert!(modules.programs.contains_key(name), "no program {name}");
        }
    }
}
