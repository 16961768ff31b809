//! One struct is the source of names, types, defaults, validation and documentation.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use ansible::{Kind, OptionError, OptionSpec, OptionTable};
use converge::{AbsolutePath, Explain as _, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use smart_default::SmartDefault;

/// Try what a struct can say.
///
/// A second paragraph
/// of two lines.
#[derive(Deserialize, JsonSchema, SmartDefault)]
#[serde(default)]
struct Options {
    /// First paragraph.
    ///
    /// Second paragraph.
    #[default("capi-lab")]
    #[schemars(regex(pattern = "^[a-z-]+$"), extend("global" = "project_name", "aliases" = ["project"]))]
    name: String,
    #[schemars(extend("role_default" = "{{ whatever }}"))]
    description: Option<String>,
    #[default(8443)]
    port: u16,
    #[schemars(range(min = 1, max = 10))]
    retries: Option<u32>,
    #[schemars(length(min = 1))]
    alias: Option<String>,
    offset: i64,
    /// How far.
    mode: Mode,
    /// How far at most.
    most: Option<Mode>,
    #[default(vec![Mode::Strict])]
    #[schemars(length(min = 1))]
    modes: Vec<Mode>,
    #[default("/srv")]
    folder: AbsolutePath,
    token: Secret,
    tokens: BTreeMap<String, Secret>,
    #[schemars(extend("key_pattern" = r"^user\."))]
    config: BTreeMap<String, String>,
    devices: BTreeMap<String, BTreeMap<String, String>>,
    disk: Option<Disk>,
    disks: Vec<Disk>,
    #[serde(flatten)]
    connection: Connection,
}

/// Not shown: the field's own words are.
#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    /// Nothing more than
    /// is needed.
    #[default]
    Strict,
    AsElsewhere,
    WideOpen,
}

