//! Whom LXD trusts, and its listener for those whom it does.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::Request;
use hyper::body::Bytes;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};

use super::answer::{self, Answer, Outcome, Refusal, check_etag, sha256};
use super::request::{Body, Call};
use super::{Model, Shared};
use crate::authority::SelfSigned;
use crate::listener::{Handler, Listener, Reply};

/// What the server is called by those who reach it over the network.
pub(super) struct Endpoint {
    pub(super) own: SelfSigned,
    pub(super) listener: Option<Listener>,
    pub(super) delay: Duration,
    pub(super) model: Weak<Shared>,
}

/// Everybody who is trusted, by the fingerprint of the certificate.
#[derive(Default)]
pub(super) struct Trusted {
    entries: BTreeMap<String, Entry>,
    identities: BTreeMap<String, Identity>,
    groups: BTreeMap<String, Group>,
}

#[derive(Clone)]
struct Entry {
    name: String,
    kind: String,
    restricted: bool,
    projects: Vec<String>,
    certificate: String,
}

struct Identity {
    name: String,
    groups: Vec<String>,
    certificate: String,
}

struct Group {
    description: String,
    permissions: Value,
}

impl Trusted {
    fn includes(&self, fingerprint: &str) -> bool {
        self.entries.contains_key(fingerprint) || self.identities.contains_key(fingerprint)
    }
}

/// The model as those see it who come over the network.
struct Remote {
    model: Arc<Shared>,
    fingerprint: Option<String>,
}

impl Handler for Remote {
    async fn call(self: Arc<Self>, request: Request<Bytes>) -> Reply {
        let trusted = {
            let model = self.model.lock();
            self.fingerprint.as_ref().is_some_and(|fingerprint| model.trusted.includes(fingerprint))
        };
        if trusted {
            return Arc::clone(&self.model).call(request).await;
        }
        let outcome = match Call::of(&request) {
            Some(call) if call.method == "GET" && call.path.is_empty() => Ok(Answer::Read(json!({"auth": "untrusted"}))),
            _ => Err(Refusal::forbidden("not authorized")),
        };
        Reply::Whole(answer::response(outcome))
    }
}

impl Model {
    /// Listens on an address, or on none, as soon as the test wants it.
    pub(super) fn listen_soon(&mut self, address: String) -> Result<(), Refusal> {
        if self.endpoint.delay.is_zero() {
            return self.listen(&address);
        }
        let (delay, model) = (self.endpoint.delay, Weak::clone(&self.endpoint.model));
        thread::spawn(move || {
            thread::sleep(delay);
            if let Some(model) = model.upgrade() {
                // Whoever set the address has had its answer.
                let _ = model.lock().listen(&address);
            }
        });
        Ok(())
    }

