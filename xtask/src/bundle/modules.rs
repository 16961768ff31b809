//! A bundle from package registries alone: programs, what is rendered and assembled from them, and images of systems that
//! carry them.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, mpsc},
    thread,
    time::Instant,
};

use bundle::{Entry, Role};
use serde_json::json;

use super::{
    Error,
    builder::{Builder, Definition, origins},
    chosen,
    definition::{Archive, CertManager, Executable, Image, Infrastructure, Instance, K3s, Manifest, Modules, Provider, Source},
    filling::Filling,
    part::{Inputs, Notes},
    program::sources,
    say,
    tools::{Needs, run, run_with},
};

/// How many parts are made side by side: what one leaves of the machine while it downloads or links is enough for another.
const AT_A_TIME: usize = 2;

/// Builds what is missing or out of date of the named parts, or of all.
pub fn fill(root: &Path, work: &Path, bundle: &mut Filling, only: &[String]) -> Result<(), Error> {
    let definition = Definition::read(root)?;
    let parts = Part::chosen(&definition.modules, bundle.folder(), only)?;
    let go = Part::needs(&parts, &definition.modules).check()?;
    let builder = Builder::new(root, work, bundle.folder(), &definition, go, Notes::in_folder(&notes(work))?);
    let next = Mutex::new((1..).zip(&parts));
    let (done, outcomes) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            let (next, builder, parts, done) = (&next, &builder, parts.len(), done.clone());
            let take = move || next.lock().ok()?.next();
            scope.spawn(move || {
                while let Some((number, part)) = take() {
                    say(format_args!("{number}/{parts} {part}"));
                    let start = Instant::now();
                    let outcome = builder.make(part);
                    let seconds = start.elapsed().as_secs_f64();
                    if outcome.is_ok() && seconds > 1.0 {
                        say(format_args!("{number}/{parts} {part}: {seconds:.1} s"));
                    }
                    // Nobody listens any more when another part has failed.
                    if done.send(outcome).is_err() {
                        break;
                    }
                }
            });
        }
        drop(done);
        outcomes.into_iter().try_for_each(|outcome| bundle.add(outcome?))
    })
}

