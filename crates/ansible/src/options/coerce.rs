//! What Ansible's `AnsibleModule` does to the values it is given, rule by rule.

use serde_json::{Map, Number, Value, json};

use super::{Kind, OptionError, OptionSpec, OptionTable};
use crate::path;

const TRUE: [&str; 6] = ["y", "yes", "on", "1", "true", "t"];
const FALSE: [&str; 6] = ["n", "no", "off", "0", "false", "f"];

/// A name is taken for a misspelling of another when at least this much of it agrees.
const CLOSE: f64 = 0.7;

pub(super) fn table(table: &OptionTable, given: &Map<String, Value>, place: &str) -> Result<Map<String, Value>, OptionError> {
    if let Some(unknown) = given.keys().find(|name| table.find(name).is_none()) {
        return Err(unknown_option(table, unknown, place));
    }
    let mut resolved = Map::new();
    for option in &table.options {
        let place = join(place, &option.name);
        // Where several of an option's names are given, Ansible takes the last alias.
        let names = option.aliases.iter().rev().chain([&option.name]);
        let value = names.filter_map(|name| given.get(name)).find(|value| !is_unset(option, value));
        let value = match value {
            Some(value) => coerce(option, value, &place)?,
            None if option.required => return Err(OptionError::Missing { option: place }),
            None if option.default.is_null() => continue,
            None => option.default.clone(),
        };
        resolved.insert(option.name.clone(), value);
    }
    Ok(resolved)
}

/// `"{{ none }}"` arrives as `""` from older Ansible and as `null` from newer; only a string option can mean the empty string.
fn is_unset(option: &OptionSpec, value: &Value) -> bool {
    let unset_text = value.as_str().is_some_and(|text| text.is_empty() && option.kind != Kind::Str);
    value.is_null() || unset_text || (value == "" && option.default.is_null())
}

fn coerce(option: &OptionSpec, value: &Value, place: &str) -> Result<Value, OptionError> {
    let wrong = |wanted: &str| {
        let shown = if option.secret { "the value".to_owned() } else { format!("`{}`", brief(value)) };
        OptionError::invalid(place, format!("{shown} is not {wanted}"))
    };
    let coerced = match &option.kind {
        Kind::Str => text(option, value).map(Value::from).ok_or_else(|| wrong("a string"))?,
        Kind::Path => text(option, value).map(|text| path::expand(&text).into()).ok_or_else(|| wrong("a path"))?,
        Kind::Int => integer(value).map(Value::from).ok_or_else(|| wrong("an integer"))?,
        Kind::Bool => boolean(value).map(Value::from).ok_or_else(|| wrong("a boolean"))?,
        Kind::List(element) => {
            let items = list(value).ok_or_else(|| wrong("a list"))?;
            let items = items.iter().enumerate().map(|(index, item)| entry(element, item, &format!("{place}[{index}]")));
            items.collect::<Result<Vec<_>, _>>()?.into()
        }
        Kind::Dict(options) => table(options, &dictionary(value).ok_or_else(|| wrong("a dictionary"))?, place)?.into(),
        Kind::Map(element) => {
            let entries = dictionary(value).ok_or_else(|| wrong("a dictionary"))?;
            let entries = entries.iter().map(|(key, value)| Ok((key.clone(), entry(element, value, &join(place, key))?)));
            entries.collect::<Result<Map<_, _>, _>>()?.into()
        }
        Kind::Any => value.clone(),
    };
    match option.complaint(&coerced) {
        Some(complaint) => Err(OptionError::invalid(place, complaint)),
        None => Ok(coerced),
    }
}

/// A list's element or a map's value. LXD writes its booleans in lower case, and its keys are where booleans meet strings.
fn entry(option: &OptionSpec, value: &Value, place: &str) -> Result<Value, OptionError> {
    match (&option.kind, value) {
        (Kind::Any, _) => Ok(value.clone()),
        (Kind::Str, Value::Bool(flag)) => coerce(option, &json!(flag.to_string()), place),
        (_, Value::Null) => Err(OptionError::invalid(place, "has no value")),
        _ => coerce(option, value, place),
    }
}

