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
//! not be asked for once more.
//!
//! Of a step that changes things, one run at a time is at work on a host for a lab.
//!
//! Limits: sections run in order, never side by side. The state between two looks is anybody's; who must be alone against other steps
//! takes a lock.

use std::{collections::BTreeSet, future::Future, time::Instant};

use converge::{Explain, Explanation, Failure, Section, stop};
use host::HostLock;
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Report, RoleTask, Stage,
    alone::{Busy, alone},
    ledger,
};

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
}

/// What a section looks at, as it is now: what the run saw last, or a look where the section is switched off.
pub async fn seen<S: Section>(section: &S, last: Option<S::Live>) -> Result<S::Live, Failure> {
    match last {
        Some(live) => Ok(live),
        None => section.observe().await,
    }
}

/// The live state still differs after every change was applied.
#[derive(Debug, thiserror::Error)]
#[error("{section}: applied, but the live state still differs: {remaining}")]
struct NotConverged {
    section: &'static str,
    remaining: String,
}

impl Explain for NotConverged {
    fn explain(&self) -> Explanation {
        Explanation::new("NOT_CONVERGED")
            .hint("another program may manage the same keys; run again with --diff to see which side wins")
    }
}

/// A run of a step: its mode, and what it has done so far.
#[derive(Debug)]
pub struct Run {
    check: bool,
    switched_off: BTreeSet<String>,
    pub(crate) stage: String,
    pub(crate) report: Report,
}

impl Run {
    pub(crate) fn new(check: bool) -> Self {
        Self { check, switched_off: BTreeSet::new(), stage: "preflight".into(), report: Report::default() }
    }

    pub(crate) fn switch_off(&mut self, sections: BTreeSet<String>) {
        self.switched_off = sections;
    }

    /// Observes, plans, and outside check mode applies one section, then observes and plans again to see that nothing is left.
    pub async fn section<S: Section>(&mut self, section: &S) -> Result<Converged<S::Live, S::Change>, Failure> {
        self.enter(S::NAME);
        if self.switched_off.contains(S::NAME) {
            self.report.stages.push(Stage { name: S::NAME.into(), changed: false, skipped: true, seconds: 0.0 });
            return Ok(Converged { live: None, changes: Vec::new() });
        }
        let start = Instant::now();
        let mut changes = Vec::new();
        let outcome = self.run_section(section, &mut changes).await;
        self.report.stages.push(Stage {
            name: S::NAME.into(),
            changed: !changes.is_empty(),
            skipped: false,
            seconds: seconds_since(start),
        });
        for change in &changes {
            self.report.add(change);
        }
        outcome.map(|live| Converged { live, changes })
    }

    async fn run_section<S: Section>(&mut self, section: &S, done: &mut Vec<S::Change>) -> Result<Option<S::Live>, Failure> {
        let live = match section.observe().await {
            Ok(live) => live,
            Err(failure) if self.check && failure.is_prerequisite => {
                self.report.deferred.push(failure.msg);
                *done = section.plan(&S::Live::default())?;
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        };
        let mut planned = section.plan(&live)?;
        if self.check {
            *done = planned;
            return Ok(Some(live));
        }
        if planned.is_empty() {
            return Ok(Some(live));
        }
        let mut left_last_time = usize::MAX;
        loop {
            let all = done.len() + planned.len();
            match apply_all(section, planned, done).await {
                // Overtaken again with as much left to do as the last time, it is no race but a quarrel.
                Err(failure) if failure.is_conflict && all - done.len() < left_last_time => {
                    tracing::info!("{}; looking again", failure.msg);
                    left_last_time = all - done.len();
                    planned = section.plan(&section.observe().await?)?;
                }
                outcome => break outcome?,
            }
        }
        let live = section.observe().await?;
        let remaining = section.plan(&live)?;
        if remaining.is_empty() {
            return Ok(Some(live));
        }
        let remaining = remaining.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        Err(NotConverged { section: S::NAME, remaining }.into())
    }

    /// Reads back what the step promises. In check mode with changes still to be made there is nothing to read, so there is no
    /// answer.
    pub async fn verify<T>(&mut self, facts: impl Future<Output = Result<T, Failure>>) -> Result<Option<T>, Failure> {
        self.enter("healthcheck");
        let start = Instant::now();
        let skipped = self.check && (self.report.changed() || !self.report.deferred.is_empty());
        let answer = if skipped { Ok(None) } else { facts.await.map(Some) };
        self.report.stages.push(Stage { name: self.stage.clone(), changed: false, skipped, seconds: seconds_since(start) });
        answer
    }

    /// Whether a section is not switched off.
    #[must_use]
    pub fn is_on(&self, section: &str) -> bool {
        !self.switched_off.contains(section)
    }

    /// Says something that the user should know although it is no failure.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.report.warnings.push(text.into());
    }

