//! One request and its whole answer.
//!
//! Every request has a limit: a socket that accepts and says nothing ends as an error. A server that is just starting says so, or
//! nobody accepts yet; neither has carried anything out, so the request is sent again once it serves.

use std::time::{Duration, Instant};

use converge::{Wait, cause};
use reqwest::{RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    Client, Error,
    error::{OTHER_CERTIFICATE, STARTING},
};

/// How long a server may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// To answer what costs it nothing.
    pub answer: Duration,
    /// To take or give a file.
    pub transfer: Duration,
    /// To set itself up.
    pub setup: Duration,
    /// To accept connections after its socket is there.
    pub acceptance: Duration,
}

impl Limits {
    /// On the same machine.
    pub(crate) const LOCAL: Self = Self {
        answer: Duration::from_secs(60),
        transfer: Duration::from_secs(600),
        setup: Duration::from_secs(120),
        acceptance: Duration::from_secs(10),
    };
    /// By HTTPS, where a refused connection says that nobody is there.
    #[cfg(feature = "https")]
    pub(crate) const REMOTE: Self = Self { answer: Duration::from_secs(15), acceptance: Duration::ZERO, ..Self::LOCAL };
}

/// A whole answer.
pub(crate) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    /// The reason that an envelope gives for a refusal.
    pub(crate) fn reason(&self) -> Option<String> {
        serde_json::from_slice::<Value>(&self.body).ok()?.get("error")?.as_str().map(str::to_owned)
    }

    /// Nothing was carried out, because the server starts or is about to start again.
    fn is_too_early(&self) -> bool {
        let reason = || self.reason().unwrap_or_default();
        self.status == StatusCode::SERVICE_UNAVAILABLE && STARTING.iter().any(|words| reason().contains(words))
    }
}

impl Client {
    /// Sends a request, and reads the answer to its end within the limit.
    pub(crate) async fn exchange(&self, request: &impl ToString, call: RequestBuilder, limit: Duration) -> Result<Reply, Error> {
        // None for what is sent as it is read, which comes after other requests.
        let again = call.try_clone();
        let first = self.exchange_once(request, call, limit).await;
        let too_early = match &first {
            Ok(reply) => reply.is_too_early(),
            Err(error) => self.may_still_be_accepted(error, Duration::ZERO),
        };
        let Some(again) = again.filter(|_| too_early) else { return first };
        match self.serves().await {
            Ok(()) => self.exchange_once(request, again, limit).await,
            Err(Error::Wait(_)) => first,
            Err(error) => Err(error),
        }
    }

    /// Waits until the server serves.
    async fn serves(&self) -> Result<(), Error> {
        const REQUEST: &str = "GET /1.0/operations";
        let start = Instant::now();
        let wait = Wait::for_condition(format!("LXD at {}: serves", self.address()), self.limits().setup);
        let url = self.url("operations")?;
        wait.until(async || match self.exchange_once(&REQUEST, self.http().get(url.clone()), self.limits().answer).await {
            Ok(reply) if reply.is_too_early() => Ok(Err(reply.reason().unwrap_or_default())),
            Ok(_) => Ok(Ok(())),
            Err(error) if self.may_still_be_accepted(&error, start.elapsed()) => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        })
        .await
    }

    /// Whether a refused connection is one of a server that has not got so far.
    fn may_still_be_accepted(&self, error: &Error, waited: Duration) -> bool {
        matches!(error, Error::Unreachable { denied: false, .. }) && waited < self.limits().acceptance
    }

    async fn exchange_once(&self, request: &impl ToString, call: RequestBuilder, limit: Duration) -> Result<Reply, Error> {
        let answer = async {
            let response = call.send().await?;
            let (status, headers) = (response.status(), response.headers().clone());
            Ok(Reply { status, headers, body: response.bytes().await?.to_vec() })
        };
        self.within(request, limit, answer).await
    }

    /// What the HTTP client does within the limit.
    pub(crate) async fn within<T>(
        &self,
        request: &impl ToString,
        limit: Duration,
        answer: impl Future<Output = Result<T, reqwest::Error>>,
    ) -> Result<T, Error> {
        let Ok(answer) = timeout(limit, answer).await else {
            return Err(Error::Silent { address: self.address().to_owned(), request: request.to_string(), limit });
        };
        answer.map_err(|error| self.broken(request, &error))
    }

