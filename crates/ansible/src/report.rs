//! What a run has done, and the JSON object that Ansible gets of it. A failed run tells as much as one that went well.

use converge::{Change, Failure};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// One part of a step, as the result reports it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    /// `preflight`, a section's name, or `healthcheck`.
    pub name: String,
    /// Something was changed, or would be in check mode.
    pub changed: bool,
    /// The stage was switched off, or could not be looked at yet.
    pub skipped: bool,
    /// How long it took.
    pub seconds: f64,
}

/// Everything a run has to say, until it becomes Ansible's JSON object.
#[derive(Debug, Default)]
pub struct Report {
    pub(crate) stages: Vec<Stage>,
    pub(crate) changes: Vec<String>,
    pub(crate) diff: Vec<Value>,
    pub(crate) deferred: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

impl Report {
    pub(crate) fn add(&mut self, change: &impl Change) {
        let object = change.object();
        self.changes.push(change.to_string());
        self.diff.push(json!({
            "before_header": object,
            "after_header": object,
            "before": yaml(&change.before()),
            "after": yaml(&change.after()),
        }));
    }

    pub(crate) fn changed(&self) -> bool {
        self.stages.iter().any(|stage| stage.changed)
    }

    /// The result of a run that went well.
    pub(crate) fn success(&self, facts: Option<Value>, with_diff: bool) -> Value {
        let mut result = self.common(with_diff);
        if let Some(Value::Object(facts)) = facts {
            result.extend(facts);
        }
        result.into()
    }

    /// The result of a run that failed; what it had done until then is not hidden.
    pub(crate) fn failure(&self, failure: &Failure, with_diff: bool) -> Value {
        let mut result = self.common(with_diff);
        result.insert("failed".into(), true.into());
        if let Ok(Value::Object(failure)) = serde_json::to_value(failure) {
            result.extend(failure);
        }
        result.into()
    }

    fn common(&self, with_diff: bool) -> Map<String, Value> {
        let mut result = Map::new();
        result.insert("changed".into(), self.changed().into());
        result.insert("stages".into(), json!(self.stages));
        result.insert("changes".into(), json!(self.changes));
        for (name, list) in [("deferred", &self.deferred), ("warnings", &self.warnings)] {
            if !list.is_empty() {
                result.insert(name.into(), json!(list));
            }
        }
        if with_diff {
            result.insert("diff".into(), json!(self.diff));
        }
        result
    }
}

/// Sorted YAML, and nothing at all for what does not exist.
fn yaml(value: &Value) -> String {
    if value.is_null() { String::new() } else { crate::yaml::text(value) }
}
