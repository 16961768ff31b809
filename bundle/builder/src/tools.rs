//! Programs of this machine that a build uses.

use std::{
    env,
    io::Write as _,
    process::{Command, Stdio},
};

use crate::Error;

/// The oldest Go that all modules are content with.
const GO: (u32, u32) = (1, 26);

/// What a build needs of this machine.
#[derive(Default)]
pub struct Needs {
    /// Go, and C for the programs that have some of it.
    pub go: bool,
    /// C libraries, by pkg-config's names.
    pub libraries: Vec<String>,
    /// What makes root filesystems.
    pub systems: bool,
}

impl Needs {
    /// Says all that is missing at once. Returns Go's version.
    pub fn check(&self) -> Result<String, Error> {
        let mut missing = Vec::new();
        let mut require = |program: &str, package: &'static str| {
            if !is_installed(program) {
                missing.push((program.to_owned(), package));
            }
        };
        if self.go {
            require("go", "");
            require("cc", "gcc libc6-dev");
            require("pkg-config", "pkg-config");
        }
        if self.systems {
            require("mmdebstrap", "mmdebstrap");
            require("mksquashfs", "squashfs-tools");
        }
        for library in &self.libraries {
            if is_installed("pkg-config") && run(Command::new("pkg-config").args(["--exists", library])).is_err() {
                missing.push((format!("{library}-dev"), "libseccomp-dev"));
            }
        }
        if !missing.is_empty() {
            return Err(Error::ToolsMissing(missing));
        }
        if self.systems && !rustix::process::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        if self.go { go_version() } else { Ok(String::new()) }
    }
}

fn go_version() -> Result<String, Error> {
    let found = run(Command::new("go").args(["env", "GOVERSION"]))?.trim().to_owned();
    let mut parts = found.trim_start_matches("go").split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < GO { Err(Error::GoTooOld { found, needed: format!("{}.{}", GO.0, GO.1) }) } else { Ok(found) }
}

fn is_installed(program: &str) -> bool {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// Runs a program to its end. Returns what it printed.
pub fn run(command: &mut Command) -> Result<String, Error> {
    run_with(command, &[])
}

/// The same, with this on its standard input.
pub fn run_with(command: &mut Command, input: &[u8]) -> Result<String, Error> {
    let line = [command.get_program()].into_iter().chain(command.get_args());
    let line = line.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let failed = |outcome: String, words: &[u8]| Error::Command {
        command: line.clone(),
        outcome,
        words: String::from_utf8_lossy(words).trim_end().to_owned(),
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(format!("cannot be started: {error}"), &[]))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that reads nothing has closed its end; its exit status tells whether that was right.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string(), &[]))?;
    if !output.status.success() {
        return Err(failed(format!("ended with {}", output.status), &output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
