//! LXD's envelope.

use data_encoding::HEXLOWER;
use hyper::Response;
use hyper::body::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What a request leads to.
pub(super) type Outcome = Result<Answer, Refusal>;

/// A request that LXD accepts.
#[derive(Debug)]
pub(super) enum Answer {
    /// An object or a list.
    Read(Value),
    /// An object and what its entity tag is computed from.
    Tagged { object: Value, writable: Value },
    /// A change that has been made.
    Done,
    /// An object that has been made, by its path.
    Created(String),
    /// Work that has been accepted.
    Operation { path: String, operation: Value },
    /// A file's content and how LXD labels it.
    File { content: Bytes, mode: String },
    /// A file inside an instance.
    GuestFile { content: Bytes, mode: String, kind: &'static str, modified: String },
}

/// A request that LXD refuses, or an operation that fails.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self { status: 400, message: message.into() }
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self { status: 403, message: message.into() }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { status: 404, message: message.into() }
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self { status: 409, message: message.into() }
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self { status: 500, message: message.into() }
    }

    pub(super) fn with_prefix(self, prefix: &str) -> Self {
        Self { message: format!("{prefix}{}", self.message), ..self }
    }
}

/// The entity tag of an object's writable part, without quotes.
fn etag(writable: &Value) -> String {
    sha256(writable.to_string().as_bytes())
}

/// The digest in hexadecimal.
pub(super) fn sha256(content: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(content))
}

/// Checks an `If-Match` header, as far as there is one, against the object's writable part.
pub(super) fn check_etag(if_match: Option<&str>, writable: &Value) -> Result<(), Refusal> {
    let Some(wanted) = if_match.map(|tag| tag.trim_matches('"')) else { return Ok(()) };
    let actual = etag(writable);
    if wanted == actual {
        return Ok(());
    }
    Err(Refusal { status: 412, message: format!("ETag doesn't match: {actual} vs {wanted}") })
}

pub(super) fn response(outcome: Outcome) -> Response<Bytes> {
    let answer = match outcome {
        Ok(answer) => answer,
        Err(Refusal { status, message }) => {
            return json_response(
                status,
                &json!({
                    "type": "error", "status": "", "status_code": 0,
                    "operation": "", "error_code": status, "error": message, "metadata": null,
                }),
            );
        }
    };
    match answer {
        Answer::Read(object) => json_response(200, &success(&object)),
        Answer::Tagged { object, writable } => {
            let mut response = json_response(200, &success(&object));
            let tag = format!("\"{}\"", etag(&writable)).parse().expect("hex is a valid header");
            response.headers_mut().insert("etag", tag);
            response
        }
        Answer::Done => json_response(200, &success(&json!({}))),
        Answer::Created(path) => at(&path, json_response(201, &success(&Value::Null))),
        Answer::Operation { path, operation } => {
            let envelope = json!({
                "type": "async", "status": "Operation created", "status_code": 100,
                "operation": path, "error_code": 0, "error": "", "metadata": operation,
            });
            at(&path, json_response(202, &envelope))
        }
        Answer::File { content, mode } => file(content, &mode, "file", ""),
        Answer::GuestFile { content, mode, kind, modified } => file(content, &mode, kind, &modified),
    }
}

fn file(content: Bytes, mode: &str, kind: &str, modified: &str) -> Response<Bytes> {
    Response::builder()
        .header("content-type", "application/octet-stream")
        .header("x-lxd-type", kind)
        .header("x-lxd-uid", "0")
        .header("x-lxd-gid", "0")
        .header("x-lxd-mode", mode)
        .header("x-lxd-modified", modified)
        .body(content)
        .expect("a well-formed answer")
}

fn success(metadata: &Value) -> Value {
    json!({
        "type": "sync", "status": "Success", "status_code": 200,
        "operation": "", "error_code": 0, "error": "", "metadata": metadata,
    })
}

fn at(path: &str, mut response: Response<Bytes>) -> Response<Bytes> {
    let path = path.parse().expect("a path is a valid header");
    response.headers_mut().insert("location", path);
    response
}

fn json_response(status: u16, body: &Value) -> Response<Bytes> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Bytes::from(format!("{body}\n")))
        .expect("a well-formed answer")
}
