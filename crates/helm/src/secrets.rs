//! Which of a release's values are secret, and how they stay out of what people read.

use std::collections::BTreeSet;

use converge::Secret;
use serde_json::{Map, Value};

/// A text shorter than this would be found in innocent words.
const SHORTEST: usize = 4;

/// Which of a release's values nobody may see: those that a chart's schema marks `writeOnly`.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    schemas: Vec<Value>,
    texts: BTreeSet<String>,
}

impl Secrets {
    /// The secrets among values, by these schemas.
    #[must_use]
    pub fn new(schemas: Vec<Value>, values: &[&Map<String, Value>]) -> Self {
        let mut secrets = Self { schemas, texts: BTreeSet::new() };
        let mut texts = BTreeSet::new();
        for values in values {
            let mut values = Value::Object((*values).clone());
            secrets.each(&mut values, &mut |secret| collect(secret, &mut texts));
        }
        secrets.texts = texts;
        secrets
    }

    /// The values as a diff may show them.
    #[must_use]
    pub fn redact(&self, values: &Map<String, Value>) -> Value {
        let mut shown = Value::Object(values.clone());
        self.each(&mut shown, &mut |secret| {
            if !secret.is_null() {
                *secret = Secret::from(secret.to_string()).redacted().into();
            }
        });
        shown
    }

    /// A program's words without the secrets that it may quote.
    #[must_use]
    pub fn hide(&self, words: &str) -> String {
        self.texts.iter().fold(words.to_owned(), |words, secret| words.replace(secret.as_str(), "<redacted>"))
    }

    /// An object without the secrets that it may hold.
    #[must_use]
    pub fn hide_in(&self, object: &Value) -> Value {
        serde_json::from_str(&self.hide(&object.to_string())).unwrap_or_default()
    }

    fn each(&self, values: &mut Value, act: &mut impl FnMut(&mut Value)) {
        for schema in &self.schemas {
            visit(schema, schema, values, act, 0);
        }
    }
}

/// Longer chains of references at one place go round in a circle.
const DEEPEST: usize = 12;

fn visit(root: &Value, schema: &Value, value: &mut Value, act: &mut impl FnMut(&mut Value), depth: usize) {
    if depth > DEEPEST {
        return;
    }
    if schema["writeOnly"] == true {
        return act(value);
    }
    let depth = depth + 1;
    if let Some(target) = schema["$ref"].as_str().and_then(|target| root.pointer(target.strip_prefix('#')?)) {
        visit(root, target, value, act, depth);
    }
    let branches = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|key| schema[key].as_array().into_iter().flatten());
    for branch in branches.chain(["if", "then", "else"].into_iter().filter_map(|key| schema.get(key))) {
        visit(root, branch, value, act, depth);
    }
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                let named = schema["properties"].get(key);
                let other = ["additionalProperties", "unevaluatedProperties"].into_iter().filter_map(|key| schema.get(key));
                let patterns = schema["patternProperties"].as_object().into_iter().flatten().map(|(_, schema)| schema);
                let fitting: Vec<_> = named.map_or_else(|| other.chain(patterns.clone()).collect(), |named| vec![named]);
                for schema in fitting {
                    visit(root, schema, field, act, 0);
                }
            }
        }
        Value::Array(items) => {
            let fitting = ["items", "prefixItems", "contains"].into_iter().filter_map(|key| schema.get(key));
            let fitting: Vec<_> =
                fitting.flat_map(|schema| schema.as_array().map_or_else(|| vec![schema], |all| all.iter().collect())).collect();
            for item in items {
                for schema in &fitting {
                    visit(root, schema, item, act, 0);
                }
            }
        }
        _ => {}
    }
}

fn collect(secret: &mut Value, texts: &mut BTreeSet<String>) {
    match secret {
        Value::String(text) => texts.extend(Some(text.clone()).filter(|text| text.len() >= SHORTEST)),
        Value::Number(number) => texts.extend(Some(number.to_string()).filter(|text| text.len() >= SHORTEST)),
        Value::Object(fields) => fields.values_mut().for_each(|field| collect(field, texts)),
        Value::Array(items) => items.iter_mut().for_each(|item| collect(item, texts)),
        Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_schema_marks_is_hidden_wherever_it_stands() {
        let secret = json!({"writeOnly": true});
        for (case, schema, values) in [
            ("a property", json!({"properties": {"x": secret}}), json!({"x": "hunter2"})),
            ("deeper", json!({"properties": {"a": {"properties": {"x": secret}}}}), json!({"a": {"x": "hunter2"}})),
            ("in a list", json!({"properties": {"a": {"items": {"properties": {"x": secret}}}}}), json!({"a": [{"x": "hunter2"}]})),
            ("any key", json!({"properties": {"a": {"additionalProperties": secret}}}), json!({"a": {"k": "hunter2"}})),
            ("by pattern", json!({"patternProperties": {"^x": secret}}), json!({"xy": "hunter2"})),
            ("by reference", json!({"$defs": {"s": secret}, "properties": {"x": {"$ref": "#/$defs/s"}}}), json!({"x": "hunter2"})),
            ("in a choice", json!({"properties": {"x": {"oneOf": [{"type": "null"}, secret]}}}), json!({"x": "hunter2"})),
            ("whole", json!({"properties": {"x": secret}}), json!({"x": {"deep": ["hunter2"]}})),
        ] {
            let values = values.as_object().unwrap();
            let secrets = Secrets::new(vec![schema], &[values]);
            let shown = secrets.redact(values).to_string();
            assert!(!shown.contains("hunter2") && shown.contains("<redacted:"), "{case}: {shown}");
            assert_eq!(secrets.hide("at '/x': 'hunter2' is odd"), "at '/x': '<redacted>' is odd", "{case}");
        }
    }

    #[test]
    fn everything_else_is_shown() {
        let values = json!({"x": "plain", "y": "hunter2", "n": null});
        let values = values.as_object().unwrap();
        let secrets = Secrets::new(vec![json!({"properties": {"y": {"writeOnly": true}, "n": {"writeOnly": true}}})], &[values]);
        let shown = secrets.redact(values);
        assert_eq!((&shown["x"], &shown["n"]), (&json!("plain"), &Value::Null));
        assert_eq!(Secrets::default().redact(values), Value::Object(values.clone()));
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({"properties": {"a": {"$ref": "#"}, "x": {"writeOnly": true}}, "allOf": [{"$ref": "#"}]});
        let values = json!({"a": {"a": {"x": "hunter2"}}});
        let values = values.as_object().unwrap();
        assert!(!Secrets::new(vec![schema], &[values]).redact(values).to_string().contains("hunter2"));
    }
}
