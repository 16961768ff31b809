//! The files on the host.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cluster::{Client, Kubeconfig};
use converge::Failure;
use host::{
    Owner, Root,
    file::{Content, Declared, FileChange, Live as File},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use x509_cert::{Certificate, der::DecodePem as _};

use crate::{
    ClusterKubeconfig, Facts, State,
    error::Error,
    source::{self, Source},
    url,
};

pub(crate) struct Section<'a> {
    step: &'a ClusterKubeconfig,
    client: OnceCell<Client>,
}

#[derive(Clone, Default)]
pub(crate) struct Live {
    /// What Cluster API has; nothing where nobody has looked.
    pub source: Option<Source>,
    pub folders: Vec<Option<File>>,
    pub internal: Option<File>,
    pub external: Option<File>,
}

pub(crate) enum Change {
    Folder(FileChange),
    Write {
        file: FileChange,
        before: Option<File>,
        after: Kubeconfig,
    },
    /// There is no Secret yet.
    Await(PathBuf),
    Remove {
        path: PathBuf,
        before: File,
    },
}

impl<'a> Section<'a> {
    pub fn new(step: &'a ClusterKubeconfig) -> Self {
        Self { step, client: OnceCell::new() }
    }

    /// What is told of the files.
    pub fn facts(&self, live: &Live) -> Facts {
        let Some(internal) = live.internal.as_ref().and_then(parsed) else { return Facts::default() };
        let external = live.external.as_ref().and_then(parsed);
        let shown = |path: PathBuf| path.display().to_string();
        Facts {
            kubeconfig_path: Some(shown(self.step.path())),
            server: Some(internal.server().to_owned()),
            external_kubeconfig_path: external.as_ref().map(|_| shown(self.step.external_path())),
            external_server: external.map(|external| external.server().to_owned()),
            certificate_expires: internal.client_certificate().and_then(expiry),
        }
    }

    async fn client(&self) -> Result<&Client, Failure> {
        let kubeconfig = self.step.kubeconfig_path.as_ref().map(|path| path.to_path_buf()).unwrap_or_default();
        let connect = async || Client::connect(&Kubeconfig::read(&kubeconfig)?);
        Ok(self.client.get_or_try_init(connect).await?)
    }

    /// The folders of the files. One that a user has chosen may hold other things too; it is made where it is missing, and left as
    /// it is otherwise.
    fn folders(&self) -> Vec<(Declared, bool)> {
        let external = self.step.external_address.as_ref().map(|_| (self.step.external_path(), self.step.external_path.is_none()));
        let paths = [(self.step.path(), self.step.path.is_none())].into_iter().chain(external);
        let folder = |(path, is_own): (PathBuf, bool)| {
            (Declared::folder(path.parent().unwrap_or(Path::new("/")), Owner::default(), 0o700), is_own)
        };
        let mut folders: Vec<_> = paths.map(folder).collect();
        folders.dedup();
        folders
    }

    /// The kubeconfig for the host.
    fn internal(&self, own: &Kubeconfig) -> Result<Kubeconfig, Failure> {
        let (address, port) = own.address()?;
        let address = self.step.address.clone().unwrap_or(address);
        Ok(own.clone().with_server(&url(&address, self.step.port.unwrap_or(port))))
    }

    /// The kubeconfig for others, where they are to have one.
    fn external(&self, own: &Kubeconfig, port: Option<u16>) -> Result<Option<Kubeconfig>, Failure> {
        let Some(address) = &self.step.external_address else { return Ok(None) };
        let port = self.step.external_port.or(port).ok_or_else(|| Error::NoPort {
            cluster: format!("{}/{}", self.step.namespace, self.step.name),
            annotation: lab::publication::PORT_ANNOTATION,
        })?;
        Ok(Some(own.clone().with_server(&url(address, port))))
    }
}

