use ansible::Explain;

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
    fn code(&self) -> &'static str {
        match self {
            Self::NoProject(_) => "PROJECT_NOT_FOUND",
            Self::NoImage { .. } => "IMAGE_NOT_FOUND",
            Self::Pivoted { .. } => "LIFECYCLE_PIVOTED",
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoProject(_) => vec!["run the role lxd_project first".into()],
            Self::NoImage { .. } => vec!["import it with `lxc image import`, or use image_source: server".into()],
            Self::Pivoted { .. } => vec!["set allow_rebootstrap: true if the lab is to start over".into()],
        }
    }

    fn is_prerequisite(&self) -> bool {
        matches!(self, Self::NoProject(_) | Self::NoImage { .. })
    }
}
