//! Whom LXD trusts: the provider's certificate, for the lab's project and nothing else.

use std::fmt;

use converge::{Failure, Section};
use lab::names;
use lxd::{AuthGroup, Client, Permission, Tagged, TlsIdentity, TrustEntry};
use serde_json::{Value, json};

use crate::{BootstrapCapnSecret, error::Error, identity::Identity, secret::Secrets};

/// The section: the certificate is let in, and reaches the project alone.
pub(crate) struct Trust<'a> {
    pub step: &'a BootstrapCapnSecret,
    pub identity: &'a Identity,
}

#[derive(Default)]
pub(crate) struct Live {
    entry: Option<Tagged<TrustEntry>>,
    /// On a server that has identities whose reach their groups give.
    fine_grained: Option<FineGrained>,
}

#[derive(Default)]
pub(crate) struct FineGrained {
    group: Option<Tagged<AuthGroup>>,
    identity: Option<Tagged<TlsIdentity>>,
}

/// One thing that becomes of the trust store.
pub(crate) struct Change {
    object: String,
    before: Value,
    after: Value,
    write: Write,
}

enum Write {
    Create {
        collection: &'static str,
        body: Value,
    },
    Replace {
        path: String,
        body: Value,
        etag: Option<String>,
    },
    /// The certificate's fingerprint goes with it.
    Delete {
        path: String,
        fingerprint: String,
    },
}

impl Change {
    pub(crate) fn creates(&self) -> bool {
        matches!(self.write, Write::Create { .. })
    }

    async fn apply(&self, client: &Client) -> Result<(), Failure> {
        match &self.write {
            Write::Create { collection, body } => drop(client.post(collection, body).await?),
            Write::Replace { path, body, etag } => drop(client.put(path, body, etag.as_deref()).await?),
            Write::Delete { path, .. } => drop(lxd::if_there(client.delete(path).await)?),
        }
        Ok(())
    }
}

impl Section for Trust<'_> {
    const NAME: &'static str = "lxd_trust";
    type Live = Live;
    type Change = Change;

    async fn observe(&self) -> Result<Live, Failure> {
        let client = self.step.lxd.client().await?;
        // What is still to be issued, LXD cannot know.
        let fingerprint = self.identity.pair.now().map(|pair| pair.fingerprint.as_str());
        let entry = match fingerprint {
            Some(fingerprint) => client.find_trust_entry(fingerprint).await?,
            None => None,
        };
        if entry.is_some() || !client.has_fine_grained_identities() {
            return Ok(Live { entry, fine_grained: None });
        }
        let identity = match fingerprint {
            Some(fingerprint) => client.find_tls_identity(fingerprint).await?,
            None => None,
        };
        let group = client.find_auth_group(&self.step.group()).await?;
        Ok(Live { entry, fine_grained: Some(FineGrained { group, identity }) })
    }

    fn plan(&self, live: &Live) -> Result<Vec<Change>, Failure> {
        match live {
            Live { entry: Some(entry), .. } => Ok(self.tighten(entry)?.into_iter().collect()),
            Live { fine_grained: Some(found), .. } => Ok(self.group(found).into_iter().chain(self.member(found)).collect()),
            Live { .. } => Ok(vec![self.entry()]),
        }
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        change.apply(self.step.lxd.client().await?).await
    }
}

