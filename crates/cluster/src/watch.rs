//! Conditions, watched until they hold.
//!
//! What is watched is no more than what the conditions name: one object by its name, objects with a label, the objects of a
//! namespace; a whole kind only where a condition is about all of it. A watch that ends begins anew, after a short pause, and the
//! deadline of the wait bounds it all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use converge::Wait;
use futures_util::{StreamExt as _, stream};
use kube::{
    core::DynamicObject,
    runtime::{WatchStreamExt as _, reflector::store::Writer, utils::Backoff, watcher},
};

use crate::{Client, Condition, Error, Resource, pods, resource};

/// Between attempts to watch.
const PAUSE: Duration = Duration::from_millis(200);

/// Where objects are looked for: a kind, in one namespace or in all.
type Place = (Resource, Option<String>);

/// What was found in each place.
type Live = BTreeMap<Place, Vec<Arc<DynamicObject>>>;

/// Which objects of a place are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Selector {
    name: Option<String>,
    label: Option<(String, String)>,
}

impl Selector {
    fn config(&self) -> watcher::Config {
        let config = watcher::Config::default();
        match (&self.name, &self.label) {
            (Some(name), _) => config.fields(&format!("metadata.name={name}")),
            (None, Some((label, value))) => config.labels(&format!("{label}={value}")),
            (None, None) => config,
        }
    }
}

impl Condition {
    fn place(&self) -> Place {
        (self.resource, self.namespace.clone())
    }

    fn selector(&self) -> Selector {
        Selector { name: self.name.clone(), label: self.label.clone() }
    }

    fn look_at(&self, live: &Live) -> (bool, String) {
        let look = self.look(live.get(&self.place()).map_or(&[], Vec::as_slice));
        (look.holds, look.seen)
    }
}

/// The places of conditions. Where they ask for different objects of one place, all of it is looked at.
fn selectors<'a>(conditions: impl Iterator<Item = &'a Condition>) -> BTreeMap<Place, Selector> {
    let mut places = BTreeMap::new();
    for condition in conditions {
        let selector = condition.selector();
        places
            .entry(condition.place())
            .and_modify(|common: &mut Selector| {
                if *common != selector {
                    *common = Selector::default();
                }
            })
            .or_insert(selector);
    }
    places
}

/// The conditions that do not hold, each with what was seen instead.
fn unmet<'a>(conditions: &'a [Condition], live: &Live) -> impl Iterator<Item = (&'a Condition, String)> {
    conditions.iter().filter_map(move |condition| {
        let (holds, seen) = condition.look_at(live);
        (!holds).then_some((condition, seen))
    })
}

impl Client {
    /// Watches until all conditions hold. What does not by the deadline is told with what holds its pods up.
    pub async fn wait_for(&self, what: &str, conditions: &[Condition], deadline: Duration) -> Result<(), Error> {
        self.wait_for_unless(what, conditions, &[], deadline).await
    }

    /// The same, and gives up as soon as one of the second conditions holds.
    pub async fn wait_for_unless(
        &self,
        what: &str,
        conditions: &[Condition],
        hopeless: &[Condition],
        deadline: Duration,
    ) -> Result<(), Error> {
        match self.watch(&Wait::for_condition(what, deadline), conditions, hopeless).await {
            Err(Error::Wait(source)) => Err(Error::Unmet { source, pods: self.unmet(conditions).await.unwrap_or_default() }),
            outcome => outcome,
        }
    }

    /// Those of the conditions that do not hold now, and what holds their pods up; a line each.
    pub async fn unmet(&self, conditions: &[Condition]) -> Result<Vec<String>, Error> {
        let mut live = Live::new();
        for ((resource, namespace), selector) in selectors(conditions.iter()) {
            let found = match &selector.name {
                Some(name) => self.find(resource, namespace.as_deref(), name).await?.into_iter().collect(),
                None => self.list(resource, namespace.as_deref()).await?,
            };
            live.insert((resource, namespace), found.into_iter().map(Arc::new).collect());
        }
        let mut lines: Vec<_> = unmet(conditions, &live).map(|(condition, seen)| format!("{}: {seen}", condition.name())).collect();
        let namespaces: BTreeSet<_> =
            unmet(conditions, &live).filter_map(|(condition, _)| condition.namespace.as_deref()).collect();
        for namespace in namespaces {
            let pods = self.list(resource::POD, Some(namespace)).await?;
            lines.extend(pods.iter().flat_map(pods::held_up));
        }
        Ok(lines)
    }

