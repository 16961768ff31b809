//! Named conditions on live objects.
//!
//! A [`Test`] is a question, a [`Condition`] says which objects have to answer it. Both are pure; a
//! [`Client`](crate::Client) watches what they name, and nothing else, until they hold.

use std::sync::Arc;

use kube::core::DynamicObject;

use crate::{Resource, client, resource};

/// What a test found in objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// It is as asked for.
    pub holds: bool,
    /// What it is like.
    pub seen: String,
}

type Judge = dyn Fn(&[&DynamicObject]) -> Look + Send + Sync;

/// A question to objects, with a name: `Available`. Of several objects, one that is as asked for is enough.
#[derive(Clone)]
pub struct Test {
    name: String,
    judge: Arc<Judge>,
}

impl Test {
    /// A question to one object.
    pub fn new(name: impl Into<String>, judge: impl Fn(&DynamicObject) -> Look + Send + Sync + 'static) -> Self {
        let judge = move |objects: &[&DynamicObject]| {
            let looks: Vec<_> = objects.iter().map(|object| judge(object)).collect();
            let holding = looks.iter().find(|look| look.holds).cloned();
            holding.unwrap_or_else(|| Look { holds: false, seen: said(objects, looks) })
        };
        Self { name: name.into(), judge: Arc::new(judge) }
    }

    /// A question to all objects together.
    pub fn of_all(name: impl Into<String>, judge: impl Fn(&[&DynamicObject]) -> Look + Send + Sync + 'static) -> Self {
        Self { name: name.into(), judge: Arc::new(judge) }
    }

    /// Whether `status.conditions` says yes to a type.
    #[must_use]
    pub fn status(kind: &str) -> Self {
        let kind = kind.to_owned();
        Self::new(kind.clone(), move |object| {
            let conditions = object.data["status"]["conditions"].as_array().into_iter().flatten();
            let Some(condition) = conditions.into_iter().find(|condition| condition["type"] == kind.as_str()) else {
                return Look { holds: false, seen: format!("no condition {kind}") };
            };
            let word = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
            let why = [word("reason"), word("message")].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(": ");
            Look { holds: condition["status"] == "True", seen: format!("{kind}={} ({why})", word("status")) }
        })
    }

    /// Whether a node said it is Ready after a point in time. Until the kubelet of a node that was started again speaks for itself,
    /// the node is as it was left. The point is written as LXD or Kubernetes writes it, in UTC.
    #[must_use]
    pub fn ready_since(point: &str) -> Self {
        // As `2026-11-21 14:42:19 +0000 UTC` in one of LXD's forms, and `2026-11-21T14:42:19Z` in the other and in Kubernetes'.
        let point = point.get(..19).unwrap_or_default().replacen(' ', "T", 1);
        let has_spoken = Self::new("reported by its kubelet", move |node| {
            let conditions = node.data["status"]["conditions"].as_array().into_iter().flatten();
            let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
            let spoken = ready.and_then(|ready| ready["lastHeartbeatTime"].as_str()).unwrap_or_default();
            Look { holds: spoken.get(..19).unwrap_or_default() >= point.as_str(), seen: format!("last heard of at {spoken}") }
        });
        Self::status("Ready").and(has_spoken)
    }

    /// Whether the object's controller has seen its current form.
    #[must_use]
    pub fn observed() -> Self {
        Self::new("observed", |object| {
            let (live, seen) = (object.metadata.generation, object.data["status"]["observedGeneration"].as_i64());
            Look { holds: seen >= live, seen: format!("generation {} of {}", seen.unwrap_or(0), live.unwrap_or(0)) }
        })
    }

    /// Whether the object is on its way out.
    #[must_use]
    pub fn going() -> Self {
        Self::new("being deleted", |object| {
            let going = object.metadata.deletion_timestamp.is_some();
            Look { holds: going, seen: if going { "being deleted" } else { "there to stay" }.into() }
        })
    }

    /// The same question under another name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let name = format!("{} and {}", self.name, other.name);
        let judge = move |objects: &[&DynamicObject]| match (self.judge)(objects) {
            Look { holds: true, .. } => (other.judge)(objects),
            unmet => unmet,
        };
        Self { name, judge: Arc::new(judge) }
    }

    /// One of the two.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let name = format!("{} or {}", self.name, other.name);
        let judge = move |objects: &[&DynamicObject]| {
            let first = (self.judge)(objects);
            if first.holds {
                return first;
            }
            let second = (other.judge)(objects);
            if second.holds { second } else { Look { holds: false, seen: format!("{}, {}", first.seen, second.seen) } }
        };
        Self { name, judge: Arc::new(judge) }
    }

    /// The opposite; it holds where there is no object at all.
    #[must_use]
    pub fn negated(self) -> Self {
        let judge = move |objects: &[&DynamicObject]| {
            let look = (self.judge)(objects);
            Look { holds: !look.holds, ..look }
        };
        Self { name: format!("not {}", self.name), judge: Arc::new(judge) }
    }
}

