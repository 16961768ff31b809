use converge::{Explain, Explanation};

/// Why there is no bootstrap instance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no project {0}")]
    NoProject(String),
    #[error("neither project {project} nor project default has an image {alias}")]
    NoImage { alias: String, project: String },
    #[error(
        "project {project} is recorded as {phase}: its management cluster has taken over, and a new bootstrap instance would be a second one"
    )]
    Pivoted { project: String, phase: String },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoProject(_) => Explanation::new("PROJECT_NOT_FOUND").hint("run the role lxd_project first").prerequisite(),
            Self::NoImage { .. } => Explanation::new("IMAGE_NOT_FOUND")
                .hint("import it with `lxc image import`, or use image_source: server")
                .prerequisite(),
            Self::Pivoted { .. } => {
                Explanation::new("LIFECYCLE_PIVOTED").hint("set allow_rebootstrap: true if the lab is to start over")
            }
        }
    }
}
