//! A step's reference in all its forms, letter by letter where people read them.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use ansible::{Format, Reference, RoleTask, Run, Step};
use converge::{AbsolutePath, Failure, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use smart_default::SmartDefault;

/// Keep a note.
///
/// It is kept in C(/srv). Nobody reads it.
#[derive(Deserialize, JsonSchema, SmartDefault)]
#[serde(default)]
struct KeepNote {
    /// The note's O(title|heading).
    #[default("it's")]
    #[schemars(extend("global" = "title", "aliases" = ["heading"]))]
    title: String,
    /// Where.
    folder: Option<AbsolutePath>,
    /// Who may read it.
    #[default(vec![Reader::Owner])]
    readers: Vec<Reader>,
    /// Its pages.
    #[schemars(extend("role_default" = [{"text": "{{ k8s_lab_text }}"}]))]
    pages: Vec<Page>,
    /// What it is sealed with.
    seal: Secret,
}

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Reader {
    /// Whoever wrote it.
    Owner,
    /// Anybody.
    All,
}

#[derive(Deserialize, Serialize, JsonSchema)]
struct Page {
    /// Its text.
    text: String,
}

#[derive(Serialize, JsonSchema)]
struct Facts {
    /// What was kept.
    notes: Vec<Kept>,
}

#[derive(Serialize, JsonSchema)]
struct Kept {
    /// Its size.
    bytes: u64,
}

impl Step for KeepNote {
    const NAME: &'static str = "keep_note";
    const SECTIONS: &'static [&'static str] = &["paper"];
    const EXAMPLES: &'static str = "- name: Keep a note\n  k8slab.capi.keep_note:\n    title: mine\n";
    type Facts = Facts;

    async fn converge(&self, _: &mut Run) -> Result<Option<Facts>, Failure> {
        Ok(None)
    }
}

fn render(format: Format) -> String {
    Reference::of::<KeepNote>().render(format)
}

fn assert_holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
}

#[test]
fn defaults_follow_other_names_then_globals_then_the_option() {
    let defaults = "\
---
# Generated from the step's option table by `cargo xtask generate`.
keep_note_enabled: true
keep_note_flow_control_paper: true
keep_note_folder: null
keep_note_pages:
  - text: \"{{ k8s_lab_text }}\"
keep_note_readers:
  - owner
keep_note_seal: null
keep_note_title: \"{{ keep_note_heading | default(k8s_lab_title | default('it\\\\'s')) }}\"
";
    assert_eq!(render(Format::Defaults), defaults);
}

#[test]
fn a_role_is_one_task() {
    let tasks = "\
---
# Generated from the step's option table by `cargo xtask generate`.
- name: Keep a note
  k8slab.capi.keep_note:
    enabled: \"{{ keep_note_enabled }}\"
    flow_control_paper: \"{{ keep_note_flow_control_paper }}\"
    folder: \"{{ keep_note_folder }}\"
    pages: \"{{ keep_note_pages }}\"
    readers: \"{{ keep_note_readers }}\"
    seal: \"{{ keep_note_seal }}\"
    title: \"{{ keep_note_title }}\"
  become: true
  tags:
    - keep_note
    - keep-note
";
    assert_eq!(render(Format::Tasks), tasks);
}

#[test]
fn documentation_names_choices_elements_and_suboptions() {
    let documentation = render(Format::Documentation);
    assert_holds(
        &documentation,
        &[
            "module: keep_note\nshort_description: Keep a note\ndescription:\n  - Keep a note.\n  - It is kept in C(/srv).\n  - Nobody reads it.\n",
            "  folder:\n    description:\n      - Where.\n    type: path\n",
            "    type: list\n    elements: str\n    default:\n      - owner\n    choices:\n      - owner\n      - all\n",
            "      - \"V(owner): Whoever wrote it.\"\n",
            "    type: list\n    elements: dict\n    default: []\n    suboptions:\n      text:\n        description:\n          - Its text.\n        type: str\n        required: true\n",
            "    default: it's\n    aliases:\n      - heading\n",
        ],
    );
    // ansible-test knows the key in argument specifications only.
    assert!(!documentation.contains("no_log"), "{documentation}");
}

#[test]
fn argument_specs_are_of_the_roles_variables() {
    let specs = render(Format::ArgumentSpecs);
    assert_holds(
        &specs,
        &[
            "argument_specs:\n  main:\n",
            "      keep_note_pages:\n",
            "        options:\n          text:\n",
            "      keep_note_seal:\n        description:\n          - What it is sealed with.\n        no_log: true\n        type: str\n",
        ],
    );
    assert!(!specs.contains("aliases"), "{specs}");
}

#[test]
fn results_are_documented_to_their_leaves() {
    assert_holds(
        &render(Format::Return),
        &["notes:\n", "  contains:\n    bytes:\n      description:\n        - Its size.\n", "stages:\n", "deferred:\n", "hints:\n"],
    );
}

#[test]
fn a_readme_is_markdown() {
    assert_holds(
        &render(Format::Readme),
        &[
            "# keep_note\n\nKeep a note.\n\nIt is kept in `/srv`. Nobody reads it.\n",
            "    - role: k8slab.capi.keep_note\n",
            r#"| `keep_note_title` | str | `"it's"` | The note's `title\|heading`. Follows `k8s_lab_title`. |"#,
            "| `keep_note_folder` | path |  | Where. |",
        ],
    );
}

/// Pass a word on.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct PassOn {
    /// What to do.
    half: Option<String>,
    /// Anything, by name.
    extra: BTreeMap<String, Value>,
}

impl Step for PassOn {
    const NAME: &'static str = "pass_on";
    const SECTIONS: &'static [&'static str] = &[];
    const EXAMPLES: &'static str = "";
    const TASKS: &'static [RoleTask] = &[
        RoleTask { name: Some("Hear it"), sets: &[("half", "hear")], register: Some("_heard"), ..RoleTask::ON_HOST },
        RoleTask { name: Some("Say it"), sets: &[("half", "{{ _heard.half }}")], on_runner: true, ..RoleTask::ON_HOST },
    ];
    type Facts = Facts;

    async fn converge(&self, _: &mut Run) -> Result<Option<Facts>, Failure> {
        Ok(None)
    }
}

#[test]
fn a_role_may_be_several_tasks_of_one_module() {
    let reference = Reference::of::<PassOn>();
    let tasks = "\
---
# Generated from the step's option table by `cargo xtask generate`.
- name: Hear it
  k8slab.capi.pass_on:
    enabled: \"{{ pass_on_enabled }}\"
    extra: \"{{ pass_on_extra }}\"
    half: hear
  become: true
  register: _heard
  tags:
    - pass_on
    - pass-on
- name: Say it
  k8slab.capi.pass_on:
    enabled: \"{{ pass_on_enabled }}\"
    extra: \"{{ pass_on_extra }}\"
    half: \"{{ _heard.half }}\"
  become: false
  delegate_to: localhost
  tags:
    - pass_on
    - pass-on
";
    assert_eq!(reference.render(Format::Tasks), tasks);
    for format in [Format::Defaults, Format::ArgumentSpecs, Format::Readme] {
        assert!(!reference.render(format).contains("pass_on_half"), "what a task sets is no variable of the role");
    }
}

#[test]
fn an_option_may_hold_anything_by_name() {
    let given = json!({"extra": {"count": 3, "none": null, "list": [true, "x"]}});
    let resolved = Reference::of::<PassOn>().options.resolve(given.as_object().unwrap()).unwrap();
    assert_eq!(resolved["extra"], given["extra"]);
}