/// What the objects are like; of several, which one is like what.
fn said(objects: &[&DynamicObject], looks: Vec<Look>) -> String {
    let name = |object: &DynamicObject| object.metadata.name.clone().unwrap_or_default();
    match looks.len() {
        0 => "not there".into(),
        1 => looks.into_iter().map(|look| look.seen).collect(),
        _ => {
            let said = objects.iter().zip(looks).map(|(object, look)| format!("{}: {}", name(object), look.seen));
            said.collect::<Vec<_>>().join("; ")
        }
    }
}

/// A test of named objects, or of all objects of a kind.
#[derive(Clone)]
pub struct Condition {
    pub(crate) resource: Resource,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    /// A label that the objects have, with its value.
    pub(crate) label: Option<(String, String)>,
    test: Test,
}

impl Condition {
    /// A test of one object.
    #[must_use]
    pub fn of(resource: Resource, namespace: Option<&str>, name: &str, test: Test) -> Self {
        Self { resource, namespace: namespace.map(str::to_owned), name: Some(name.to_owned()), label: None, test }
    }

    /// A test that one object of a kind has to stand, whichever it is.
    #[must_use]
    pub fn any(resource: Resource, test: Test) -> Self {
        Self { resource, namespace: None, name: None, label: None, test }
    }

    /// A test of the objects of a namespace that have a label, or of all that there are.
    #[must_use]
    pub fn among(resource: Resource, namespace: Option<&str>, label: Option<(&str, &str)>, test: Test) -> Self {
        let label = label.map(|(label, value)| (label.to_owned(), value.to_owned()));
        Self { resource, namespace: namespace.map(str::to_owned), name: None, label, test }
    }

    /// A Deployment has the replicas it needs, in its current form.
    #[must_use]
    pub fn deployment_available(namespace: &str, name: &str) -> Self {
        Self::deployment(namespace, name, "Available")
    }

    /// A condition of a Deployment holds for its current form.
    #[must_use]
    pub fn deployment(namespace: &str, name: &str, status: &str) -> Self {
        Self::of(resource::DEPLOYMENT, Some(namespace), name, Test::observed().and(Test::status(status)).named(status))
    }

    /// An object is gone: none has its name any more, or one that was made later.
    #[must_use]
    pub fn gone(resource: Resource, namespace: Option<&str>, name: &str, uid: &str) -> Self {
        let uid = uid.to_owned();
        let there = Test::new("there", move |object| {
            let same = object.metadata.uid.as_deref() == Some(uid.as_str());
            let going = object.metadata.deletion_timestamp.is_some();
            Look {
                holds: same,
                seen: if going {
                    "being deleted"
                } else if same {
                    "still there"
                } else {
                    "made anew"
                }
                .into(),
            }
        });
        Self::of(resource, namespace, name, there.negated().named("gone"))
    }

    /// A node takes pods.
    #[must_use]
    pub fn node_ready() -> Self {
        Self::any(resource::NODE, Test::status("Ready"))
    }

    /// Every node takes pods.
    #[must_use]
    pub fn all_nodes_ready() -> Self {
        let ready = Test::status("Ready");
        let all = Test::of_all("all Ready", move |nodes| {
            let looks: Vec<Look> = nodes.iter().map(|node| (ready.judge)(&[*node])).collect();
            Look { holds: !looks.is_empty() && looks.iter().all(|look| look.holds), seen: said(nodes, looks) }
        });
        Self::any(resource::NODE, all)
    }

    /// The condition as a person names it.
    #[must_use]
    pub fn name(&self) -> String {
        match (&self.name, &self.label) {
            (Some(name), _) => format!("{} {}", client::what(self.resource.kind, self.namespace.as_deref(), name), self.test.name),
            (None, Some((_, value))) => format!("{}s of {value} {}", self.resource.kind, self.test.name),
            (None, None) => format!("{} (any) {}", self.resource.kind, self.test.name),
        }
    }

    fn concerns(&self, object: &DynamicObject) -> bool {
        let fits = |wanted: &Option<String>, actual: &Option<String>| wanted.is_none() || wanted == actual;
        let is_labelled = self
            .label
            .as_ref()
            .is_none_or(|(label, value)| object.metadata.labels.as_ref().and_then(|labels| labels.get(label)) == Some(value));
        is_labelled && fits(&self.namespace, &object.metadata.namespace) && fits(&self.name, &object.metadata.name)
    }

