//! Whom a server trusts: entries of its trust store, and on servers that have them identities whose reach their groups give.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Client, Error, Tagged, error::if_there};

/// Servers with this extension have identities whose reach their groups give.
const FINE_GRAINED: &str = "access_management_tls";

/// An entry of the trust store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TrustEntry {
    /// Its name, which others may have too.
    pub name: String,
    /// `client`, `server` or `metrics`.
    #[serde(rename = "type")]
    pub kind: String,
    /// It reaches no more than its projects.
    pub restricted: bool,
    /// What it reaches if it is restricted.
    pub projects: Option<Vec<String>>,
    /// The SHA-256 of its certificate.
    pub fingerprint: String,
}

impl TrustEntry {
    /// It reaches this project and nothing else.
    #[must_use]
    pub fn reaches_only(&self, project: &str) -> bool {
        self.restricted && self.projects.as_deref() == Some(&[project.to_owned()])
    }

    /// What a write of it carries.
    #[must_use]
    pub fn writable(&self) -> Value {
        json!({"name": self.name, "type": self.kind, "restricted": self.restricted, "projects": self.projects})
    }
}

/// An identity whose reach its groups give.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TlsIdentity {
    /// The SHA-256 of its certificate.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its groups.
    pub groups: Option<Vec<String>>,
}

/// A group of identities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AuthGroup {
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// What its members may do.
    pub permissions: Option<Vec<Permission>>,
    /// Its members by how they show who they are: `tls` or `oidc`.
    pub identities: Option<BTreeMap<String, Vec<String>>>,
}

impl AuthGroup {
    /// Its members reach something in this project, and nothing else by it.
    #[must_use]
    pub fn reaches_only(&self, project: &str) -> bool {
        let path = format!("/1.0/projects/{project}");
        self.permissions.as_deref().is_some_and(|all| !all.is_empty() && all.iter().all(|permission| permission.url == path))
    }
}

/// Something that members of a group may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Permission {
    /// The kind of what it is about: `project`.
    pub entity_type: String,
    /// What it is about: `/1.0/projects/capi-lab`.
    pub url: String,
    /// What may be done with it: `operator`.
    pub entitlement: String,
}

impl Client {
    /// Whether the server has identities whose reach their groups give.
    #[must_use]
    pub fn has_fine_grained_identities(&self) -> bool {
        self.has(FINE_GRAINED)
    }

    /// All entries of the trust store.
    pub async fn trust_entries(&self) -> Result<Vec<TrustEntry>, Error> {
        Ok(self.get("certificates?recursion=1").await?.object)
    }

    /// The entry of a certificate.
    pub async fn find_trust_entry(&self, fingerprint: &str) -> Result<Option<Tagged<TrustEntry>>, Error> {
        if_there(self.get(&format!("certificates/{fingerprint}")).await)
    }

    /// The identity that a certificate shows.
    pub async fn find_tls_identity(&self, fingerprint: &str) -> Result<Option<Tagged<TlsIdentity>>, Error> {
        if_there(self.get(&format!("auth/identities/tls/{fingerprint}")).await)
    }

    /// All identities whose reach their groups give.
    pub async fn tls_identities(&self) -> Result<Vec<TlsIdentity>, Error> {
        Ok(self.get("auth/identities/tls?recursion=1").await?.object)
    }

    /// All groups of identities.
    pub async fn auth_groups(&self) -> Result<Vec<AuthGroup>, Error> {
        Ok(self.get("auth/groups?recursion=1").await?.object)
    }

    /// A group of identities.
    pub async fn find_auth_group(&self, name: &str) -> Result<Option<Tagged<AuthGroup>>, Error> {
        if_there(self.get(&format!("auth/groups/{name}")).await)
    }
}
