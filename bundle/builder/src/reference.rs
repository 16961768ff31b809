//! Names of container images, and digests of what they consist of.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What an image is called, with its registry and tag.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Reference {
    pub registry: String,
    pub repository: String,
    pub tag: String,
}

impl TryFrom<String> for Reference {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(registry, rest)| Some((registry, rest.rsplit_once(':')?)));
        match parts {
            // A first part without a dot or a port is a folder of the Docker Hub.
            Some((registry, (repository, tag)))
                if registry.contains(['.', ':']) && !tag.contains('/') && !repository.contains('@') =>
            {
                Ok(Self { registry: registry.to_owned(), repository: repository.to_owned(), tag: tag.to_owned() })
            }
            _ => Err(format!("{text} is no reference of the form registry/name:tag")),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

/// A SHA-256 as registries write it. It is the name of a file too, and nothing else can be one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentDigest(String);

impl ContentDigest {
    pub fn of(content: &str) -> Self {
        Self(HEXLOWER.encode(&Sha256::digest(content)))
    }

    pub fn digits(&self) -> &str {
        &self.0
    }

    /// Where a layout has what has this digest.
    pub fn path(&self) -> String {
        format!("blobs/sha256/{}", self.0)
    }
}

impl TryFrom<String> for ContentDigest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match text.strip_prefix("sha256:") {
            Some(digits) if digits.len() == 64 && digits.bytes().all(is_digit) => Ok(Self(digits.to_owned())),
            _ => Err(format!("{text} is no digest of the form sha256:..., in small letters")),
        }
    }
}

impl From<ContentDigest> for String {
    fn from(digest: ContentDigest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_registry_and_tag() {
        for (text, valid) in [
            ("registry.k8s.io/cluster-api/cluster-api-controller:v1.12.5", true),
            ("127.0.0.1:5000/tool:v1", true),
            ("registry.k8s.io/pause", false),
            ("localhost/tool:v1", false),
            ("library/alpine:3.21", false),
            ("alpine:3.21", false),
            ("registry.k8s.io:443/pause", false),
            ("registry.k8s.io/pause@sha256:00", false),
            ("", false),
        ] {
            match Reference::try_from(text.to_owned()) {
                Ok(reference) => assert!(valid && reference.to_string() == text, "{text}"),
                Err(problem) => assert!(!valid && problem.contains(text), "{text}: {problem}"),
            }
        }
    }
}