impl Trust<'_> {
    fn wanted(&self) -> TrustEntry {
        TrustEntry {
            name: self.step.trust_name.clone(),
            kind: "client".into(),
            restricted: true,
            projects: Some(vec![self.step.lxd_project.clone()]),
            ..TrustEntry::default()
        }
    }

    fn entry(&self) -> Change {
        let after = self.wanted().writable();
        let mut body = after.clone();
        body["certificate"] = json!(self.identity.base64());
        let write = Write::Create { collection: "certificates", body };
        Change { object: format!("trust entry {}", self.step.trust_name), before: Value::Null, after, write }
    }

    /// An entry of our certificate and name that reaches further than the project, or elsewhere.
    fn tighten(&self, live: &Tagged<TrustEntry>) -> Result<Option<Change>, Error> {
        let entry = &live.object;
        if entry.kind == "client" && entry.reaches_only(&self.step.lxd_project) {
            return Ok(None);
        }
        let wanted = self.wanted();
        if (&entry.name, &entry.kind) != (&wanted.name, &wanted.kind) {
            let project = self.step.lxd_project.clone();
            return Err(Error::EntryOfAnother { name: entry.name.clone(), project });
        }
        let (before, after) = (entry.writable(), wanted.writable());
        let path = format!("certificates/{}", entry.fingerprint);
        let write = Write::Replace { path, body: after.clone(), etag: live.etag.clone() };
        Ok(Some(Change { object: format!("trust entry {}", entry.name), before, after, write }))
    }

    fn group(&self, found: &FineGrained) -> Option<Change> {
        let name = self.step.group();
        let permissions = vec![Permission {
            entity_type: "project".into(),
            url: format!("/1.0/projects/{}", self.step.lxd_project),
            entitlement: "operator".into(),
        }];
        let description = names::PROVIDER_GROUP_DESCRIPTION;
        let after = json!({"name": name, "description": description, "permissions": permissions});
        let object = format!("group {name}");
        let Some(live) = &found.group else {
            let write = Write::Create { collection: "auth/groups", body: after.clone() };
            return Some(Change { object, before: Value::Null, after, write });
        };
        if live.object.permissions.as_ref() == Some(&permissions) {
            return None;
        }
        let before = json!({"name": name, "description": live.object.description, "permissions": live.object.permissions});
        let body = json!({"description": description, "permissions": permissions});
        let write = Write::Replace { path: format!("auth/groups/{name}"), body, etag: live.etag.clone() };
        Some(Change { object, before, after, write })
    }

    fn member(&self, found: &FineGrained) -> Option<Change> {
        let groups = vec![self.step.group()];
        let object = format!("identity {}", self.step.trust_name);
        let after = json!({"groups": groups});
        let Some(live) = &found.identity else {
            let body = json!({"name": self.identity_name(), "certificate": self.identity.pem(), "groups": groups});
            let write = Write::Create { collection: "auth/identities/tls", body };
            return Some(Change { object, before: Value::Null, after, write });
        };
        if live.object.groups.as_ref() == Some(&groups) {
            return None;
        }
        let path = format!("auth/identities/tls/{}", live.object.id);
        let write = Write::Replace { path, body: after.clone(), etag: live.etag.clone() };
        Some(Change { object, before: json!({"groups": live.object.groups}), after, write })
    }

    /// Names of such identities are unique, and while a certificate is replaced there are two.
    fn identity_name(&self) -> String {
        let fingerprint = self.identity.pair.now().map_or("", |pair| &pair.fingerprint);
        format!("{}-{}", self.step.trust_name, &fingerprint[..fingerprint.len().min(12)])
    }
}

/// The section: certificates that were replaced are let in no more, once no Secret carries them.
pub(crate) struct OldTrust<'a> {
    step: &'a BootstrapCapnSecret,
    identity: &'a Identity,
    secrets: &'a Secrets<'a>,
    /// The step's own Secrets carry the new certificate by now.
    delivered: bool,
    /// The certificates that were replaced.
    replaced: Vec<String>,
}

#[derive(Default)]
pub(crate) struct LiveOld {
    /// Fingerprints and paths of what is trusted in our name for the project.
    trusted: Vec<(String, String)>,
    /// Fingerprints of replaced certificates that other Secrets carry.
    in_use: Vec<String>,
}

impl<'a> OldTrust<'a> {
    pub(crate) fn of(
        step: &'a BootstrapCapnSecret,
        identity: &'a Identity,
        secrets: &'a Secrets<'a>,
        delivered: bool,
    ) -> Result<Self, Failure> {
        let mut replaced = step.retired().read()?;
        // What this run replaces counts, written down or not.
        replaced
            .extend(identity.replaced.iter().filter(|fingerprint| !replaced.contains(fingerprint)).cloned().collect::<Vec<_>>());
        Ok(Self { step, identity, secrets, delivered, replaced })
    }
}

/// Fingerprints and paths of what is trusted in our name for the project.
pub(crate) async fn trusted(step: &BootstrapCapnSecret) -> Result<Vec<(String, String)>, Failure> {
    let client = step.lxd.client().await?;
    let entries = client.trust_entries().await?.into_iter().filter(|entry| step.owns(entry));
    let mut trusted: Vec<_> =
        entries.map(|entry| (entry.fingerprint.clone(), format!("certificates/{}", entry.fingerprint))).collect();
    if client.has_fine_grained_identities() {
        let group = client.find_auth_group(&step.group()).await?;
        let members = group.and_then(|group| group.object.identities).and_then(|mut members| members.remove("tls"));
        let path = |fingerprint: String| (fingerprint.clone(), format!("auth/identities/tls/{fingerprint}"));
        trusted.extend(members.into_iter().flatten().map(path));
    }
    Ok(trusted)
}

