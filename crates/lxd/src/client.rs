//! The connection to a server: requests, answers and operations.
//!
//! An answer's type decides whether it is final or an operation to wait for. A write can carry the ETag of what was read; if the object
//! has changed since, it fails as a conflict. Nothing is tried twice, except a list that LXD 5.0 was overtaken on, and what a server
//! that is just starting did not look at.

use std::{collections::BTreeMap, path::Path, time::Duration};

use converge::{Wait, cause};
use reqwest::{
    Method, StatusCode, Url,
    header::{ETAG, HeaderMap, IF_MATCH},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Error, Object, Server,
    error::if_there,
    exchange::{Limits, Reply},
    operation,
};

/// How long an operation may take unless the caller says otherwise, and a write that is carried out before it is answered.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long an object may be in the making. A pool takes ten seconds where no udev runs.
const MAKING: Duration = Duration::from_secs(60);

/// How often a list may be overtaken by the end of one of its objects.
const LISTINGS_OVERTAKEN: usize = 4;

/// An object as it was read, with the tag that a write of it must match.
#[derive(Clone, Debug, Default)]
pub struct Tagged<T> {
    /// The object.
    pub object: T,
    /// What the server calls this state of it.
    pub etag: Option<String>,
}

/// A connection to a server, seen from one project.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    address: String,
    project: Option<String>,
    patience: Duration,
    limits: Limits,
    server: Server,
}

/// What every answer of LXD looks like.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Envelope {
    Sync {
        #[serde(default)]
        metadata: Value,
    },
    Async {
        operation: String,
    },
    Error {
        error: String,
        error_code: u16,
    },
}

/// An answer that is no error.
enum Answer {
    Sync { metadata: Value },
    Async { operation: String },
}

impl Client {
    /// Connects to a unix socket.
    pub async fn unix(socket: &Path) -> Result<Self, Error> {
        let address = socket.display().to_string();
        let http = transport::client().unix_socket(socket);
        Self::connect(http, "http://lxd/", address, Limits::LOCAL).await
    }

    pub(crate) async fn connect(http: reqwest::ClientBuilder, base: &str, address: String, limits: Limits) -> Result<Self, Error> {
        let client = Self::reach(http, base, address, limits).await?;
        if client.server.auth != "trusted" {
            return Err(client.odd(format!("it answers, but says that this client is {}", or_nothing(&client.server.auth))));
        }
        Ok(client)
    }

    /// Connects to a server that may not trust this client.
    pub(crate) async fn reach(http: reqwest::ClientBuilder, base: &str, address: String, limits: Limits) -> Result<Self, Error> {
        let setup = |reason: String| Error::Setup { address: address.clone(), reason };
        let http = http.no_proxy().build().map_err(|error| setup(cause(&error)))?;
        let base = Url::parse(base).map_err(|error| setup(error.to_string()))?;
        let mut client = Self { http, base, address, project: None, patience: PATIENCE, limits, server: Server::default() };
        client.server = client.get("").await?.object;
        Ok(client)
    }

    /// What the server said of itself when the connection was made.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Whether the server knows an extension of the API.
    #[must_use]
    pub fn has(&self, extension: &str) -> bool {
        self.server.api_extensions.iter().any(|known| known == extension)
    }

    /// The same connection, seen from a project.
    #[must_use]
    pub fn in_project(&self, project: &str) -> Self {
        Self { project: Some(project.to_owned()), ..self.clone() }
    }

