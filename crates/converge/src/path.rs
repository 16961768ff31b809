//! Paths that mean the same wherever a program stands.

use std::{
    ops::Deref,
    path::{Component, Path, PathBuf},
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// A path that starts at the root.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct AbsolutePath(PathBuf);

impl AbsolutePath {
    /// The path; nothing if it is relative or climbs with `..`.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let path = PathBuf::from(text);
        let climbs = path.components().any(|part| part == Component::ParentDir);
        (path.is_absolute() && !climbs).then_some(Self(path))
    }

    /// What is said of a text that is none.
    #[must_use]
    pub fn complaint(text: &str) -> String {
        format!("`{text}` is not an absolute path without `..`")
    }
}

/// For literals in code, such as defaults; what users give goes through [`AbsolutePath::new`].
impl From<&'static str> for AbsolutePath {
    fn from(text: &'static str) -> Self {
        Self(PathBuf::from(text))
    }
}

impl Deref for AbsolutePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for AbsolutePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| serde::de::Error::custom(Self::complaint(&text)))
    }
}

impl JsonSchema for AbsolutePath {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AbsolutePath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "path"})
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rooted_paths_that_do_not_climb() {
        for (text, accepted) in [("/opt/capi-lab", true), ("opt", false), ("/opt/../etc", false), ("", false), ("~", false)] {
            assert_eq!(AbsolutePath::new(text).is_some(), accepted, "{text}");
        }
    }
}