impl Section for OldTrust<'_> {
    const NAME: &'static str = "old_trust";
    type Live = LiveOld;
    type Change = Change;

    async fn observe(&self) -> Result<LiveOld, Failure> {
        let prune = self.step.prune_old_trust;
        if !prune && (self.replaced.is_empty() || !self.delivered) {
            return Ok(LiveOld::default());
        }
        let in_use = if prune { Vec::new() } else { self.secrets.elsewhere(&self.replaced).await? };
        Ok(LiveOld { trusted: trusted(self.step).await?, in_use })
    }

    fn plan(&self, live: &LiveOld) -> Result<Vec<Change>, Failure> {
        let current = self.identity.pair.now().map(|pair| &pair.fingerprint);
        let old = |(fingerprint, _): &&(String, String)| {
            let replaced = self.replaced.contains(fingerprint) && !live.in_use.contains(fingerprint);
            Some(fingerprint) != current && (replaced || self.step.prune_old_trust)
        };
        Ok(live.trusted.iter().filter(old).map(|(fingerprint, path)| self.delete(fingerprint, path)).collect())
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        change.apply(self.step.lxd.client().await?).await?;
        match &change.write {
            Write::Delete { fingerprint, .. } => self.step.retired().remove(fingerprint),
            _ => Ok(()),
        }
    }
}

