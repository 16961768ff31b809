//! Options are coerced as ansible-core's own modules coerce them, and where they are not, it is on purpose.

#![allow(clippy::unwrap_used, clippy::panic)]

mod ansible_core;

use std::{collections::BTreeMap, path::Path, sync::LazyLock};

use ansible::OptionTable;
use converge::AbsolutePath;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use smart_default::SmartDefault;

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

/// Whether ours is ansible-core's answer, or another one for a reason.
enum Verdict {
    Same,
    Refused(&'static str),
    Instead(Value, &'static str),
}

use Verdict::{Instead, Refused, Same};

const UNSET: &str = "a role passes null or the empty text on for what its user has not set";
const QUOTE_IT: &str = "digits are lost by then; quoted, it is taken as it stands";
const NOT_A_TEXT: &str = "a list or dictionary as text would be Python's notation";
const WIDE: &str = "no option needs more than 64 bits";
const PYTHON_LITERAL: &str = "Python's notation of a dictionary is Python's own";
const BOOLEAN_IN_STRINGS: &str = "LXD writes booleans in lower case, where YAML has made one of a word";
const NOT_ABSOLUTE: &str = "where a relative path begins is nobody's to know";
const NO_VALUE: &str = "a list or dictionary with a hole is a mistake";

#[allow(clippy::too_many_lines)] // a table
fn cases() -> Vec<(&'static str, Value, Verdict)> {
    let unset = || Instead(Value::Null, UNSET);
    vec![
        // str
        ("text", json!("capi-lab"), Same),
        ("text", json!(" kept as it is "), Same),
        ("text", json!(8443), Same),
        ("text", json!(-1), Same),
        ("text", json!(u64::MAX), Same),
        ("text", json!(1.5), Same),
        ("text", json!(1.0), Same),
        ("text", json!(1e3), Same),
        ("text", json!(0.0001), Same),
        ("text", json!(-0.0), Same),
        ("text", json!(1e15), Same),
        ("text", json!(123_456_789.125), Same),
        ("text", json!(1e16), Refused(QUOTE_IT)),
        ("text", json!(0.00001), Refused(QUOTE_IT)),
        ("text", json!(true), Same),
        ("text", json!(false), Same),
        ("text", json!("yes"), Same),
        ("text", json!(null), Same),
        ("text", json!(""), unset()),
        ("text", json!(["a"]), Refused(NOT_A_TEXT)),
        ("text", json!({"a": 1}), Refused(NOT_A_TEXT)),
        ("text_or", json!(""), Same),
        ("text_or", json!("other"), Same),
        ("text_or", json!(null), Instead(json!("fallback"), UNSET)),
        // int
        ("number", json!(8443), Same),
        ("number", json!(-5), Same),
        ("number", json!(i64::MIN), Same),
        ("number", json!(8443.0), Same),
        ("number", json!(8443.5), Same),
        ("number", json!("8443"), Same),
        ("number", json!("+8443"), Same),
        ("number", json!("-8443"), Same),
        ("number", json!(" 8443 "), Same),
        ("number", json!("\t8443\n"), Same),
        ("number", json!("8443.0"), Same),
        ("number", json!("8443.5"), Same),
        ("number", json!("8443."), Same),
        ("number", json!(".5e1"), Same),
        ("number", json!("1e3"), Same),
        ("number", json!("1E3"), Same),
        ("number", json!("10e-1"), Same),
        ("number", json!("8_443"), Same),
        ("number", json!("_8443_"), Same),
        ("number", json!("8 443"), Same),
        ("number", json!("8,443"), Same),
        ("number", json!("0x10"), Same),
        ("number", json!("0o17"), Same),
        ("number", json!("ten"), Same),
        ("number", json!("."), Same),
        ("number", json!("-"), Same),
        ("number", json!("_"), Same),
        ("number", json!("nan"), Same),
        ("number", json!("inf"), Same),
        ("number", json!("-Infinity"), Same),
        ("number", json!(true), Instead(json!(1), "Python's booleans are numbers")),
        ("number", json!("true"), Same),
        ("number", json!([8443]), Same),
        ("number", json!({"a": 1}), Same),
        ("number", json!(null), Same),
        ("number", json!(""), unset()),
        ("number", json!(u64::MAX), Refused(WIDE)),
        ("number", json!("1e30"), Refused(WIDE)),
        ("number_or", json!("8"), Same),
        ("number_or", json!(null), Instead(json!(7), UNSET)),
        ("number_or", json!(""), Instead(json!(7), UNSET)),
        // bool
        ("flag", json!(true), Same),
        ("flag", json!(false), Same),
        ("flag", json!("yes"), Same),
        ("flag", json!("No"), Same),
        ("flag", json!(" ON "), Same),
        ("flag", json!("off"), Same),
        ("flag", json!("T"), Same),
        ("flag", json!("f"), Same),
        ("flag", json!("y"), Same),
        ("flag", json!("n"), Same),
        ("flag", json!("TRUE"), Same),
        ("flag", json!("False"), Same),
        ("flag", json!("1"), Same),
        ("flag", json!("0"), Same),
        ("flag", json!("1.0"), Same),
        ("flag", json!("2"), Same),
        ("flag", json!(1), Same),
        ("flag", json!(0), Same),
        ("flag", json!(1.0), Same),
        ("flag", json!(0.0), Same),
        ("flag", json!(2), Same),
        ("flag", json!(-1), Same),
        ("flag", json!("perhaps"), Same),
        ("flag", json!(" "), Same),
        ("flag", json!([true]), Same),
        ("flag", json!({}), Same),
        ("flag", json!(null), Same),
        ("flag", json!(""), unset()),
        ("flag_or", json!("no"), Same),
        ("flag_or", json!(null), Instead(json!(true), UNSET)),
        ("flag_or", json!(""), Instead(json!(true), UNSET)),
        // path
        ("path", json!("/var/lib/lxd/unix.socket"), Same),
        ("path", json!("~"), Same),
        ("path", json!("~/"), Same),
        ("path", json!("~/.kube/config"), Same),
        ("path", json!("$HOME/.kube/config"), Same),
        ("path", json!("${HOME}/.kube/config"), Same),
        ("path", json!("$HOME$HOME"), Same),
        ("path", json!("/srv/$K8SLAB_NOT_SET/${K8SLAB_NOT_SET}/$/${"), Same),
        ("path", json!("/srv/~"), Same),
        ("path", json!("relative"), Refused(NOT_ABSOLUTE)),
        ("path", json!(8443), Refused(NOT_ABSOLUTE)),
        ("path", json!("/srv/../etc"), Refused(NOT_ABSOLUTE)),
        ("path", json!("~root/x"), Refused("another user's home is that user's own")),
        ("path", json!(["/a"]), Refused(NOT_A_TEXT)),
        ("path", json!(""), unset()),
        ("paths", json!("~/a,/b"), Same),
        // choices
        ("answer", json!("yes"), Same),
        ("answer", json!("maybe"), Same),
        ("answer", json!(true), Same),
        ("answer", json!(false), Same),
        ("answer", json!("True"), Same),
        ("answer", json!("False"), Same),
        ("answer", json!("true"), Same),
        ("answer", json!("Yes"), Same),
        ("answer", json!("never"), Same),
        ("answer", json!(1), Same),
        ("answer", json!(null), unset()),
        ("answer", json!(""), unset()),
        ("answers", json!(["yes", "maybe"]), Same),
        ("answers", json!(["yes", "never"]), Same),
        ("answers", json!("yes,no"), Same),
        ("answers", json!("yes, no"), Same),
        ("answers", json!([true]), Same),
        ("answers", json!([]), Same),
        // list
        ("words", json!(["a", "b"]), Same),
        ("words", json!([]), Same),
        ("words", json!("a,b"), Same),
        ("words", json!("a, b"), Same),
        ("words", json!("a,,b,"), Same),
        ("words", json!("a"), Same),
        ("words", json!("[1, 2]"), Same),
        ("words", json!(["a,b"]), Same),
        ("words", json!([1, 1.5]), Same),
        ("words", json!(5), Same),
        ("words", json!(1.5), Same),
        ("words", json!([""]), Same),
        ("words", json!({"a": 1}), Same),
        ("words", json!(null), Same),
        ("words", json!(""), unset()),
        ("words", json!([true, false]), Instead(json!(["true", "false"]), BOOLEAN_IN_STRINGS)),
        ("words", json!(true), Instead(json!(["true"]), BOOLEAN_IN_STRINGS)),
        ("words", json!([["a"]]), Refused(NOT_A_TEXT)),
        ("words", json!([null]), Refused(NO_VALUE)),
        ("numbers", json!(["1", 2, 3.0, " 4"]), Same),
        ("numbers", json!("1,2"), Same),
        ("numbers", json!("1, 2"), Same),
        ("numbers", json!(1), Same),
        ("numbers", json!("1,,2"), Same),
        ("numbers", json!(["one"]), Same),
        ("numbers", json!([null]), Same),
        ("flags", json!(["yes", 0, true]), Same),
        ("flags", json!("yes,no"), Same),
        ("flags", json!(true), Same),
        ("flags", json!(1), Same),
        ("flags", json!([2]), Same),
        ("rows", json!([[1, 2], [3]]), Same),
        ("rows", json!([["1"]]), Instead(json!([[1]]), "ansible-core knows no type of an inner list's elements")),
        // dict
        ("free", json!({}), Same),
        ("free", json!({"limits.cpu": "2", "empty": ""}), Same),
        ("free", json!("limits.cpu=2"), Same),
        ("free", json!("a=1 b=2"), Same),
        ("free", json!("a=1, b=2,c=3"), Same),
        ("free", json!(" a=1 "), Same),
        ("free", json!("a=\"two words\" b='x,y'"), Same),
        ("free", json!("a=it\\'s b=c\\ d"), Same),
        ("free", json!("a=b=c"), Same),
        ("free", json!("=1"), Same),
        ("free", json!("a="), Same),
        ("free", json!("a=1 a=2"), Same),
        ("free", json!("a=1 b"), Same),
        ("free", json!("a=1\tb=2"), Same),
        ("free", json!("a=\"open"), Same),
        ("free", json!("{\"a\": \"1\", \"b\": \"\"}"), Same),
        ("free", json!("{}"), Same),
        ("free", json!("{a=1}"), Same),
        ("free", json!("{\"a\": 1"), Same),
        ("free", json!(" {\"a\": \"1\"}"), Same),
        ("free", json!(" {\"a\": \"b=c\"}"), Same),
        ("free", json!("plain"), Same),
        ("free", json!("  "), Same),
        ("free", json!(["a"]), Same),
        ("free", json!([]), Same),
        ("free", json!(1), Same),
        ("free", json!(true), Same),
        ("free", json!(null), Same),
        ("free", json!(""), unset()),
        ("free", json!("{'a': '1'}"), Refused(PYTHON_LITERAL)),
        ("free", json!({"a": 1}), Instead(json!({"a": "1"}), "the values are strings, of which ansible-core knows nothing")),
        ("free", json!({"a": true}), Instead(json!({"a": "true"}), BOOLEAN_IN_STRINGS)),
        ("free", json!({"a": null}), Refused(NO_VALUE)),
        // suboptions
        ("disk", json!({"name": "d"}), Same),
        ("disk", json!({"name": "d", "size": "5", "wipe": "yes"}), Same),
        ("disk", json!("name=d size=5"), Same),
        ("disk", json!("{\"name\": \"d\", \"wipe\": 0}"), Same),
        ("disk", json!({"size": 5}), Same),
        ("disk", json!({}), Same),
        ("disk", json!({"name": "d", "size": "big"}), Same),
        ("disk", json!({"name": "d", "colour": "red"}), Same),
        ("disk", json!({"name": "d", "size": null}), Instead(json!({"name": "d", "size": 3}), UNSET)),
        ("disk", json!({"name": ""}), Refused(UNSET)),
        ("disk", json!(["name=d"]), Same),
        ("disk", json!(null), Same),
        ("disks", json!([{"name": "a"}, {"name": "b", "size": "9"}]), Same),
        ("disks", json!(["name=a", "name=b size=1"]), Same),
        ("disks", json!("name=a,name=b"), Same),
        ("disks", json!([{"size": 1}]), Same),
        ("disks", json!([{"name": "a", "colour": "red"}]), Same),
        ("disks", json!([["a"]]), Same),
        ("disks", json!({"name": "a"}), Same),
        ("disks", json!([]), Same),
    ]
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
