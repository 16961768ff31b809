//! Runs a step's built binary as Ansible does.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A call of a step, to be run as often as wanted.
#[derive(Clone, Debug)]
pub struct Step {
    name: &'static str,
    options: Map<String, Value>,
    environment: Vec<(OsString, OsString)>,
    user: Option<u32>,
    preparation: Option<&'static str>,
}

impl Step {
    /// The step `name` with its defaults.
    pub fn new(name: &'static str) -> Self {
        Self { name, options: Map::new(), environment: Vec::new(), user: None, preparation: None }
    }

    /// Sets options; later ones win.
    pub fn args(mut self, options: Value) -> Self {
        let Value::Object(options) = options else { panic!("options are an object, not {options}") };
        self.options.extend(options);
        self
    }

    /// Sets the LXD to talk to.
    pub fn socket(self, socket: &Path) -> Self {
        self.args(json!({"lxd_socket_path": socket}))
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs as another user.
    pub fn user(mut self, uid: u32) -> Self {
        self.user = Some(uid);
        self
    }

    /// Has a shell prepare the mounts that the step sees, and nobody else.
    pub fn prepared_by(mut self, script: &'static str) -> Self {
        self.preparation = Some(script);
        self
    }

    /// Runs the step, asking for diffs.
    pub fn run(&self) -> Outcome {
        self.start(false).wait()
    }

    /// Runs the step in check mode, asking for diffs.
    pub fn check(&self) -> Outcome {
        self.start(true).wait()
    }

    /// Starts the step and returns while it runs.
    pub fn spawn(&self) -> Running {
        self.start(false)
    }

    /// Runs the step as a job and stays with it to its end: all that it told on the way, and its result.
    pub fn follow(&self) -> (Vec<Value>, Value) {
        let folder = TempDir::with_prefix("ansible-tmp-").expect("make a folder for the call");
        let mut arguments = self.arguments(false, folder.path());
        arguments["_k8slab_job"] = true.into();
        arguments["_ansible_remote_tmp"] = json!(folder.path());
        let file = folder.path().join("args");
        write_arguments(&file, &arguments);
        let answer = |command: &mut Command| -> Value {
            let output = command.envs(self.environment.iter().cloned()).stdin(Stdio::null()).output().expect("call the step");
            serde_json::from_slice(&output.stdout).expect("stdout is one JSON object")
        };
        let started = answer(Command::new(binary(self.name)).arg(file));
        let words = |key: &str| serde_json::from_value::<Vec<String>>(started["_k8slab_job"][key].clone()).unwrap_or_default();
        let (attach, mut events, mut from) = (words("attach"), Vec::new(), 0);
        let Some((program, words)) = attach.split_first() else { return (events, started) };
        loop {
            let news = answer(Command::new(program).args(words).arg("--from").arg(from.to_string()));
            events.extend(news["events"].as_array().cloned().unwrap_or_default());
            from = news["from"].as_u64().unwrap_or(from);
            if news["result"].is_object() {
                return (events, news["result"].clone());
            }
        }
    }

    fn start(&self, check: bool) -> Running {
        let folder = TempDir::with_prefix("ansible-tmp-").expect("make a folder for the call");
        let program = folder.path().join(format!("AnsiballZ_{}", self.name));
        std::os::unix::fs::symlink(binary(self.name), &program).expect("put the step into the call's folder");
        let arguments = folder.path().join("args");
        write_arguments(&arguments, &self.arguments(check, folder.path()));
        let mut command = match self.preparation {
            None => Command::new(program),
            Some(script) => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c"]).arg(format!("{script} && exec \"$0\" \"$@\"")).arg(program);
                command
            }
        };
        command.arg(&arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(self.environment.iter().cloned());
        if let Some(user) = self.user {
            for path in [folder.path(), &arguments] {
                std::os::unix::fs::chown(path, Some(user), None).expect("hand the call over to the user");
            }
            command.uid(user);
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("start {}: {error}", self.name));
        Running { child, check, _folder: folder }
    }

    /// The step's options beside what Ansible always adds.
    fn arguments(&self, check: bool, folder: &Path) -> Value {
        let mut arguments = self.options.clone();
        let internal = json!({
            "_ansible_check_mode": check, "_ansible_diff": true, "_ansible_no_log": false, "_ansible_debug": false,
            "_ansible_verbosity": 0, "_ansible_version": "2.19.0", "_ansible_module_name": format!("k8slab.capi.{}", self.name),
            "_ansible_syslog_facility": "LOG_USER", "_ansible_selinux_special_fs": ["fuse", "nfs"], "_ansible_socket": null,
            "_ansible_shell_executable": "/bin/sh", "_ansible_keep_remote_files": false,
            "_ansible_tmpdir": folder, "_ansible_remote_tmp": "~/.ansible/tmp",
            "_ansible_ignore_unknown_opts": false, "_ansible_target_log_info": null, "_ansible_tracebacks_for": [],
        });
        arguments.extend(internal.as_object().cloned().unwrap_or_default());
        Value::Object(arguments)
    }
}