    /// What is found among objects of its kind.
    pub(crate) fn look(&self, objects: &[Arc<DynamicObject>]) -> Look {
        let mut concerned: Vec<_> = objects.iter().map(Arc::as_ref).filter(|object| self.concerns(object)).collect();
        concerned.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        (self.test.judge)(&concerned)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(namespace: &str, name: &str, generation: i64, status: &Value) -> Arc<DynamicObject> {
        let mut object = resource::DEPLOYMENT.object(Some(namespace), name, json!({"status": status}));
        object.metadata.generation = Some(generation);
        Arc::new(object)
    }

    fn available(status: &str) -> Value {
        json!({"observedGeneration": 2, "conditions": [
            {"type": "Progressing", "status": "True"},
            {"type": "Available", "status": status, "reason": "MinimumReplicas", "message": "so it is"},
        ]})
    }

    fn judged(condition: &Condition, objects: &[Arc<DynamicObject>]) -> (bool, String) {
        let Look { holds, seen } = condition.look(objects);
        (holds, seen)
    }

    #[test]
    fn a_deployment_is_available_in_its_current_form() {
        let condition = Condition::deployment_available("capi-system", "manager");
        assert_eq!(condition.name(), "Deployment capi-system/manager Available");
        for (case, live, holds, seen) in [
            ("not there", vec![], false, "not there"),
            ("another's", vec![deployment("other", "manager", 2, &available("True"))], false, "not there"),
            ("fresh", vec![deployment("capi-system", "manager", 1, &json!({}))], false, "generation 0 of 1"),
            ("of old", vec![deployment("capi-system", "manager", 3, &available("True"))], false, "generation 2 of 3"),
            (
                "no condition",
                vec![deployment("capi-system", "manager", 2, &json!({"observedGeneration": 2}))],
                false,
                "no condition Available",
            ),
            (
                "not yet",
                vec![deployment("capi-system", "manager", 2, &available("False"))],
                false,
                "Available=False (MinimumReplicas: so it is)",
            ),
            (
                "available",
                vec![
                    deployment("x", "manager", 2, &available("False")),
                    deployment("capi-system", "manager", 2, &available("True")),
                ],
                true,
                "Available=True (MinimumReplicas: so it is)",
            ),
        ] {
            assert_eq!(judged(&condition, &live), (holds, seen.to_owned()), "{case}");
        }
    }

    #[test]
    fn one_of_many_is_enough() {
        let node = |name: &str, ready: &str| {
            let status = json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}});
            Arc::new(resource::NODE.object(None, name, status))
        };
        let condition = Condition::node_ready();
        assert_eq!(judged(&condition, &[]), (false, "not there".into()));
        assert_eq!(
            judged(&condition, &[node("a", "False"), node("b", "Unknown")]),
            (false, "a: Ready=False (); b: Ready=Unknown ()".into())
        );
        assert!(judged(&condition, &[node("a", "False"), node("b", "True")]).0);
    }

    #[test]
    fn what_is_not_there_is_not_on_its_way_out() {
        let condition = Condition::of(resource::NAMESPACE, None, "x", Test::going().negated());
        assert_eq!(condition.name(), "Namespace x not being deleted");
        let namespace = |going: Option<&str>| {
            let text = json!({"metadata": {"name": "x", "deletionTimestamp": going}});
            Arc::new(serde_json::from_value(text).unwrap())
        };
        assert!(judged(&condition, &[]).0);
        assert!(judged(&condition, &[namespace(None)]).0);
        assert_eq!(judged(&condition, &[namespace(Some("2026-01-01T00:00:00Z"))]), (false, "being deleted".into()));
    }

    #[test]
    fn what_has_its_name_again_is_another_object() {
        let condition = Condition::gone(resource::DEPLOYMENT, Some("x"), "y", "1");
        assert_eq!(condition.name(), "Deployment x/y gone");
        let with = |uid: &str| {
            let mut object = resource::DEPLOYMENT.object(Some("x"), "y", json!({}));
            object.metadata.uid = Some(uid.into());
            Arc::new(object)
        };
        assert!(judged(&condition, &[]).0);
        assert_eq!(judged(&condition, &[with("1")]), (false, "still there".into()));
        assert_eq!(judged(&condition, &[with("2")]), (true, "made anew".into()));
    }

    #[test]
    fn tests_are_joined() {
        let is = |name: &'static str, holds: bool| Test::new(name, move |_| Look { holds, seen: name.into() });
        let object = [deployment("x", "y", 1, &json!({}))];
        for (test, name, holds, seen) in [
            (is("a", true).and(is("b", true)), "a and b", true, "b"),
            (is("a", false).and(is("b", true)), "a and b", false, "a"),
            (is("a", true).and(is("b", false)), "a and b", false, "b"),
            (is("a", false).or(is("b", true)), "a or b", true, "b"),
            (is("a", false).or(is("b", false)), "a or b", false, "a, b"),
            (is("a", false).negated(), "not a", true, "a"),
            (is("a", true).negated().or(is("b", true)), "not a or b", true, "b"),
        ] {
            let condition = Condition::of(resource::DEPLOYMENT, Some("x"), "y", test);
            assert_eq!(condition.name(), format!("Deployment x/y {name}"));
            assert_eq!(judged(&condition, &object), (holds, seen.to_owned()), "{name}");
        }
        let gone = Condition::of(resource::DEPLOYMENT, Some("x"), "z", is("a", true).negated());
        assert!(judged(&gone, &object).0, "what is not there is not so");
    }
}
