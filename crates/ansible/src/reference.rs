//! A step's reference in every form that is read: by `ansible-doc`, by a role's argument validation, by a person.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;
use serde_json::{Value, json};

use crate::{COLLECTION, Kind, OptionSpec, OptionTable, Step, VERSION, yaml};

/// A form of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Ansible's DOCUMENTATION.
    Documentation,
    /// Ansible's EXAMPLES.
    Examples,
    /// Ansible's RETURN.
    Return,
    /// The Python file that carries the three for `ansible-doc`.
    Stub,
    /// A role's `meta/argument_specs.yml`.
    ArgumentSpecs,
    /// A role's `defaults/main.yml`.
    Defaults,
    /// A role's `tasks/main.yml`.
    Tasks,
    /// A role's `meta/main.yml`.
    RoleMeta,
    /// A role's `README.md`.
    Readme,
}

impl Format {
    const ALL: [(&'static str, Self); 9] = [
        ("documentation", Self::Documentation),
        ("examples", Self::Examples),
        ("return", Self::Return),
        ("stub", Self::Stub),
        ("argument-specs", Self::ArgumentSpecs),
        ("defaults", Self::Defaults),
        ("tasks", Self::Tasks),
        ("role-meta", Self::RoleMeta),
        ("readme", Self::Readme),
    ];

    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(|(name, _)| name).join(", ");
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, format)| *format).ok_or_else(|| format!("one of {}", known()))
    }
}

/// Everything that is known about a step without running it.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The step's name.
    pub name: &'static str,
    /// Its options, switches included.
    pub options: OptionTable,
    facts: OptionTable,
    examples: &'static str,
    tasks: &'static [RoleTask],
}

/// A task of a step's role.
#[derive(Clone, Copy, Debug)]
pub struct RoleTask {
    /// What it is called; by default as the step.
    pub name: Option<&'static str>,
    /// Options that it sets itself, which are then no variables of the role.
    pub sets: &'static [(&'static str, &'static str)],
    /// It runs where Ansible runs, as the user who runs it.
    pub on_runner: bool,
    /// The variable that keeps its result.
    pub register: Option<&'static str>,
}

impl RoleTask {
    /// The step on the host, with the role's variables.
    pub const ON_HOST: Self = Self { name: None, sets: &[], on_runner: false, register: None };
}

impl Reference {
    /// The reference of a step.
    #[must_use]
    pub fn of<S: Step>() -> Self {
        Self {
            name: S::NAME,
            options: OptionTable::of::<S>().with_switches(S::SECTIONS),
            facts: OptionTable::of_output::<S::Facts>(),
            examples: S::EXAMPLES,
            tasks: S::TASKS,
        }
    }

