//! What the certificate reaches beyond its project. Fixes come without an extension that tells of them, so it is tried out: once for
//! each version of a server, since trying is more than looking. What was found is recorded on the project.

use std::fmt;

use converge::{Change, Explain as _, Failure, Section};
use lab::{keys, project::RESIDUAL_KEY};
use lxd::{Client, Declared, Error, Project, Tagged};
use serde_json::{Value, json};

use crate::{BootstrapCapnSecret, identity::Identity, listener::Listener};

/// The section: it is known what the certificate reaches.
pub(crate) struct Residual<'a> {
    pub step: &'a BootstrapCapnSecret,
    pub listener: &'a Listener<'a>,
    pub identity: &'a Identity,
}

#[derive(Default)]
pub(crate) struct Live {
    /// What was recorded last.
    record: Option<String>,
    /// What the answer depends on.
    ground: String,
}

/// The certificate is tried.
pub(crate) struct TryOut {
    record: Option<String>,
    ground: String,
}

/// What was found, as far as it was found on such a server.
pub(crate) fn recorded(project: &Project, ground: &str) -> Option<Vec<String>> {
    let found = project.config.get(RESIDUAL_KEY)?.strip_prefix(ground)?.strip_prefix(": ")?;
    Some(found.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect())
}

impl Residual<'_> {
    /// The server, and what lets the certificate in: an entry in the trust store, or an identity.
    pub(crate) async fn ground(&self) -> Result<String, Failure> {
        let client = self.step.lxd.client().await?;
        let environment = &client.server().environment;
        let by = if self.by_entry(client).await? { "entry" } else { "identity" };
        Ok(format!("{} {} by {by}", environment.server, environment.server_version))
    }

    async fn by_entry(&self, client: &Client) -> Result<bool, Failure> {
        // Where nothing else lets it in, an entry does, also one that is still to be made.
        if !client.has_fine_grained_identities() {
            return Ok(true);
        }
        let Some(pair) = self.identity.pair.now() else { return Ok(false) };
        Ok(client.find_trust_entry(&pair.fingerprint).await?.is_some())
    }

    pub(crate) async fn project(&self) -> Result<Option<Tagged<Project>>, Failure> {
        Ok(self.step.lxd.client().await?.find(&self.step.lxd_project).await?)
    }
}

impl Section for Residual<'_> {
    const NAME: &'static str = "residual";
    type Live = Live;
    type Change = TryOut;

    async fn observe(&self) -> Result<Live, Failure> {
        let record = self.project().await?.and_then(|mut project| project.object.config.remove(RESIDUAL_KEY));
        Ok(Live { record, ground: self.ground().await? })
    }

    fn plan(&self, live: &Live) -> Result<Vec<TryOut>, Failure> {
        let is_known = live.record.as_ref().is_some_and(|record| record.starts_with(&format!("{}: ", live.ground)));
        Ok(if is_known { Vec::new() } else { vec![TryOut { record: live.record.clone(), ground: live.ground.clone() }] })
    }

    async fn apply(&self, change: &TryOut) -> Result<(), Failure> {
        let client = self.step.lxd.client().await?;
        let provider = self.step.enter(self.listener, self.identity).await?;
        let found = residual(&provider, &self.step.lxd_project, self.by_entry(client).await?).await?;
        let Some(project) = self.project().await? else { return Ok(()) };
        let config = keys::set([(RESIDUAL_KEY, format!("{}: {}", change.ground, found.join(",")))]);
        let declared = Declared { config, ..Declared::new(&project.object.name, &project.object.description) };
        match declared.compare(Some(&project)) {
            Some(record) => Ok(record.apply(client).await?),
            None => Ok(()),
        }
    }
}

impl fmt::Display for TryOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("try what the certificate reaches beyond the project")
    }
}

impl Change for TryOut {
    fn object(&self) -> String {
        "reach of the certificate".to_owned()
    }

    fn before(&self) -> Value {
        json!(self.record)
    }

    fn after(&self) -> Value {
        json!(format!("{}: to be found out", self.ground))
    }
}

/// A project that every server has.
const ELSEWHERE: &str = "default";

/// Names what the provider's connection may do that it should not; `by_entry` says that an entry in the trust store lets it in.
async fn residual(provider: &Client, project: &str, by_entry: bool) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    // Incus shows restricted clients the networks that their projects inherit, and no more.
    if by_entry && provider.server().environment.server == "lxd" {
        found.push("network-edit");
        if provider.has_forwards() {
            found.push("network-forward");
        }
    }
    if project != ELSEWHERE && copies_from_elsewhere(provider).await? {
        found.push("project-copy");
    }
    if project != ELSEWHERE && hears_of_elsewhere(provider).await? {
        found.push("project-events");
    }
    Ok(found.into_iter().map(str::to_owned).collect())
}

/// A server that does not ask whose it is goes on to look for what is to be copied. Nothing has this name, so nothing is copied.
async fn copies_from_elsewhere(provider: &Client) -> Result<bool, Failure> {
    let source = json!({"type": "copy", "source": "k8slab-nothing", "project": ELSEWHERE});
    match provider.post("instances", &json!({"name": "k8slab-copy-of-nothing", "source": source})).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(error.to_string().contains("Instance not found")),
        Err(error) if is_forbidden(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A server that lets everybody hear of every project goes on to ask for a WebSocket.
async fn hears_of_elsewhere(provider: &Client) -> Result<bool, Failure> {
    match provider.in_project(ELSEWHERE).get::<Value>("events").await {
        Ok(_) | Err(Error::NotLxd { .. } | Error::Refused { status: 400, .. }) => Ok(true),
        Err(error) if is_forbidden(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_forbidden(error: &Error) -> bool {
    error.code() == "LXD_FORBIDDEN"
}