    /// Outside check mode, waits for another run of the same step on the same to end.
    pub(crate) async fn alone<S: Step>(&mut self, subject: &[String]) -> Result<Option<HostLock>, Busy> {
        if self.check || !S::CHANGES {
            return Ok(None);
        }
        let lock = alone(S::NAME, subject).await?;
        if let Some(waited) = lock.waited() {
            self.warn(format!("another run of {} was at work; this one has waited {} s for its end", S::NAME, waited.as_secs()));
        }
        Ok(Some(lock))
    }

    fn enter(&mut self, stage: &str) {
        stage.clone_into(&mut self.stage);
        ledger::enter(stage);
        tracing::info!(stage);
    }

    pub(crate) fn preflight(&mut self, start: Instant) {
        self.report.stages.push(Stage { name: self.stage.clone(), changed: false, skipped: false, seconds: seconds_since(start) });
    }
}

async fn apply_all<S: Section>(section: &S, changes: Vec<S::Change>, done: &mut Vec<S::Change>) -> Result<(), Failure> {
    for change in changes {
        stop::check()?;
        tracing::info!("{change}");
        ledger::begin(change.to_string());
        let outcome = section.apply(&change).await;
        if outcome.as_ref().err().is_none_or(|failure| failure.is_made) {
            done.push(change);
        }
        outcome?;
    }
    Ok(())
}

