use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use sha2::{Digest, Sha256};

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

    /// What may stand in a diff: enough to see that the value changed, not enough to guess it.
    #[must_use]
    pub fn redacted(&self) -> String {
        let digest = Sha256::digest(self.0.as_bytes());
        let prefix = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        format!("<redacted:sha256:{prefix:08x}>")
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
        assert_eq!(token.redacted().len(), "<redacted:sha256:01234567>".len());
        assert!(!token.redacted().contains("hunter2"));
    }
}
