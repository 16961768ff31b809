//! The lab's phase: whether there is still something to bootstrap, and that it was.

use converge::{Failure, Section};
use lab::lifecycle::Phase;
use lxd::{ObjectChange, Project, Tagged};

use crate::BootstrapCapnSecret;

/// The section: a lab that stands on its own is left alone, and one that was bootstrapped says so.
pub(crate) struct Lifecycle<'a> {
    pub step: &'a BootstrapCapnSecret,
    /// The bootstrap cluster can speak to LXD by now.
    pub proved: bool,
}

impl Section for Lifecycle<'_> {
    const NAME: &'static str = "lifecycle";
    type Live = Option<Tagged<Project>>;
    type Change = ObjectChange;

    async fn observe(&self) -> Result<Self::Live, Failure> {
        let client = self.step.lxd.client().await?;
        // Any other cluster than the bootstrap cluster may be served at any time.
        let anew = self.step.allow_rebootstrap || self.step.kubeconfig() != self.step.bootstrap_kubeconfig();
        let project = survey::may_bootstrap(client, &self.step.lxd_project, anew).await;
        Ok(Some(project.map_err(|error| {
            let mut failure = Failure::from(error);
            if failure.code == "LIFECYCLE_PIVOTED" {
                failure.hints.insert(0, "set kubeconfig_path to the management cluster's to serve that one".into());
            }
            failure
        })?))
    }

    fn plan(&self, live: &Self::Live) -> Result<Vec<ObjectChange>, Failure> {
        let Some(project) = live.as_ref().filter(|_| self.proved) else { return Ok(Vec::new()) };
        let is_further = survey::recorded_phase(&project.object).is_some_and(|phase| phase > Phase::Bootstrapped);
        Ok(if is_further { Vec::new() } else { survey::record(project, Phase::Bootstrapped).into_iter().collect() })
    }

    async fn apply(&self, change: &ObjectChange) -> Result<(), Failure> {
        Ok(change.apply(self.step.lxd.client().await?).await?)
    }
}
