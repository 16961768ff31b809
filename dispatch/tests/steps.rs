//! What every step of the collection promises about itself.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../crates/ansible/tests/ansible_core/mod.rs"]
mod ansible_core;

use std::path::Path;

use ansible::{Format, Kind, OptionError, OptionSpec, OptionTable};
use serde_json::{Value, json};

const PATTERN_OF_NAMES: &str = "^[a-z][a-z0-9]*(_[a-z0-9]+)*$";

/// All options of a step, those inside others too, each with its place.
fn walk(table: &OptionTable, place: &str) -> Vec<(String, OptionSpec)> {
    let of = |option: &OptionSpec| {
        let place = format!("{place}.{}", option.name);
        let mut found = walk_inside(&option.kind, &place);
        found.insert(0, (place, option.clone()));
        found
    };
    table.options.iter().flat_map(of).collect()
}

fn walk_inside(kind: &Kind, place: &str) -> Vec<(String, OptionSpec)> {
    match kind {
        Kind::Dict(table) => walk(table, place),
        Kind::List(element) | Kind::Map(element) => {
            let place = format!("{place}[]");
            let mut found = walk_inside(&element.kind, &place);
            found.push((place, (**element).clone()));
            found
        }
        Kind::Str | Kind::Path | Kind::Int | Kind::Bool | Kind::Any => Vec::new(),
    }
}

fn options() -> Vec<(String, OptionSpec)> {
    dispatch::steps().iter().flat_map(|step| walk(&(step.reference)().options, step.name)).collect()
}

#[test]
fn every_pattern_compiles() {
    let options = options();
    let patterns: Vec<_> =
        options.iter().flat_map(|(place, option)| [(place, &option.pattern), (place, &option.key_pattern)]).collect();
    assert!(patterns.iter().any(|(_, pattern)| pattern.is_some()));
    for (place, pattern) in patterns {
        if let Some(pattern) = pattern {
            regex_lite::Regex::new(pattern).unwrap_or_else(|error| panic!("{place}: {pattern}: {error}"));
        }
    }
}

#[test]
fn what_has_to_be_given_is_required_by_the_specification() {
    for (place, option) in options() {
        let says_so = option.description.iter().any(|text| text.contains("Required."));
        assert!(!says_so, "{place}: a text says that it is required, instead of the specification");
    }
    for place in ["export_artifacts.root", "helm_release.name", "cluster_ready.kubeconfig_path", "cluster_kubeconfig.name"] {
        assert!(options().iter().any(|(name, option)| name == place && option.required), "{place}");
    }
}

#[test]
fn every_name_is_in_snake_case() {
    let snake_case = regex_lite::Regex::new(PATTERN_OF_NAMES).unwrap();
    for step in dispatch::steps() {
        assert!(snake_case.is_match(step.name), "{}", step.name);
    }
    for (place, option) in options() {
        let names = option.aliases.iter().chain([&option.name]).chain(&option.global);
        for name in names.filter(|name| !name.is_empty()) {
            assert!(snake_case.is_match(name), "{place}: {name}");
        }
    }
}

#[test]
fn everything_is_documented_in_sentences() {
    for step in dispatch::steps() {
        let description = (step.reference)().options.description;
        assert!(
            description.first().is_some_and(|title| title.ends_with('.') && !title.contains(". ")),
            "{}: {description:?}",
            step.name
        );
    }
    for (place, option) in options().iter().filter(|(place, _)| !place.ends_with("[]")) {
        assert!(!option.description.is_empty(), "{place}");
        for paragraph in &option.description {
            assert!(paragraph.ends_with('.') || paragraph.ends_with(".)"), "{place}: {paragraph}");
        }
        for choice in &option.choices {
            let meaning = format!("V({choice}): ");
            assert!(option.description.iter().any(|paragraph| paragraph.starts_with(&meaning)), "{place}: {choice}");
        }
    }
}

/// A field whose type Ansible has no word for would not come back as it went.
#[test]
fn every_default_is_a_value_of_its_option() {
    for (place, option) in options().into_iter().filter(|(_, option)| !option.default.is_null()) {
        let (name, default) = (option.name.clone(), option.default.clone());
        let table = OptionTable { options: vec![option], description: Vec::new() };
        let resolved = table.resolve(json!({name.as_str(): default}).as_object().unwrap());
        assert_eq!(resolved.unwrap_or_else(|error| panic!("{place}: {error}"))[&name], default, "{place}");
    }
}

/// What ansible-core reads in the generated files, and what a role with nothing set then hands to its step.
#[test]
fn ansible_core_reads_every_form_of_the_reference() {
    let references: Vec<_> = dispatch::steps().iter().map(|step| (step.reference)()).collect();
    let files = |reference: &ansible::Reference| {
        json!({
            "name": reference.name,
            "stub": reference.render(Format::Stub),
            "argument_specs": reference.render(Format::ArgumentSpecs),
            "defaults": reference.render(Format::Defaults),
            "tasks": reference.render(Format::Tasks),
            "role_meta": reference.render(Format::RoleMeta),
        })
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference.py");
    let answers = ansible_core::ask(&script, &references.iter().map(files).collect());
    for (reference, answer) in references.iter().zip(answers.as_array().unwrap()) {
        assert_eq!(answer["complaints"], json!([]), "{}", reference.name);
        assert_eq!(answer["title"], reference.title());
        let names: Vec<_> = reference.options.options.iter().map(|option| &option.name).collect();
        let tasks = answer["handed"].as_array().unwrap();
        assert!(!tasks.is_empty(), "{}", reference.name);
        for handed in tasks.iter().map(|handed| handed.as_object().unwrap()) {
            // What follows a global that is not set is left out, so it has to be an option that may stay unset.
            let left_out = reference.options.options.iter().filter(|option| !handed.contains_key(&option.name));
            let left_out: Vec<_> = left_out.filter(|option| option.required || !option.default.is_null()).collect();
            assert!(left_out.is_empty(), "{}: {left_out:?}", reference.name);
            assert!(handed.keys().all(|name| names.contains(&name)), "{}: {handed:?}", reference.name);
            let accepted = reference.options.resolve(handed);
            // What is required has no default: a role's user has to give it.
            let lacks_required = matches!(&accepted, Err(OptionError::Missing { option })
                if reference.options.options.iter().any(|known| known.name == *option && known.required));
            assert!(accepted.is_ok() || lacks_required, "{}: {accepted:?}", reference.name);
        }
        for example in answer["examples"].as_array().unwrap() {
            let accepted = reference.options.resolve(example.as_object().unwrap_or_else(|| panic!("{example}")));
            assert!(accepted.is_ok(), "{}: {example}: {accepted:?}", reference.name);
        }
        assert_ne!(answer["examples"], Value::Array(Vec::new()), "{}", reference.name);
    }
}
