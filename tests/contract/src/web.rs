//! A small https server that does what a test wants of it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

/// What the server answers at one path.
#[derive(Clone, Debug)]
pub enum Page {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The way to another address.
    Redirect(String),
    /// A status, and nothing with it.
    Status(u16),
    /// Half of these bytes, then the connection is closed.
    Half(Vec<u8>),
    /// So many bytes are promised.
    Promise(u64),
}

/// A running server; dropped, it ends.
pub struct Web {
    address: SocketAddr,
    site: Arc<Site>,
    folder: TempDir,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Site {
    over: AtomicBool,
    pages: Mutex<BTreeMap<String, Page>>,
    once: Mutex<BTreeMap<String, VecDeque<Page>>>,
    requests: Mutex<Vec<String>>,
}

impl Web {
    /// Starts a server without any page.
    pub fn start() -> Self {
        let folder = TempDir::with_prefix("web-").expect("make a folder for the server's certificate");
        let key = KeyPair::generate().expect("make the server's key");
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).and_then(|params| params.self_signed(&key));
        let certificate = certificate.expect("make the server's certificate").pem();
        std::fs::write(folder.path().join("authority.pem"), &certificate).expect("write the server's certificate");
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("choose TLS versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("read the certificate")],
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("read the key"),
            )
            .expect("set TLS up");
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind the server");
        let address = listener.local_addr().expect("the server's address");
        let (site, tls) = (Arc::new(Site::default()), Arc::new(tls));
        let thread = std::thread::spawn({
            let site = Arc::clone(&site);
            move || {
                for connection in listener.incoming().flatten() {
                    if site.over.load(Ordering::Relaxed) {
                        return;
                    }
                    // A client that goes away ends only its own connection.
                    let _ = ServerConnection::new(Arc::clone(&tls)).map(|tls| site.serve(StreamOwned::new(tls, connection)));
                }
            }
        });
        Self { address, site, folder, thread: Some(thread) }
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// What a client must trust, as a file.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// Puts a page there.
    pub fn put(&self, path: &str, page: Page) {
        lock(&self.site.pages).insert(path.to_owned(), page);
    }

    /// Answers the next request for a path with this instead.
    pub fn once(&self, path: &str, page: Page) {
        lock(&self.site.once).entry(path.to_owned()).or_default().push_back(page);
    }

    /// The paths that were asked for, oldest first.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.site.requests).clone()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        lock(&self.site.requests).clear();
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.site.over.store(true, Ordering::Relaxed);
        // The server looks whether it is over when somebody comes.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Site {
    fn serve(&self, mut stream: StreamOwned<ServerConnection, TcpStream>) -> std::io::Result<()> {
        let mut head = BufReader::new(&mut stream).lines().take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()));
        let Some(Ok(request)) = head.next() else { return Ok(()) };
        head.for_each(drop);
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        lock(&self.requests).push(path.clone());
        let once = lock(&self.once).get_mut(&path).and_then(VecDeque::pop_front);
        let page = once.or_else(|| lock(&self.pages).get(&path).cloned()).unwrap_or(Page::Status(404));
        let (status, location, length, body) = match &page {
            Page::Bytes(bytes) => (200, "", bytes.len() as u64, bytes.as_slice()),
            Page::Half(bytes) => (200, "", bytes.len() as u64, &bytes[..bytes.len() / 2]),
            Page::Promise(length) => (200, "", *length, &[][..]),
            Page::Status(status) => (*status, "", 0, &[][..]),
            Page::Redirect(to) => (302, to.as_str(), 0, &[][..]),
        };
        write!(stream, "HTTP/1.1 {status} x\r\nlocation: {location}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n")?;
        stream.write_all(body)?;
        stream.conn.send_close_notify();
        stream.flush()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