impl converge::Section for Section<'_> {
    const NAME: &'static str = "kubeconfigs";
    type Live = Live;
    type Change = Change;

    async fn observe(&self) -> Result<Live, Failure> {
        let root = Root::default();
        let file = |path: PathBuf| private(path, String::new()).observe(&root);
        let source = match self.step.state {
            State::Present => Some(source::read(self.client().await?, &self.step.namespace, &self.step.name).await?),
            State::Absent => None,
        };
        Ok(Live {
            source,
            folders: self.folders().iter().map(|(folder, _)| folder.observe(&root)).collect::<Result<_, _>>()?,
            internal: file(self.step.path())?,
            external: file(self.step.external_path())?,
        })
    }

    fn plan(&self, live: &Live) -> Result<Vec<Change>, Failure> {
        let remove = |path: PathBuf, file: &Option<File>| file.clone().map(|before| Change::Remove { path, before });
        if self.step.state == State::Absent {
            let internal = remove(self.step.path(), &live.internal);
            return Ok(internal.into_iter().chain(remove(self.step.external_path(), &live.external)).collect());
        }
        let folders = self.folders().into_iter().enumerate().filter_map(|(at, (folder, is_own))| {
            let found = live.folders.get(at).and_then(Option::as_ref);
            if found.is_some() && !is_own { None } else { folder.compare(found).map(Change::Folder) }
        });
        let own = live.source.as_ref().and_then(|source| Some((source.kubeconfig.as_ref()?, source.port)));
        let Some((own, port)) = own else {
            let paths =
                [self.step.path()].into_iter().chain(self.step.external_address.as_ref().map(|_| self.step.external_path()));
            return Ok(folders.chain(paths.map(Change::Await)).collect());
        };
        let write = |path, after: Kubeconfig, before: &Option<File>| {
            let file = private(path, after.to_yaml().expose().to_owned()).compare(before.as_ref());
            file.map(|file| Change::Write { file, before: before.clone(), after })
        };
        let internal = write(self.step.path(), self.internal(own)?, &live.internal);
        let external = match self.external(own, port)? {
            Some(external) => write(self.step.external_path(), external, &live.external),
            None => remove(self.step.external_path(), &live.external),
        };
        Ok(folders.chain(internal).chain(external).collect())
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        match change {
            Change::Folder(file) | Change::Write { file, .. } => Ok(file.apply(&Root::default())?),
            Change::Remove { path, .. } => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(Error::NotRemoved { path: path.clone(), source: error }.into())
                }
                _ => Ok(()),
            },
            Change::Await(path) => {
                let (namespace, name) = (&self.step.namespace, &self.step.name);
                let client = self.client().await?;
                source::wait(client, namespace, name, self.step.timeout()).await?;
                let source = source::read(client, namespace, name).await?;
                let Some(own) = &source.kubeconfig else { return Ok(()) };
                let kubeconfig =
                    if *path == self.step.path() { Some(self.internal(own)?) } else { self.external(own, source.port)? };
                let file =
                    kubeconfig.and_then(|kubeconfig| private(path.clone(), kubeconfig.to_yaml().expose().to_owned()).compare(None));
                file.map_or(Ok(()), |file| Ok(file.apply(&Root::default())?))
            }
        }
    }
}

/// Until when a certificate is good.
fn expiry(certificate: &str) -> Option<String> {
    let certificate = Certificate::from_pem(BASE64_STANDARD.decode(certificate).ok()?).ok()?;
    Some(certificate.tbs_certificate.validity.not_after.to_string())
}

/// A file for its owner alone.
fn private(path: PathBuf, text: String) -> Declared {
    Declared { path, content: Content::Text(text), owner: Owner::default(), mode: 0o600 }
}

fn parsed(file: &File) -> Option<Kubeconfig> {
    match &file.content {
        Some(Content::Text(text)) => Kubeconfig::parse(text).ok(),
        _ => None,
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(file) | Self::Write { file, .. } => file.fmt(f),
            Self::Await(path) => write!(f, "create {}", path.display()),
            Self::Remove { path, .. } => write!(f, "remove {}", path.display()),
        }
    }
}

/// Keys and certificates are in no diff; what is not secret of a kubeconfig is.
impl converge::Change for Change {
    fn object(&self) -> String {
        match self {
            Self::Folder(file) | Self::Write { file, .. } => file.object(),
            Self::Await(path) | Self::Remove { path, .. } => path.display().to_string(),
        }
    }

    fn before(&self) -> Value {
        let shown = |file: &File| parsed(file).map_or_else(|| json!("(no kubeconfig)"), |config| config.redacted());
        match self {
            Self::Folder(file) => file.before(),
            Self::Write { file, before, .. } => {
                before.as_ref().map_or(Value::Null, |before| with_content(file.before(), shown(before)))
            }
            Self::Await(_) => Value::Null,
            Self::Remove { before, .. } => json!({"content": shown(before)}),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Folder(file) => file.after(),
            Self::Write { file, after, .. } => with_content(file.after(), after.redacted()),
            Self::Await(_) => json!({"content": "(that of the Secret, once it is there)"}),
            Self::Remove { .. } => Value::Null,
        }
    }
}

fn with_content(mut shown: Value, content: Value) -> Value {
    shown["content"] = content;
    shown
}
