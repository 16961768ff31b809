//! Why there is no bootstrap instance.

use converge::{Explain, Explanation};

/// Why there is no bootstrap instance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("neither project {project} nor project default has an image {alias}")]
    NoImage { alias: String, project: String },
    #[error("instance {name} is a {found}, not a {wanted}")]
    OtherType { name: String, found: String, wanted: String },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoImage { .. } => Explanation::new("IMAGE_NOT_FOUND")
                .hint("import it with `lxc image import`, or use image_source: server")
                .prerequisite(),
            Self::OtherType { .. } => Explanation::new("INSTANCE_TYPE_MISMATCH")
                .hint("it was set when the instance was made; delete the instance, or choose another bootstrap_instance_name"),
        }
    }
}
