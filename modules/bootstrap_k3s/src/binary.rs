//! Whether a file can be k3s for this machine.

use std::{fs::File, io::Read as _, path::Path};

use crate::error::Error;

/// k3s carries all of Kubernetes; what is smaller is something else, a page that says "not found" for one.
const LEAST: u64 = 1 << 20;

/// The machines of an executable's header.
const MACHINES: [(u16, &str); 2] = [(62, "amd64"), (183, "arm64")];

/// Fails unless the file is a whole executable for an architecture, as far as its header tells.
pub(crate) fn check(path: &Path, architecture: &str) -> Result<(), Error> {
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let mut header = Vec::new();
    file.by_ref().take(64).read_to_end(&mut header).map_err(unreadable)?;
    let damaged = |reason: &str| Err(Error::BinaryDamaged { path: path.to_owned(), reason: reason.to_owned() });
    if size < LEAST {
        return damaged("it is smaller than 1 MiB");
    }
    // 64 bits wide, least significant byte first.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return damaged("it is no executable of Linux");
    }
    let number =
        |at: usize, length: usize| header[at..at + length].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    // The table of sections comes last. A linker may leave it out.
    if number(40, 8) + number(58, 2) * number(60, 2) > size {
        return damaged("it has been cut off");
    }
    let machine = MACHINES.iter().find(|(machine, _)| u64::from(*machine) == number(18, 2)).map_or("another", |(_, name)| name);
    if machine == architecture {
        return Ok(());
    }
    Err(Error::BinaryArchitecture { path: path.to_owned(), machine, wanted: architecture.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use converge::Explain as _;

    use super::*;

    /// An executable's header with its table of sections at the end of the file.
    fn header(machine: u8, sections_at: u64) -> Vec<u8> {
        let mut header = vec![0; 64];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[18] = machine;
        header[40..48].copy_from_slice(&sections_at.to_le_bytes());
        header[58] = 64;
        header[60] = 2;
        header
    }

    #[test]
    fn only_a_whole_executable_of_the_machine_passes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k3s");
        let size = 2 << 20;
        for (case, content, size, expected) in [
            ("whole", header(62, size - 128), size, None),
            (
                "without a table of sections",
                {
                    let mut plain = header(62, 0);
                    plain[60] = 0;
                    plain
                },
                size,
                None,
            ),
            ("cut off", header(62, size - 127), size, Some("K3S_BINARY_DAMAGED")),
            ("of another machine", header(183, 64), size, Some("K3S_BINARY_ARCHITECTURE")),
            ("of an unknown machine", header(8, 64), size, Some("K3S_BINARY_ARCHITECTURE")),
            ("a script", b"#!/bin/sh\n".to_vec(), size, Some("K3S_BINARY_DAMAGED")),
            ("small", header(62, 64), 4096, Some("K3S_BINARY_DAMAGED")),
            ("empty", Vec::new(), 0, Some("K3S_BINARY_DAMAGED")),
        ] {
            fs::write(&path, content).unwrap();
            File::options().write(true).open(&path).unwrap().set_len(size).unwrap();
            assert_eq!(check(&path, "amd64").err().map(|error| error.code()), expected, "{case}");
        }
    }
}
