//! A request taken apart, its body read as strictly as LXD reads it.

use std::collections::BTreeMap;

use hyper::HeaderMap;
use hyper::body::Bytes;
use serde_json::{Map, Value};

use super::answer::Refusal;

/// A map of strings: an object's config, or the options of one device.
pub(super) type Config = BTreeMap<String, String>;
/// Devices by name.
pub(super) type Devices = BTreeMap<String, Config>;

#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: String,
    /// The path below `/1.0`, decoded.
    pub(super) path: Vec<String>,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    /// None when the path is not below `/1.0`.
    pub(super) fn of(request: &hyper::Request<Bytes>) -> Option<Self> {
        let mut segments = request.uri().path().split('/').skip(1);
        if segments.next() != Some("1.0") {
            return None;
        }
        let query = request.uri().query().unwrap_or_default();
        Some(Self {
            method: request.method().to_string(),
            path: segments.filter(|segment| !segment.is_empty()).map(decoded).collect(),
            query: query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .map(|(name, value)| (decoded(name), decoded(value)))
                .collect(),
            headers: request.headers().clone(),
            body: request.body().clone(),
        })
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(super) fn if_match(&self) -> Option<&str> {
        self.header("if-match")
    }

    pub(super) fn project(&self) -> &str {
        self.query("project").unwrap_or("default")
    }

    pub(super) fn recursive(&self) -> bool {
        self.query("recursion").is_some_and(|depth| depth != "0")
    }

    /// The body, which LXD would decode into the Go type `go_type`.
    pub(super) fn body(&self, go_type: &'static str) -> Result<Body, Refusal> {
        let fields = match serde_json::from_slice(&self.body) {
            Ok(Value::Object(fields)) => fields,
            Ok(other) => {
                let kind = go_kind(&other);
                return Err(Refusal::bad_request(format!("json: cannot unmarshal {kind} into Go value of type api.{go_type}")));
            }
            Err(_) if self.body.is_empty() => return Err(Refusal::bad_request("EOF")),
            Err(_) => {
                let first = char::from(self.body[0]);
                return Err(Refusal::bad_request(format!("invalid character '{first}' looking for beginning of value")));
            }
        };
        Ok(Body { go_type, fields })
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let (b'%', Some(value)) = (byte, escaped) {
            bytes.push(value);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A JSON object whose fields are read by type.
#[derive(Debug)]
pub(super) struct Body {
    go_type: &'static str,
    fields: Map<String, Value>,
}

impl Body {
    pub(super) fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        self.field(name).map(|value| self.string(name, value)).transpose()
    }

    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        let Some(value) = self.field(name) else { return Ok(None) };
        let Value::Array(items) = value else { return Err(self.mismatch(name, value, "[]string")) };
        items.iter().map(|item| self.string(name, item)).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn config(&self, name: &str) -> Result<Option<Config>, Refusal> {
        let Some(value) = self.field(name) else { return Ok(None) };
        let Value::Object(entries) = value else { return Err(self.mismatch(name, value, "map[string]string")) };
        entries.iter().map(|(key, value)| Ok((key.clone(), self.string(name, value)?))).collect::<Result<_, _>>().map(Some)
    }

    /// Config in which LXD passes over what is not a string.
    pub(super) fn config_of_strings(&self, name: &str) -> Option<Config> {
        let entries = self.field(name)?.as_object()?;
        Some(entries.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect())
    }

    /// Devices; one that is null has no options.
    pub(super) fn devices(&self) -> Result<Option<Devices>, Refusal> {
        let name = "devices";
        let Some(value) = self.field(name) else { return Ok(None) };
        let Value::Object(entries) = value else { return Err(self.mismatch(name, value, "map[string]map[string]string")) };
        let device = |value: &Value| match value {
            Value::Null => Ok(Config::new()),
            Value::Object(options) => options.iter().map(|(key, value)| Ok((key.clone(), self.string(name, value)?))).collect(),
            other => Err(self.mismatch(name, other, "map[string]string")),
        };
        entries.iter().map(|(name, value)| Ok((name.clone(), device(value)?))).collect::<Result<_, _>>().map(Some)
    }

    fn string(&self, name: &str, value: &Value) -> Result<String, Refusal> {
        match value {
            Value::String(text) => Ok(text.clone()),
            Value::Null => Ok(String::new()),
            other => Err(self.mismatch(name, other, "string")),
        }
    }

    fn mismatch(&self, name: &str, value: &Value, wanted: &str) -> Refusal {
        let kind = go_kind(value);
        let go_type = self.go_type;
        Refusal::bad_request(format!("json: cannot unmarshal {kind} into Go struct field {go_type}.{name} of type {wanted}"))
    }
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
