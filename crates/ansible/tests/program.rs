//! What a step is as a program: one JSON object on standard output and nothing beside it, whatever happens.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::Write as _,
    os::unix::{ffi::OsStringExt as _, fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

const TOKEN: &str = "K10hunter2";
const FORMATS: [&str; 9] =
    ["documentation", "examples", "return", "stub", "argument-specs", "defaults", "tasks", "role-meta", "readme"];
const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn a_run_changes_once_and_says_so() {
    let bench = Bench::new();
    let first = bench.run(&bench.options());
    assert_eq!(first.result["changed"], true);
    assert_eq!(first.result["changes"], json!(["write the file"]));
    assert_eq!(first.result["length"], bench.file().len());
    assert_eq!(stages(&first.result), ["preflight", "file", "healthcheck"]);
    assert!(first.result.get("diff").is_none());
    let second = bench.run(&bench.options());
    assert_eq!((first.code, second.code), (0, 0));
    assert_eq!(second.result["changed"], false);
    assert_eq!(second.result["changes"], json!([]));
}

#[test]
fn check_mode_foresees_the_run_and_leaves_no_trace() {
    let bench = Bench::new();
    let foreseen = bench.run(&with(bench.options(), json!({"_ansible_check_mode": true, "_ansible_diff": true})));
    assert!(!bench.path.exists());
    let done = bench.run(&with(bench.options(), json!({"_ansible_diff": true})));
    for key in ["changed", "changes", "diff"] {
        assert_eq!(foreseen.result[key], done.result[key], "{key}");
    }
    let header = &done.result["diff"][0]["before_header"];
    assert_eq!((header, &done.result["diff"][0]["before"]), (&json!("file"), &json!("")));
    assert_eq!(done.result["diff"][0]["after"], format!("text: {}\n", bench.file()));
}

#[test]
fn switches_leave_parts_out() {
    let bench = Bench::new();
    let off = bench.run(&with(bench.options(), json!({"enabled": "no"})));
    assert_eq!((off.code, &off.result["skipped"], &off.result["changed"]), (0, &json!(true), &json!(false)));
    let without_need = bench.run(&with(bench.options(), json!({"enabled": false, "path": null})));
    assert_eq!((without_need.code, &without_need.result["skipped"]), (0, &json!(true)));
    let without_file = bench.run(&with(bench.options(), json!({"flow_control_file": false})));
    assert_eq!(without_file.result["stages"][1]["skipped"], true);
    assert_eq!(without_file.result["changed"], false);
    assert!(!bench.path.exists());
}

#[test]
fn a_failure_says_what_had_been_done() {
    let bench = Bench::new();
    let failed = bench.run(&with(bench.options(), json!({"ending": "failure"})));
    assert_eq!(failed.code, 1);
    assert_eq!(failed.result["failed"], true);
    assert_eq!(failed.result["code"], "PROBE_TOLD");
    assert_eq!(failed.result["msg"], "told to fail, signed with <redacted>");
    assert_eq!(failed.result["stage"], "file");
    assert_eq!(failed.result["hints"], json!(["tell it something else"]));
    assert_eq!(failed.result["changed"], true);
    assert_eq!(failed.result["changes"], json!(["write the file"]));
}

#[test]
fn bad_options_are_refused_before_anything_is_done() {
    let bench = Bench::new();
    let cases = [
        (json!({"pth": "/x"}), "OPTION_UNKNOWN", "there is no option `pth`; did you mean `path`?"),
        (json!({"zzzzzz": 1}), "OPTION_UNKNOWN", "there is no option `zzzzzz`"),
        (json!({"text": ["a"]}), "OPTION_INVALID", "option `text`: `[\"a\"]` is not a string"),
        (json!({"enabled": "perhaps"}), "OPTION_INVALID", "option `enabled`: `perhaps` is not a boolean"),
        (json!({"ending": "bad"}), "OPTION_INVALID", "option `ending`: `bad` is not one of good, failure, panic"),
        (json!({"path": null}), "PROBE_NO_FILE", "there is no such file"),
    ];
    for (change, code, message) in cases {
        let refused = bench.run(&with(bench.options(), change));
        assert_eq!((refused.code, &refused.result["failed"]), (1, &json!(true)));
        assert_eq!((&refused.result["code"], &refused.result["msg"]), (&json!(code), &json!(message)));
        assert_eq!((&refused.result["stage"], &refused.result["changed"]), (&json!("preflight"), &json!(false)));
        assert!(!bench.path.exists(), "{message}");
    }
    let relative = bench.run(&with(bench.options(), json!({"path": "relative/file"})));
    assert_eq!(relative.result["code"], "OPTION_INVALID");
}

#[test]
fn keys_of_ansible_are_none_of_the_options() {
    let bench = Bench::new();
    let foreign = json!({"_ansible_some_day": {"deep": [1]}, "_ansible_no_log": true, "_ansible_version": "9.9", "_k8slab_new": 1});
    assert_eq!(bench.run(&with(bench.options(), foreign)).result["changed"], true);
}

#[test]
fn arguments_that_cannot_be_read_are_a_failure_like_any_other() {
    let bench = Bench::new();
    let file = |name: &str, text: &[u8]| {
        let path = bench.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let mut cases: Vec<PathBuf> = vec![
        file("text", format!("token={TOKEN}").as_bytes()),
        file("empty", b""),
        file("list", format!("[\"{TOKEN}\"]").as_bytes()),
        file("cut", format!("{{\"token\": \"{TOKEN}").as_bytes()),
        file("trailing", b"{} {}"),
        file("surrogate", br#"{"text": "\ud800"}"#),
        file("latin1", b"{\"text\": \"\xe9\"}"),
        bench.folder.path().join("missing"),
        bench.folder.path().to_owned(),
    ];
    cases.push(bench.folder.path().join(OsString::from_vec(b"caf\xe9".to_vec())));
    for path in cases {
        let unreadable = answer(probe().arg(&path));
        assert_eq!((unreadable.code, &unreadable.result["failed"]), (1, &json!(true)), "{}", path.display());
        assert_eq!(unreadable.result["code"], "ARGUMENTS_UNREADABLE", "{}", path.display());
    }
}

#[test]
fn a_panic_is_a_failure_without_a_path_or_a_secret() {
    let bench = Bench::new();
    let panicked = bench.run(&with(bench.options(), json!({"ending": "panic"})));
    assert_eq!((panicked.code, &panicked.result["failed"]), (1, &json!(true)));
    assert_eq!(panicked.result["code"], "INTERNAL");
    assert!(!panicked.text.contains('/'), "{}", panicked.text);
    assert!(panicked.result["detail"].as_str().unwrap().ends_with("of probe.rs"), "{}", panicked.text);
    // What was done until then is not hidden.
    let told = ["changed", "changes", "stage"].map(|key| panicked.result[key].clone());
    assert_eq!(told, [json!(true), json!(["write the file"]), json!("file")]);
    // The file is there by now, so this one panics before it has done anything.
    let panicked = bench.run(&with(bench.options(), json!({"ending": "panic"})));
    assert_eq!((&panicked.result["changed"], &panicked.result["changes"]), (&json!(false), &json!([])));
}

#[test]
fn a_secret_is_never_told() {
    let bench = Bench::new();
    let modes = json!({"_ansible_diff": true, "_ansible_verbosity": 4});
    for change in [
        json!({}),
        json!({"ending": "failure"}),
        json!({"ending": "panic"}),
        json!({"token": {"value": TOKEN}}),
        json!({"token": [TOKEN]}),
        json!({"unknown": TOKEN}),
    ] {
        // `answer` looks for the token in everything that is told.
        let told = bench.run(&with(with(bench.options(), modes.clone()), change));
        assert!(told.result.is_object());
        let _ = fs::remove_file(&bench.path);
    }
}

#[test]
fn help_version_and_reference_are_for_people() {
    let text = |arguments: &[&str]| {
        let output = probe().args(arguments).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(text(&["--version"]), format!("probe {}\n", ansible::VERSION));
    let help = text(&["--help"]);
    assert!(help.starts_with("Keep a text in a file\n"), "{help}");
    for option in ["path", "text", "token", "ending", "gate", "enabled", "flow_control_file", "--docs", "--attach", "--mark"] {
        assert!(help.contains(option), "{option}");
    }
    for format in FORMATS {
        assert!(!text(&["--docs", format]).trim().is_empty(), "{format}");
    }
    assert_eq!(text(&["--docs"]), text(&["--docs", "documentation"]));
}

#[test]
fn a_wrong_call_by_hand_is_explained() {
    let unknown = probe().args(["--docs", "poem"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    let words = String::from_utf8(unknown.stderr).unwrap();
    for format in FORMATS {
        assert!(words.contains(format), "{format}: {words}");
    }
    let bare = probe().output().unwrap();
    assert_eq!(bare.status.code(), Some(1));
    assert!(String::from_utf8(bare.stdout).unwrap().contains("Usage: probe"));
}

#[test]
fn an_answer_that_nobody_takes_is_no_panic() {
    let bench = Bench::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = probe().arg(bench.arguments(&bench.options())).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty(), "{output:?}");
    assert!(bench.path.exists());
}

#[test]
fn a_short_job_answers_at_once() {
    let bench = Bench::new();
    for (change, code) in
        [(json!({}), 0), (json!({"ending": "failure"}), 1), (json!({"ending": "panic"}), 1), (json!({"nme": 1}), 1)]
    {
        let direct = bench.run(&with(bench.options(), change.clone()));
        let _ = fs::remove_file(&bench.path);
        let job = bench.run(&with(bench.job(), change));
        let _ = fs::remove_file(&bench.path);
        assert_eq!((direct.code, job.code), (code, code));
        assert_eq!(without_seconds(&job.result), without_seconds(&direct.result));
        assert_eq!(entries(&bench.remote_tmp), [] as [PathBuf; 0]);
    }
}

#[test]
fn a_job_takes_arguments_larger_than_a_pipe() {
    let bench = Bench::new();
    let text = "x".repeat(1 << 20);
    let started = bench.run(&with(bench.job(), json!({"text": text}))).result;
    // So much may take a slow machine longer than a caller waits.
    let result = match started["_k8slab_job"]["folder"].as_str() {
        Some(folder) => Job { folder: folder.into() }.follow(0).1,
        None => started,
    };
    assert_eq!(result["changed"], true);
    assert!(bench.file().starts_with(&text));
}

#[test]
fn a_long_job_is_followed_to_its_end() {
    let bench = Bench::new();
    let job = Job::start(&bench);
    assert_eq!(entries(&bench.remote_tmp), [job.folder.as_path()]);

    let first = job.attach(0);
    let messages = |news: &Value| -> Vec<String> {
        news["events"].as_array().unwrap().iter().map(|event| event["message"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(messages(&first), ["signing with <redacted>", "waiting for the gate is open (seen: closed)"]);
    assert_eq!(first["result"], Value::Null);
    let offset = first["from"].as_u64().unwrap();
    // From the same offset the same is told again; from the new one only news.
    assert_eq!(messages(&job.attach(0)), messages(&first));
    assert_eq!(job.attach(offset), json!({"events": [], "from": offset, "result": null}));

    bench.open_gate();
    let (later, result) = job.follow(offset);
    assert_eq!(later.iter().map(|event| &event["message"]).collect::<Vec<_>>(), ["write the file"]);
    assert_eq!(later[0]["stage"], "file");
    assert_eq!((&result["changed"], &result["length"]), (&json!(true), &json!(bench.file().len())));
    assert!(!job.folder.exists());
    assert_eq!(job.attach(0)["result"]["code"], "JOB_LOST");
}

#[test]
fn a_job_is_its_users_own_and_its_arguments_are_nowhere() {
    let bench = Bench::new();
    let job = Job::start(&bench);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&job.folder), 0o700);
    assert_eq!(mode(&job.folder.join("events")), 0o600);
    for file in entries(&job.folder) {
        assert!(!holds_token(&file), "{}", file.display());
    }
    let process = Path::new("/proc").join(job.worker().to_string());
    assert!(!holds_token(&process.join("cmdline")));
    assert!(!holds_token(&process.join("environ")));
}

#[test]
fn what_a_job_needs_below_the_temporary_folder_is_its_users_own() {
    let bench = Bench::new();
    let base = bench.folder.path().join("not/there/yet");
    bench.run(&with(bench.job(), json!({"_ansible_remote_tmp": base})));
    for folder in base.ancestors().take(3) {
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{}", folder.display());
    }
}

#[test]
fn options_come_by_standard_input_and_the_answer_between_marks() {
    let bench = Bench::new();
    for (options, arguments) in [
        (bench.options(), vec!["--mark", "here", "-"]),
        (bench.job(), vec!["--mark", "here", "-"]),
        (with(bench.options(), json!({"_k8slab_mark": "here"})), vec!["-"]),
        (json!({"pth": 1}), vec!["--mark", "here", "-"]),
    ] {
        let text = spoken(probe().args(arguments), options.to_string().as_bytes());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), lines[0], lines[2]), (3, "here", "here"), "{text}");
        assert!(serde_json::from_str::<Value>(lines[1]).unwrap().is_object());
    }
}

#[test]
fn a_default_for_all_steps_that_one_does_not_have_is_not_meant_for_it() {
    let bench = Bench::new();
    let shared = json!({"_k8slab_defaults": ["pth", "text"], "pth": 1, "text": "shared"});
    assert_eq!(bench.run(&with(bench.options(), shared.clone())).result["changed"], true);
    assert!(bench.file().starts_with("shared, "));
    let own = bench.run(&with(bench.options(), with(shared, json!({"txet": "own"})))).result;
    assert_eq!(own["code"], "OPTION_UNKNOWN");
}

#[test]
fn the_options_are_shown_to_whoever_asks_for_many_words() {
    let bench = Bench::new();
    let verbose = |verbosity: i32| bench.run(&with(bench.options(), json!({"_ansible_verbosity": verbosity}))).result;
    assert!(verbose(2).get("invocation").is_none());
    let shown = &verbose(3)["invocation"]["module_args"];
    assert_eq!((&shown["path"], &shown["token"], &shown["ending"]), (&json!(bench.path), &json!("<redacted>"), &json!("good")));
}

#[test]
fn a_value_that_is_no_number_is_named() {
    let bench = Bench::new();
    for word in ["NaN", "Infinity"] {
        let refused = answer_to(probe().arg("-"), format!("{{\"path\": \"/x\", \"text\": {word}}}").as_bytes());
        assert_eq!(refused.result["code"], "OPTION_INVALID", "{}", refused.text);
        assert!(refused.result["msg"].as_str().unwrap().contains(&format!("`{word}`")), "{}", refused.text);
    }
    assert!(!bench.path.exists());
}

#[test]
fn a_full_disk_costs_a_result_its_details_and_no_more() {
    let bench = Bench::new();
    // Everything but what the job has taken for its result is filled while the step waits.
    let script = "
        mount -t tmpfs -o size=1m none \"$1\"
        job=$(\"$2\" - <\"$3\" | sed 's/.*\"folder\":\"\\([^\"]*\\)\".*/\\1/')
        dd if=/dev/zero of=\"$1\"/filler bs=4k 2>&- || :
        touch \"$4\"
        until \"$2\" --attach \"$job\" | tee \"$5\" | grep -q '\"result\":{'; do :; done";
    for (text, detail) in [(String::from("hello"), true), ("x".repeat(200_000), false)] {
        let options = json!({"gate": bench.gate(), "text": text, "_ansible_diff": true});
        let arguments = bench.arguments(&with(bench.job(), options));
        let told = bench.folder.path().join("told");
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-euc", script, "sh"])
            .args([&bench.remote_tmp, &executable(), &arguments, &bench.gate(), &told])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let result = &serde_json::from_slice::<Value>(&fs::read(told).unwrap()).unwrap()["result"];
        assert_eq!((&result["changed"], &result["failed"]), (&json!(true), &Value::Null), "{result}");
        assert_eq!(result["changes"] == json!(["write the file"]), detail, "{result}");
        assert_eq!(result["warnings"].is_array(), !detail, "{result}");
        let _ = (fs::remove_file(bench.gate()), fs::remove_file(&bench.path));
    }
}

#[test]
fn a_job_is_waited_for_where_nothing_can_be_watched() {
    let bench = Bench::new();
    let job = Job::start(&bench);
    let script = "echo 0 >/proc/sys/user/max_inotify_instances; exec \"$1\" --attach \"$2\" --from \"$3\"";
    let offset = job.attach(0)["from"].to_string();
    let start = Instant::now();
    let blind = answer(Command::new("unshare").args(["--user", "--map-root-user", "sh", "-euc", script, "sh"]).args([
        executable().as_os_str(),
        job.folder.as_os_str(),
        OsStr::new(&offset),
    ]));
    assert_eq!(blind.result["result"], Value::Null);
    assert!(start.elapsed() > Duration::from_secs(1), "it answered at once");
    bench.open_gate();
    assert_eq!(job.follow(0).1["changed"], true);
}

#[test]
fn what_nobody_came_for_goes_with_a_later_run() {
    let bench = Bench::new();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(100_000);
    let job = |name: &str, age: std::time::SystemTime| {
        let folder = bench.remote_tmp.join(name);
        fs::create_dir(&folder).unwrap();
        let events = File::create_new(folder.join("events")).unwrap();
        events.set_modified(age).unwrap();
        (folder, events)
    };
    let (old, _) = job("k8slab-job-1-1", long_ago);
    let (young, _) = job("k8slab-job-2-2", std::time::SystemTime::now());
    let (foreign, _) = job("precious", long_ago);
    let (busy, lock) = job("k8slab-job-3-3", long_ago);
    lock.lock().unwrap();
    bench.run(&bench.job());
    assert_eq!([&old, &young, &foreign, &busy].map(|folder| folder.exists()), [false, true, true, true]);
}

#[test]
fn a_job_that_is_asked_to_stop_ends_its_wait_and_says_what_it_had_done() {
    let bench = Bench::new();
    let job = Job::start(&bench);
    let start = Instant::now();
    answer(probe().args(["--stop", "--attach"]).arg(&job.folder));
    let result = eventually(|| {
        if job.folder.exists() { Some(job.attach(0)["result"].clone()).filter(Value::is_object) } else { Some(Value::Null) }
    });
    assert!(start.elapsed() < DEADLINE);
    assert!(!bench.path.exists(), "it went on");
    assert!(result.is_null() || (result["code"] == "STOPPED" && result["changes"] == json!([])), "{result}");
}

#[test]
fn a_killed_job_is_lost() {
    let bench = Bench::new();
    let job = Job::start(&bench);
    kill_process(Pid::from_raw(job.worker()).unwrap(), Signal::KILL).unwrap();
    let (_, result) = job.follow(0);
    assert_eq!((&result["failed"], &result["code"]), (&json!(true), &json!("JOB_LOST")));
}

#[test]
fn a_job_outlives_its_caller() {
    let bench = Bench::new();
    let mut caller = probe();
    let arguments = bench.arguments(&with(bench.job(), json!({"gate": bench.gate()})));
    let mut caller = caller.arg(arguments).stdout(Stdio::null()).process_group(0).spawn().unwrap();
    // The worker has left its caller's session once it writes its first event.
    let folder = eventually(|| {
        entries(&bench.remote_tmp).into_iter().find(|folder| folder.join("events").metadata().is_ok_and(|file| file.len() > 0))
    });
    let group = Pid::from_child(&caller);
    // Not by SIGHUP, which whoever runs the tests may have had ignored.
    kill_process_group(group, Signal::KILL).unwrap();
    assert!(!caller.wait().unwrap().success());

    let job = Job { folder };
    assert_eq!(job.attach(0)["result"], Value::Null);
    bench.open_gate();
    assert_eq!(job.follow(0).1["changed"], true);
    assert!(bench.path.exists());
}

#[test]
fn attaching_to_a_folder_that_is_no_job_leaves_it_alone() {
    let bench = Bench::new();
    fs::write(bench.folder.path().join("precious"), "").unwrap();
    let lost = answer(probe().arg("--attach").arg(bench.folder.path()));
    assert_eq!(lost.result["result"]["code"], "JOB_LOST");
    assert!(bench.folder.path().join("precious").exists());
}

#[test]
fn where_no_job_can_be_had_a_step_simply_runs() {
    let bench = Bench::new();
    let file = bench.folder.path().join("file");
    fs::write(&file, "").unwrap();
    for base in [json!(file), json!("relative"), json!(null)] {
        let _ = fs::remove_file(&bench.path);
        assert_eq!(bench.run(&with(bench.job(), json!({"_ansible_remote_tmp": base}))).result["changed"], true);
    }
}

#[test]
fn check_mode_needs_no_job() {
    let bench = Bench::new();
    let base = bench.folder.path().join("made_for_the_first_job");
    let options = with(bench.job(), json!({"_ansible_remote_tmp": base}));
    assert_eq!(bench.run(&with(options.clone(), json!({"_ansible_check_mode": true}))).result["changed"], true);
    assert!(!bench.path.exists() && !base.exists());
    assert_eq!(bench.run(&options).result["changed"], true);
    assert!(bench.path.exists() && base.exists());
}

#[test]
fn where_nothing_can_be_executed_a_step_simply_runs() {
    let bench = Bench::new();
    let mounted = "mount -t tmpfs -o noexec,size=64m none \"$1\" && \"$2\" \"$3\" && ls -A \"$1\" >&2";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-euc", mounted, "sh"])
        .args([bench.remote_tmp.as_os_str(), executable().as_os_str(), bench.arguments(&bench.job()).as_os_str()])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "the mount failed, or the job's folder is still there");
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["changed"], true);
}

/// A folder of its own for each test, with the file that the step keeps.
struct Bench {
    folder: TempDir,
    path: PathBuf,
    remote_tmp: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        let remote_tmp = folder.path().join("remote_tmp");
        fs::create_dir(&remote_tmp).unwrap();
        Self { folder, path, remote_tmp }
    }

    fn options(&self) -> Value {
        json!({"path": self.path, "token": TOKEN, "_ansible_check_mode": false, "_ansible_diff": false})
    }

    fn job(&self) -> Value {
        with(self.options(), json!({"_k8slab_job": true, "_ansible_remote_tmp": self.remote_tmp}))
    }

    fn gate(&self) -> PathBuf {
        self.folder.path().join("gate")
    }

    fn open_gate(&self) {
        fs::write(self.gate(), "").unwrap();
    }

    fn file(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }

    fn arguments(&self, options: &Value) -> PathBuf {
        let path = self.folder.path().join("args");
        fs::write(&path, options.to_string()).unwrap();
        path
    }

    fn run(&self, options: &Value) -> Answer {
        answer(probe().arg(self.arguments(options)))
    }
}

/// What a program says to what it is given by standard input.
fn spoken(command: &mut Command, input: &[u8]) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

fn answer_to(command: &mut Command, input: &[u8]) -> Answer {
    let text = spoken(command, input);
    Answer { code: 0, result: serde_json::from_str(&text).unwrap(), text }
}

struct Answer {
    code: i32,
    text: String,
    result: Value,
}

/// Runs a program of which exactly one JSON object on standard output is expected, with no secret in it.
fn answer(command: &mut Command) -> Answer {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stderr), "");
    let text = String::from_utf8(stdout).unwrap();
    assert!(!text.contains(TOKEN), "{text}");
    assert!(text.starts_with('{') && text.ends_with("}\n") && text.lines().count() == 1, "{text}");
    Answer { code: status.code().unwrap(), result: serde_json::from_str(&text).unwrap(), text }
}

