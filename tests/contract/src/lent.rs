//! What a server has once, and tests can use only one after the other: the address that it listens on.

use std::fs::File;

use serde_json::{Value, json};

use crate::Rest;

const ADDRESS: &str = "core.https_address";

/// The server's listener, closed at first. Dropped, it is what it was before.
pub struct Lent {
    rest: Rest,
    before: Value,
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
        let lent = Self { rest: rest.clone(), before, _turn: turn };
        lent.set("");
        lent
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

impl Drop for Lent {
    fn drop(&mut self) {
        let before = self.before.as_str().unwrap_or_default();
        let put_back = self.rest.try_write("PATCH", "/1.0", &json!({"config": {ADDRESS: before}}));
        // A second panic would hide the first.
        assert!(put_back.is_ok() || std::thread::panicking(), "the listener is not what it was: {put_back:?}");
    }
}
