//! What the process has begun, for the one failure that takes no report with it: a panic ends the process where it is.

use std::sync::{Mutex, TryLockError};

/// Where every run begins.
const FIRST_STAGE: &str = "preflight";

static LEDGER: Mutex<Ledger> = Mutex::new(Ledger { stage: None, begun: Vec::new() });

struct Ledger {
    stage: Option<String>,
    begun: Vec<String>,
}

/// From now on the run is in this stage.
pub(crate) fn enter(stage: &str) {
    note(|ledger| ledger.stage = Some(stage.to_owned()));
}

/// A change begins.
pub(crate) fn begin(change: String) {
    note(|ledger| ledger.begun.push(change));
}

/// The stage, and the changes that were begun.
pub(crate) fn so_far() -> (String, Vec<String>) {
    // Whoever panics while they write it down has the word.
    let ledger = match LEDGER.try_lock() {
        Ok(ledger) => ledger,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return (FIRST_STAGE.to_owned(), Vec::new()),
    };
    (ledger.stage.clone().unwrap_or_else(|| FIRST_STAGE.to_owned()), ledger.begun.clone())
}

fn note(write: impl FnOnce(&mut Ledger)) {
    if let Ok(mut ledger) = LEDGER.lock() {
        write(&mut ledger);
    }
}
