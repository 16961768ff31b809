//! Whether this process has been asked to stop.
//!
//! It is asked once, by a signal, and as a whole. Everything that can end early looks: the frame between two changes, and every
//! wait at once. What is in the middle of a change finishes it first. Nobody can take the request back.

use std::sync::LazyLock;

use tokio::sync::watch;

use crate::{Explain, Explanation};

static ASKED: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));

/// The run ended early because it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("stopped as asked, between two changes")]
pub struct Stopped;

impl Explain for Stopped {
    fn explain(&self) -> Explanation {
        Explanation::new("STOPPED").hint("run it again when you want; it goes on from the live state")
    }
}

/// Asks the process to stop.
pub fn ask() {
    ASKED.send_replace(true);
}

/// Ends a run that has been asked to stop.
pub fn check() -> Result<(), Stopped> {
    if *ASKED.borrow() { Err(Stopped) } else { Ok(()) }
}

/// Ends when the process is asked to stop.
pub async fn asked() {
    // The sender lives as long as the process.
    let _ = ASKED.subscribe().wait_for(|asked| *asked).await;
}
