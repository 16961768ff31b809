//! Everything that makes a release what it is, and the one digest of it.

use std::{collections::BTreeMap, fmt::Write as _};

use data_encoding::HEXLOWER;
use serde_json::{Map, Number, Value};
use sha2::{Digest as _, Sha256};

/// What a release is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// The chart: the digest of its files, or the reference and version that it is fetched by.
    pub chart: String,
    /// What the user sets.
    pub values: Map<String, Value>,
    /// Labels of the release's records.
    pub labels: BTreeMap<String, String>,
}

impl Inputs {
    /// The description of a revision that is made of them. Helm keeps it as it is, and neither an upgrade nor a rollback by hand
    /// inherits it.
    #[must_use]
    pub fn description(&self) -> String {
        let mut text = String::new();
        canonical(&Value::Object(self.values.clone()), &mut text);
        // Every part is quoted, so that no two lists of parts give one text.
        let whole = format!("{:?} {text} {:?}", self.chart, self.labels);
        format!("converged by k8slab.capi, inputs sha256:{}", HEXLOWER.encode(&Sha256::digest(whole)))
    }
}

/// Values as one text: keys are sorted, and a number that is whole is written as such, however it was given.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (key, field) in sorted {
                let _ = write!(text, "{}:", Value::from(key.as_str()));
                canonical(field, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                canonical(item, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Number(number) => text.push_str(&plain(number)),
        other => text.push_str(&other.to_string()),
    }
}

fn plain(number: &Number) -> String {
    #[allow(clippy::cast_possible_truncation)] // the fraction is zero and the range is checked
    let whole = |number: f64| (number.fract() == 0.0 && number.abs() < 9.0e15).then_some(number as i64);
    match number.as_f64().filter(|_| number.is_f64()).and_then(whole) {
        Some(whole) => whole.to_string(),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn described(values: &str) -> String {
        Inputs { chart: "x".into(), values: serde_json::from_str(values).unwrap(), labels: BTreeMap::new() }.description()
    }

    #[test]
    fn order_and_number_type_make_no_difference() {
        let base = described(r#"{"a": {"x": 1, "y": [1, 2]}, "b": 2.5}"#);
        for (values, same) in [
            (r#"{"b": 2.5, "a": {"y": [1, 2], "x": 1}}"#, true),
            (r#"{"a": {"x": 1.0, "y": [1, 2.0]}, "b": 2.50}"#, true),
            (r#"{"a": {"x": "1", "y": [1, 2]}, "b": 2.5}"#, false),
            (r#"{"a": {"x": 1, "y": [2, 1]}, "b": 2.5}"#, false),
            (r#"{"a": {"x": 1, "y": [1, 2]}, "b": 2.5, "c": null}"#, false),
            (r#"{"a": {"x": 1, "y": [[1], 2]}, "b": 2.5}"#, false),
        ] {
            assert_eq!(described(values) == base, same, "{values}");
        }
    }

    #[test]
    fn chart_values_and_labels_count_and_helm_takes_it() {
        let values = json!({"a": 1}).as_object().unwrap().clone();
        let base = Inputs { chart: "x".into(), values: values.clone(), labels: BTreeMap::new() };
        let labels = BTreeMap::from([("clusterctl.cluster.x-k8s.io/move".to_owned(), String::new())]);
        let others = [
            Inputs { chart: "y".into(), ..base.clone() },
            Inputs { values: Map::new(), ..base.clone() },
            Inputs { labels, ..base.clone() },
        ];
        for other in others {
            assert_ne!(other.description(), base.description());
        }
        assert!(base.description().len() <= 256);
    }
}