fn text(option: &OptionSpec, value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => if *flag { "True" } else { "False" }.to_owned(),
        Value::Number(number) => digits(number)?,
        _ => return None,
    };
    Some(yaml_word(option, &text).unwrap_or(text))
}

/// A number as its own digits. An integer beyond 64 bits has lost some by now, and a tiny fraction would need an exponent; whoever
/// means such a text can quote it.
fn digits(number: &Number) -> Option<String> {
    let magnitude = number.as_f64()?.abs();
    let is_exact = !number.is_f64() || magnitude == 0.0 || (1e-4..1e16).contains(&magnitude);
    is_exact.then(|| number.to_string())
}

/// YAML reads a bare `no` as a boolean; where exactly one choice is such a word, that choice was meant.
fn yaml_word(option: &OptionSpec, text: &str) -> Option<String> {
    let words = match text {
        _ if option.choices.iter().any(|choice| choice == text) => return None,
        "True" => TRUE,
        "False" => FALSE,
        _ => return None,
    };
    let mut meant = option.choices.iter().filter(|choice| words.contains(&choice.as_str()));
    let word = meant.next()?;
    meant.next().is_none().then(|| word.clone())
}

fn integer(value: &Value) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation)] // the fraction is zero and the range is checked
    let whole = |number: f64| (number.fract() == 0.0 && number.abs() < 9.0e15).then_some(number as i64);
    match value {
        Value::Bool(flag) => Some(i64::from(*flag)),
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => {
            let text = text.trim().replace('_', "");
            text.parse().ok().or_else(|| whole(text.parse().ok()?))
        }
        _ => None,
    }
}

pub(super) fn boolean(value: &Value) -> Option<bool> {
    let word = match value {
        Value::Bool(flag) => return Some(*flag),
        Value::Number(number) if number.as_f64() == Some(1.0) => return Some(true),
        Value::Number(number) if number.as_f64() == Some(0.0) => return Some(false),
        Value::String(text) => text.trim().to_lowercase(),
        _ => return None,
    };
    TRUE.contains(&word.as_str()).then_some(true).or_else(|| FALSE.contains(&word.as_str()).then_some(false))
}

fn list(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items.clone()),
        Value::String(text) => Some(text.split(',').map(Value::from).collect()),
        Value::Number(_) | Value::Bool(_) => Some(vec![value.clone()]),
        _ => None,
    }
}

fn dictionary(value: &Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(entries) => Some(entries.clone()),
        Value::String(text) if text.starts_with('{') => serde_json::from_str(text).ok(),
        Value::String(text) if text.contains('=') => pairs(text),
        _ => None,
    }
}

/// `a=1, b="two words"`: pairs apart by commas or blanks, quotes and backslashes protect.
fn pairs(text: &str) -> Option<Map<String, Value>> {
    let mut fields = Vec::new();
    let (mut field, mut quote, mut escaped) = (String::new(), None, false);
    for letter in text.trim().chars() {
        match letter {
            _ if escaped => {
                field.push(letter);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' | '\'' if quote.is_none() => quote = Some(letter),
            _ if quote == Some(letter) => quote = None,
            ',' | ' ' if quote.is_none() => {
                if !field.is_empty() {
                    fields.push(std::mem::take(&mut field));
                }
            }
            _ => field.push(letter),
        }
    }
    if !field.is_empty() {
        fields.push(field);
    }
    fields.iter().map(|field| field.split_once('=').map(|(key, value)| (key.to_owned(), json!(value)))).collect()
}

fn unknown_option(table: &OptionTable, unknown: &str, place: &str) -> OptionError {
    let names = table.options.iter().map(|option| option.name.as_str());
    let likeness = |name: &str| strsim::jaro_winkler(unknown, name);
    let nearest = names.clone().filter(|name| likeness(name) > CLOSE).max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    OptionError::Unknown {
        option: join(place, unknown),
        nearest: nearest.map(str::to_owned),
        known: names.map(str::to_owned).collect(),
    }
}

fn join(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

/// A value short enough for one sentence.
fn brief(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
