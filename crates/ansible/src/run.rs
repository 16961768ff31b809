//! A run of a step: its mode, its sections one by one, and what it has to report.

use std::{collections::BTreeSet, future::Future, time::Instant};

use converge::{Explain, Explanation, Failure, Foreseen, Section, stop};
use host::HostLock;

use crate::{
    Converged, Report, Stage, Step,
    alone::{Busy, alone},
    ledger,
};

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
            return Ok(Converged { live: None, changes: Vec::new(), is_planned: false });
        }
        let start = Instant::now();
        let (mut changes, mut foreseen) = (Vec::new(), Vec::new());
        let outcome = self.run_section(section, &mut changes, &mut foreseen).await;
        self.report.stages.push(Stage {
            name: S::NAME.into(),
            changed: !changes.is_empty() || !foreseen.is_empty(),
            skipped: false,
            seconds: seconds_since(start),
        });
        for change in &changes {
            self.report.add(change);
        }
        for change in &foreseen {
            self.report.add(change);
        }
        outcome.map(|live| Converged { live, changes, is_planned: self.check })
    }

    async fn run_section<S: Section>(
        &mut self,
        section: &S,
        done: &mut Vec<S::Change>,
        foreseen: &mut Vec<Foreseen>,
    ) -> Result<Option<S::Live>, Failure> {
        let live = match section.observe().await {
            Ok(live) => live,
            Err(failure) if self.check && failure.is_prerequisite => {
                self.report.deferred.push(failure.msg);
                *done = section.plan(&S::Live::default())?;
                *foreseen = section.foresee();
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
mod tests;
