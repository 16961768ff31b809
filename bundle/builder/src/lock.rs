//! One build at a time.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
};

/// Held until the file is closed. Two builds at once would write the same files.
pub fn hold(path: &Path) -> io::Result<File> {
    let file = File::create(path)?;
    if file.try_lock().is_err() {
        let _ = writeln!(io::stderr(), "xtask: another build is at work here, waiting for its end");
        file.lock()?;
    }
    Ok(file)
}
