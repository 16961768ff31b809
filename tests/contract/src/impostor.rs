//! Sockets that somebody might take for LXD's.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;

/// What a socket that is not LXD's says to a request.
#[derive(Clone, Copy, Debug)]
pub enum Speech {
    /// Another daemon's HTTP: a web page.
    WebPage,
    /// Another daemon's HTTP: JSON, but not LXD's envelope.
    OtherJson,
    /// LXD's envelope, to somebody it does not trust.
    Untrusted,
    /// A protocol that is not HTTP.
    Banner,
    /// Nothing: the connection is closed.
    Nothing,
    /// LXD's greeting, after this many seconds. From then on connections are accepted and nothing is answered.
    Silence(u64),
}

impl Speech {
    fn bytes(self) -> String {
        let http = |status: &str, kind: &str, body: &str| {
            format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        };
        match self {
            Self::WebPage => http("200 OK", "text/html", "<html><body>It works!</body></html>"),
            Self::OtherJson => http("404 Not Found", "application/json", r#"{"message":"page not found"}"#),
            Self::Untrusted => http(
                "200 OK",
                "application/json",
                r#"{"type":"sync","status":"Success","status_code":200,"metadata":{"api_extensions":[],"auth":"untrusted"}}"#,
            ),
            Self::Banner => "220 mail.example.org ESMTP\r\n".to_owned(),
            Self::Nothing => String::new(),
            Self::Silence(_) => http(
                "200 OK",
                "application/json",
                r#"{"type":"sync","status":"Success","status_code":200,"metadata":{"api_extensions":[],"auth":"trusted"}}"#,
            ),
        }
    }
}

/// A socket that is not LXD's.
pub struct Impostor {
    socket: PathBuf,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _folder: TempDir,
}

impl Impostor {
    /// Answers every connection with `speech`.
    pub fn start(speech: Speech) -> Self {
        let folder = TempDir::with_prefix("impostor-").expect("make a folder for the impostor's socket");
        let socket = folder.path().join("unix.socket");
        let listener = UnixListener::bind(&socket).expect("bind the impostor's socket");
        let over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let over = Arc::clone(&over);
            move || {
                let mut held = Vec::new();
                for connection in listener.incoming() {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    if let Ok(mut connection) = connection {
                        if let Speech::Silence(after) = speech {
                            if held.is_empty() {
                                let _ = connection.read(&mut [0; 4096]);
                                std::thread::sleep(Duration::from_secs(after));
                                let _ = connection.write_all(speech.bytes().as_bytes());
                            }
                            held.push(connection);
                            continue;
                        }
                        // The client may hang up first.
                        let _ = connection.read(&mut [0; 4096]);
                        let _ = connection.write_all(speech.bytes().as_bytes());
                    }
                }
            }
        });
        Self { socket, over, thread: Some(thread), _folder: folder }
    }

    /// The socket to give to a step.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the thread from its wait for a connection.
        drop(UnixStream::connect(&self.socket));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
