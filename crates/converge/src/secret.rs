//! Values that must not be seen.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::OnceLock,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// A value that can be neither printed nor serialised by accident.
#[derive(Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The value itself. Each call is a place to look at when secrets are reviewed.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What may stand in a diff. Within one run, two of them are the same exactly when the values are. The mark is made with a key
    /// that is random in each process and never leaves it, so that nobody can find a short secret by trying.
    #[must_use]
    pub fn redacted(&self) -> String {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        format!("<redacted:{:016x}>", KEY.get_or_init(RandomState::new).hash_one(&self.0))
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "writeOnly": true})
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_debug_nor_redaction_shows_the_value() {
        let token = Secret::from("K10abcdef::server:hunter2".to_owned());
        assert_eq!(format!("{token:?}"), "<redacted>");
        assert_eq!(token.redacted(), Secret::from("K10abcdef::server:hunter2".to_owned()).redacted());
        assert_ne!(token.redacted(), Secret::from("another".to_owned()).redacted());
        assert!(!token.redacted().contains("hunter2"));
    }
}
