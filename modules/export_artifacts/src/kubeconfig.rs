//! The kubeconfig as it lies on the runner.

use std::fmt;

use cluster::Kubeconfig;
use converge::{Failure, Section};
use host::{
    Owner, Root,
    file::{Content, Declared, FileChange, Live},
};
use serde_json::{Value, json};

use crate::{ExportArtifacts, error::Error, source};

pub(crate) struct MgmtKubeconfig<'a>(pub &'a ExportArtifacts);

/// The file, with what may be shown of it.
pub(crate) struct Change {
    file: FileChange,
    before: Value,
    after: Value,
}

impl MgmtKubeconfig<'_> {
    fn declare(&self, kubeconfig: &Kubeconfig) -> Declared {
        let content = Content::Text(kubeconfig.to_yaml().expose().to_owned());
        Declared { path: self.0.kubeconfig_path(), content, owner: Owner::own(), mode: 0o600 }
    }
}

impl Section for MgmtKubeconfig<'_> {
    const NAME: &'static str = "mgmt_kubeconfig";
    type Live = Option<Live>;
    type Change = Change;

    async fn observe(&self) -> Result<Option<Live>, Failure> {
        Ok(self.declare(&given(self.0)?).observe(&Root::default())?)
    }

    fn plan(&self, live: &Option<Live>) -> Result<Vec<Change>, Failure> {
        // In check mode the host may not have it yet.
        if self.0.kubeconfig.is_none() {
            return Ok(Vec::new());
        }
        let kubeconfig = given(self.0)?;
        let change = |file| Change { file, before: live.as_ref().map_or(Value::Null, shown), after: show(&kubeconfig, 0o600) };
        Ok(self.declare(&kubeconfig).compare(live.as_ref()).map(change).into_iter().collect())
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        Ok(change.file.apply(&Root::default())?)
    }
}

/// What was read on the host.
fn given(step: &ExportArtifacts) -> Result<Kubeconfig, Failure> {
    let text = step.kubeconfig.as_ref().ok_or(Error::NotRead)?;
    let kubeconfig = Kubeconfig::parse(text.expose())?;
    kubeconfig.travels()?;
    source::check_server(kubeconfig.server())?;
    Ok(kubeconfig)
}

/// The kubeconfig that the runner has, or will have.
pub(crate) fn shipped(step: &ExportArtifacts) -> Result<Kubeconfig, Failure> {
    if step.mgmt_kubeconfig_enabled { given(step) } else { Ok(Kubeconfig::read(&step.kubeconfig_path())?) }
}

fn shown(live: &Live) -> Value {
    let parsed = match &live.content {
        Some(Content::Text(text)) => Kubeconfig::parse(text).ok(),
        _ => None,
    };
    parsed.map_or_else(|| json!({"mode": format!("{:04o}", live.mode)}), |kubeconfig| show(&kubeconfig, live.mode))
}

fn show(kubeconfig: &Kubeconfig, mode: u32) -> Value {
    json!({"mode": format!("{mode:04o}"), "content": kubeconfig.redacted()})
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        self.file.object()
    }

    fn before(&self) -> Value {
        self.before.clone()
    }

    fn after(&self) -> Value {
        self.after.clone()
    }
}