fn write_arguments(path: &Path, arguments: &Value) {
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).expect("create the argument file");
    file.write_all(arguments.to_string().as_bytes()).expect("write the argument file");
}

/// The built binary of a step: below `K8SLAB_BIN_DIR`, or where Cargo puts it.
fn binary(name: &str) -> PathBuf {
    let folder = std::env::var_os("K8SLAB_BIN_DIR").map_or_else(
        || {
            // Tests run from `<target>/<profile>/deps`; the steps are in the folder above.
            let test = std::env::current_exe().expect("find the running test");
            test.ancestors().nth(2).expect("tests run below Cargo's target folder").to_owned()
        },
        PathBuf::from,
    );
    let path = folder.join(name);
    let runs = path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    assert!(runs, "{} is not built: run `cargo build --package {name}`, or set K8SLAB_BIN_DIR", path.display());
    path
}

/// A step that runs. Dropped, it is killed.
pub struct Running {
    child: Child,
    check: bool,
    _folder: TempDir,
}

impl Running {
    /// Kills the step with SIGKILL and waits for its end.
    pub fn kill(mut self) {
        self.child.kill().expect("kill the step");
        self.child.wait().expect("wait for the killed step");
    }

    /// Waits for the step's end and reads its result.
    pub fn wait(mut self) -> Outcome {
        let output = read(&mut self.child);
        Outcome::of(&output, self.check)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail harmlessly when the step has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(child: &mut Child) -> Output {
    use std::io::Read;
    let mut stderr = child.stderr.take().expect("stderr is a pipe");
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        stderr.read_to_end(&mut text).map(|_| text)
    });
    let mut stdout = Vec::new();
    child.stdout.take().expect("stdout is a pipe").read_to_end(&mut stdout).expect("read the step's stdout");
    let stderr = errors.join().expect("the reader of stderr").expect("read the step's stderr");
    let status: ExitStatus = child.wait().expect("wait for the step");
    Output { status, stdout, stderr }
}

/// What a step returned, already checked to keep to the protocol.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The one JSON object on stdout.
    pub json: Value,
}

impl Outcome {
    fn of(output: &Output, check: bool) -> Self {
        let stdout = std::str::from_utf8(&output.stdout).expect("stdout is UTF-8");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(stderr, "", "a step says nothing on stderr; stdout: {stdout}");
        let json: Value =
            serde_json::from_str(stdout).unwrap_or_else(|error| panic!("stdout is one JSON object ({error}): {stdout}"));
        assert!(json.is_object(), "stdout is one JSON object: {stdout}");
        let outcome = Self { json };
        assert_eq!(output.status.success(), !outcome.failed(), "the exit code agrees with `failed`: {stdout}");
        if outcome.failed() {
            outcome.check_failure();
        } else {
            outcome.check_success(check);
        }
        outcome
    }

