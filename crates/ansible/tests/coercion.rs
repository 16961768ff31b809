//! Options are coerced as ansible-core's own modules coerce them, and where they are not, it is on purpose.

#![allow(clippy::unwrap_used, clippy::panic)]

mod ansible_core;
mod cases;

use std::{collections::BTreeMap, path::Path, sync::LazyLock};

use ansible::OptionTable;
use converge::AbsolutePath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use smart_default::SmartDefault;

use crate::cases::{
    UNSET,
    Verdict::{self, Instead, Refused, Same},
    WIDE, cases,
};

#[derive(Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
struct Options {
    text: Option<String>,
    #[default("fallback")]
    text_or: String,
    #[schemars(extend("aliases" = ["old_name", "older_name"]))]
    renamed: Option<String>,
    number: Option<i64>,
    #[default(7)]
    number_or: i64,
    flag: Option<bool>,
    #[default(true)]
    flag_or: bool,
    path: Option<AbsolutePath>,
    answer: Option<Answer>,
    words: Option<Vec<String>>,
    numbers: Option<Vec<i64>>,
    flags: Option<Vec<bool>>,
    answers: Option<Vec<Answer>>,
    paths: Option<Vec<AbsolutePath>>,
    rows: Option<Vec<Vec<i64>>>,
    free: Option<BTreeMap<String, String>>,
    disk: Option<Disk>,
    disks: Option<Vec<Disk>>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Yes,
    No,
    Maybe,
}

#[derive(Deserialize, Serialize, JsonSchema)]
struct Disk {
    name: String,
    #[serde(default = "Disk::default_size")]
    size: i64,
    #[serde(default)]
    wipe: Option<bool>,
}

impl Disk {
    fn default_size() -> i64 {
        3
    }
}

#[derive(Deserialize, Serialize, JsonSchema)]
struct Required {
    name: String,
    count: i64,
}

/// What an option of [`Options`] is in ansible-core's words.
fn spec(option: &str) -> Value {
    let disk = json!({"name": {"type": "str", "required": true}, "size": {"type": "int", "default": 3}, "wipe": {"type": "bool"}});
    let answers = ["yes", "no", "maybe"];
    match option {
        "text" => json!({"type": "str"}),
        "text_or" => json!({"type": "str", "default": "fallback"}),
        "renamed" => json!({"type": "str", "aliases": ["old_name", "older_name"]}),
        "number" => json!({"type": "int"}),
        "number_or" => json!({"type": "int", "default": 7}),
        "flag" => json!({"type": "bool"}),
        "flag_or" => json!({"type": "bool", "default": true}),
        "path" => json!({"type": "path"}),
        "answer" => json!({"type": "str", "choices": answers}),
        "words" => json!({"type": "list", "elements": "str"}),
        "numbers" => json!({"type": "list", "elements": "int"}),
        "flags" => json!({"type": "list", "elements": "bool"}),
        "answers" => json!({"type": "list", "elements": "str", "choices": answers}),
        "paths" => json!({"type": "list", "elements": "path"}),
        "rows" => json!({"type": "list", "elements": "list"}),
        "free" => json!({"type": "dict"}),
        "disk" => json!({"type": "dict", "options": disk}),
        "disks" => json!({"type": "list", "elements": "dict", "options": disk}),
        other => panic!("no option {other}"),
    }
}

