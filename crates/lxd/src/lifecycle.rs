use converge::{Explain, Explanation};
use lab::lifecycle::{PHASE_KEY, Phase};

use crate::{Client, Declared, Error, ObjectChange, Project, Tagged};

/// Why nothing is bootstrapped in a project.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// There is no such project.
    #[error("there is no project {project}")]
    NoProject {
        /// Its name.
        project: String,
    },
    /// The management cluster has taken over.
    #[error(
        "project {project} is recorded as {phase}: its management cluster has taken over, and what is bootstrapped now would be a second one"
    )]
    Pivoted {
        /// The project.
        project: String,
        /// The recorded phase.
        phase: String,
    },
    /// LXD did not say.
    #[error(transparent)]
    Lxd(#[from] Error),
}

impl Explain for LifecycleError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoProject { .. } => Explanation::new("PROJECT_NOT_FOUND").hint("run the role lxd_project first").prerequisite(),
            Self::Pivoted { .. } => {
                Explanation::new("LIFECYCLE_PIVOTED").hint("set allow_rebootstrap: true if the lab is to start over")
            }
            Self::Lxd(error) => error.explain(),
        }
    }
}

impl Client {
    /// Fails unless something may be bootstrapped in a project: it is there, and its management cluster has not taken over, or the
    /// lab is to start over.
    pub async fn may_bootstrap(&self, project: &str, allow_rebootstrap: bool) -> Result<(), LifecycleError> {
        let found = self.find::<Project>(project).await?;
        let found = found.ok_or_else(|| LifecycleError::NoProject { project: project.to_owned() })?;
        judge(&found.object, allow_rebootstrap)
    }
}

impl Project {
    /// The phase that a run recorded last; none if there is no record, or one that this version does not know.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        let phases = [Phase::Absent, Phase::Substrate, Phase::Bootstrapped, Phase::Exported, Phase::Pivoted, Phase::Cleaned];
        let recorded = self.config.get(PHASE_KEY)?;
        phases.into_iter().find(|phase| phase.to_string() == *recorded)
    }
}

impl Tagged<Project> {
    /// The change that records a phase on the project; none if it is recorded already.
    #[must_use]
    pub fn record(&self, phase: Phase) -> Option<ObjectChange> {
        let config = lab::keys::set([(PHASE_KEY, phase.to_string())]);
        Declared { config, ..Declared::new(&self.object.name, &self.object.description) }.compare(Some(self))
    }
}

fn judge(project: &Project, allow_rebootstrap: bool) -> Result<(), LifecycleError> {
    let recorded = project.config.get(PHASE_KEY);
    let over = recorded.filter(|phase| [Phase::Pivoted, Phase::Cleaned].iter().any(|over| over.to_string() == **phase));
    match over {
        Some(phase) if !allow_rebootstrap => Err(LifecycleError::Pivoted { project: project.name.clone(), phase: phase.clone() }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_that_stands_on_its_own_is_not_bootstrapped_again() {
        for (phase, refused) in [("", false), ("substrate", false), ("exported", false), ("pivoted", true), ("cleaned", true)] {
            let project = Project { config: [(PHASE_KEY.to_owned(), phase.to_owned())].into(), ..Project::default() };
            assert_eq!(judge(&project, false).is_err(), refused, "{phase}");
            assert!(judge(&project, true).is_ok(), "{phase}");
        }
    }

    #[test]
    fn a_phase_is_recorded_once() {
        let config = [(PHASE_KEY.to_owned(), "substrate".to_owned())].into();
        let project = |config| Tagged { object: Project { name: "capi-lab".into(), config, ..Project::default() }, etag: None };
        let change = project(config).record(Phase::Bootstrapped);
        let expected = "project capi-lab: user.k8slab.phase: substrate -> bootstrapped";
        assert_eq!(change.map(|change| change.to_string()).as_deref(), Some(expected));
        let config = [(PHASE_KEY.to_owned(), "bootstrapped".to_owned())].into();
        assert!(project(config).record(Phase::Bootstrapped).is_none());
    }
}
