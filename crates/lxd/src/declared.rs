//! An LXD object as it should be: keys that have a value or have to be gone. All others are somebody else's and stay as they are.
//!
//! An empty value is none: LXD keeps no empty values. What a user adds to the lab's own keys is remembered on the object, so that it
//! goes when it is declared no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    marker::PhantomData,
};

use converge::Change;
use lab::{Devices as OwnedDevices, Keys};
use serde_json::{Map, Value, json};

use crate::{Client, Config, Devices, Error, Object, Tagged, client::path};

/// What a step declares of one object: the keys it owns, and nothing of the rest.
#[derive(Clone, Debug)]
pub struct Declared<T> {
    /// The object's name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its owned configuration keys.
    pub config: Keys,
    /// Keys that count only when the object is made.
    pub at_creation: Keys,
    /// Its owned devices.
    pub devices: OwnedDevices,
    /// What creation needs beyond that: a driver, a type, a source.
    pub creation: Map<String, Value>,
    /// Its owned members beyond description, configuration and devices.
    pub fields: Map<String, Value>,
    /// What of it a user added; none where the step takes no additions.
    pub added: Option<Added>,
    /// Which kind it is of.
    pub kind: PhantomData<T>,
}

/// On an object: which keys and devices a step added to it at a user's wish, so that one that is withdrawn is known from a foreign one.
/// A key of a device is written `device:key`.
const MANAGED: [&str; 2] = ["user.k8slab.managed-config", "user.k8slab.managed-devices"];

/// What a user adds to the keys of an object.
#[derive(Clone, Debug, Default)]
pub struct Added {
    config: BTreeSet<String>,
    devices: BTreeSet<String>,
}

/// A planned creation or update of one object.
#[derive(Clone, Debug)]
pub struct ObjectChange {
    /// The object, as a person names it.
    pub object: String,
    /// The object's name.
    pub name: String,
    /// The configuration keys that change.
    pub keys: Vec<String>,
    /// The devices that change.
    pub devices: Vec<String>,
    lines: Vec<String>,
    before: Value,
    after: Value,
    write: Write,
}

#[derive(Clone, Debug)]
enum Write {
    Create { collection: &'static str, body: Value },
    Merge { path: String, body: Value, etag: Option<String> },
    Replace { path: String, body: Value, etag: Option<String> },
}

impl<T: Object> Declared<T> {
    /// A declaration without any key yet.
    #[must_use]
    pub fn new(name: &str, description: &str) -> Self {
        Self {
            name: name.to_owned(),
            description: description.to_owned(),
            config: Keys::new(),
            at_creation: Keys::new(),
            devices: OwnedDevices::new(),
            creation: Map::new(),
            fields: Map::new(),
            added: None,
            kind: PhantomData,
        }
    }

    /// Adds what a user wants beyond the lab's own keys. What was added once and is not any more goes.
    #[must_use]
    pub fn with_additions(mut self, config: &Config, devices: &Devices) -> Self {
        let mut added = Added::default();
        added.config.extend(config.keys().filter(|key| !self.config.contains_key(*key)).cloned());
        self.config.extend(lab::keys::set(config.clone()));
        for (name, keys) in devices {
            let own = self.devices.entry(name.clone()).or_insert(None);
            match own {
                Some(own) => {
                    added.devices.extend(keys.keys().filter(|key| !own.contains_key(*key)).map(|key| format!("{name}:{key}")));
                }
                None => drop(added.devices.insert(name.clone())),
            }
            own.get_or_insert_default().extend(lab::keys::set(keys.clone()));
        }
        self.added = Some(added);
        self
    }

    /// What has to change so that the live object is as declared; nothing if it is.
    #[must_use]
    pub fn compare(&self, live: Option<&Tagged<T>>) -> Option<ObjectChange> {
        let whole = self.remembering(live.map(|live| &live.object));
        match live {
            None => Some(whole.creation()),
            Some(live) => whole.update(live),
        }
    }