#[derive(Deserialize, Serialize, JsonSchema)]
struct Disk {
    /// Its name.
    #[schemars(length(min = 1))]
    name: String,
    #[serde(default)]
    wipe: bool,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Connection {
    /// Where.
    socket: Option<AbsolutePath>,
}

fn table() -> OptionTable {
    OptionTable::of::<Options>().with_switches(&["pools"])
}

fn option(name: &str) -> OptionSpec {
    table().find(name).unwrap_or_else(|| panic!("no option {name}")).clone()
}

fn resolve(given: &Value) -> Result<Value, OptionError> {
    table().resolve(given.as_object().unwrap()).map(Value::from)
}

#[test]
fn each_field_has_its_type() {
    let str_list = |name: &str| matches!(&option(name).kind, Kind::List(element) if element.kind == Kind::Str);
    for (name, kind) in [
        ("name", Kind::Str),
        ("description", Kind::Str),
        ("port", Kind::Int),
        ("retries", Kind::Int),
        ("mode", Kind::Str),
        ("most", Kind::Str),
        ("folder", Kind::Path),
        ("socket", Kind::Path),
        ("token", Kind::Str),
        ("enabled", Kind::Bool),
        ("flow_control_pools", Kind::Bool),
    ] {
        assert_eq!(option(name).kind, kind, "{name}");
    }
    assert!(str_list("modes"));
    let Kind::Map(devices) = option("devices").kind else { panic!("devices have free names") };
    assert!(matches!(devices.kind, Kind::Map(value) if value.kind == Kind::Str));
    for disk in [option("disk").kind, option("disks").kind] {
        let disk = if let Kind::List(element) = disk { element.kind } else { disk };
        let Kind::Dict(disk) = disk else { panic!("a disk has known keys") };
        let of = |name| disk.find(name).unwrap();
        assert_eq!((of("name").required, &of("wipe").kind, &of("wipe").default), (true, &Kind::Bool, &json!(false)));
    }
}

#[test]
fn documentation_is_taken_paragraph_by_paragraph() {
    assert_eq!(table().description, ["Try what a struct can say.", "A second paragraph of two lines."]);
    assert_eq!(option("name").description, ["First paragraph.", "Second paragraph."]);
    assert_eq!(option("mode").description, ["How far.", "V(strict): Nothing more than is needed."]);
    assert_eq!(option("most").description, ["How far at most.", "V(strict): Nothing more than is needed."]);
    assert_eq!(option("socket").description, ["Where."]);
    assert_eq!(option("port").description, [] as [&str; 0]);
}

#[test]
fn an_enum_is_a_choice_whether_its_variants_are_documented_or_not() {
    for name in ["mode", "most", "modes"] {
        let mut choices = option(name).choices;
        choices.sort();
        assert_eq!(choices, ["as-elsewhere", "strict", "wide-open"], "{name}");
    }
    assert_eq!(option("name").choices, [] as [&str; 0]);
}

#[test]
fn defaults_and_sources_are_known() {
    for (name, default) in [
        ("name", json!("capi-lab")),
        ("description", json!(null)),
        ("port", json!(8443)),
        ("mode", json!("strict")),
        ("most", json!(null)),
        ("modes", json!(["strict"])),
        ("config", json!({})),
        ("disks", json!([])),
        ("token", json!(null)),
        ("enabled", json!(true)),
    ] {
        let option = option(name);
        assert_eq!((option.default, option.required), (default, false), "{name}");
    }
    let name = option("name");
    assert_eq!((name.global.as_deref(), name.aliases), (Some("project_name"), vec!["project".to_owned()]));
    assert_eq!(option("project").name, "name");
    assert_eq!(option("description").role_default, Some(json!("{{ whatever }}")));
    assert_eq!((option("name").pattern.as_deref(), option("config").key_pattern.as_deref()), (Some("^[a-z-]+$"), Some(r"^user\.")));
}

#[test]
fn what_holds_a_secret_is_one() {
    for (name, secret) in [("token", true), ("tokens", true), ("name", false), ("disk", false), ("devices", false)] {
        assert_eq!(option(name).secret, secret, "{name}");
    }
}

#[test]
fn nothing_given_is_the_default_of_the_struct() {
    let resolved = resolve(&json!({})).unwrap();
    assert_eq!(resolved["name"], "capi-lab");
    assert_eq!(resolved.get("description"), None);
    let options: Options = serde_json::from_value(resolved).unwrap();
    let default = Options::default();
    assert_eq!((options.name, options.port, options.folder), (default.name, default.port, default.folder));
    assert_eq!(options.connection.socket, default.connection.socket);
}

#[test]
fn values_that_break_a_rule_are_refused_with_their_place() {
    for (given, message) in [
        (json!({"name": "Capi"}), "option `name`: `Capi` does not match ^[a-z-]+$"),
        (json!({"project": "Capi"}), "option `name`: `Capi` does not match ^[a-z-]+$"),
        (json!({"retries": 0}), "option `retries`: 0 is less than 1"),
        (json!({"retries": "11"}), "option `retries`: 11 is more than 10"),
        (json!({"port": -1}), "option `port`: -1 is less than 0"),
        (json!({"port": 65536}), "option `port`: 65536 is more than 65535"),
        (json!({"modes": []}), "option `modes`: must not be empty"),
        (json!({"modes": ["strict", "lax"]}), "option `modes[1]`: `lax` is not one of as-elsewhere, wide-open, strict"),
        (json!({"mode": "lax"}), "option `mode`: `lax` is not one of as-elsewhere, wide-open, strict"),
        (json!({"config": {"boot": "1"}}), r"option `config`: key `boot` does not match ^user\."),
        (json!({"devices": {"eth0": "plain"}}), "option `devices.eth0`: `plain` is not a dictionary"),
        (json!({"devices": {"eth0": {"mtu": []}}}), "option `devices.eth0.mtu`: `[]` is not a string"),
        (json!({"disk": {}}), "option `disk.name` is required"),
        (json!({"disks": [{"name": "a"}, {"name": "b", "whipe": 1}]}), "there is no option `disks[1].whipe`; did you mean `wipe`?"),
        (json!({"disks": [null]}), "option `disks[0]`: has no value"),
        (json!({"folder": {"a": 1}}), "option `folder`: `{\"a\":1}` is not a path"),
        (json!({"flow_control_pool": false}), "there is no option `flow_control_pool`; did you mean `flow_control_pools`?"),
        (json!({"name": ["x".repeat(100)]}), &format!("option `name`: `[\"{}…` is not a string", "x".repeat(58))),
    ] {
        assert_eq!(resolve(&given).unwrap_err().to_string(), message, "{given}");
    }
}

#[test]
fn what_is_switched_off_may_lack_what_it_would_need() {
    let table = OptionTable::of::<Disk>().with_switches(&[]);
    for (given, expected) in [
        (json!({}), Some("option `name` is required")),
        (json!({"enabled": true}), Some("option `name` is required")),
        (json!({"enabled": false}), None),
        (json!({"enabled": "no", "name": null}), None),
        (json!({"enabled": false, "name": ""}), None),
        (json!({"enabled": false, "wipe": "maybe"}), Some("option `wipe`: `maybe` is not a boolean")),
    ] {
        let refused = table.resolve(given.as_object().unwrap()).err().map(|error| error.to_string());
        assert_eq!(refused.as_deref(), expected, "{given}");
    }
}

#[test]
fn an_unknown_option_names_all_known_ones() {
    let error = resolve(&json!({"disk": {"name": "a", "colour": "red"}})).unwrap_err();
    assert_eq!(error.to_string(), "there is no option `disk.colour`");
    assert_eq!((error.code(), error.hints()), ("OPTION_UNKNOWN", vec!["known options: name, wipe".to_owned()]));
}

#[test]
fn a_refused_secret_is_not_quoted() {
    for given in [json!({"token": ["hunter2"]}), json!({"tokens": "hunter2"}), json!({"tokens": {"a": {"b": "hunter2"}}})] {
        let message = resolve(&given).unwrap_err().to_string();
        assert!(message.contains("the value is not a") && !message.contains("hunter2"), "{message}");
    }
}

#[test]
fn additions_may_repeat_what_is_required_and_not_override_it() {
    let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let required = BTreeMap::from([("restricted".to_owned(), Some("true".to_owned())), ("restricted.x".to_owned(), None)]);
    let refuse = |given| OptionError::refuse_overrides("extra", &given, &required);
    assert_eq!(refuse(map("user.note", "1")), Ok(()));
    assert_eq!(refuse(map("restricted", "true")), Ok(()));
    let error = refuse(map("restricted", "false")).unwrap_err();
    assert_eq!(error.to_string(), "option `extra` may add, not override: `restricted` is set by the lab to `true`");
    assert_eq!(error.code(), "OPTION_COLLISION");
    assert!(refuse(map("restricted.x", "allow")).is_err());
}
