//! What a server has once, and tests can use only one after the other: the address that it listens on.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Rest;

const ADDRESS: &str = "core.https_address";

/// How long somebody who listens may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The server's listener, closed at first. Dropped, it is what it was before. One that answers is a lab's, and stays as it is.
pub struct Lent {
    rest: Rest,
    before: Value,
    in_use: Option<SocketAddr>,
    _turn: Option<File>,
}

impl Lent {
    /// Waits for one's turn, unless nobody else has this server.
    pub(crate) fn new(rest: &Rest, shared: bool) -> Self {
        let turn = shared.then(|| {
            let place = std::env::temp_dir().join("k8slab-test-listener");
            let file = File::create(place).expect("open the lock of LXD's listener");
            file.lock().expect("wait for LXD's listener");
            file
        });
        let before = rest.get("/1.0")["config"][ADDRESS].clone();
        let in_use = before.as_str().and_then(|address| address.parse().ok()).filter(|address| shared && answers(*address));
        let lent = Self { rest: rest.clone(), before, in_use, _turn: turn };
        lent.close();
        lent
    }

    /// Where somebody else's clients reach the server, so that it has to go on listening there.
    pub fn in_use(&self) -> Option<SocketAddr> {
        self.in_use
    }

    /// Whether a test may move the listener; it says so where it may not.
    pub fn is_free(&self) -> bool {
        if let Some(address) = self.in_use {
            println!("LXD listens on {address}, for a lab, so its listener is moved on the scripted LXD alone");
        }
        self.in_use.is_none()
    }

    /// Has the server listen nowhere, unless it is in use.
    pub fn close(&self) {
        if self.in_use.is_none() {
            self.set("");
        }
    }

    /// Has the server listen somewhere, or nowhere.
    pub fn set(&self, address: &str) {
        self.rest.write("PATCH", "/1.0", &json!({"config": {ADDRESS: address}}));
    }

    /// Where the server listens, by its configuration.
    pub fn address(&self) -> String {
        self.rest.get("/1.0")["config"][ADDRESS].as_str().unwrap_or_default().to_owned()
    }
}

fn answers(address: SocketAddr) -> bool {
    let host = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
    TcpStream::connect_timeout(&(host, address.port()).into(), PATIENCE).is_ok()
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.in_use.is_some() {
            return;
        }
        let before = self.before.as_str().unwrap_or_default();
        let put_back = self.rest.try_write("PATCH", "/1.0", &json!({"config": {ADDRESS: before}}));
        // A second panic would hide the first.
        assert!(put_back.is_ok() || std::thread::panicking(), "the listener is not what it was: {put_back:?}");
    }
}
