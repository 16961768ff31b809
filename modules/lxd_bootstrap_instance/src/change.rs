//! What is done with the instance and its image.

use std::{fmt, time::Duration};

use bundle::InstanceImage;
use converge::Failure;
use lxd::{Client, ImageFiles, ObjectChange};
use serde_json::{Value, json};

/// How long LXD may take to fetch an image from a server and make an instance of it.
const PULLING: Duration = Duration::from_secs(1800);

/// One thing that this step does.
pub(crate) enum Change {
    /// The image comes into the lab's project, which has images of its own.
    CopyImage {
        alias: String,
        fingerprint: String,
    },
    /// The image comes out of the bundle.
    ImportImage(InstanceImage),
    /// The instance is made or updated.
    Converge(Box<ObjectChange>),
    Start(Move),
    Stop(Move),
    Delete(String),
}

/// An instance with the status that it leaves.
pub(crate) struct Move {
    pub name: String,
    pub before: String,
}

impl Change {
    pub(crate) async fn apply(&self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::CopyImage { fingerprint, .. } => client.copy_image(fingerprint, "default").await?,
            Self::ImportImage(InstanceImage { alias, fingerprint, metadata, rootfs, .. }) => {
                client.import_image(&ImageFiles { alias, fingerprint, metadata: metadata.as_deref(), rootfs }).await?;
            }
            Self::Converge(change) if change.creates() => change.apply(&client.patient(PULLING)).await?,
            Self::Converge(change) => change.apply(client).await?,
            Self::Start(instance) => client.start_instance(&instance.name).await?,
            Self::Stop(instance) => client.stop_instance(&instance.name).await?,
            Self::Delete(name) => client.delete_instance(name).await?,
        }
        Ok(())
    }

    fn name(&self) -> &str {
        match self {
            Self::Converge(change) => &change.name,
            Self::ImportImage(image) => &image.alias,
            Self::Start(instance) | Self::Stop(instance) => &instance.name,
            Self::CopyImage { alias: name, .. } | Self::Delete(name) => name,
        }
    }

    /// What becomes of the status, where that is what changes.
    fn status(&self) -> Option<(&str, &'static str)> {
        match self {
            Self::Start(instance) => Some((&instance.before, "Running")),
            Self::Stop(instance) => Some((&instance.before, "Stopped")),
            _ => None,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CopyImage { alias, .. } => write!(f, "copy image {alias} from project default"),
            Self::ImportImage(image) => write!(f, "import image {}", image.alias),
            Self::Converge(change) => change.fmt(f),
            Self::Start(Move { name, before }) if before != "Stopped" => write!(f, "start instance {name}, which is {before}"),
            Self::Start(Move { name, .. }) => write!(f, "start instance {name}"),
            Self::Stop(Move { name, .. }) => write!(f, "stop instance {name}"),
            Self::Delete(name) => write!(f, "delete instance {name}"),
        }
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        match self {
            Self::CopyImage { alias, .. } | Self::ImportImage(InstanceImage { alias, .. }) => format!("image {alias}"),
            Self::Converge(change) => change.object(),
            _ => format!("instance {}", self.name()),
        }
    }

    fn before(&self) -> Value {
        match self {
            Self::Converge(change) => change.before(),
            Self::Delete(name) => json!({"name": name}),
            _ => self.status().map_or(Value::Null, |(before, _)| json!({"status": before})),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Converge(change) => change.after(),
            Self::CopyImage { fingerprint, .. } | Self::ImportImage(InstanceImage { fingerprint, .. }) => {
                json!({"fingerprint": fingerprint})
            }
            _ => self.status().map_or(Value::Null, |(_, after)| json!({"status": after})),
        }
    }
}
