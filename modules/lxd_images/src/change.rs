//! What is done with images and their aliases.

use std::fmt;

use bundle::InstanceImage;
use converge::Failure;
use lxd::{Client, ImageFiles};
use serde_json::{Value, json};

/// One thing that this step does.
pub(crate) enum Change {
    Import(InstanceImage),
    Point { alias: String, before: Option<String>, fingerprint: String },
    Delete { alias: String, fingerprint: String },
}

impl Change {
    /// Whether it brings this image.
    pub(crate) fn imports(&self, image: &InstanceImage) -> bool {
        matches!(self, Self::Import(imported) if imported.alias == image.alias)
    }

    pub(crate) async fn apply(&self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Import(InstanceImage { alias, fingerprint, metadata, rootfs, .. }) => {
                client.import_image(&ImageFiles { alias, fingerprint, metadata: metadata.as_deref(), rootfs }).await?;
            }
            Self::Point { alias, before: None, fingerprint } => {
                client.post("images/aliases", &json!({"name": alias, "target": fingerprint})).await?;
            }
            Self::Point { alias, fingerprint, .. } => {
                // LXD 5.0 answers no PATCH here: it waits for a lock that it holds itself.
                client.put(&format!("images/aliases/{alias}"), &json!({"target": fingerprint}), None).await?;
            }
            Self::Delete { fingerprint, .. } => drop(client.delete(&format!("images/{fingerprint}")).await?),
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Import(image) => write!(f, "import image {}", image.alias),
            Self::Point { alias, fingerprint, .. } => write!(f, "point alias {alias} to {fingerprint:.12}"),
            Self::Delete { alias, fingerprint } => write!(f, "delete image {fingerprint:.12}, which {alias} was"),
        }
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        match self {
            Self::Import(InstanceImage { fingerprint, .. }) | Self::Delete { fingerprint, .. } => format!("image {fingerprint}"),
            Self::Point { alias, .. } => format!("image alias {alias}"),
        }
    }

    fn before(&self) -> Value {
        match self {
            Self::Import(_) => Value::Null,
            Self::Point { before, .. } => before.as_ref().map_or(Value::Null, |target| json!({"target": target})),
            Self::Delete { fingerprint, .. } => json!({"fingerprint": fingerprint}),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Import(image) => json!({"fingerprint": image.fingerprint, "version": image.version}),
            Self::Point { fingerprint, .. } => json!({"target": fingerprint}),
            Self::Delete { .. } => Value::Null,
        }
    }
}