impl OldTrust<'_> {
    fn delete(&self, fingerprint: &str, path: &str) -> Change {
        let write = Write::Delete { path: path.to_owned(), fingerprint: fingerprint.to_owned() };
        let object = format!("old trust of {}", self.step.trust_name);
        Change { object, before: json!({"fingerprint": fingerprint}), after: Value::Null, write }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.write {
            Write::Create { .. } => write!(f, "create {}", self.object),
            Write::Replace { .. } => {
                write!(f, "{}:", self.object)?;
                let fields = self.after.as_object().into_iter().flatten();
                let changed = fields.filter(|(key, after)| self.before[key.as_str()] != **after);
                let lines: Vec<_> = changed.map(|(key, after)| format!(" {key}: {} -> {after}", self.before[key])).collect();
                f.write_str(&lines.join(","))
            }
            Write::Delete { fingerprint, .. } => write!(f, "remove {} ({})", self.object, &fingerprint[..12]),
        }
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        self.object.clone()
    }

    fn before(&self) -> Value {
        self.before.clone()
    }

    fn after(&self) -> Value {
        self.after.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{identity, planned};

    fn entry(bend: impl FnOnce(&mut TrustEntry)) -> Live {
        let mut object = TrustEntry {
            name: "k8slab-capn".into(),
            kind: "client".into(),
            restricted: true,
            projects: Some(vec!["capi-lab".into()]),
            fingerprint: "c0ffee".into(),
        };
        bend(&mut object);
        Live { entry: Some(Tagged { object, etag: None }), fine_grained: None }
    }

    fn fine_grained(permissions: &[(&str, &str)], groups: &[&str]) -> Live {
        let permissions = permissions.iter().map(|(project, entitlement)| Permission {
            entity_type: "project".into(),
            url: format!("/1.0/projects/{project}"),
            entitlement: (*entitlement).into(),
        });
        let group = AuthGroup { permissions: Some(permissions.collect()), ..AuthGroup::default() };
        let groups = groups.iter().map(|name| (*name).to_owned()).collect();
        let identity = TlsIdentity { groups: Some(groups), ..TlsIdentity::default() };
        let tagged = FineGrained {
            group: Some(Tagged { object: group, etag: None }),
            identity: Some(Tagged { object: identity, etag: None }),
        };
        Live { entry: None, fine_grained: Some(tagged) }
    }

    #[test]
    fn plans() {
        let step = BootstrapCapnSecret::default();
        let identity = identity();
        let operator = [("capi-lab", "operator")];
        for (case, live, expected) in [
            ("unknown", Live::default(), "create trust entry k8slab-capn"),
            ("as desired", entry(|_| ()), ""),
            (
                "unrestricted",
                entry(|entry| (entry.restricted, entry.projects) = (false, None)),
                r#"trust entry k8slab-capn: projects: null -> ["capi-lab"], restricted: false -> true"#,
            ),
            (
                "for another project",
                entry(|entry| entry.projects = Some(vec!["other".into()])),
                r#"trust entry k8slab-capn: projects: ["other"] -> ["capi-lab"]"#,
            ),
            (
                "for another project too",
                entry(|entry| entry.projects = Some(vec!["capi-lab".into(), "other".into()])),
                r#"trust entry k8slab-capn: projects: ["capi-lab","other"] -> ["capi-lab"]"#,
            ),
            ("another name, and no wider", entry(|entry| entry.name = "admin".into()), ""),
            (
                "an administrator's own",
                entry(|entry| (entry.name, entry.restricted) = ("admin".into(), false)),
                "TRUST_ENTRY_OF_ANOTHER: LXD trusts the certificate under the name admin already, and not for project capi-lab alone",
            ),
            (
                "identities, none yet",
                Live { entry: None, fine_grained: Some(FineGrained::default()) },
                "create group k8slab-capn-capi-lab; create identity k8slab-capn",
            ),
            ("identities, as desired", fine_grained(&operator, &["k8slab-capn-capi-lab"]), ""),
            (
                "a group that may more",
                fine_grained(&[operator[0], ("default", "operator")], &["k8slab-capn-capi-lab"]),
                "group k8slab-capn-capi-lab: description: \"\" -> \"k8slab: may use the instances of the lab's project\", permissions: \
                 [{\"entitlement\":\"operator\",\"entity_type\":\"project\",\"url\":\"/1.0/projects/capi-lab\"},\
                 {\"entitlement\":\"operator\",\"entity_type\":\"project\",\"url\":\"/1.0/projects/default\"}] -> \
                 [{\"entitlement\":\"operator\",\"entity_type\":\"project\",\"url\":\"/1.0/projects/capi-lab\"}]",
            ),
            (
                "an identity that may more",
                fine_grained(&operator, &["admins", "k8slab-capn-capi-lab"]),
                "identity k8slab-capn: groups: [\"admins\",\"k8slab-capn-capi-lab\"] -> [\"k8slab-capn-capi-lab\"]",
            ),
        ] {
            let trust = Trust { step: &step, identity: &identity };
            assert_eq!(planned(&trust, &live), expected, "{case}");
        }
    }

    #[test]
    fn only_what_is_ours_is_old() {
        let step = BootstrapCapnSecret::default();
        for (case, bend, owned) in [
            ("ours", (|_| ()) as fn(&mut TrustEntry), true),
            ("ours, and unrestricted", |entry| entry.restricted = false, true),
            ("another lab's", |entry| entry.projects = Some(vec!["other".into()]), false),
            ("an operator's", |entry| entry.name = "admin".into(), false),
            ("a metrics client's", |entry| entry.kind = "metrics".into(), false),
        ] {
            assert_eq!(step.owns(&entry(bend).entry.unwrap().object), owned, "{case}");
        }
    }

    #[test]
    fn what_was_replaced_goes_when_nobody_uses_it() {
        let identity = identity();
        let current = identity.pair.now().unwrap().fingerprint.clone();
        let [old, older] = ["a".repeat(64), "b".repeat(64)];
        let trusted =
            [&current, &old, &older].map(|fingerprint| (fingerprint.clone(), format!("certificates/{fingerprint}"))).to_vec();
        let [no_old, no_older] = ["aaaaaaaaaaaa", "bbbbbbbbbbbb"].map(|short| format!("remove old trust of k8slab-capn ({short})"));
        for (case, replaced, prune, in_use, expected) in [
            ("nothing was replaced", vec![], false, vec![], String::new()),
            ("one was", vec![old.clone()], false, vec![], no_old.clone()),
            ("one was, and is used", vec![old.clone()], false, vec![old.clone()], String::new()),
            ("the one in use is on the list", vec![current.clone()], false, vec![], String::new()),
            ("all that is old is to go", vec![], true, vec![], format!("{no_old}; {no_older}")),
        ] {
            let step = BootstrapCapnSecret { prune_old_trust: prune, ..BootstrapCapnSecret::default() };
            let listener = crate::Listener::of(&step);
            let secrets = Secrets::of(&step, &listener, &identity);
            let section = OldTrust { step: &step, identity: &identity, secrets: &secrets, delivered: true, replaced };
            assert_eq!(planned(&section, &LiveOld { trusted: trusted.clone(), in_use }), expected, "{case}");
        }
    }
}
