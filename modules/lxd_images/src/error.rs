use ansible::Explain;

/// Why an image is not in the project.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no project {0}")]
    NoProject(String),
    #[error("LXD calls the bundle's image {alias} {actual}, and the manifest says {listed}")]
    Fingerprint { alias: String, listed: String, actual: String },
}

impl Explain for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::NoProject(_) => "PROJECT_NOT_FOUND",
            Self::Fingerprint { .. } => "BUNDLE_DIGEST",
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::NoProject(_) => "run the role lxd_project first",
            Self::Fingerprint { .. } => "build the bundle anew with `cargo xtask bundle build`; what is whole is kept",
        };
        vec![hint.into()]
    }

    fn is_prerequisite(&self) -> bool {
        matches!(self, Self::NoProject(_))
    }
}
