//! Why there is no bootstrap instance.

use converge::{Explain, Explanation};

/// Why there is no bootstrap instance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("neither project {project} nor project default has an image {alias}")]
    NoImage { alias: String, project: String },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoImage { .. } => Explanation::new("IMAGE_NOT_FOUND")
                .hint("import it with `lxc image import`, or use image_source: server")
                .prerequisite(),
        }
    }
}
