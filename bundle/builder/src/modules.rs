//! A bundle from package registries alone: which parts it has, and those that are programs.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, mpsc},
    thread,
    time::Instant,
};

use bundle::{Entry, Role};

use crate::{
    Error,
    builder::{Builder, Definition, origins},
    chosen,
    definition::{Archive, CertManager, Executable, Infrastructure, Instance, K3s, Manifest, Modules, Provider},
    filling::Filling,
    part::Notes,
    say,
    tools::{Needs, run},
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
            Self::Executable(executable) => executable.on_request && !bundle.join(executable.path()).exists(),
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
        let entry = self.entry(executable.path(), Role::Executable, &executable.name, &built.version);
        let (differs, origin, standin) = (executable.differs.clone(), built.origin.clone(), executable.standin);
        let entry = Entry { differs, origin, standin, ..entry };
        self.make_file(entry, &built.inputs, |file| fs::copy(&built.path, file).map(drop).map_err(Error::at(file)))
    }

    fn k3s(&self, k3s: &K3s) -> Result<Entry, Error> {
        let (launcher, pack) = (self.program(&k3s.launcher)?, self.program(&k3s.pack)?);
        let carried = k3s.carries.iter().map(|name| self.program(name)).collect::<Result<Vec<_>, _>>()?;
        let parts: Vec<_> = [&launcher, &pack].into_iter().chain(&carried).map(|built| &built.inputs).collect();
        let entry = self.entry("bin/k3s".into(), Role::Executable, "k3s", &k3s.version);
        let entry = Entry { origin: origins(&carried), standin: true, differs: Some(k3s.differs.clone()), ..entry };
        self.make_file(entry, &self.inputs(k3s, &[], &parts)?, |file| {
            let programs = carried.iter().map(|built| &built.path);
            run(Command::new(&pack.path).arg(file).arg(&launcher.path).args(programs)).map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use converge::Explain as _;

    use super::*;
    use crate::{archive::files_of, program};

    fn definition() -> Modules {
        Definition::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap().modules
    }

    #[test]
    fn the_definition_fits_the_module_groups() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
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
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
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
        let on_request = 5;
        assert_eq!(chosen(&["kubeadm/v1.34.4"]).unwrap(), [older]);
        assert_eq!(chosen(&[]).unwrap().len(), all - on_request);
        fs::create_dir_all(bundle.path().join("instances/kubeadm-v1.34.4")).unwrap();
        for name in ["helm3", "tofu", "terraform-provider-kubernetes", "terraform-provider-helm"] {
            fs::create_dir_all(bundle.path().join("bin").join(name)).unwrap();
        }
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
