//! The lab's project, and what runs have recorded on it.

use lab::lifecycle::{self, PHASE_KEY, Phase};
use lxd::{Client, Declared, ObjectChange, Project, Tagged};

use crate::Error;

/// The project; it is an error if there is none.
pub async fn project(client: &Client, name: &str) -> Result<Tagged<Project>, Error> {
    let found = client.find::<Project>(name).await?;
    found.ok_or_else(|| Error::NoProject { project: name.to_owned() })
}

/// The project, if something may be bootstrapped in it: its management cluster has not taken over, or the lab is to start over.
pub async fn may_bootstrap(client: &Client, name: &str, allow_rebootstrap: bool) -> Result<Tagged<Project>, Error> {
    let found = project(client, name).await?;
    let recorded = found.object.config.get(PHASE_KEY).map(String::as_str);
    let pivoted = |phase| Error::Pivoted { project: name.to_owned(), phase };
    lifecycle::may_bootstrap(recorded, allow_rebootstrap).map_err(pivoted)?;
    Ok(found)
}

/// The phase that a run recorded last; none if there is no record, or one that this version does not know.
#[must_use]
pub fn recorded_phase(project: &Project) -> Option<Phase> {
    Phase::recorded(project.config.get(PHASE_KEY)?)
}

/// The change that records a phase on the project; none if it is recorded already.
#[must_use]
pub fn record(project: &Tagged<Project>, phase: Phase) -> Option<ObjectChange> {
    let config = lab::keys::set([(PHASE_KEY, phase.to_string())]);
    Declared { config, ..Declared::new(&project.object.name, &project.object.description) }.compare(Some(project))
}

/// The change that takes the record of a phase off the project; none if there is none.
#[must_use]
pub fn forget(project: &Tagged<Project>) -> Option<ObjectChange> {
    let config = [(PHASE_KEY.to_owned(), None)].into();
    Declared { config, ..Declared::new(&project.object.name, &project.object.description) }.compare(Some(project))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_recorded_once() {
        let project = |phase: &str| {
            let config = [(PHASE_KEY.to_owned(), phase.to_owned())].into();
            Tagged { object: Project { name: "capi-lab".into(), config, ..Project::default() }, etag: None }
        };
        let change = record(&project("substrate"), Phase::Bootstrapped);
        let expected = "project capi-lab: user.k8slab.phase: substrate -> bootstrapped";
        assert_eq!(change.map(|change| change.to_string()).as_deref(), Some(expected));
        assert!(record(&project("bootstrapped"), Phase::Bootstrapped).is_none());
    }
}
