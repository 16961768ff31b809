//! A part of something that is converged: observed, planned, applied.

use std::{
    convert::Infallible,
    fmt::{self, Display},
};

use serde_json::Value;

use crate::Failure;

/// A part of a step that is observed, planned and applied on its own, so that a later one sees what an earlier one made.
pub trait Section {
    /// Its name among the step's sections.
    const NAME: &'static str;
    /// What it looks at. The default is what a host looks like before anything was set up: check mode plans from it where a
    /// prerequisite is still missing.
    type Live: Default;
    /// One thing it does.
    type Change: Change;

    /// Reads the live state.
    async fn observe(&self) -> Result<Self::Live, Failure>;
    /// Compares it with what is wanted. Pure.
    fn plan(&self, live: &Self::Live) -> Result<Vec<Self::Change>, Failure>;
    /// What it will do beyond the plan of a bare host, and cannot plan before the missing prerequisite is there. Check mode tells it.
    fn foresee(&self) -> Vec<Foreseen> {
        Vec::new()
    }
    /// Carries one change out.
    async fn apply(&self, change: &Self::Change) -> Result<(), Failure>;
}

/// A planned change: one line by `Display`, and both sides for the diff.
pub trait Change: Display {
    /// What it changes, as a person names it: `project capi-lab`.
    fn object(&self) -> String;
    /// The owned part before; null when it does not exist.
    fn before(&self) -> Value;
    /// The owned part after; null when it goes.
    fn after(&self) -> Value;
}

/// A change that can be told before it can be planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// What is done, in one line.
    pub line: String,
    /// What it changes.
    pub object: String,
    /// The owned part before.
    pub before: Value,
    /// The owned part after, as far as it is known.
    pub after: Value,
}

impl Display for Foreseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl Change for Foreseen {
    fn object(&self) -> String {
        self.object.clone()
    }

    fn before(&self) -> Value {
        self.before.clone()
    }

    fn after(&self) -> Value {
        self.after.clone()
    }
}

/// What one section leaves to those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<T> {
    /// It is there.
    Now(T),
    /// It is there once the changes that are planned have been carried out.
    AfterApply,
}

impl<T> Known<T> {
    /// The value, if it is there.
    pub fn now(&self) -> Option<&T> {
        match self {
            Self::Now(value) => Some(value),
            Self::AfterApply => None,
        }
    }
}

/// A section that only looks makes no change.
impl Change for Infallible {
    fn object(&self) -> String {
        match *self {}
    }

    fn before(&self) -> Value {
        match *self {}
    }

    fn after(&self) -> Value {
        match *self {}
    }
}
