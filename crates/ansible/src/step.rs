//! The frame that a step runs in: the only place that knows of check mode.
//!
//! A [`Step`] is a struct of options. Its `converge` runs [`Section`]s through [`Run::section`], each after the other:
//!
//! 1. *observe*: the section reads the live state. Where an earlier step has not made yet what can be looked at, check mode notes it
//!    as deferred and goes on from `Live::default()`, the state of a bare host. Outside check mode it is an error.
//! 2. *plan*: the section compares, purely. What it plans is the diff and the list of changes, in check mode and outside it alike.
//! 3. *apply*: the changes are carried out one by one. Check mode stops before it. A conflict (somebody else was faster, or a
//!    change is made and did not have its effect) leads to another look and another plan, for as long as there is progress.
//! 4. *plan again*: a section that still plans something after everything was applied fails with `NOT_CONVERGED`.
//!
//! [`Run::verify`] then reads back what the step promises. What the sections saw last is in [`Converged::live`], so that facts need
//! not be asked for once more. What a later section needs of an earlier one it gets by [`Converged::known`], which says in both modes
//! whether it is there by now; so no step asks which mode it runs in.
//!
//! Of a step that changes things, one run at a time is at work on a host for a lab.
//!
//! Limits: sections run in order, never side by side. The state between two looks is anybody's; who must be alone against other steps
//! takes a lock.

use converge::{Failure, Known, Section};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{RoleTask, Run};

/// One role step: a struct of options that can be converged.
pub trait Step: DeserializeOwned + JsonSchema {
    /// The module's name, which is the crate's and the role's.
    const NAME: &'static str;
    /// Its sections in order; `flow_control_<section>` leaves one out.
    const SECTIONS: &'static [&'static str];
    /// A task or two, as YAML, for the documentation.
    const EXAMPLES: &'static str;
    /// The tasks of its role.
    const TASKS: &'static [RoleTask] = &[RoleTask::ON_HOST];
    /// Whether it changes anything. Of a step that does, one run at a time is at work on a host for a lab; options marked with
    /// `tells_apart` say what else a run is about.
    const CHANGES: bool = true;
    /// What the result carries beyond the protocol's own keys.
    type Facts: Serialize + JsonSchema;

    /// Checks what the option table cannot; needs nothing but the options.
    fn preflight(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Runs the sections in order, then reads back what the step promises.
    async fn converge(&self, run: &mut Run) -> Result<Option<Self::Facts>, Failure>;
}

/// What came of a section.
#[derive(Debug, PartialEq, Eq)]
pub struct Converged<Live, Change> {
    /// What was seen last: after the changes, or in check mode before them. Nothing if the section is switched off, or in check mode
    /// could not be looked at yet.
    pub live: Option<Live>,
    /// What was changed, or would be.
    pub changes: Vec<Change>,
    /// The changes are planned and not carried out.
    pub(crate) is_planned: bool,
}

impl<Live, Change> Converged<Live, Change> {
    /// What the section leaves to those after it; a change that `decides` about it and is only planned makes it known after it is
    /// carried out. Of a section that is switched off it is what is there now.
    pub async fn known<S>(self, section: &S, decides: impl Fn(&Change) -> bool) -> Result<Known<Live>, Failure>
    where
        S: Section<Live = Live, Change = Change>,
    {
        if self.is_planned && (self.live.is_none() || self.changes.iter().any(decides)) {
            return Ok(Known::AfterApply);
        }
        Ok(Known::Now(seen(section, self.live).await?))
    }
}

/// What a section looks at, as it is now: what the run saw last, or a look where the section is switched off.
pub async fn seen<S: Section>(section: &S, last: Option<S::Live>) -> Result<S::Live, Failure> {
    match last {
        Some(live) => Ok(live),
        None => section.observe().await,
    }
}
