//! The real ansible-core, asked by its own Python.

use std::{
    env,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// Runs a script with the question as JSON on its standard input, and reads its answer as JSON.
pub fn ask(script: &Path, question: &Value) -> Value {
    let mut python = Command::new(interpreter())
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; run `embedded/python`", interpreter().display()));
    python.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{} failed, see above", script.display());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// `K8SLAB_PYTHON`, else that of the virtual environment that `embedded/python` makes.
fn interpreter() -> PathBuf {
    let own = || {
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join(".venv/bin/python")).find(|path| path.exists())
    };
    let missing = || panic!("there is no .venv with ansible-core here; run `embedded/python`, or name a Python in K8SLAB_PYTHON");
    env::var_os("K8SLAB_PYTHON").map(PathBuf::from).or_else(own).unwrap_or_else(missing)
}
