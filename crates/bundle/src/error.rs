//! What can be wrong with a bundle, and how it is put right.

use std::{io, path::PathBuf};

use converge::{Explain, Explanation};

use crate::{Role, SCHEMA};

/// What can be wrong with a bundle.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no manifest.
    #[error("there is no bundle in {}", folder.display())]
    Missing {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The manifest is not of the form it should have.
    #[error("{} is no manifest of a bundle", path.display())]
    Malformed {
        /// The manifest.
        path: PathBuf,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// The manifest is of a form that a later version made.
    #[error("{} has schema {schema}, and this version reads up to {SCHEMA}", path.display())]
    SchemaNewer {
        /// The manifest.
        path: PathBuf,
        /// Its schema.
        schema: u32,
    },
    /// The manifest lists a path that leads out of the bundle.
    #[error("{} lists {entry:?}, which is not below it", path.display())]
    Outside {
        /// The manifest.
        path: PathBuf,
        /// What it lists.
        entry: String,
    },
    /// A listed file is not there.
    #[error("{} is missing", path.display())]
    FileMissing {
        /// The file.
        path: PathBuf,
    },
    /// A listed file has another content.
    #[error("{} has SHA-256 {actual}, and the manifest says {listed}", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        listed: String,
        /// What the file has.
        actual: String,
    },
    /// An instance image is listed without the name that LXD gives it.
    #[error("the manifest has no fingerprint of {}", path.display())]
    NoFingerprint {
        /// The image's root filesystem.
        path: PathBuf,
    },
    /// The bundle does not have what a step needs.
    #[error("the bundle in {} has no {role} {name} for {architecture}", folder.display())]
    NotListed {
        /// The bundle.
        folder: PathBuf,
        /// What for.
        role: Role,
        /// Whose.
        name: String,
        /// Which CPU.
        architecture: String,
    },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        const ANEW: &str = "build it anew with `cargo xtask bundle build`; what is whole is kept";
        match self {
            Self::Missing { .. } => Explanation::new("BUNDLE_MISSING")
                .hint("build it with `cargo xtask bundle build`, or name the folder that it is in"),
            Self::Unreadable { .. } => {
                Explanation::new("BUNDLE_UNREADABLE").hint("look at the owner and mode of the folder and of its files")
            }
            Self::Malformed { .. } | Self::NoFingerprint { .. } => Explanation::new("BUNDLE_MALFORMED").hint(ANEW),
            Self::SchemaNewer { .. } => Explanation::new("BUNDLE_SCHEMA_NEWER")
                .hint("take the version of the collection that built the bundle, or build it anew with this one"),
            Self::Outside { .. } => Explanation::new("BUNDLE_PATH").hint(ANEW),
            Self::FileMissing { .. } => Explanation::new("BUNDLE_FILE_MISSING").hint(ANEW),
            Self::Digest { .. } => Explanation::new("BUNDLE_DIGEST").hint(ANEW),
            Self::NotListed { .. } => Explanation::new("BUNDLE_NOT_LISTED")
                .hint("build it anew with `cargo xtask bundle build` on a machine of that architecture"),
        }
    }
}