    /// The reference in one of its forms.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Documentation => self.documentation(),
            Format::Examples => format!("---\n{}", self.examples),
            Format::Return => self.returned(),
            Format::Stub => self.stub(),
            Format::ArgumentSpecs => self.argument_specs(),
            Format::Defaults => self.defaults(),
            Format::Tasks => self.tasks(),
            Format::RoleMeta => self.role_meta(),
            Format::Readme => self.readme(),
        }
    }

    /// The step in one sentence, without the full stop.
    #[must_use]
    pub fn title(&self) -> &str {
        self.options.description.first().map_or(self.name, |text| text.trim_end_matches('.'))
    }

    /// What `--help` says.
    #[must_use]
    pub fn help(&self) -> String {
        let mut text = format!("{}\n\nOptions of the JSON object:\n", self.title());
        for option in &self.options.options {
            let _ = writeln!(text, "  {:<32} {:<5} {}", option.name, option.kind.name(), default_text(option));
        }
        text
    }

    fn documentation(&self) -> String {
        yaml::text(&Documentation {
            module: self.name,
            short_description: self.title(),
            description: sentences(&self.options.description),
            version_added: VERSION,
            author: "k8slab.capi contributors (@k8slab)",
            options: self.options.options.iter().map(|option| (option.name.clone(), document(option).in_module())).collect(),
            attributes: json!({
                "check_mode": {"support": "full", "description": "Plans from the live state and changes nothing."},
                "diff_mode": {"support": "full", "description": "Shows the keys that the step owns, before and after; secrets are redacted."},
                "platform": {"support": "full", "platforms": "Debian, Ubuntu", "description": "Runs on the host that carries LXD or Incus; needs no Python there."},
            }),
        })
    }

    fn returned(&self) -> String {
        let mut facts: BTreeMap<String, Value> =
            self.facts.options.iter().map(|fact| (fact.name.clone(), returned(fact))).collect();
        facts.insert(
            "changes".into(),
            json!({"description": "What was changed, or would be, one line each.", "returned": "always", "type": "list", "elements": "str"}),
        );
        facts.insert(
            "stages".into(),
            json!({"description": "The step's stages with C(name), C(changed), C(skipped) and C(seconds).", "returned": "always", "type": "list", "elements": "dict"}),
        );
        facts.insert(
            "deferred".into(),
            json!({"description": "Prerequisites that an earlier step has yet to bring; the plan then starts from nothing.", "returned": "in check mode", "type": "list", "elements": "str"}),
        );
        facts.insert(
            "code".into(),
            json!({"description": "Stable name of what went wrong.", "returned": "on failure", "type": "str"}),
        );
        facts.insert(
            "hints".into(),
            json!({"description": "What to try.", "returned": "on failure", "type": "list", "elements": "str"}),
        );
        yaml::text(&facts)
    }

    fn stub(&self) -> String {
        format!(
            "# -*- coding: utf-8 -*-\n# Copyright: (c) k8slab.capi contributors\n# SPDX-License-Identifier: MIT\n\
             # Documentation of the compiled module {COLLECTION}.{}. Generated by `cargo xtask generate`.\n\n\
             from __future__ import annotations\n\n\
             DOCUMENTATION = r\"\"\"\n---\n{}\"\"\"\n\nEXAMPLES = r\"\"\"\n---\n{}\"\"\"\n\nRETURN = r\"\"\"\n---\n{}\"\"\"\n",
            self.name,
            self.documentation(),
            self.examples,
            self.returned()
        )
    }

    fn argument_specs(&self) -> String {
        // A role's variables have no other names; their defaults look for those.
        let document = |option| OptionDocument { aliases: Vec::new(), ..document(option) };
        let options: BTreeMap<_, _> = self.variables().map(|(variable, option)| (variable, document(option))).collect();
        let main =
            json!({"short_description": self.title(), "description": sentences(&self.options.description), "options": options});
        generated(&yaml::text(&json!({"argument_specs": {"main": main}})))
    }

    fn defaults(&self) -> String {
        let set = self.variables().filter(|(_, option)| !self.is_left_unset(option));
        let defaults: BTreeMap<_, _> = set.map(|(variable, option)| (variable, self.role_default(option))).collect();
        generated(&yaml::folded(&yaml::text(&defaults)))
    }

    fn tasks(&self) -> String {
        generated(&yaml::text(&self.tasks.iter().map(|task| self.task(task)).collect::<Vec<_>>()))
    }

    fn task(&self, task: &RoleTask) -> Task<'_> {
        let mut options: BTreeMap<_, _> =
            self.variables().map(|(variable, option)| (option.name.as_str(), self.handed(&variable, option))).collect();
        options.extend(task.sets.iter().map(|(name, value)| (*name, (*value).to_owned())));
        Task {
            name: task.name.unwrap_or(self.title()),
            module: BTreeMap::from([(format!("{COLLECTION}.{}", self.name), options)]),
            r#become: !task.on_runner,
            delegate_to: task.on_runner.then_some("localhost"),
            register: task.register,
            tags: vec![self.name.to_owned(), self.name.replace('_', "-")],
        }
    }

    fn role_meta(&self) -> String {
        generated(&yaml::text(&json!({
            "galaxy_info": {
                "author": "k8slab.capi contributors",
                "description": self.title(),
                "license": "MIT",
                "min_ansible_version": "2.16",
                "platforms": [
                    {"name": "Debian", "versions": ["bookworm", "trixie"]},
                    {"name": "Ubuntu", "versions": ["jammy", "noble"]},
                ],
                "galaxy_tags": ["kubernetes", "lxd"],
            },
            // The order of steps is the playbook's to say.
            "dependencies": [],
        })))
    }

    fn readme(&self) -> String {
        let mut text = format!("# {}\n\n{}.\n", self.name, self.title());
        for paragraph in self.options.description.iter().skip(1) {
            let _ = write!(text, "\n{}\n", plain(paragraph));
        }
        let _ = write!(
            text,
            "\n```yaml\n- hosts: lab\n  roles:\n    - role: {COLLECTION}.{}\n```\n\n| Variable | Type | Default | Meaning |\n|---|---|---|---|\n",
            self.name
        );
        for (variable, option) in self.variables() {
            let global = option.global.as_ref().map(|global| format!(" Follows `k8s_lab_{global}`.")).unwrap_or_default();
            let meaning = format!("{}{global}", plain(&option.description.join(" "))).replace('|', "\\|");
            let _ = writeln!(
                text,
                "| `{variable}` | {} | {} | {meaning} |",
                option.kind.name(),
                default_text(option).replace('|', "\\|")
            );
        }
        let _ = write!(
            text,
            "\nThe role is {}; `ansible-doc {COLLECTION}.{}` describes the module behind it with its results.\n",
            if let [_] = self.tasks { "one task" } else { "several tasks of one module" },
            self.name
        );
        text
    }

    /// What a user of the role sets: every option but those that its tasks set themselves.
    fn variables(&self) -> impl Iterator<Item = (String, &OptionSpec)> {
        let is_set = |option: &&OptionSpec| self.tasks.iter().flat_map(|task| task.sets).any(|(name, _)| *name == option.name);
        self.options
            .options
            .iter()
            .filter(move |option| !is_set(option))
            .map(|option| (format!("{}_{}", self.name, option.name), option))
    }

    /// A role's default: the variable's other names, then the lab's global, then the option's own default.
    fn role_default(&self, option: &OptionSpec) -> Value {
        if let Some(value) = &option.role_default {
            return value.clone();
        }
        let sources = self.sources(option);
        if sources.is_empty() {
            return option.default.clone();
        }
        format!("{{{{ {} }}}}", chain(&sources, jinja(&option.default))).into()
    }

    /// The variables that a role's own one follows, the first that is set.
    fn sources(&self, option: &OptionSpec) -> Vec<String> {
        let aliases = option.aliases.iter().map(|alias| format!("{}_{alias}", self.name));
        let global = option.global.iter().map(|global| format!("k8s_lab_{global}"));
        aliases.chain(global).collect()
    }

    /// Before ansible-core 2.19 a template cannot say that there is no value: it says the empty text, which no number is. So what
    /// follows other variables, need not be set and is no text has no default; the task looks for it.
    fn is_left_unset(&self, option: &OptionSpec) -> bool {
        let is_text = matches!(option.kind, Kind::Str | Kind::Path | Kind::Any);
        option.default.is_null() && option.role_default.is_none() && !is_text && !self.sources(option).is_empty()
    }

    /// What a task gives to an option.
    fn handed(&self, variable: &str, option: &OptionSpec) -> String {
        if !self.is_left_unset(option) {
            return format!("{{{{ {variable} }}}}");
        }
        let sources: Vec<String> = [variable.to_owned()].into_iter().chain(self.sources(option)).collect();
        format!("{{{{ {} }}}}", chain(&sources, "omit".into()))
    }
}

