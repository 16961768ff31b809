//! The example step as a program, and what it answers.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const TOKEN: &str = "K10hunter2";
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A folder of its own for each test, with the file that the step keeps.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    pub(crate) path: PathBuf,
    pub(crate) remote_tmp: PathBuf,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        let remote_tmp = folder.path().join("remote_tmp");
        fs::create_dir(&remote_tmp).unwrap();
        Self { folder, path, remote_tmp }
    }

    pub(crate) fn options(&self) -> Value {
        json!({"path": self.path, "token": TOKEN, "_ansible_check_mode": false, "_ansible_diff": false})
    }

    pub(crate) fn job(&self) -> Value {
        with(self.options(), json!({"_k8slab_job": true, "_ansible_remote_tmp": self.remote_tmp}))
    }

    pub(crate) fn gate(&self) -> PathBuf {
        self.folder.path().join("gate")
    }

    pub(crate) fn open_gate(&self) {
        fs::write(self.gate(), "").unwrap();
    }

    pub(crate) fn file(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }

    pub(crate) fn arguments(&self, options: &Value) -> PathBuf {
        let path = self.folder.path().join("args");
        fs::write(&path, options.to_string()).unwrap();
        path
    }

    pub(crate) fn run(&self, options: &Value) -> Answer {
        answer(probe().arg(self.arguments(options)))
    }
}

/// What a program says to what it is given by standard input.
pub(crate) fn spoken(command: &mut Command, input: &[u8]) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

pub(crate) fn answer_to(command: &mut Command, input: &[u8]) -> Answer {
    let text = spoken(command, input);
    Answer { code: 0, result: serde_json::from_str(&text).unwrap(), text }
}

pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) text: String,
    pub(crate) result: Value,
}

/// Runs a program of which exactly one JSON object on standard output is expected, with no secret in it.
pub(crate) fn answer(command: &mut Command) -> Answer {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stderr), "");
    let text = String::from_utf8(stdout).unwrap();
    assert!(!text.contains(TOKEN), "{text}");
    assert!(text.starts_with('{') && text.ends_with("}\n") && text.lines().count() == 1, "{text}");
    Answer { code: status.code().unwrap(), result: serde_json::from_str(&text).unwrap(), text }
}

/// A job that waits at the gate.
pub(crate) struct Job {
    pub(crate) folder: PathBuf,
}

impl Job {
    pub(crate) fn start(bench: &Bench) -> Self {
        let started = bench.run(&with(bench.job(), json!({"gate": bench.gate()})));
        assert_eq!((started.code, &started.result["changed"]), (0, &json!(false)));
        let folder: PathBuf = serde_json::from_value(started.result["_k8slab_job"]["folder"].clone()).unwrap();
        let attach = json!([executable(), "--attach", folder]);
        assert_eq!(started.result["_k8slab_job"]["attach"], attach);
        Self { folder }
    }

    pub(crate) fn attach(&self, from: u64) -> Value {
        answer(probe().arg("--attach").arg(&self.folder).arg("--from").arg(from.to_string())).result
    }

    /// All events from an offset on, and the result.
    pub(crate) fn follow(&self, mut from: u64) -> (Vec<Value>, Value) {
        let mut events = Vec::new();
        let result = eventually(|| {
            let news = self.attach(from);
            from = news["from"].as_u64().unwrap();
            events.extend(news["events"].as_array().unwrap().iter().cloned());
            Some(news["result"].clone()).filter(Value::is_object)
        });
        (events, result)
    }

    pub(crate) fn worker(&self) -> i32 {
        let folder = self.folder.as_os_str().as_encoded_bytes();
        let is_told = |words: Vec<u8>| words.windows(6 + folder.len()).any(|part| part == [b"--job\0", folder].concat());
        let is_worker = |process: &PathBuf| fs::read(process.join("cmdline")).is_ok_and(is_told);
        let process = entries(Path::new("/proc")).into_iter().find(is_worker).unwrap();
        process.file_name().and_then(OsStr::to_str).unwrap().parse().unwrap()
    }
}

pub(crate) fn probe() -> Command {
    Command::new(executable())
}

/// Cargo builds examples beside the tests, `cargo test --test program` alone does not.
pub(crate) fn executable() -> PathBuf {
    let tests = env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("examples/probe");
    assert!(path.exists(), "{} is missing; run `cargo build -p ansible --example probe`", path.display());
    path
}

pub(crate) fn with(mut options: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more} is no object") };
    options.as_object_mut().unwrap().extend(more);
    options
}

pub(crate) fn without_seconds(result: &Value) -> Value {
    let mut result = result.clone();
    for stage in result["stages"].as_array_mut().unwrap() {
        stage["seconds"] = json!(0);
    }
    result
}

pub(crate) fn stages(result: &Value) -> Vec<&str> {
    result["stages"].as_array().unwrap().iter().map(|stage| stage["name"].as_str().unwrap()).collect()
}

pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

pub(crate) fn holds_token(file: &Path) -> bool {
    let bytes = fs::read(file).unwrap();
    bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes())
}

pub(crate) fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
