//! What an error says to the person who has to act on it.
//!
//! An error enum has one `match`: each variant stands there once, with its code, its hint and what follows from it. A variant that
//! wraps another error starts from what that one says, so nothing is lost on the way up:
//!
//! ```
//! use converge::{Explain, Explanation};
//!
//! # #[derive(Debug, thiserror::Error)]
//! # #[error("there is no socket")]
//! # struct NoSocket;
//! # impl Explain for NoSocket {
//! #     fn explain(&self) -> Explanation {
//! #         Explanation::new("UNREACHABLE").prerequisite()
//! #     }
//! # }
//! #[derive(Debug, thiserror::Error)]
//! enum Error {
//!     #[error("there is no instance {name}")]
//!     NoInstance { name: String },
//!     #[error(transparent)]
//!     Socket(#[from] NoSocket),
//! }
//!
//! impl Explain for Error {
//!     fn explain(&self) -> Explanation {
//!         match self {
//!             Self::NoInstance { .. } => Explanation::new("INSTANCE_NOT_FOUND").hint("make the instance first"),
//!             Self::Socket(error) => error.explain(),
//!         }
//!     }
//! }
//!
//! assert!(Error::from(NoSocket).is_prerequisite());
//! ```

/// An error that explains itself. Every error that a step can end with implements this.
pub trait Explain: std::error::Error {
    /// Everything the error has to say besides its sentence. For a wrapped error it starts from that one's explanation.
    fn explain(&self) -> Explanation;

    /// The stable identifier that users match on, such as `LXD_UNREACHABLE`.
    fn code(&self) -> &'static str {
        self.explain().code
    }

    /// What to try, most promising first.
    fn hints(&self) -> Vec<String> {
        self.explain().hints
    }

    /// More than fits in one sentence.
    fn detail(&self) -> Option<String> {
        self.explain().detail
    }

    /// An earlier step may still bring what is missing.
    fn is_prerequisite(&self) -> bool {
        self.explain().is_prerequisite
    }

    /// Somebody else changed the object meanwhile.
    fn is_conflict(&self) -> bool {
        self.explain().is_conflict
    }
}

/// What an error says: a code for programs, the rest for people and for the frame that runs the step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Explanation {
    /// The stable identifier that users match on, such as `LXD_UNREACHABLE`.
    pub code: &'static str,
    /// What to try, most promising first.
    pub hints: Vec<String>,
    /// More than fits in one sentence: a log's tail, a list of live values.
    pub detail: Option<String>,
    /// An earlier step of the lab may still bring what is missing, so check mode plans on as if nothing were there.
    pub is_prerequisite: bool,
    /// Somebody else changed the object between observation and write, so observing and planning again is the way on.
    pub is_conflict: bool,
    /// The change itself is made all the same; something that should follow from it is not.
    pub is_made: bool,
}

impl Explanation {
    /// A code; all else may be added.
    pub fn new(code: &'static str) -> Self {
        Self { code, hints: Vec::new(), detail: None, is_prerequisite: false, is_conflict: false, is_made: false }
    }

    /// Adds something to try.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds what does not fit in one sentence, below what is there. An empty text adds nothing.
    pub fn detail(mut self, text: impl Into<String>) -> Self {
        let text = text.into();
        self.detail = match self.detail.take() {
            Some(detail) if !text.is_empty() => Some(format!("{detail}\n{text}")),
            None if !text.is_empty() => Some(text),
            detail => detail,
        };
        self
    }

    /// An earlier step of the lab may still bring what is missing.
    pub fn prerequisite(mut self) -> Self {
        self.is_prerequisite = true;
        self
    }

    /// Observing and planning again is the way on.
    pub fn conflict(mut self) -> Self {
        self.is_conflict = true;
        self
    }

    /// The change itself is made, and what should follow from it has to be looked at again.
    pub fn made(mut self) -> Self {
        self.is_made = true;
        self.conflict()
    }

    /// Another code than the wrapped error's.
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    /// Another hint than the wrapped error's, where this one knows better.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints = vec![hint.into()];
        self
    }
}

/// What happened in the end. The outer errors of a library often only say where.
#[must_use]
pub fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_wrapped_error_says_stays_unless_it_is_replaced() {
        let within = || Explanation::new("WITHIN").hint("look there").detail("first line").prerequisite().conflict();
        let outer = within().with_code("OUTER").with_hint("look here").hint("or there").detail("").detail("second line");
        assert_eq!(
            outer,
            Explanation {
                code: "OUTER",
                hints: vec!["look here".into(), "or there".into()],
                detail: Some("first line\nsecond line".into()),
                is_prerequisite: true,
                is_conflict: true,
                is_made: false,
            }
        );
        assert_eq!(Explanation::new("BARE").detail("").detail, None);
    }
}