#[test]
fn values_are_coerced_as_by_ansible_core() {
    let cases = cases();
    let questions = cases.iter().map(|(option, given, _)| json!({"spec": {*option: spec(option)}, "given": {*option: given}}));
    let answers = ask(questions.collect());
    assert_eq!(answers.len(), cases.len());
    let wrong = cases.iter().zip(answers).filter_map(|((option, given, verdict), answer)| {
        let ours = ours(&json!({*option: given})).map(|mut values| values.remove(*option).unwrap_or_default());
        let theirs = answer.map(|values| values[*option].clone());
        complaint(verdict, &ours, &theirs).map(|complaint| format!("{option}: {given}: {complaint}"))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn names_are_taken_as_by_ansible_core() {
    let cases = [
        json!({}),
        json!({"renamed": "new"}),
        json!({"old_name": "old"}),
        json!({"older_name": "older"}),
        json!({"renamed": "new", "old_name": "old"}),
        json!({"renamed": "new", "older_name": "older", "old_name": "old"}),
        json!({"oldest_name": "oldest"}),
        json!({"Renamed": "new"}),
    ];
    let questions = cases.iter().map(|given| json!({"spec": {"renamed": spec("renamed")}, "given": given}));
    for (given, answer) in cases.iter().zip(ask(questions.collect())) {
        let ours = ours(given).map(|mut values| values.remove("renamed").unwrap_or_default());
        let theirs = answer.map(|values| values["renamed"].clone());
        assert_eq!(complaint(&Same, &ours, &theirs), None, "{given}");
    }
}

#[test]
fn what_is_required_is_required_as_by_ansible_core() {
    let spec = json!({"name": {"type": "str", "required": true}, "count": {"type": "int", "required": true}});
    let cases = [
        (json!({"name": "a", "count": "1"}), Same),
        (json!({"name": "a"}), Same),
        (json!({"count": 1}), Same),
        (json!({}), Same),
        (json!({"name": "a", "count": null}), Same),
        (json!({"name": "a", "count": ""}), Same),
        (json!({"name": null, "count": 1}), Refused(UNSET)),
        (json!({"name": "", "count": 1}), Refused(UNSET)),
    ];
    let questions = cases.iter().map(|(given, _)| json!({"spec": spec, "given": given}));
    for ((given, verdict), theirs) in cases.iter().zip(ask(questions.collect())) {
        let ours = OptionTable::of::<Required>().resolve(given.as_object().unwrap());
        let ours = ours.map(Value::from).map_err(|error| error.to_string());
        assert_eq!(complaint(verdict, &ours, &theirs.map(Value::from)), None, "{given}");
    }
}

/// Texts made at random, always the same ones, of the letters that mean something to one type or another.
#[test]
fn any_text_is_taken_as_by_ansible_core() {
    const LETTERS: [&str; 20] =
        ["0", "1", "5", "9", "-", "+", ".", "_", "e", "E", " ", "\t", ",", "=", "\"", "'", "\\", "a", "t", "yes"];
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |limit: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % limit as u64).unwrap()
    };
    let texts: Vec<String> = (0..3000).map(|_| (0..=random(7)).map(|_| LETTERS[random(LETTERS.len())]).collect()).collect();
    let options = ["text", "number", "flag", "words", "numbers", "free"];
    let cases: Vec<_> = texts.iter().flat_map(|text| options.map(|option| (option, text))).collect();
    let questions = cases.iter().map(|(option, text)| json!({"spec": {*option: spec(option)}, "given": {*option: text}}));
    for ((option, text), answer) in cases.iter().zip(ask(questions.collect())) {
        let ours = ours(&json!({*option: text})).map(|mut values| values.remove(*option).unwrap_or_default());
        let theirs = answer.map(|values| values[*option].clone());
        let is_wide = |value: &Value| !value.is_i64() && value.is_number();
        if theirs.as_ref().is_ok_and(|value| is_wide(value) || value.as_array().is_some_and(|values| values.iter().any(is_wide))) {
            assert!(ours.is_err(), "{option}: {text:?}: {WIDE}, but {ours:?}");
            continue;
        }
        assert_eq!(complaint(&Same, &ours, &theirs), None, "{option}: {text:?}");
        if let Ok(value) = ours {
            assert_eq!(self::ours(&json!({*option: value})).unwrap()[*option], value, "{option}: {text:?}, once more");
        }
    }
}

type Answered<T> = Result<T, String>;

fn ours(given: &Value) -> Answered<Map<String, Value>> {
    static TABLE: LazyLock<OptionTable> = LazyLock::new(OptionTable::of::<Options>);
    TABLE.resolve(given.as_object().unwrap()).map_err(|error| error.to_string())
}

fn ask(questions: Vec<Value>) -> Vec<Answered<Map<String, Value>>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/coercion.py");
    let answers: Vec<Map<String, Value>> = serde_json::from_value(ansible_core::ask(&script, &questions.into())).unwrap();
    let answer = |answer: Map<String, Value>| match answer.get("error") {
        Some(error) => Err(error.to_string()),
        None => Ok(answer["value"].as_object().unwrap().clone()),
    };
    answers.into_iter().map(answer).collect()
}

/// What is wrong with our answer, if anything. A purpose that makes no difference is as wrong as a difference without purpose.
fn complaint(verdict: &Verdict, ours: &Answered<Value>, theirs: &Answered<Value>) -> Option<String> {
    let ours = ours.as_ref().map(known);
    let theirs = theirs.as_ref().map(known);
    let is_same = ours == theirs || ours.is_err() && theirs.is_err();
    match verdict {
        Same if is_same => None,
        Refused(_) if ours.is_err() && !is_same => None,
        Instead(value, _) if ours.as_ref() == Ok(value) && !is_same => None,
        Same => Some(format!("{ours:?}, but ansible-core: {theirs:?}")),
        Refused(reason) | Instead(_, reason) => Some(format!("{ours:?} and ansible-core: {theirs:?}, although {reason}")),
    }
}

/// Without the keys that are null, which ansible-core has for everything that is not set.
fn known(value: &Value) -> Value {
    match value {
        Value::Object(entries) => {
            entries.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), known(value))).collect()
        }
        Value::Array(items) => items.iter().map(known).collect(),
        other => other.clone(),
    }
}