    /// With the records of what was added, and with what was withdrawn. No empty value is left in it.
    fn remembering(&self, live: Option<&T>) -> Self {
        let mut whole = self.clone();
        let added = self.added.iter().flat_map(|added| MANAGED.into_iter().zip([&added.config, &added.devices]));
        for (record, names) in added {
            let recorded = live.and_then(|live| live.config().get(record));
            let withdrawn = recorded.into_iter().flat_map(|names| names.split(',')).filter(|name| !names.contains(*name));
            for name in withdrawn {
                whole.withdraw(record, name);
            }
            if recorded.is_some() || !names.is_empty() {
                whole.config.insert(record.to_owned(), Some(names.iter().cloned().collect::<Vec<_>>().join(",")));
            }
        }
        for keys in [&mut whole.config, &mut whole.at_creation].into_iter().chain(whole.devices.values_mut().flatten()) {
            for value in keys.values_mut() {
                *value = value.take().filter(|value| !value.is_empty());
            }
        }
        whole
    }

    /// Wants something gone that was added once, unless it is the lab's own by now.
    fn withdraw(&mut self, record: &str, name: &str) {
        if record == MANAGED[0] {
            self.config.entry(name.to_owned()).or_insert(None);
            return;
        }
        match name.split_once(':') {
            None => drop(self.devices.entry(name.to_owned()).or_insert(None)),
            Some((device, key)) => {
                if let Some(Some(keys)) = self.devices.get_mut(device) {
                    keys.entry(key.to_owned()).or_insert(None);
                }
            }
        }
    }

    fn creation(&self) -> ObjectChange {
        let config = wanted(self.config.iter().chain(&self.at_creation));
        let devices: Devices =
            self.devices.iter().filter_map(|(name, keys)| Some((name.clone(), wanted(keys.as_ref()?)))).collect();
        let mut body = self.creation.clone();
        body.insert("name".into(), json!(self.name));
        let mut after = self.creation.clone();
        for target in [&mut body, &mut after] {
            target.extend(self.fields.clone());
            target.insert("description".into(), json!(self.description));
            target.insert("config".into(), json!(config));
            if T::HAS_DEVICES {
                target.insert("devices".into(), json!(devices));
            }
        }
        ObjectChange {
            keys: config.into_keys().collect(),
            devices: devices.into_keys().collect(),
            lines: Vec::new(),
            before: Value::Null,
            after: after.into(),
            write: Write::Create { collection: T::COLLECTION, body: body.into() },
            ..self.change()
        }
    }

    fn update(&self, live: &Tagged<T>) -> Option<ObjectChange> {
        let object = &live.object;
        let mut lines = Vec::new();
        if object.description() != self.description {
            lines.push(format!("description: {:?} -> {:?}", object.description(), self.description));
        }
        let keys = drift(&self.config, object.config(), "", &mut lines);
        let live_devices = object.devices();
        let devices = self.device_drift(&live_devices, &mut lines);
        let mut fields = object.fields();
        for (name, value) in &self.fields {
            let before = fields.insert(name.clone(), value.clone()).unwrap_or_default();
            if before != *value {
                lines.push(format!("{name}: {before} -> {value}"));
            }
        }
        if lines.is_empty() {
            return None;
        }
        let mut config = object.config().clone();
        apply(&self.config, &mut config);
        let mut all_devices = live_devices.clone();
        for (name, keys) in &self.devices {
            match keys {
                Some(keys) => apply(keys, all_devices.entry(name.clone()).or_default()),
                None => drop(all_devices.remove(name)),
            }
        }
        let path = path::<T>(&self.name);
        let etag = live.etag.clone();
        let write = if T::MERGES && !self.removes() {
            let mut body = self.fields.clone();
            body.insert("description".into(), json!(self.description));
            body.insert("config".into(), json!(wanted(&self.config)));
            if T::HAS_DEVICES {
                let changed: BTreeMap<_, _> = all_devices.iter().filter(|(name, _)| devices.contains(name)).collect();
                body.insert("devices".into(), json!(changed));
            }
            Write::Merge { path, body: body.into(), etag }
        } else {
            fields.insert("description".into(), json!(self.description));
            fields.insert("config".into(), json!(config));
            if T::HAS_DEVICES {
                fields.insert("devices".into(), json!(all_devices));
            }
            Write::Replace { path, body: fields.into(), etag }
        };
        Some(ObjectChange {
            keys,
            devices,
            lines,
            before: self.owned(object.description(), object.config(), &live_devices, &object.fields()),
            after: self.owned(&self.description, &config, &all_devices, &self.fields),
            write,
            ..self.change()
        })
    }

