//! Signals that ask a step to end. It does so between two changes.

use std::io;

use converge::stop;
use tokio::signal::unix::{SignalKind, signal};

/// From now on the signals by which users and their terminals end programs ask this process to stop. Needs a runtime.
pub(crate) fn heed() -> io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        let mut signal = signal(kind)?;
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                tracing::info!("asked to stop");
                stop::ask();
            }
        });
    }
    Ok(())
}