    /// The same connection with another deadline for operations.
    #[must_use]
    pub fn patient(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// An object that may not be there.
    pub async fn find<T: Object>(&self, name: &str) -> Result<Option<Tagged<T>>, Error> {
        if_there(self.get(&path::<T>(name)).await)
    }

    /// An object that may not be there. One that another run is making at the moment is waited for.
    pub async fn find_made<T: Object>(&self, name: &str, made: impl Fn(&T) -> bool) -> Result<Option<Tagged<T>>, Error> {
        let wait = Wait::for_condition(format!("{} {name}: no longer in the making", T::KIND), MAKING);
        let look = async || {
            let found = self.find::<T>(name).await?;
            Ok::<_, Error>(if found.as_ref().is_none_or(|found| made(&found.object)) { Ok(found) } else { Err("not made yet") })
        };
        match wait.until(look).await {
            // Nobody is at it any more; what is there is for the caller to judge.
            Err(Error::Wait(_)) => self.find(name).await,
            found => found,
        }
    }

    /// All objects of a kind.
    pub async fn list<T: Object>(&self) -> Result<Vec<T>, Error> {
        self.listed(&format!("{}?recursion=1", T::COLLECTION)).await
    }

    /// The objects of a list, by its path.
    pub(crate) async fn listed<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Error> {
        let mut listed = self.get(path).await;
        // LXD 5.0 reads the objects one by one, and finds no list when one of them goes meanwhile.
        for _ in 0..LISTINGS_OVERTAKEN {
            match &listed {
                Err(error) if error.is_not_found() => listed = self.get(path).await,
                _ => break,
            }
        }
        Ok(listed?.object)
    }

    /// Reads a path below `/1.0`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Tagged<T>, Error> {
        let request = Request { method: Method::GET, path, body: None, etag: None };
        let reply = self.send(&request, self.limits.answer).await?;
        let (answer, headers) = self.read(&request, reply)?;
        let Answer::Sync { metadata } = answer else {
            return Err(self.odd(format!("{request} was answered by an operation")));
        };
        let object = serde_json::from_value(metadata).map_err(|error| self.odd(format!("{request}: {error}")))?;
        Ok(Tagged { object, etag: headers.get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned) })
    }

    /// Creates something, and waits until it is there.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.write(&Request { method: Method::POST, path, body: Some(body), etag: None }).await
    }

    /// Replaces something, if it is still what was read.
    pub async fn put(&self, path: &str, body: &Value, etag: Option<&str>) -> Result<Value, Error> {
        self.write(&Request { method: Method::PUT, path, body: Some(body), etag }).await
    }

    /// Merges into something, if it is still what was read.
    pub async fn patch(&self, path: &str, body: &Value, etag: Option<&str>) -> Result<Value, Error> {
        self.write(&Request { method: Method::PATCH, path, body: Some(body), etag }).await
    }

    /// Deletes something.
    pub async fn delete(&self, path: &str) -> Result<Value, Error> {
        self.write(&Request { method: Method::DELETE, path, body: None, etag: None }).await
    }

    /// Waits until nothing works on an object any more: a run that was killed may have left an operation behind.
    pub async fn settle(&self, collection: &str, name: &str) -> Result<(), Error> {
        let target = format!("/1.0/{collection}/{name}");
        let operations: BTreeMap<String, Vec<operation::Running>> = self.get("operations?recursion=1").await?.object;
        for running in operations.into_values().flatten().filter(|operation| operation.works_on(&target)) {
            let request = format!("the operation that works on {name}");
            match operation::finish(self, &format!("/1.0/operations/{}", running.id), &request, self.patience).await {
                // How that operation ended is its own business; it may also be gone by now.
                Ok(_) | Err(Error::Failed { .. } | Error::Refused { status: 404, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn write(&self, request: &Request<'_>) -> Result<Value, Error> {
        let reply = self.send(request, self.patience.max(self.limits.answer)).await?;
        self.outcome(request, reply).await
    }

    /// What became of a write, operation included.
    pub(crate) async fn outcome(&self, request: &impl ToString, reply: Reply) -> Result<Value, Error> {
        match self.read(request, reply)?.0 {
            Answer::Sync { metadata } => Ok(metadata),
            Answer::Async { operation } => operation::finish(self, &operation, &request.to_string(), self.patience).await,
        }
    }

    fn read(&self, request: &impl ToString, reply: Reply) -> Result<(Answer, HeaderMap), Error> {
        let Reply { status, headers, body } = reply;
        match serde_json::from_slice(&body) {
            Ok(Envelope::Error { .. }) if status == StatusCode::PRECONDITION_FAILED => {
                Err(Error::Conflict { request: request.to_string() })
            }
            Ok(Envelope::Error { error, error_code }) => {
                Err(Error::Refused { request: request.to_string(), status: error_code, message: error })
            }
            Ok(Envelope::Sync { metadata }) => Ok((Answer::Sync { metadata }, headers)),
            Ok(Envelope::Async { operation }) => Ok((Answer::Async { operation }, headers)),
            Err(_) => Err(self.odd(format!(
                "{} was answered with status {status} and {} bytes that are no answer of LXD's",
                request.to_string(),
                body.len()
            ))),
        }
    }

    async fn send(&self, request: &Request<'_>, limit: Duration) -> Result<Reply, Error> {
        let mut call = self.http.request(request.method.clone(), self.url(request.path)?);
        if let Some(etag) = request.etag {
            call = call.header(IF_MATCH, etag);
        }
        if let Some(body) = request.body {
            call = call.json(body);
        }
        self.exchange(request, call, limit).await
    }

    pub(crate) fn url(&self, path: &str) -> Result<Url, Error> {
        // An operation is named by its full path, everything else below the API's root.
        let full = if path.starts_with("/1.0") { path.to_owned() } else { format!("/1.0/{path}") };
        let mut url = self.base.join(full.trim_end_matches('/')).map_err(|error| self.odd(error.to_string()))?;
        if let Some(project) = &self.project {
            url.query_pairs_mut().append_pair("project", project);
        }
        Ok(url)
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn odd(&self, reason: String) -> Error {
        Error::NotLxd { address: self.address.clone(), reason }
    }
}

struct Request<'a> {
    method: Method,
    path: &'a str,
    body: Option<&'a Value>,
    etag: Option<&'a str>,
}

impl std::fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} /1.0/{}", self.method, self.path.trim_start_matches("/1.0/"))
    }
}

/// The path of an object below `/1.0`.
pub(crate) fn path<T: Object>(name: &str) -> String {
    format!("{}/{name}", T::COLLECTION)
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}
