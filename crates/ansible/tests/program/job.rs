//! What goes on when its caller does not wait for it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};

use crate::bench::{Bench, DEADLINE, Job, answer, entries, eventually, executable, holds_token, probe, with, without_seconds};

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
