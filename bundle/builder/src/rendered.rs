//! Objects for clusters, from the modules of those who make them.

use std::{fs, path::Path, process::Command};

use bundle::{Entry, Role};
use serde_json::json;

use crate::{
    Error,
    builder::Builder,
    definition::{CertManager, Infrastructure, Manifest, Provider, Source},
    files,
    tools::run,
};

impl Builder<'_> {
    pub fn provider(&self, provider: &Provider) -> Result<Vec<Entry>, Error> {
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
        let components = self.make_file(components, &inputs, |file| {
            let tree = self.module(&provider.of)?.join(&provider.tree);
            let rendered = run(Command::new(&kustomize.path).arg("build").arg(tree))?;
            if !rendered.contains(&provider.image) {
                return Err(self.inconsistent(format!("{} does not name the image {}", provider.tree, provider.image)));
            }
            // As the project's own release does it.
            let released = rendered
                .replace(&provider.image, &provider.released_image.replace("{version}", &version))
                .replace("imagePullPolicy: Always", "imagePullPolicy: IfNotPresent");
            fs::write(file, released).map_err(Error::at(file))
        })?;

        let metadata = shared(format!("{folder}/metadata.yaml"), Role::Metadata);
        let metadata = self.make_file(metadata, &inputs, |file| {
            let source = self.module(&provider.of)?.join("metadata.yaml");
            let content = fs::read(&source).map_err(Error::at(&source))?;
            fs::write(file, content).map_err(Error::at(file))
        })?;
        Ok(vec![components, metadata])
    }

    pub fn infrastructure(&self, wanted: &Infrastructure) -> Result<Vec<Entry>, Error> {
        let program = self.program(&wanted.of)?;
        let image = wanted.image.replace("{version}", &program.version);
        let inputs = self.inputs(wanted, &[], &[&program.inputs])?;
        let folder = format!("providers/{}/{}", wanted.name, program.version);
        let print = |path: String, role, arguments: &[&str]| {
            let entry = self.entry(path, role, &wanted.name, &program.version);
            let (origin, differs) = (program.origin.clone(), Some(wanted.differs.clone()));
            let entry = Entry { architecture: None, origin, standin: true, differs, ..entry };
            self.make_file(entry, &inputs, |file| {
                let printed = run(Command::new(&program.path).args(arguments))?;
                fs::write(file, printed).map_err(Error::at(file))
            })
        };
        Ok(vec![
            print(format!("{folder}/{}", wanted.components), Role::Components, &["manifest", "--image", &image])?,
            print(format!("{folder}/metadata.yaml"), Role::Metadata, &["metadata"])?,
        ])
    }

    pub fn cert_manager(&self, wanted: &CertManager) -> Result<Entry, Error> {
        let version = self.version(&wanted.of)?;
        let kubernetes = self.version("kubernetes")?;
        let helm = self.program("helm")?;
        let path = format!("cert-manager/{version}/cert-manager.yaml");
        let entry = self.entry(path, Role::Manifest, "cert-manager", &version);
        let (origin, differs) = (self.origin(&wanted.of)?, Some(wanted.differs.clone()));
        let entry = Entry { architecture: None, origin, differs, ..entry };
        self.make_file(entry, &self.inputs(&json!([wanted, version, kubernetes]), &[], &[&helm.inputs])?, |file| {
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
            fs::write(file, namespace.to_owned() + &rendered).map_err(Error::at(file))
        })
    }

    pub fn manifest(&self, wanted: &Manifest) -> Result<Entry, Error> {
        let version = self.version(&wanted.of)?;
        let entry = self.entry(format!("manifests/{0}/{version}/{0}.yaml", wanted.name), Role::Manifest, &wanted.name, &version);
        let entry = Entry { architecture: None, origin: self.origin(&wanted.of)?, differs: wanted.differs.clone(), ..entry };
        let ours = match &wanted.source {
            Source::Ours(file) => vec![self.source.join(file)],
            Source::Module(_) => Vec::new(),
        };
        self.make_file(entry, &self.inputs(&json!([wanted, version]), &ours, &[])?, |file| {
            let source = match &wanted.source {
                Source::Ours(file) => self.source.join(file),
                Source::Module(file) => self.module(&wanted.of)?.join(file),
            };
            let text = fs::read_to_string(&source).map_err(Error::at(&source))?;
            fs::write(file, text.replace("{version}", &version)).map_err(Error::at(file))
        })
    }
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
    for file in files::below(from)? {
        let target = to.join(file.strip_prefix(from).unwrap_or(&file));
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(Error::at(folder))?;
        }
        let content = fs::read(&file).map_err(Error::at(&file))?;
        fs::write(&target, content).map_err(Error::at(&target))?;
    }
    Ok(())
}