    /// Listens on an address, or on none.
    fn listen(&mut self, address: &str) -> Result<(), Refusal> {
        self.endpoint.listener = None;
        if address.is_empty() {
            return Ok(());
        }
        let full = match address.rsplit_once(':') {
            Some(("", port)) => format!("[::]:{port}"),
            Some((host, _)) if !host.is_empty() => address.to_owned(),
            _ => format!("{address}:8443"),
        };
        let socket = TcpListener::bind(&full).map_err(|error| {
            let reason = match error.kind() {
                std::io::ErrorKind::AddrInUse => "address already in use".to_owned(),
                std::io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
                _ => error.to_string(),
            };
            Refusal::internal(format!("Cannot listen on network HTTPS socket \"{full}\": listen tcp {full}: bind: {reason}"))
        })?;
        let Some(model) = self.endpoint.model.upgrade() else { return Ok(()) };
        let remote = move |shown: Option<CertificateDer<'static>>| {
            Arc::new(Remote { model: Arc::clone(&model), fingerprint: shown.map(|certificate| sha256(&certificate)) })
        };
        self.endpoint.listener = Some(Listener::start_tls(socket, self.endpoint.own.serve(), remote));
        Ok(())
    }

    fn view_entry(fingerprint: &str, entry: &Entry) -> Value {
        json!({
            "name": entry.name, "type": entry.kind, "restricted": entry.restricted, "projects": entry.projects,
            "certificate": entry.certificate, "fingerprint": fingerprint,
        })
    }

    pub(super) fn list_certificates(&self, call: &Call) -> Answer {
        Answer::Read(if call.recursive() {
            self.trusted.entries.iter().map(|(fingerprint, entry)| Self::view_entry(fingerprint, entry)).collect()
        } else {
            self.trusted.entries.keys().map(|fingerprint| format!("/1.0/certificates/{fingerprint}")).collect()
        })
    }

    pub(super) fn get_certificate(&self, fingerprint: &str) -> Outcome {
        let object = Self::view_entry(fingerprint, self.entry(fingerprint)?);
        Ok(Answer::Tagged { writable: object.clone(), object })
    }

    fn entry(&self, fingerprint: &str) -> Result<&Entry, Refusal> {
        self.trusted.entries.get(fingerprint).ok_or_else(|| Refusal::not_found("Certificate not found"))
    }

    pub(super) fn create_certificate(&mut self, call: &Call) -> Outcome {
        let body = call.body("CertificatesPost")?;
        let text = body.text("certificate")?.unwrap_or_default();
        let place = text.find(|letter: char| !letter.is_ascii_alphanumeric() && !"+/=".contains(letter)).unwrap_or_default();
        let der = BASE64_STANDARD.decode(&text);
        let der = der.map_err(|_| Refusal::bad_request(format!("illegal base64 data at input byte {place}")))?;
        let fingerprint = sha256(&der);
        let projects = self.projects_of(&body)?.unwrap_or_default();
        if self.trusted.includes(&fingerprint) {
            return Err(Refusal::conflict("Certificate already in trust store"));
        }
        let entry = Entry {
            name: body.text("name")?.unwrap_or_default(),
            kind: body.text("type")?.unwrap_or_default(),
            restricted: body.field("restricted") == Some(&json!(true)),
            projects,
            certificate: armoured(&text),
        };
        let path = format!("/1.0/certificates/{fingerprint}");
        self.trusted.entries.insert(fingerprint, entry);
        Ok(Answer::Created(path))
    }

    fn projects_of(&self, body: &Body) -> Result<Option<Vec<String>>, Refusal> {
        let projects = body.texts("projects")?;
        for project in projects.iter().flatten() {
            self.project(project)?;
        }
        Ok(projects)
    }

    pub(super) fn change_certificate(&mut self, fingerprint: &str, call: &Call, replace: bool) -> Outcome {
        let mut entry = self.entry(fingerprint)?.clone();
        check_etag(call.if_match(), &Self::view_entry(fingerprint, &entry))?;
        let body = call.body("CertificatePut")?;
        let projects = self.projects_of(&body)?;
        if replace || body.field("name").is_some() {
            entry.name = body.text("name")?.unwrap_or_default();
        }
        if replace || projects.is_some() {
            entry.projects = projects.unwrap_or_default();
        }
        if replace || body.field("restricted").is_some() {
            entry.restricted = body.field("restricted") == Some(&json!(true));
        }
        self.trusted.entries.insert(fingerprint.to_owned(), entry);
        Ok(Answer::Done)
    }

    pub(super) fn delete_certificate(&mut self, fingerprint: &str) -> Outcome {
        self.entry(fingerprint)?;
        self.trusted.entries.remove(fingerprint);
        Ok(Answer::Done)
    }

    fn view_identity(fingerprint: &str, identity: &Identity) -> Value {
        json!({
            "id": fingerprint, "name": identity.name, "type": "Client certificate", "authentication_method": "tls",
            "groups": identity.groups, "tls_certificate": identity.certificate,
        })
    }

    fn identity(&self, fingerprint: &str) -> Result<&Identity, Refusal> {
        self.trusted.identities.get(fingerprint).ok_or_else(|| Refusal::not_found("Identity not found"))
    }

    pub(super) fn list_identities(&self) -> Answer {
        let view = |(fingerprint, identity): (&String, &Identity)| Self::view_identity(fingerprint, identity);
        Answer::Read(self.trusted.identities.iter().map(view).collect())
    }

    pub(super) fn get_identity(&self, fingerprint: &str) -> Outcome {
        let object = Self::view_identity(fingerprint, self.identity(fingerprint)?);
        Ok(Answer::Tagged { writable: object.clone(), object })
    }

    pub(super) fn create_identity(&mut self, call: &Call) -> Outcome {
        let body = call.body("IdentitiesTLSPost")?;
        let certificate = body.text("certificate")?.unwrap_or_default();
        let der = CertificateDer::from_pem_slice(certificate.as_bytes());
        let der = der.map_err(|_| Refusal::bad_request("Failed to parse certificate: Certificate is not in PEM format"))?;
        let fingerprint = sha256(&der);
        let name = body.text("name")?.unwrap_or_default();
        if self.trusted.includes(&fingerprint) {
            return Err(Refusal::conflict("Identity already exists"));
        }
        if self.trusted.identities.values().any(|identity| identity.name == name) {
            return Err(Refusal::conflict(format!("An identity with name \"{name}\" already exists")));
        }
        let groups = self.groups_of(&body)?;
        let path = format!("/1.0/auth/identities/tls/{fingerprint}");
        self.trusted.identities.insert(fingerprint, Identity { name, groups, certificate });
        Ok(Answer::Created(path))
    }

    fn groups_of(&self, body: &Body) -> Result<Vec<String>, Refusal> {
        let groups = body.texts("groups")?.unwrap_or_default();
        match groups.iter().find(|group| !self.trusted.groups.contains_key(*group)) {
            Some(_) => Err(Refusal::not_found("One or more groups were not found")),
            None => Ok(groups),
        }
    }

    pub(super) fn put_identity(&mut self, fingerprint: &str, call: &Call) -> Outcome {
        check_etag(call.if_match(), &Self::view_identity(fingerprint, self.identity(fingerprint)?))?;
        let groups = self.groups_of(&call.body("IdentityPut")?)?;
        if let Some(identity) = self.trusted.identities.get_mut(fingerprint) {
            identity.groups = groups;
        }
        Ok(Answer::Done)
    }

    pub(super) fn delete_identity(&mut self, fingerprint: &str) -> Outcome {
        self.identity(fingerprint)?;
        self.trusted.identities.remove(fingerprint);
        Ok(Answer::Done)
    }

    fn view_group(&self, name: &str) -> Result<Value, Refusal> {
        let group = self.trusted.groups.get(name).ok_or_else(|| Refusal::not_found("Group not found"))?;
        let members = self.trusted.identities.iter().filter(|(_, identity)| identity.groups.iter().any(|group| group == name));
        let members: Vec<_> = members.map(|(fingerprint, _)| fingerprint).collect();
        Ok(json!({
            "name": name, "description": group.description, "permissions": group.permissions,
            "identities": {"tls": members}, "identity_provider_groups": [],
        }))
    }

    pub(super) fn list_groups(&self) -> Outcome {
        let groups = self.trusted.groups.keys().map(|name| self.view_group(name));
        groups.collect::<Result<_, _>>().map(Answer::Read)
    }

    pub(super) fn get_group(&self, name: &str) -> Outcome {
        let object = self.view_group(name)?;
        Ok(Answer::Tagged { writable: object.clone(), object })
    }

    pub(super) fn create_group(&mut self, call: &Call) -> Outcome {
        let body = call.body("AuthGroupsPost")?;
        let name = body.text("name")?.unwrap_or_default();
        if self.trusted.groups.contains_key(&name) {
            return Err(Refusal::conflict("Group already exists"));
        }
        let path = format!("/1.0/auth/groups/{name}");
        self.trusted.groups.insert(name, self.group_of(&body)?);
        Ok(Answer::Created(path))
    }

    fn group_of(&self, body: &Body) -> Result<Group, Refusal> {
        let permissions = body.field("permissions").cloned().unwrap_or_default();
        for permission in permissions.as_array().into_iter().flatten() {
            let url = permission["url"].as_str().unwrap_or_default();
            self.project(url.strip_prefix("/1.0/projects/").unwrap_or_default())?;
        }
        Ok(Group { description: body.text("description")?.unwrap_or_default(), permissions })
    }

    pub(super) fn put_group(&mut self, name: &str, call: &Call) -> Outcome {
        check_etag(call.if_match(), &self.view_group(name)?)?;
        let group = self.group_of(&call.body("AuthGroupPut")?)?;
        self.trusted.groups.insert(name.to_owned(), group);
        Ok(Answer::Done)
    }

    pub(super) fn delete_group(&mut self, name: &str) -> Outcome {
        self.view_group(name)?;
        self.trusted.groups.remove(name);
        for identity in self.trusted.identities.values_mut() {
            identity.groups.retain(|group| group != name);
        }
        Ok(Answer::Done)
    }
}

/// Base64 between the lines that make a PEM of it.
fn armoured(text: &str) -> String {
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