    async fn watch(&self, wait: &Wait, conditions: &[Condition], hopeless: &[Condition]) -> Result<(), Error> {
        let selectors = selectors(conditions.iter().chain(hopeless));
        let mut stores: BTreeMap<&Place, Writer<DynamicObject>> =
            selectors.keys().map(|place| (place, Writer::new(place.0.api()))).collect();
        let watches = selectors.iter().map(|(place, selector)| {
            let events = watcher(self.objects(place.0, place.1.as_deref()), selector.config()).backoff(Pauses);
            events.map(move |event| (place, event)).boxed()
        });
        let mut events = stream::select_all(watches.collect::<Vec<_>>());
        // A place is spoken of when it has been listed whole.
        let mut live = Live::new();
        wait.watch(async || {
            loop {
                // A watch begins anew when it ends.
                let Some((place, event)) = events.next().await else { return Ok(Err("no more watches".to_owned())) };
                let event = match event {
                    Ok(event) => event,
                    Err(error) => {
                        let error = self.watch_failed(error, place.0);
                        return if error.is_passing() || error.is_not_found() { Ok(Err(error.to_string())) } else { Err(error) };
                    }
                };
                if let Some(store) = stores.get_mut(place) {
                    store.apply_watcher_event(&event);
                    if matches!(event, watcher::Event::InitDone) || live.contains_key(place) {
                        live.insert(place.clone(), store.as_reader().state());
                    }
                }
                if live.len() == stores.len() {
                    break;
                }
            }
            for condition in hopeless {
                if let (true, seen) = condition.look_at(&live) {
                    return Err(Error::Hopeless { condition: condition.name(), seen });
                }
            }
            let seen: Vec<_> = unmet(conditions, &live).map(|(condition, seen)| format!("{}: {seen}", condition.name())).collect();
            Ok(if seen.is_empty() { Ok(()) } else { Err(seen.join("; ")) })
        })
        .await
    }

    fn watch_failed(&self, error: watcher::Error, resource: Resource) -> Error {
        let what = format!("kind {}", resource.kind);
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => self.error(error, &what),
            // The watch is too far behind, and begins anew.
            error => Error::NotServing { server: self.server().to_owned(), reason: error.to_string() },
        }
    }
}

/// All the same, because the beginning of each attempt already counts as success.
struct Pauses;

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(PAUSE)
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::Test;

    #[test]
    fn no_more_is_looked_at_than_is_asked_for() {
        let of = |namespace, name| Condition::of(resource::DEPLOYMENT, Some(namespace), name, Test::observed());
        let node = || Condition::any(resource::NODE, Test::observed());
        for (case, conditions, expected) in [
            ("one object", vec![of("a", "x")], vec![("a", Some("x"))]),
            ("the same twice", vec![of("a", "x"), of("a", "x")], vec![("a", Some("x"))]),
            ("two of a namespace", vec![of("a", "x"), of("a", "y")], vec![("a", None)]),
            ("one of each of two", vec![of("a", "x"), of("b", "y")], vec![("a", Some("x")), ("b", Some("y"))]),
            ("any of a kind", vec![node()], vec![("", None)]),
        ] {
            let found: Vec<_> = selectors(conditions.iter())
                .into_iter()
                .map(|((_, namespace), selector)| (namespace.unwrap_or_default(), selector.name))
                .collect();
            let expected: Vec<_> =
                expected.into_iter().map(|(namespace, name)| (namespace.to_owned(), name.map(str::to_owned))).collect();
            assert_eq!(found, expected, "{case}");
        }
        let config = Selector { name: Some("x".into()), label: None }.config();
        assert_eq!(config.field_selector.as_deref(), Some("metadata.name=x"));
    }
}