#[derive(Serialize)]
struct Documentation<'a> {
    module: &'a str,
    short_description: &'a str,
    description: Vec<String>,
    version_added: &'a str,
    author: &'a str,
    options: BTreeMap<String, OptionDocument>,
    attributes: Value,
}

#[derive(Serialize)]
struct OptionDocument {
    description: Vec<String>,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    elements: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_log: bool,
    #[serde(skip_serializing_if = "Value::is_null")]
    default: Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    choices: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<String, OptionDocument>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    suboptions: BTreeMap<String, OptionDocument>,
}

impl OptionDocument {
    /// As a module's documentation has it, which names nested options otherwise than a role's specification and knows no `no_log`.
    fn in_module(self) -> Self {
        let suboptions = self.options.into_iter().map(|(name, option)| (name, option.in_module())).collect();
        Self { no_log: false, options: BTreeMap::new(), suboptions, ..self }
    }
}

#[derive(Serialize)]
struct Task<'a> {
    name: &'a str,
    #[serde(flatten)]
    module: BTreeMap<String, BTreeMap<&'a str, String>>,
    r#become: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    delegate_to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    register: Option<&'a str>,
    tags: Vec<String>,
}

fn document(option: &OptionSpec) -> OptionDocument {
    let element = if let Kind::List(element) = &option.kind { Some(element) } else { None };
    let nested = nested(option).into_iter().flat_map(|table| &table.options);
    OptionDocument {
        description: sentences(&option.description),
        r#type: option.kind.name(),
        elements: element.map(|element| element.kind.name()),
        required: option.required,
        no_log: option.secret,
        default: option.default.clone(),
        choices: option.choices.clone(),
        aliases: option.aliases.clone(),
        options: nested.map(|option| (option.name.clone(), document(option))).collect(),
        suboptions: BTreeMap::new(),
    }
}

