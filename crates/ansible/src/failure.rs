use std::fmt;

use serde::Serialize;

/// What a typed error says to the person who has to act on it. Every error that a step can end with implements this.
pub trait Explain: std::error::Error {
    /// The stable identifier that users match on, such as `LXD_UNREACHABLE`.
    fn code(&self) -> &'static str;

    /// What to try, most promising first.
    fn hints(&self) -> Vec<String> {
        Vec::new()
    }

    /// More than fits in one sentence: a log's tail, a list of live values.
    fn detail(&self) -> Option<String> {
        None
    }

    /// An earlier step of the lab may still bring what is missing, so check mode plans on as if nothing were there.
    fn is_prerequisite(&self) -> bool {
        false
    }

    /// Somebody else changed the object between observation and write, so observing and planning again is the way on.
    fn is_conflict(&self) -> bool {
        false
    }
}

/// A failure as Ansible shows it. Made from any [`Explain`] by `?`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// One sentence.
    pub msg: String,
    /// Stable identifier.
    pub code: &'static str,
    /// The stage in which it happened; filled in by the run.
    pub stage: Option<String>,
    /// More than fits in one sentence.
    pub detail: Option<String>,
    /// What to try.
    pub hints: Vec<String>,
    #[serde(skip)]
    pub(crate) prerequisite: bool,
    #[serde(skip)]
    pub(crate) conflict: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.msg)
    }
}

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            msg: sentence(&error),
            code: error.code(),
            stage: None,
            detail: error.detail(),
            hints: error.hints(),
            prerequisite: error.is_prerequisite(),
            conflict: error.is_conflict(),
        }
    }
}

/// The error with its causes, each cause once: many libraries repeat the source in their own message.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the pool cannot be made")]
    struct Outer(#[source] std::io::Error);

    impl Explain for Outer {
        fn code(&self) -> &'static str {
            "POOL"
        }
    }

    #[test]
    fn a_failure_names_its_causes_once() {
        let failure = Failure::from(Outer(std::io::Error::other("disk full")));
        assert_eq!(failure.to_string(), "POOL: the pool cannot be made: disk full");
    }
}
