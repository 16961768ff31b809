//! The kubeconfig on the host.

use std::fmt;

use cluster::Kubeconfig;
use converge::{Failure, Foreseen};
use host::{
    Owner, Root,
    file::{Content, Declared, FileChange, Live as File, mode},
};
use serde_json::{Value, json};

use crate::BootstrapClusterctl;

pub(crate) struct Section<'a>(pub &'a BootstrapClusterctl);

#[derive(Default)]
pub(crate) struct Live {
    /// What the instance has, rebuilt for the host; nothing before there is a cluster.
    pub rebuilt: Option<Kubeconfig>,
    pub folder: Option<File>,
    pub stored: Option<File>,
}

pub(crate) enum Change {
    Folder(FileChange),
    Write { file: FileChange, before: Option<File>, after: Kubeconfig },
}

impl Section<'_> {
    fn declare(&self, kubeconfig: &Kubeconfig) -> Declared {
        Declared {
            path: self.0.kubeconfig_path(),
            content: Content::Text(kubeconfig.to_yaml().expose().to_owned()),
            owner: Owner::default(),
            mode: mode(&self.0.staging_mode_kubeconfig),
        }
    }
}

impl converge::Section for Section<'_> {
    const NAME: &'static str = "kubeconfig";
    type Live = Live;
    type Change = Change;

    async fn observe(&self) -> Result<Live, Failure> {
        let root = Root::default();
        let rebuilt = self.0.rebuild().await?.clone();
        let stored = self.declare(&rebuilt).observe(&root)?;
        Ok(Live { rebuilt: Some(rebuilt), folder: self.0.folder().observe(&root)?, stored })
    }

    fn plan(&self, live: &Live) -> Result<Vec<Change>, Failure> {
        let folder = self.0.folder().compare(live.folder.as_ref()).map(Change::Folder);
        let write = live.rebuilt.as_ref().and_then(|after| {
            let file = self.declare(after).compare(live.stored.as_ref())?;
            Some(Change::Write { file, before: live.stored.clone(), after: after.clone() })
        });
        Ok(folder.into_iter().chain(write).collect())
    }

    fn foresee(&self) -> Vec<Foreseen> {
        let path = self.0.kubeconfig_path().display().to_string();
        let after = json!({"content": "(the bootstrap cluster's)"});
        vec![Foreseen { line: format!("create {path}"), object: path, before: Value::Null, after }]
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        let (Change::Folder(file) | Change::Write { file, .. }) = change;
        Ok(file.apply(&Root::default())?)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Folder(file) | Self::Write { file, .. }) = self;
        file.fmt(f)
    }
}

/// Keys and certificates are in no diff; what is not secret of a kubeconfig is.
impl converge::Change for Change {
    fn object(&self) -> String {
        let (Self::Folder(file) | Self::Write { file, .. }) = self;
        file.object()
    }

    fn before(&self) -> Value {
        match self {
            Self::Folder(file) => file.before(),
            Self::Write { file, before, .. } => {
                let Some(before) = before else { return Value::Null };
                let content = match &before.content {
                    Some(Content::Text(text)) => Kubeconfig::parse(text).ok().map(|config| config.redacted()),
                    _ => None,
                };
                redacted(file.before(), content.unwrap_or_else(|| json!("(no kubeconfig)")))
            }
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Folder(file) => file.after(),
            Self::Write { file, after, .. } => redacted(file.after(), after.redacted()),
        }
    }
}

fn redacted(mut shown: Value, content: Value) -> Value {
    shown["content"] = content;
    shown
}
