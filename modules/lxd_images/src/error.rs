use ansible::Explain;

/// Why an image is not in the project.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no project {0}")]
    NoProject(String),
}

impl Explain for Error {
    fn code(&self) -> &'static str {
        "PROJECT_NOT_FOUND"
    }

    fn hints(&self) -> Vec<String> {
        vec!["run the role lxd_project first".into()]
    }

    fn is_prerequisite(&self) -> bool {
        true
    }
}
