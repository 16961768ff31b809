//! Programs that tests put in the place of real ones.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Where the program is in memory.
const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;
/// write(1, rip + 16, length of the words); exit(0)
const CODE: [u8; 33] = [
    0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0x48, 0x8d, 0x35, 16, 0, 0, 0, 0xba, 0, 0, 0, 0, 0x0f, 0x05, 0xb8, 60, 0, 0, 0, 0x31, 0xff,
    0x0f, 0x05,
];
/// Where in the code the length is.
const LENGTH: usize = 18;

/// Writes a script that can be executed.
pub fn script(path: &Path, text: &str) {
    fs::write(path, text).expect("write a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("let a script be executed");
}

/// Writes the smallest program for x86-64, as large as real ones: it says `words`, whatever it is asked, and ends well.
pub fn saying(words: &str, path: &Path) {
    let length = u8::try_from(words.len()).expect("a few words");
    let size = HEADERS + CODE.len() as u64 + u64::from(length);
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(16, 0);
    // An executable for machine 62, which begins behind its headers.
    program.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    program.extend((BASE + HEADERS).to_le_bytes());
    program.extend(64_u64.to_le_bytes());
    program.extend([0; 12]);
    program.extend([64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // One segment, to be read and run.
    program.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for number in [0, BASE, BASE, size, size, 0x1000] {
        program.extend(number.to_le_bytes());
    }
    program.extend(CODE);
    program[usize::try_from(HEADERS).expect("small") + LENGTH] = length;
    program.extend(words.as_bytes());
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(path).expect("make the program");
    file.write_all(&program).and_then(|()| grow(&file)).expect("write the program");
}

fn grow(file: &File) -> std::io::Result<()> {
    file.set_len(2 << 20)
}
