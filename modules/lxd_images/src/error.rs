use converge::{Explain, Explanation};

/// Why an image is not in the project.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no project {0}")]
    NoProject(String),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoProject(_) => Explanation::new("PROJECT_NOT_FOUND").hint("run the role lxd_project first").prerequisite(),
        }
    }
}
