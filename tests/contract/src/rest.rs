//! The smallest client of LXD's REST API: what a person does with `curl --unix-socket`.

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// Sends one request over a connection of its own.
pub(crate) async fn send(
    socket: &Path,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
    let connection = UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(connection)).await?;
    let driver = tokio::spawn(connection);
    let answer = async {
        let (head, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    let answer = answer.await;
    driver.abort();
    answer
}

/// LXD seen through its REST API.
#[derive(Clone, Debug)]
pub struct Rest {
    socket: PathBuf,
}

/// An answer of LXD.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// The entity tag, when there is one.
    pub etag: Option<String>,
    /// The envelope: `type`, `status`, `status_code`, `metadata`, … Null when the body is not JSON.
    pub envelope: Value,
}

impl Answer {
    /// The envelope's metadata.
    pub fn metadata(&self) -> &Value {
        &self.envelope["metadata"]
    }

    /// The error text, empty when there is none.
    pub fn error(&self) -> &str {
        self.envelope["error"].as_str().unwrap_or_default()
    }
}

impl Rest {
    /// A client of the LXD that listens on `socket`.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Sends one request and returns whatever came back.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.answer(method, path, &[], Bytes::from(body.map(Value::to_string).unwrap_or_default()))
    }

    fn answer(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
        let request = Request::builder().method(method).uri(path).header("host", "lxd");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(body).expect("a well-formed request");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("start a runtime");
        let response = runtime
            .block_on(send(&self.socket, request))
            .unwrap_or_else(|error| panic!("{method} {path} on {}: {error}", self.socket.display()));
        Answer {
            status: response.status().as_u16(),
            etag: response.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned),
            envelope: serde_json::from_slice(response.body()).unwrap_or_default(),
        }
    }

    /// The metadata of an object or list; null when there is none.
    pub fn get(&self, path: &str) -> Value {
        let answer = self.call("GET", path, None);
        assert!(answer.status == 200 || answer.status == 404, "GET {path}: {}", answer.envelope);
        answer.metadata().clone()
    }

    /// Carries a write out, awaits its operation, and returns the operation's metadata (null for a synchronous answer).
    pub fn write(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_write(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// [`Rest::write`] that returns LXD's error text.
    pub fn try_write(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        self.finish(&self.call(method, path, Some(body)))
    }

    /// Sends a file and awaits the operation.
    pub fn upload(&self, path: &str, file: Bytes) -> Value {
        let answer = self.answer("POST", path, &[("content-type", "application/octet-stream")], file);
        self.finish(&answer).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// Makes a folder inside an instance, where the path of its files is `path`.
    pub fn make_folder(&self, path: &str) {
        let answer = self.answer("POST", path, &[("x-lxd-type", "directory"), ("x-lxd-mode", "0755")], Bytes::new());
        assert_eq!(answer.status, 200, "POST {path}: {}", answer.envelope);
    }

    /// A file as it comes; nothing when there is none.
    pub fn download(&self, path: &str) -> Option<Bytes> {
        let response = self.respond("GET", path);
        (response.status() == 200).then(|| response.into_body())
    }

    /// A header of an answer, empty when there is none.
    pub fn header(&self, path: &str, name: &str) -> String {
        let response = self.respond("HEAD", path);
        response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }

    fn respond(&self, method: &str, path: &str) -> Response<Bytes> {
        let request = Request::builder().method(method).uri(path).header("host", "lxd").body(Bytes::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("start a runtime");
        let response = runtime.block_on(send(&self.socket, request.expect("a well-formed request")));
        response.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn finish(&self, answer: &Answer) -> Result<Value, String> {
        match answer.envelope["type"].as_str() {
            Some("sync") => Ok(Value::Null),
            Some("async") => {
                let operation = answer.envelope["operation"].as_str().unwrap_or_default();
                let finished = self.call("GET", &format!("{operation}/wait?timeout=120"), None);
                match finished.metadata()["err"].as_str() {
                    Some("") => Ok(finished.metadata()["metadata"].clone()),
                    _ => Err(finished.metadata()["err"].as_str().unwrap_or(finished.error()).to_owned()),
                }
            }
            _ => Err(answer.error().to_owned()),
        }
    }
}
