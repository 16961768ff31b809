//! The option table: one struct is the source of types, defaults, validation and documentation.

mod coerce;
mod table;

use std::collections::BTreeMap;

use converge::{Explain, Explanation};
pub use table::{Kind, OptionSpec, OptionTable};

/// What is wrong with the options that a user gave.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No option has this name.
    #[error("there is no option `{option}`{}", nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default())]
    Unknown {
        /// The name as it was given.
        option: String,
        /// The closest known name, if one is close.
        nearest: Option<String>,
        /// All names that would have been accepted.
        known: Vec<String>,
    },
    /// The value has another type, or a form that the option does not take.
    #[error("option `{option}`: {reason}")]
    Invalid {
        /// The option's name, with its place inside lists and maps.
        option: String,
        /// What is wrong with the value.
        reason: String,
    },
    /// The option has no default and was not given.
    #[error("option `{option}` is required")]
    Missing {
        /// The option's name.
        option: String,
    },
    /// A consumer's addition names a key that the lab sets itself.
    #[error("option `{option}` may add, not override: `{key}` is set by the lab to `{required}`")]
    Collision {
        /// The option that carries the addition.
        option: String,
        /// The key that both name.
        key: String,
        /// The lab's own value.
        required: String,
    },
    /// The arguments could not be read as a JSON object.
    #[error("the arguments are not a JSON object: {reason}")]
    Unreadable {
        /// The parser's words.
        reason: String,
    },
    /// A value is one that JSON does not have.
    #[error("an option has the value `{0}`, which is no number")]
    NoNumber(String),
    /// The executable holds several steps, and none of them has this name.
    #[error("there is no step `{step}`")]
    NoStep {
        /// The name as it was given.
        step: String,
        /// The steps that there are.
        known: String,
    },
}

impl OptionError {
    /// An [`OptionError::Invalid`] for `option`.
    pub fn invalid(option: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { option: option.into(), reason: reason.into() }
    }

    /// Refuses additions that would override what the lab sets itself; saying the same is no override.
    pub fn refuse_overrides(
        option: &str,
        given: &BTreeMap<String, String>,
        required: &BTreeMap<String, Option<String>>,
    ) -> Result<(), Self> {
        let differs =
            |(key, value): &(&String, &String)| required.get(*key).is_some_and(|required| required.as_ref() != Some(*value));
        match given.iter().find(differs) {
            Some((key, _)) => Err(Self::Collision {
                option: option.to_owned(),
                key: key.clone(),
                required: required[key].clone().unwrap_or_else(|| "(unset)".into()),
            }),
            None => Ok(()),
        }
    }
}

impl Explain for OptionError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Unknown { known, .. } => Explanation::new("OPTION_UNKNOWN").hint(format!("known options: {}", known.join(", "))),
            Self::Invalid { .. } => Explanation::new("OPTION_INVALID"),
            Self::Missing { .. } => Explanation::new("OPTION_MISSING"),
            Self::Collision { key, .. } => Explanation::new("OPTION_COLLISION")
                .hint(format!("remove `{key}` from the option; required values are not negotiable")),
            Self::Unreadable { .. } => {
                Explanation::new("ARGUMENTS_UNREADABLE").hint("a step takes one argument: a file with a JSON object of options")
            }
            Self::NoStep { known, .. } => {
                Explanation::new("STEP_UNKNOWN").hint(format!("the steps are {known}; name one with --step"))
            }
            Self::NoNumber(_) => Explanation::new("OPTION_INVALID")
                .hint("look for `.nan` and `.inf` in the task's values; quote it if a text was meant"),
        }
    }
}