/// What `fill` would make.
pub fn out_of_date(root: &Path, work: &Path, bundle: &Path, only: &[String]) -> Result<Vec<String>, Error> {
    let definition = Definition::read(root)?;
    let parts = Part::chosen(&definition.modules, bundle, only)?;
    // What was built by another Go, or by one that is not there any more, would be built again.
    let go = Part::needs(&parts, &definition.modules).check().unwrap_or_default();
    let builder = Builder::new(root, work, bundle, &definition, go, Notes::to_check(&notes(work)));
    let mut stale = Vec::new();
    for part in &parts {
        match builder.make(part) {
            Ok(_) => {}
            Err(Error::OutOfDate) => stale.push(part.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(stale)
}

fn notes(work: &Path) -> PathBuf {
    work.join("notes")
}

/// What is made at one go, and listed together.
enum Part<'a> {
    Executable(&'a Executable),
    K3s(&'a K3s),
    Provider(&'a Provider),
    Infrastructure(&'a Infrastructure),
    CertManager(&'a CertManager),
    Manifest(&'a Manifest),
    Archive(&'a Archive),
    Instance(&'a Instance),
}

impl<'a> Part<'a> {
    /// In the order in which they are made.
    fn all(modules: &'a Modules) -> Vec<Self> {
        let mut parts: Vec<_> = modules.executables.iter().map(Self::Executable).collect();
        parts.push(Self::K3s(&modules.k3s));
        parts.extend(modules.providers.iter().map(Self::Provider));
        parts.push(Self::CertManager(&modules.cert_manager));
        parts.push(Self::Infrastructure(&modules.infrastructure));
        parts.extend(modules.manifests.iter().map(Self::Manifest));
        parts.extend(modules.archives.iter().filter(|archive| !archive.inside).map(Self::Archive));
        parts.extend(modules.instances.iter().map(Self::Instance));
        parts
    }

    /// The parts of these names. If none is named, all but those that are made on request and that nobody has asked for yet.
    fn chosen(modules: &'a Modules, bundle: &Path, only: &[String]) -> Result<Vec<Self>, Error> {
        let mut parts = chosen(Self::all(modules), Part::name, only)?;
        if only.is_empty() {
            parts.retain(|part| !part.waits_for_request(bundle));
        }
        Ok(parts)
    }

    fn waits_for_request(&self, bundle: &Path) -> bool {
        match self {
            Self::Instance(instance) => instance.on_request && !bundle.join(instance.folder()).exists(),
            _ => false,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Executable(executable) => &executable.name,
            Self::K3s(_) => "k3s",
            Self::Provider(provider) => &provider.name,
            Self::Infrastructure(infrastructure) => &infrastructure.name,
            Self::CertManager(_) => "cert-manager",
            Self::Manifest(manifest) => &manifest.name,
            Self::Archive(archive) => &archive.name,
            Self::Instance(instance) => &instance.alias,
        }
    }

    fn needs(parts: &[Self], modules: &Modules) -> Needs {
        let is_debian_alone =
            |part: &Self| matches!(part, Self::Instance(instance) if instance.files.is_empty() && instance.archives.is_empty());
        let takes_from_debian = |part: &Self| match part {
            Self::Instance(_) => true,
            Self::Archive(archive) => !archive.debian.is_empty(),
            _ => false,
        };
        let go = !parts.iter().all(is_debian_alone);
        let libraries = modules.programs.values().flat_map(|program| program.libraries.clone()).filter(|_| go).collect();
        Needs { go, libraries, systems: parts.iter().any(takes_from_debian) }
    }
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Executable(_) | Self::K3s(_) => "executable",
            Self::Provider(_) | Self::Infrastructure(_) => "provider",
            Self::CertManager(_) | Self::Manifest(_) => "manifest",
            Self::Archive(_) => "images",
            Self::Instance(_) => "instance image",
        };
        write!(f, "{what} {}", self.name())
    }
}

/// An archive of container images.
pub struct Assembled {
    pub path: PathBuf,
    pub inputs: Inputs,
    pub origin: String,
    references: Vec<String>,
    version: String,
}

impl Builder<'_> {
    fn make(&self, part: &Part<'_>) -> Result<Vec<Entry>, Error> {
        match part {
            Part::Executable(executable) => Ok(vec![self.executable(executable)?]),
            Part::K3s(k3s) => Ok(vec![self.k3s(k3s)?]),
            Part::Provider(provider) => self.provider(provider),
            Part::Infrastructure(infrastructure) => self.infrastructure(infrastructure),
            Part::CertManager(wanted) => Ok(vec![self.cert_manager(wanted)?]),
            Part::Manifest(manifest) => Ok(vec![self.manifest(manifest)?]),
            Part::Archive(archive) => Ok(vec![self.archive(archive)?]),
            Part::Instance(instance) => self.instance(instance),
        }
    }

    fn executable(&self, executable: &Executable) -> Result<Entry, Error> {
        let built = self.program(&executable.program)?;
        let path = format!("bin/{}", executable.name);
        let output = self.bundle.join(&path);
        self.notes.make(&output, &built.inputs, || fs::copy(&built.path, &output).map(drop).map_err(Error::at(&output)))?;
        let entry = self.entry(path, Role::Executable, &executable.name, &built.version);
        self.sealed(Entry { differs: executable.differs.clone(), origin: built.origin.clone(), ..entry })
    }

    fn k3s(&self, k3s: &K3s) -> Result<Entry, Error> {
        let (launcher, pack) = (self.program(&k3s.launcher)?, self.program(&k3s.pack)?);
        let carried = k3s.carries.iter().map(|name| self.program(name)).collect::<Result<Vec<_>, _>>()?;
        let parts: Vec<_> = [&launcher, &pack].into_iter().chain(&carried).map(|built| &built.inputs).collect();
        let output = self.bundle.join("bin/k3s");
        self.notes.make(&output, &self.inputs(k3s, &[], &parts)?, || {
            let programs = carried.iter().map(|built| &built.path);
            run(Command::new(&pack.path).arg(&output).arg(&launcher.path).args(programs)).map(drop)
        })?;
        let entry = self.entry("bin/k3s".into(), Role::Executable, "k3s", &k3s.version);
        self.sealed(Entry { origin: origins(&carried), standin: true, differs: Some(k3s.differs.clone()), ..entry })
    }

    fn provider(&self, provider: &Provider) -> Result<Vec<Entry>, Error> {
        let version = self.version(&provider.of)?;
        let kustomize = self.program("kustomize")?;
        let inputs = self.inputs(&json!([provider, version]), &[], &[&kustomize.inputs])?;
        let folder = format!("providers/{}/{version}", provider.name);
        let origin = self.origin(&provider.of)?;
        let shared = |path: String, role| Entry {
            architecture: None,
            origin: origin.clone(),
            ..self.entry(path, role, &provider.name, &version)
        };

        let components = shared(format!("{folder}/{}", provider.components), Role::Components);
        let output = self.bundle.join(&components.path);
        self.notes.make(&output, &inputs, || {
            let tree = self.module(&provider.of)?.join(&provider.tree);
            let rendered = run(Command::new(&kustomize.path).arg("build").arg(tree))?;
            if !rendered.contains(&provider.image) {
                return Err(self.inconsistent(format!("{} does not name the image {}", provider.tree, provider.image)));
            }
            // As the project's own release does it.
            let released = rendered
                .replace(&provider.image, &provider.released_image.replace("{version}", &version))
                .replace("imagePullPolicy: Always", "imagePullPolicy: IfNotPresent");
            fs::write(&output, released).map_err(Error::at(&output))
        })?;

        let metadata = shared(format!("{folder}/metadata.yaml"), Role::Metadata);
        let output = self.bundle.join(&metadata.path);
        self.notes.make(&output, &inputs, || {
            let source = self.module(&provider.of)?.join("metadata.yaml");
            let content = fs::read(&source).map_err(Error::at(&source))?;
            fs::write(&output, content).map_err(Error::at(&output))
        })?;
        Ok(vec![self.sealed(components)?, self.sealed(metadata)?])
    }

    fn infrastructure(&self, wanted: &Infrastructure) -> Result<Vec<Entry>, Error> {
        let program = self.program(&wanted.of)?;
        let image = wanted.image.replace("{version}", &program.version);
        let inputs = self.inputs(wanted, &[], &[&program.inputs])?;
        let folder = format!("providers/{}/{}", wanted.name, program.version);
        let print = |path: String, role, arguments: &[&str]| {
            let output = self.bundle.join(&path);
            self.notes.make(&output, &inputs, || {
                let printed = run(Command::new(&program.path).args(arguments))?;
                fs::write(&output, printed).map_err(Error::at(&output))
            })?;
            let entry = self.entry(path, role, &wanted.name, &program.version);
            let (origin, differs) = (program.origin.clone(), Some(wanted.differs.clone()));
            self.sealed(Entry { architecture: None, origin, standin: true, differs, ..entry })
        };
        Ok(vec![
            print(format!("{folder}/{}", wanted.components), Role::Components, &["manifest", "--image", &image])?,
            print(format!("{folder}/metadata.yaml"), Role::Metadata, &["metadata"])?,
        ])
    }

    fn cert_manager(&self, wanted: &CertManager) -> Result<Entry, Error> {
        let version = self.version(&wanted.of)?;
        let kubernetes = self.version("kubernetes")?;
        let helm = self.program("helm")?;
        let path = format!("cert-manager/{version}/cert-manager.yaml");
        let output = self.bundle.join(&path);
        self.notes.make(&output, &self.inputs(&json!([wanted, version, kubernetes]), &[], &[&helm.inputs])?, || {
            let chart = self.work.join("cert-manager-chart");
            if chart.exists() {
                fs::remove_dir_all(&chart).map_err(Error::at(&chart))?;
            }
            copy(&self.module(&wanted.of)?.join(&wanted.chart), &chart)?;
            name_chart(&chart, &version)?;
            let mut template = Command::new(&helm.path);
            template.args(["template", "cert-manager"]).arg(&chart);
            template.args(["--namespace", "cert-manager", "--kube-version", &kubernetes]);
            template.args(["--set", "crds.enabled=true", "--set", "startupapicheck.enabled=false"]);
            let rendered = run(&mut template)?;
            let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: cert-manager\n";
            fs::write(&output, namespace.to_owned() + &rendered).map_err(Error::at(&output))
        })?;
        let entry = self.entry(path, Role::Manifest, "cert-manager", &version);
        let (origin, differs) = (self.origin(&wanted.of)?, Some(wanted.differs.clone()));
        self.sealed(Entry { architecture: None, origin, differs, ..entry })
    }

    fn manifest(&self, wanted: &Manifest) -> Result<Entry, Error> {
        let version = self.version(&wanted.of)?;
        let path = format!("manifests/{}/{version}/{}.yaml", wanted.name, wanted.name);
        let output = self.bundle.join(&path);
        let ours = match &wanted.source {
            Source::Ours(file) => vec![self.source.join(file)],
            Source::Module(_) => Vec::new(),
        };
        self.notes.make(&output, &self.inputs(&json!([wanted, version]), &ours, &[])?, || {
            let source = match &wanted.source {
                Source::Ours(file) => self.source.join(file),
                Source::Module(file) => self.module(&wanted.of)?.join(file),
            };
            let text = fs::read_to_string(&source).map_err(Error::at(&source))?;
            fs::write(&output, text.replace("{version}", &version)).map_err(Error::at(&output))
        })?;
        let entry = self.entry(path, Role::Manifest, &wanted.name, &version);
        self.sealed(Entry { architecture: None, origin: self.origin(&wanted.of)?, differs: wanted.differs.clone(), ..entry })
    }

    /// Lists an archive of container images, looked at once in a run.
    pub fn archive(&self, archive: &Archive) -> Result<Entry, Error> {
        if let Some(entry) = self.archived().get(&archive.name) {
            return Ok(entry.clone());
        }
        let assembled = self.assembled(archive)?;
        let entry = self.entry(archive_path(archive), Role::Images, &archive.name, &assembled.version);
        let (origin, images) = (assembled.origin, assembled.references);
        let entry = self.sealed(Entry { origin, images, standin: archive.standin, differs: archive.differs.clone(), ..entry })?;
        self.archived().insert(archive.name.clone(), entry.clone());
        Ok(entry)
    }

    /// Assembles container images, in the bundle or beside it.
    pub fn assembled(&self, archive: &Archive) -> Result<Assembled, Error> {
        let assembler = self.program("assemble-images")?;
        let programs = self.programs(archive.images.iter().flat_map(|image| files_of(archive, image).values()))?;
        let version = self.version(&archive.of)?;
        let path = if archive.inside { &self.work } else { &self.bundle }.join(archive_path(archive));
        let references: Vec<_> = archive.images.iter().map(|image| image.reference.replace("{version}", &version)).collect();
        let debian = match &archive.debian_recipe {
            Some(recipe) => Some(self.debian_programs(recipe, &archive.debian)?),
            None => None,
        };
        let mut parts: Vec<_> = programs.values().map(|built| &built.inputs).collect();
        parts.push(&assembler.inputs);
        parts.extend(debian.iter().map(|made| &made.inputs));
        let inputs = self.inputs(&json!([archive, version]), &[], &parts)?;
        self.notes.make(&path, &inputs, || {
            let mut shared: Vec<_> = archive.links.iter().map(|(path, target)| json!({"path": path, "link": target})).collect();
            if let Some(made) = &debian {
                for file in sources(&made.path)? {
                    let inside = Path::new("/").join(file.strip_prefix(&made.path).unwrap_or(&file));
                    shared.push(json!({"path": inside, "source": file}));
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
            let recipe = json!({"archive": path, "architecture": self.architecture, "images": images.collect::<Vec<_>>()});
            run_with(&mut Command::new(&assembler.path), recipe.to_string().as_bytes()).map(drop)
        })?;
        Ok(Assembled { path, inputs, origin: origins(programs.values()), references, version })
    }
}

fn archive_path(archive: &Archive) -> String {
    format!("images/{}.tar", archive.name)
}

fn files_of<'a>(archive: &'a Archive, image: &'a Image) -> &'a BTreeMap<String, String> {
    if image.files.is_empty() { &archive.files } else { &image.files }
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

#[cfg(test)]
mod tests {
    use converge::Explain as _;

    use super::*;
    use crate::bundle::program;

    fn definition() -> Modules {
        Definition::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap().modules
    }

    #[test]
    fn the_definition_fits_the_module_groups() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bundle");
        let modules = definition();
        for (name, wanted) in &modules.programs {
            program::version(&source.join(&wanted.folder), wanted).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let mut used: Vec<_> = modules.k3s.carries.iter().chain([&modules.k3s.launcher, &modules.k3s.pack]).collect();
        used.extend(modules.executables.iter().map(|executable| &executable.program));
        used.extend(modules.providers.iter().map(|provider| &provider.of));
        used.extend(modules.manifests.iter().map(|manifest| &manifest.of));
        used.extend([&modules.cert_manager.of, &modules.infrastructure.of]);
        for archive in &modules.archives {
            used.push(&archive.of);
            used.extend(archive.images.iter().flat_map(|image| files_of(archive, image).values()));
        }
        for instance in &modules.instances {
            used.extend(instance.files.values());
            assert!(source.join("instances").join(&instance.recipe).is_dir(), "no recipe {}", instance.recipe);
            for name in &instance.archives {
                assert!(modules.archives.iter().any(|archive| archive.name == *name), "no archive {name}");
            }
        }
        for name in used {
            assert!(modules.programs.contains_key(name) || modules.crates.contains_key(name), "no program {name}");
        }
    }

    #[test]
    fn node_images_have_the_version_of_what_they_carry() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bundle");
        let modules = definition();
        for instance in modules.instances.iter().filter(|instance| instance.files.contains_key("/usr/bin/kubelet")) {
            let wanted = &modules.programs[&instance.files["/usr/bin/kubelet"]];
            let version = program::version(&source.join(&wanted.folder), wanted).unwrap();
            assert_eq!((instance.alias.as_str(), &instance.version), (format!("kubeadm/{version}").as_str(), &version));
        }
    }

    #[test]
    fn parts_are_chosen_by_name() {
        let modules = definition();
        let bundle = tempfile::tempdir().unwrap();
        let chosen = |names: &[&str]| {
            let names: Vec<_> = names.iter().copied().map(str::to_owned).collect();
            Part::chosen(&modules, bundle.path(), &names).map(|parts| parts.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&["haproxy", "k3s"]).unwrap(), ["executable k3s", "instance image haproxy"]);
        assert_eq!(chosen(&["cluster-api"]).unwrap(), ["provider cluster-api", "images cluster-api"]);
        let (older, all) = ("instance image kubeadm/v1.34.4", Part::all(&modules).len());
        assert_eq!(chosen(&["kubeadm/v1.34.4"]).unwrap(), [older]);
        assert_eq!(chosen(&[]).unwrap().len(), all - 1);
        fs::create_dir_all(bundle.path().join("instances/kubeadm-v1.34.4")).unwrap();
        assert_eq!(chosen(&[]).unwrap().len(), all);
        let error = chosen(&["haproxi"]).unwrap_err();
        assert_eq!(error.code(), "BUNDLE_PART_UNKNOWN");
        assert!(error.to_string().contains("haproxy"), "{error}");
    }

    #[test]
    fn a_system_of_debian_alone_needs_no_go() {
        let modules = definition();
        for (name, go, systems) in
            [("k8slab/bootstrap/debian-12", false, true), ("kubectl", true, false), ("kubeadm/v1.35.0", true, true)]
        {
            let needs = Part::needs(&Part::chosen(&modules, Path::new("/nowhere"), &[name.to_owned()]).unwrap(), &modules);
            assert_eq!((needs.go, needs.systems), (go, systems), "{name}");
            assert_eq!(needs.libraries.is_empty(), !go, "{name}");
        }
    }
}
