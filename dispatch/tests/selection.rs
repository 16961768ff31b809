//! Which step an executable of several runs.

#![allow(clippy::unwrap_used)]

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

const STEPS: &str = env!("CARGO_BIN_EXE_k8slab-steps");

/// A call that every step refuses, and that tells by the options it knows which step it was.
fn refusal(executable: &Path, arguments: &Value, more: &[&str]) -> Value {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("args");
    let mut options = json!({"no_step_knows_this": 1});
    options.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
    fs::write(&file, options.to_string()).unwrap();
    let output = Command::new(executable).arg(file).args(more).output().unwrap();
    assert!(output.stderr.is_empty() && output.status.code() == Some(1), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn known_options(step: &str) -> String {
    let steps = dispatch::steps();
    let reference = (steps.iter().find(|entry| entry.name == step).unwrap().reference)();
    let names: Vec<_> = reference.options.options.iter().map(|option| option.name.as_str()).collect();
    format!("known options: {}", names.join(", "))
}

#[test]
fn ansible_says_which_step_it_wants() {
    for name in ["lxd_profiles", "k8slab.capi.lxd_profiles", "k8slab.capi.bin.amd64.lxd_profiles"] {
        let refused = refusal(Path::new(STEPS), &json!({"_ansible_module_name": name}), &[]);
        assert_eq!(refused["hints"], json!([known_options("lxd_profiles")]), "{name}");
    }
}

#[test]
fn the_name_of_the_executable_says_it_too() {
    let folder = TempDir::new().unwrap();
    for name in ["lab_facts", "AnsiballZ_lab_facts"] {
        let executable = folder.path().join(name);
        symlink(STEPS, &executable).unwrap();
        assert_eq!(refusal(&executable, &json!({}), &[])["hints"], json!([known_options("lab_facts")]), "{name}");
    }
}

#[test]
fn what_is_said_by_hand_comes_first() {
    let refused = refusal(Path::new(STEPS), &json!({"_ansible_module_name": "lxd_profiles"}), &["--step", "lxd_project"]);
    assert_eq!(refused["hints"], json!([known_options("lxd_project")]));
}

#[test]
fn a_step_that_there_is_not_is_a_failure_that_names_the_others() {
    for more in [&["--step", "lxd_nothing"][..], &[]] {
        let refused = refusal(Path::new(STEPS), &json!({}), more);
        assert_eq!((&refused["failed"], &refused["code"]), (&json!(true), &json!("STEP_UNKNOWN")));
        for step in dispatch::steps() {
            assert!(refused["hints"][0].as_str().unwrap().contains(step.name), "{}", step.name);
        }
    }
}

#[test]
fn each_step_has_its_reference_and_all_have_one_help() {
    let text = |arguments: &[&str]| {
        let output = Command::new(STEPS).args(arguments).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let help = text(&["--help"]);
    for step in dispatch::steps() {
        assert!(text(&["--step", step.name, "--docs"]).starts_with(&format!("module: {}\n", step.name)));
        assert!(help.contains(step.name), "{}", step.name);
    }
}