    /// Something has to go, which merging cannot do.
    fn removes(&self) -> bool {
        self.config.values().any(Option::is_none) || self.devices.values().any(Option::is_none)
    }

    fn device_drift(&self, live: &Devices, lines: &mut Vec<String>) -> Vec<String> {
        let mut changed = Vec::new();
        for (name, keys) in &self.devices {
            let before = lines.len();
            match (keys, live.get(name)) {
                (Some(keys), Some(device)) => drop(drift(keys, device, &format!("device {name}: "), lines)),
                (Some(_), None) => lines.push(format!("device {name}: (none) -> present")),
                (None, Some(_)) => lines.push(format!("device {name}: present -> (none)")),
                (None, None) => {}
            }
            if lines.len() > before {
                changed.push(name.clone());
            }
        }
        changed
    }

    /// The owned part of a state, as a diff shows it.
    fn owned(&self, description: &str, config: &Config, devices: &Devices, fields: &Map<String, Value>) -> Value {
        let of = |keys: &Keys, live: &Config| -> Config {
            keys.keys().filter_map(|key| Some((key.clone(), live.get(key)?.clone()))).collect()
        };
        let mut owned = json!({"description": description, "config": of(&self.config, config)});
        for name in self.fields.keys() {
            owned[name] = fields.get(name).cloned().unwrap_or_default();
        }
        if T::HAS_DEVICES {
            let devices = self.devices.iter().filter_map(|(name, keys)| {
                let device = devices.get(name)?;
                Some((name.clone(), keys.as_ref().map_or_else(|| device.clone(), |keys| of(keys, device))))
            });
            owned["devices"] = json!(devices.collect::<Devices>());
        }
        owned
    }

    fn change(&self) -> ObjectChange {
        ObjectChange {
            object: format!("{} {}", T::KIND, self.name),
            name: self.name.clone(),
            keys: Vec::new(),
            devices: Vec::new(),
            lines: Vec::new(),
            before: Value::Null,
            after: Value::Null,
            write: Write::Create { collection: T::COLLECTION, body: Value::Null },
        }
    }
}

impl ObjectChange {
    /// The object is made, not updated.
    #[must_use]
    pub fn creates(&self) -> bool {
        matches!(self.write, Write::Create { .. })
    }

    /// Carries the change out.
    pub async fn apply(&self, client: &Client) -> Result<(), Error> {
        match &self.write {
            Write::Create { collection, body } => client.post(collection, body).await,
            Write::Merge { path, body, etag } => client.patch(path, body, etag.as_deref()).await,
            Write::Replace { path, body, etag } => client.put(path, body, etag.as_deref()).await,
        }
        .map(drop)
    }
}

impl fmt::Display for ObjectChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.creates() { write!(f, "create {}", self.object) } else { write!(f, "{}: {}", self.object, self.lines.join(", ")) }
    }
}

impl Change for ObjectChange {
    fn object(&self) -> String {
        self.object.clone()
    }

    fn before(&self) -> Value {
        self.before.clone()
    }

    fn after(&self) -> Value {
        self.after.clone()
    }
}

/// Notes how live keys differ from the wanted ones, and gives the names of those that do.
fn drift(wanted: &Keys, live: &Config, place: &str, lines: &mut Vec<String>) -> Vec<String> {
    let differing = wanted.iter().filter(|(key, value)| live.get(*key) != value.as_ref());
    let mut keys = Vec::new();
    for (key, value) in differing {
        lines.push(format!("{place}{key}: {} -> {}", shown(live.get(key)), shown(value.as_ref())));
        keys.push(key.clone());
    }
    keys
}

fn apply(wanted: &Keys, live: &mut Config) {
    for (key, value) in wanted {
        match value {
            Some(value) => drop(live.insert(key.clone(), value.clone())),
            None => drop(live.remove(key)),
        }
    }
}

fn wanted<'a>(keys: impl IntoIterator<Item = (&'a String, &'a Option<String>)>) -> Config {
    keys.into_iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?))).collect::<BTreeMap<_, _>>()
}

fn shown(value: Option<&String>) -> &str {
    value.map_or("(unset)", String::as_str)
}