/// The known keys of a dictionary, or of a list's dictionaries.
fn nested(option: &OptionSpec) -> Option<&OptionTable> {
    match &option.kind {
        Kind::Dict(table) => Some(table),
        Kind::List(element) => nested(element),
        _ => None,
    }
}

fn returned(fact: &OptionSpec) -> Value {
    let mut entry = json!({"description": sentences(&fact.description), "returned": "success", "type": fact.kind.name()});
    if let Kind::List(element) = &fact.kind {
        entry["elements"] = json!(element.kind.name());
    }
    if let Some(table) = nested(fact) {
        entry["contains"] = table.options.iter().map(|fact| (fact.name.clone(), returned(fact))).collect();
    }
    entry
}

fn generated(yaml: &str) -> String {
    format!("---\n# Generated from the step's option table by `cargo xtask generate`.\n{yaml}")
}

/// `ansible-doc` shows an entry a line, and nobody likes long lines.
fn sentences(paragraphs: &[String]) -> Vec<String> {
    let mut sentences = Vec::new();
    for paragraph in paragraphs {
        let parts: Vec<&str> = paragraph.split(". ").collect();
        let last = parts.len() - 1;
        sentences.extend(parts.iter().enumerate().map(
            |(index, part)| {
                if index < last { format!("{part}.") } else { (*part).to_owned() }
            },
        ));
    }
    sentences
}

/// Ansible's markup as Markdown.
fn plain(text: &str) -> String {
    let pattern = regex_lite::Regex::new(r"\b[CVOIMRBEP]\(([^)]*)\)");
    pattern.map_or_else(|_| text.to_owned(), |pattern| pattern.replace_all(text, "`$1`").into_owned())
}

fn default_text(option: &OptionSpec) -> String {
    match &option.default {
        _ if option.required => "required".into(),
        Value::Null => String::new(),
        default => format!("`{default}`"),
    }
}

/// The first of these variables that is set.
fn chain(sources: &[String], otherwise: String) -> String {
    sources.iter().rev().fold(otherwise, |fallback, source| format!("{source} | default({fallback})"))
}

/// A value as a literal of Ansible's template language.
fn jinja(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        other => other.to_string(),
    }
}