fn seconds_since(start: Instant) -> f64 {
    (start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        collections::VecDeque,
        fmt,
    };

    use converge::Change;
    use serde_json::{Value, json};

    use super::*;

    /// Things that are put on a shelf one by one. What goes wrong comes from a list: the next entry is for the next call.
    #[derive(Default)]
    struct Shelf {
        wanted: Vec<&'static str>,
        live: RefCell<Vec<&'static str>>,
        observing: RefCell<VecDeque<Option<Trouble>>>,
        applying: RefCell<VecDeque<Option<Trouble>>>,
        /// Somebody else takes off what is put on.
        is_emptied: bool,
        looks: Cell<usize>,
    }

    #[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
    #[error("{self:?}")]
    enum Trouble {
        MadeInVain,
        Broken,
        NotThereYet,
        ChangedMeanwhile,
    }

    use Trouble::{Broken, ChangedMeanwhile, MadeInVain, NotThereYet};

    impl Explain for Trouble {
        fn explain(&self) -> Explanation {
            match self {
                MadeInVain => Explanation::new("MADE_IN_VAIN").made(),
                Broken => Explanation::new("BROKEN"),
                NotThereYet => Explanation::new("NOT_THERE_YET").prerequisite(),
                ChangedMeanwhile => Explanation::new("CHANGED_MEANWHILE").conflict(),
            }
        }
    }

    #[derive(Debug, PartialEq)]
    struct Put(&'static str);

    impl fmt::Display for Put {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "put {} on the shelf", self.0)
        }
    }

    impl Change for Put {
        fn object(&self) -> String {
            format!("thing {}", self.0)
        }

        fn before(&self) -> Value {
            Value::Null
        }

        fn after(&self) -> Value {
            json!({"size": 1, "name": self.0})
        }
    }

    impl Section for Shelf {
        const NAME: &'static str = "shelf";
        type Live = Vec<&'static str>;
        type Change = Put;

        async fn observe(&self) -> Result<Self::Live, Failure> {
            self.looks.set(self.looks.get() + 1);
            next(&self.observing)?;
            Ok(self.live.borrow().clone())
        }

        fn plan(&self, live: &Self::Live) -> Result<Vec<Put>, Failure> {
            Ok(self.wanted.iter().filter(|thing| !live.contains(thing)).map(|thing| Put(thing)).collect())
        }

        async fn apply(&self, change: &Put) -> Result<(), Failure> {
            let outcome = next(&self.applying);
            let made = outcome.as_ref().err().is_none_or(|failure| failure.is_made);
            if made && !self.is_emptied {
                self.live.borrow_mut().push(change.0);
            }
            outcome
        }
    }

    fn next(troubles: &RefCell<VecDeque<Option<Trouble>>>) -> Result<(), Failure> {
        troubles.borrow_mut().pop_front().flatten().map_or(Ok(()), |trouble| Err(trouble.into()))
    }

    fn shelf(wanted: &[&'static str], live: &[&'static str]) -> Shelf {
        Shelf { wanted: wanted.to_vec(), live: RefCell::new(live.to_vec()), ..Shelf::default() }
    }

    async fn answer_of(run: &mut Run) -> Result<Option<&'static str>, Failure> {
        run.verify(async { Ok("fine") }).await
    }

    #[tokio::test]
    async fn what_is_missing_is_put_there_and_looked_at_again() {
        let shelf = shelf(&["book", "clock"], &["clock", "vase"]);
        let mut run = Run::new(false);
        let converged = run.section(&shelf).await.unwrap();
        assert_eq!((converged.changes, converged.live), (vec![Put("book")], Some(vec!["clock", "vase", "book"])));
        assert_eq!((shelf.live.take(), shelf.looks.get()), (vec!["clock", "vase", "book"], 2));
        assert_eq!(answer_of(&mut run).await, Ok(Some("fine")));
        assert_eq!(run.report.success(None, true)["diff"][0]["after"], "name: book\nsize: 1\n");
    }

    #[tokio::test]
    async fn what_is_made_in_vain_counts_and_is_looked_at_again() {
        let shelf = shelf(&["book", "clock"], &[]);
        *shelf.applying.borrow_mut() = [Some(MadeInVain), Some(Broken)].into();
        let mut run = Run::new(false);
        assert_eq!(run.section(&shelf).await.unwrap_err().code, "BROKEN");
        assert_eq!((shelf.live.take(), shelf.looks.get()), (vec!["book"], 2));
        assert_eq!(run.report.success(None, true)["changed"], true);
    }

    #[tokio::test]
    async fn where_nothing_is_missing_one_look_is_enough() {
        let shelf = shelf(&["book"], &["book"]);
        let mut run = Run::new(false);
        let converged = run.section(&shelf).await.unwrap();
        assert_eq!((converged.changes, converged.live), (vec![], Some(vec!["book"])));
        assert_eq!(shelf.looks.get(), 1);
        assert_eq!(run.report.success(None, false)["changed"], false);
    }

    #[tokio::test]
    async fn check_mode_says_the_same_and_touches_nothing() {
        let mut reports = [true, false].map(|check| (Run::new(check), shelf(&["book", "clock"], &["vase"])));
        for (run, shelf) in &mut reports {
            run.section(shelf).await.unwrap();
        }
        let [(planned, untouched), (done, _)] = &reports;
        assert_eq!(*untouched.live.borrow(), ["vase"]);
        assert_eq!(planned.report.changes, ["put book on the shelf", "put clock on the shelf"]);
        assert_eq!((&planned.report.changes, &planned.report.diff), (&done.report.changes, &done.report.diff));
    }

    #[tokio::test]
    async fn check_mode_verifies_only_what_is_there() {
        for (live, verified, skipped) in [(vec!["book"], Some("fine"), false), (vec![], None, true)] {
            let mut run = Run::new(true);
            run.section(&shelf(&["book"], &live)).await.unwrap();
            assert_eq!(answer_of(&mut run).await, Ok(verified), "{live:?}");
            assert_eq!(run.report.stages[1].skipped, skipped, "{live:?}");
        }
    }

    #[tokio::test]
    async fn a_missing_prerequisite_is_awaited_in_check_mode_only() {
        let unreachable = || Shelf { observing: RefCell::new([Some(NotThereYet)].into()), ..shelf(&["book"], &["book"]) };
        let mut check = Run::new(true);
        let planned = check.section(&unreachable()).await.unwrap();
        assert_eq!((planned.changes, planned.live), (vec![Put("book")], None));
        let result = check.report.success(None, false);
        assert_eq!((&result["changed"], &result["deferred"]), (&json!(true), &json!(["NotThereYet"])));
        assert_eq!(answer_of(&mut check).await, Ok(None));

        let mut run = Run::new(false);
        assert_eq!(run.section(&unreachable()).await.unwrap_err().msg, "NotThereYet");
        assert!(run.report.deferred.is_empty());
    }

    #[tokio::test]
    async fn check_mode_hides_no_other_error() {
        let broken = Shelf { observing: RefCell::new([Some(Broken)].into()), ..shelf(&["book"], &[]) };
        assert_eq!(Run::new(true).section(&broken).await.unwrap_err().msg, "Broken");
    }

    #[tokio::test]
    async fn a_conflict_leads_to_one_more_look() {
        let contested = |troubles: Vec<Option<Trouble>>| Shelf {
            applying: RefCell::new(troubles.into()),
            ..shelf(&["book", "clock", "vase"], &[])
        };
        let mut run = Run::new(false);
        let once = contested(vec![None, Some(ChangedMeanwhile)]);
        assert_eq!(run.section(&once).await.unwrap().changes, [Put("book"), Put("clock"), Put("vase")]);
        assert_eq!((once.live.take(), once.looks.get()), (vec!["book", "clock", "vase"], 3));
        assert_eq!(run.report.changes.len(), 3);

        let each = contested(vec![Some(ChangedMeanwhile), None, Some(ChangedMeanwhile)]);
        assert!(Run::new(false).section(&each).await.is_ok());

        let again = contested(vec![Some(ChangedMeanwhile), Some(ChangedMeanwhile)]);
        assert_eq!(Run::new(false).section(&again).await.unwrap_err().msg, "ChangedMeanwhile");
        assert_eq!(again.looks.get(), 2);
    }

    #[tokio::test]
    async fn a_failure_carries_what_was_changed_until_then() {
        let breaking = Shelf { applying: RefCell::new([None, Some(Broken)].into()), ..shelf(&["book", "clock", "vase"], &[]) };
        let mut run = Run::new(false);
        let failure = run.section(&breaking).await.unwrap_err();
        let result = run.report.failure(&failure, true);
        assert_eq!((&result["failed"], &result["changed"]), (&json!(true), &json!(true)));
        assert_eq!(result["changes"], json!(["put book on the shelf"]));
        assert_eq!(result["diff"][0]["after_header"], "thing book");
        assert_eq!((run.report.stages[0].changed, breaking.live.take()), (true, vec!["book"]));
    }

    #[tokio::test]
    async fn what_does_not_stay_is_named() {
        let emptied = Shelf { is_emptied: true, ..shelf(&["book", "clock"], &[]) };
        let failure = Run::new(false).section(&emptied).await.unwrap_err();
        assert_eq!(failure.code, "NOT_CONVERGED");
        assert_eq!(failure.msg, "shelf: applied, but the live state still differs: put book on the shelf; put clock on the shelf");
    }

    #[tokio::test]
    async fn a_section_that_is_switched_off_is_not_even_looked_at() {
        let shelf = shelf(&["book"], &[]);
        let mut run = Run::new(false);
        run.switch_off(["shelf".to_owned()].into());
        let converged = run.section(&shelf).await.unwrap();
        assert_eq!((converged.changes, converged.live), (vec![], None));
        assert_eq!(shelf.looks.get(), 0);
        let stage = &run.report.stages[0];
        assert_eq!((stage.name.as_str(), stage.skipped, stage.changed), ("shelf", true, false));
    }

    #[tokio::test]
    async fn warnings_are_told_and_empty_lists_are_not() {
        let mut run = Run::new(false);
        assert!(run.report.success(None, false).get("warnings").is_none());
        run.warn("mind the gap");
        assert_eq!(run.report.success(None, false)["warnings"], json!(["mind the gap"]));
    }
}
