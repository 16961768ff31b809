//! The lab's phase: that nothing of the bootstrap cluster is left.

use converge::{Failure, Section};
use lab::lifecycle::Phase;
use lxd::{ObjectChange, Project, Tagged};

use crate::CleanupBootstrap;

/// The section: the project says that the lab is cleaned, where it was seen that the management cluster has taken over.
pub(crate) struct Cleaned<'a> {
    pub step: &'a CleanupBootstrap,
    pub is_proved: bool,
    /// The instance is not left alone.
    pub is_complete: bool,
}

impl Section for Cleaned<'_> {
    const NAME: &'static str = "phase";
    type Live = Option<Tagged<Project>>;
    type Change = ObjectChange;

    async fn observe(&self) -> Result<Self::Live, Failure> {
        Ok(self.step.lxd.client().await?.find(&self.step.project).await?)
    }

    fn plan(&self, live: &Self::Live) -> Result<Vec<ObjectChange>, Failure> {
        // A run that was killed before its end had proved it, too, or there would be no record of the pivot and still an instance.
        let Some(project) = live else { return Ok(Vec::new()) };
        let is_due = self.is_complete && (self.is_proved || survey::recorded_phase(&project.object) == Some(Phase::Pivoted));
        Ok(if is_due { survey::record(project, Phase::Cleaned).into_iter().collect() } else { Vec::new() })
    }

    async fn apply(&self, change: &ObjectChange) -> Result<(), Failure> {
        Ok(change.apply(self.step.lxd.client().await?).await?)
    }
}
