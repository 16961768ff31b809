//! What the certificate reaches beyond its project. Fixes come without an extension that tells of them, so it is tried out.

use converge::{Explain as _, Failure};
use lxd::{Client, Error};
use serde_json::{Value, json};

/// A project that every server has.
const ELSEWHERE: &str = "default";

/// Names what the provider's connection may do that it should not; `by_entry` says that an entry in the trust store lets it in.
pub(crate) async fn residual(provider: &Client, project: &str, by_entry: bool) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    // Incus shows restricted clients the networks that their projects inherit, and no more.
    if by_entry && provider.server().environment.server == "lxd" {
        found.push("network-edit");
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
