//! What is said to a step, and what it says.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::ffi::OsStringExt as _,
    path::PathBuf,
    process::Command,
};

use serde_json::{Value, json};

use crate::bench::{Bench, TOKEN, answer, answer_to, executable, probe, spoken, stages, with};

const FORMATS: [&str; 9] =
    ["documentation", "examples", "return", "stub", "argument-specs", "defaults", "tasks", "role-meta", "readme"];

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