/// A job that waits at the gate.
struct Job {
    folder: PathBuf,
}

impl Job {
    fn start(bench: &Bench) -> Self {
        let started = bench.run(&with(bench.job(), json!({"gate": bench.gate()})));
        assert_eq!((started.code, &started.result["changed"]), (0, &json!(false)));
        let folder: PathBuf = serde_json::from_value(started.result["_k8slab_job"]["folder"].clone()).unwrap();
        let attach = json!([executable(), "--attach", folder]);
        assert_eq!(started.result["_k8slab_job"]["attach"], attach);
        Self { folder }
    }

    fn attach(&self, from: u64) -> Value {
        answer(probe().arg("--attach").arg(&self.folder).arg("--from").arg(from.to_string())).result
    }

    /// All events from an offset on, and the result.
    fn follow(&self, mut from: u64) -> (Vec<Value>, Value) {
        let mut events = Vec::new();
        let result = eventually(|| {
            let news = self.attach(from);
            from = news["from"].as_u64().unwrap();
            events.extend(news["events"].as_array().unwrap().iter().cloned());
            Some(news["result"].clone()).filter(Value::is_object)
        });
        (events, result)
    }

    fn worker(&self) -> i32 {
        let folder = self.folder.as_os_str().as_encoded_bytes();
        let is_told = |words: Vec<u8>| words.windows(6 + folder.len()).any(|part| part == [b"--job\0", folder].concat());
        let is_worker = |process: &PathBuf| fs::read(process.join("cmdline")).is_ok_and(is_told);
        let process = entries(Path::new("/proc")).into_iter().find(is_worker).unwrap();
        process.file_name().and_then(OsStr::to_str).unwrap().parse().unwrap()
    }
}

fn probe() -> Command {
    Command::new(executable())
}

/// Cargo builds examples beside the tests, `cargo test --test program` alone does not.
fn executable() -> PathBuf {
    let tests = env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("examples/probe");
    assert!(path.exists(), "{} is missing; run `cargo build -p ansible --example probe`", path.display());
    path
}

fn with(mut options: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more} is no object") };
    options.as_object_mut().unwrap().extend(more);
    options
}

fn without_seconds(result: &Value) -> Value {
    let mut result = result.clone();
    for stage in result["stages"].as_array_mut().unwrap() {
        stage["seconds"] = json!(0);
    }
    result
}

fn stages(result: &Value) -> Vec<&str> {
    result["stages"].as_array().unwrap().iter().map(|stage| stage["name"].as_str().unwrap()).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn holds_token(file: &Path) -> bool {
    let bytes = fs::read(file).unwrap();
    bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes())
}

fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