    pub(crate) fn broken(&self, request: &impl ToString, error: &reqwest::Error) -> Error {
        let (address, reason) = (self.address().to_owned(), cause(error));
        if reason.contains(OTHER_CERTIFICATE) {
            return Error::OtherCertificate { address };
        }
        if error.is_connect() {
            return Error::Unreachable { address, denied: reason.contains("Permission denied"), reason };
        }
        if reason.contains("invalid HTTP") {
            return self.odd(reason);
        }
        Error::Interrupted { request: request.to_string(), reason }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, path::Path};

    use converge::Explain as _;
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixListener,
    };

    use super::*;

    const SERVER: &str = r#"{"type":"sync","metadata":{"auth":"trusted"}}"#;
    const SETUP: &str = r#"{"type":"error","error":"LXD daemon setup in progress","error_code":503}"#;
    const SHORT: Limits = Limits {
        answer: Duration::from_millis(200),
        transfer: Duration::from_millis(200),
        setup: Duration::from_secs(5),
        acceptance: Duration::from_secs(5),
    };

    /// Answers one request of each connection, and what is over with silence.
    async fn serve(listener: UnixListener, answers: &[(u16, &str)]) {
        let mut answers: VecDeque<(u16, String)> = answers.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
        let mut silent = Vec::new();
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let Some((status, body)) = answers.pop_front() else {
                silent.push(connection);
                continue;
            };
            let _ = connection.read(&mut [0; 4096]).await.unwrap();
            let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            connection.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
    }

    async fn connect(socket: &Path, limits: Limits) -> Result<Client, Error> {
        Client::connect(transport::client().unix_socket(socket), "http://lxd/", "there".into(), limits).await
    }

    #[tokio::test]
    async fn a_socket_that_accepts_and_says_nothing_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        for answers in [&[][..], &[(200, SERVER)]] {
            let silent = async {
                let client = connect(&socket, SHORT).await?.patient(Duration::from_millis(200));
                let write = client.post("projects", &json!({})).await;
                assert_eq!(write.unwrap_err().code(), "LXD_SILENT");
                client.get::<Value>("projects").await
            };
            let listener = UnixListener::bind(&socket).unwrap();
            let error = tokio::select! {
                outcome = silent => outcome.unwrap_err(),
                () = serve(listener, answers) => unreachable!(),
            };
            assert_eq!(error.code(), "LXD_SILENT", "{error}");
            assert!(error.to_string().starts_with("LXD at there did not answer GET /1.0/"), "{error}");
            std::fs::remove_file(&socket).unwrap();
        }
    }

    #[tokio::test]
    async fn a_server_that_is_just_starting_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        // What a server leaves that has ended.
        drop(UnixListener::bind(&socket).unwrap());
        let late = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            std::fs::remove_file(&socket).unwrap();
            let lists = r#"{"type":"sync","metadata":{}}"#;
            let listener = UnixListener::bind(&socket).unwrap();
            serve(listener, &[(503, SETUP), (503, SETUP), (200, lists), (200, SERVER), (503, SETUP), (200, lists), (200, lists)])
                .await;
        };
        let step = async {
            let client = connect(&socket, SHORT).await?;
            client.post("projects", &json!({"name": "a"})).await
        };
        tokio::select! {
            outcome = step => drop(outcome.unwrap()),
            () = late => unreachable!(),
        }
    }

    #[tokio::test]
    async fn a_server_that_never_serves_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let limits = Limits { setup: Duration::from_millis(300), acceptance: Duration::from_millis(300), ..SHORT };
        drop(UnixListener::bind(&socket).unwrap());
        assert_eq!(connect(&socket, limits).await.unwrap_err().code(), "LXD_UNREACHABLE");
        std::fs::remove_file(&socket).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let error = tokio::select! {
            outcome = connect(&socket, limits) => outcome.unwrap_err(),
            () = serve(listener, &[(503, SETUP); 100]) => unreachable!(),
        };
        assert_eq!(error.code(), "LXD_STARTING", "{error}");
    }
}