    fn check_success(&self, check: bool) {
        let json = &self.json;
        assert!(json["changed"].is_boolean(), "`changed` says whether something changed: {json}");
        let stages = json["stages"].as_array().unwrap_or_else(|| panic!("`stages` is a list: {json}"));
        for stage in stages {
            let complete = stage["name"].is_string()
                && stage["changed"].is_boolean()
                && stage["skipped"].is_boolean()
                && stage["seconds"].is_number();
            assert!(complete, "a stage has name, changed, skipped and seconds: {stage}");
        }
        let any = stages.iter().any(|stage| stage["changed"] == true);
        assert!(self.changed() || !any, "a stage changed something, so the step did: {json}");
        assert!(check || self.deferred().is_empty(), "only check mode defers: {json}");
        assert_eq!(
            self.diff().is_empty(),
            !self.changed() || !self.deferred().is_empty() && self.diff().is_empty(),
            "a change has a diff: {json}"
        );
    }

    fn check_failure(&self) {
        let json = &self.json;
        for field in ["msg", "code", "stage"] {
            assert!(json[field].as_str().is_some_and(|text| !text.is_empty()), "a failure has `{field}`: {json}");
        }
        let hints = json["hints"].as_array().unwrap_or_else(|| panic!("a failure has hints: {json}"));
        assert!(hints.iter().all(Value::is_string), "hints are text: {json}");
        let code = self.code();
        let well_formed = code.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_');
        assert!(well_formed, "a code is stable and upper case: {json}");
    }

    /// Whether the step failed.
    pub fn failed(&self) -> bool {
        self.json["failed"] == true
    }

    /// Whether the step changed something, or would.
    pub fn changed(&self) -> bool {
        self.json["changed"] == true
    }

    /// The failure's code, empty when there is none.
    pub fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }

    /// The failure's sentence, empty when there is none.
    pub fn msg(&self) -> &str {
        self.json["msg"].as_str().unwrap_or_default()
    }

    /// Before and after of every change.
    pub fn diff(&self) -> Vec<Value> {
        numbered(&self.json["diff"]).as_array().cloned().unwrap_or_default()
    }

    /// What check mode could not look at.
    pub fn deferred(&self) -> Vec<Value> {
        self.json["deferred"].as_array().cloned().unwrap_or_default()
    }

    /// The outcome, which is not a failure.
    pub fn ok(self) -> Self {
        assert!(!self.failed(), "the step failed: {:#}", self.json);
        self
    }

    /// The outcome, which changed something.
    pub fn expect_changed(self) -> Self {
        let outcome = self.ok();
        assert!(outcome.changed(), "nothing changed: {:#}", outcome.json);
        outcome
    }

    /// The outcome, which changed nothing.
    pub fn expect_unchanged(self) -> Self {
        let outcome = self.ok();
        assert!(!outcome.changed(), "something changed: {:#}", outcome.json);
        outcome
    }

    /// The outcome, which is a failure with this code.
    pub fn expect_code(self, code: &str) -> Self {
        assert!(self.failed(), "the step did not fail with {code}: {:#}", self.json);
        assert_eq!(self.code(), code, "{:#}", self.json);
        self
    }

    /// The outcome, which is a failure that says `words` in its sentence, detail or hints.
    pub fn expect_words(self, words: &str) -> Self {
        let said = [&self.json["msg"], &self.json["detail"], &self.json["hints"]].map(Value::to_string).join(" ");
        assert!(said.replace("\\\"", "\"").contains(words), "nothing says {words:?}: {:#}", self.json);
        self
    }
}

/// Marks of secrets are made anew in each run, so they are numbered: the same value has the same number.
fn numbered(diff: &Value) -> Value {
    const MARK: &str = "<redacted:";
    let text = diff.to_string();
    let mut parts = text.split(MARK);
    let mut numbered = parts.next().unwrap_or_default().to_owned();
    let mut seen: Vec<&str> = Vec::new();
    for part in parts {
        let (mark, rest) = part.split_once('>').expect("a mark that ends");
        let number = seen.iter().position(|known| *known == mark).unwrap_or_else(|| {
            seen.push(mark);
            seen.len() - 1
        });
        numbered.extend([MARK, &number.to_string(), ">", rest]);
    }
    serde_json::from_str(&numbered).expect("a diff as before")
}
