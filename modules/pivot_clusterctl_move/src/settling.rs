//! That the target has taken over: watched, compared with the copy, and written down.

use std::{fmt, time::Duration};

use converge::{Failure, Section, Wait};
use lab::lifecycle::Phase;
use lxd::{ObjectChange, Project, Tagged};
use pivot::{Direction, Found, Open, Where, conditions, unsettled};
use serde_json::{Value, json};

use crate::{
    clusters::{Clusters, Ended},
    error::Error,
};

/// How long controllers may take to write down what was there before.
const SETTLING: Duration = Duration::from_secs(30);

/// The section: no move is open, and the lab's phase says who manages it.
pub(crate) struct Settling<'a>(pub &'a Clusters<'a>);

#[derive(Default)]
pub(crate) struct Live {
    is_finished: bool,
    open: Option<Open>,
    project: Option<Tagged<Project>>,
}

pub(crate) enum Change {
    /// Waits until everything is as it was before, under the target's controllers; then Helm may run again.
    Verify,
    Record(Box<ObjectChange>),
}

impl Settling<'_> {
    /// The phase that is proved by now; none where a later one is recorded.
    fn phase(&self, project: &Project) -> Option<Phase> {
        match self.0.step.direction {
            Direction::ToManagement => (survey::recorded_phase(project) < Some(Phase::Pivoted)).then_some(Phase::Pivoted),
            Direction::ToBootstrap => (survey::recorded_phase(project) >= Some(Phase::Pivoted)).then_some(Phase::Bootstrapped),
        }
    }

    async fn verify(&self) -> Result<(), Failure> {
        let clusters = self.0;
        let Found::Whole(copy) = clusters.folder().read()? else { return Err(Error::NoCopy.into()) };
        let target = clusters.client(Where::Target).await?;
        let patience = clusters.step.patience();
        target.wait_for("the target reconciles what was moved", &conditions(copy.objects.keys()), patience).await?;
        let wait = Wait::for_condition("everything is as it was before the move", SETTLING.min(patience));
        let look = async || {
            let sides = clusters.sides().await.map_err(|error| Ended::Failed(error.into()))?;
            let instances = clusters.instances(&sides.target).await.map_err(Ended::Failed)?;
            let lines = unsettled(&copy, &sides, &instances);
            Ok::<_, Ended>(if lines.is_empty() { Ok(()) } else { Err(lines.join("; ")) })
        };
        match wait.until(look).await {
            Ok(()) => Ok(Open::close(&clusters.step.staging_dir())?),
            Err(Ended::Failed(failure)) => Err(failure),
            Err(Ended::Over(over)) => Err(Error::Unsettled { lines: vec![over.to_string()] }.into()),
        }
    }
}

impl Section for Settling<'_> {
    const NAME: &'static str = "settle";
    type Live = Live;
    type Change = Change;

    async fn observe(&self) -> Result<Live, Failure> {
        Ok(Live { is_finished: self.0.is_finished().await?, open: self.0.open()?, project: self.0.project().await? })
    }

    fn plan(&self, live: &Live) -> Result<Vec<Change>, Failure> {
        let verify = (!live.is_finished || live.open.is_some()).then_some(Change::Verify);
        let record = live.project.as_ref().and_then(|project| survey::record(project, self.phase(&project.object)?));
        Ok(verify.into_iter().chain(record.map(|record| Change::Record(Box::new(record)))).collect())
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        match change {
            Change::Verify => self.verify().await,
            Change::Record(change) => Ok(change.apply(self.0.step.lxd.client().await?).await?),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verify => f.write_str("see that the target has taken everything over, and close the move"),
            Self::Record(change) => change.fmt(f),
        }
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        match self {
            Self::Verify => "the move".to_owned(),
            Self::Record(change) => change.object(),
        }
    }

    fn before(&self) -> Value {
        match self {
            Self::Verify => json!({"verified": false}),
            Self::Record(change) => change.before(),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Verify => json!({"verified": true}),
            Self::Record(change) => change.after(),
        }
    }
}
