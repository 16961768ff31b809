//! What a step said to LXD.

use std::fmt;

use hyper::body::Bytes;
use hyper::{Method, Request};
use serde_json::Value;

/// One request as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// `GET`, `PATCH`, …
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// The query, empty when there is none.
    pub query: String,
    /// The `If-Match` header.
    pub if_match: Option<String>,
    /// The body when it is JSON, otherwise null.
    pub body: Value,
    /// The answer's HTTP status; none while it is under way and when the connection was cut.
    pub status: Option<u16>,
}

impl Recorded {
    pub(super) fn of(request: &Request<Bytes>) -> Self {
        Self {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            if_match: request.headers().get("if-match").and_then(|tag| tag.to_str().ok()).map(str::to_owned),
            body: serde_json::from_slice(request.body()).unwrap_or_default(),
            status: None,
        }
    }

    /// Whether the request may change something.
    pub fn is_write(&self) -> bool {
        is_write(&self.method)
    }
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

pub(super) fn is_write(method: &str) -> bool {
    method != Method::GET.as_str() && method != Method::HEAD.as_str()
}
