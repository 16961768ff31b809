//! What an error becomes at the edge, where only its words count.

use std::fmt;

use serde::Serialize;

use crate::{Explain, Explanation};

/// A failure as the user is shown it. Made from any [`Explain`] by `?`.
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
    /// An earlier step of the lab may still bring what is missing.
    #[serde(skip)]
    pub is_prerequisite: bool,
    /// Somebody else changed the object meanwhile; observing and planning again is the way on.
    #[serde(skip)]
    pub is_conflict: bool,
    /// The change that failed is made all the same; something that should follow from it is not.
    #[serde(skip)]
    pub is_made: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.msg)
    }
}

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        let Explanation { code, hints, detail, is_prerequisite, is_conflict, is_made } = error.explain();
        Self { msg: sentence(&error), code, stage: None, detail, hints, is_prerequisite, is_conflict, is_made }
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
        fn explain(&self) -> Explanation {
            Explanation::new("POOL").conflict()
        }
    }

    #[test]
    fn a_failure_names_its_causes_once() {
        let failure = Failure::from(Outer(std::io::Error::other("disk full")));
        assert_eq!(failure.to_string(), "POOL: the pool cannot be made: disk full");
        assert!(failure.is_conflict);
    }
}
