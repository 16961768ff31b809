//! What has to be done about a release that a killed run has left in the middle.

use crate::{Record, Status};

/// The way out of a state in which a killed run has left a release, and with which Helm does not go on by itself.
///
/// A rollback of the unfinished revision to itself makes what is missing of it and keeps every object that is there; an upgrade
/// then goes on from it. Removing the unfinished record instead would leak what only that revision had, and uninstalling a release
/// makes its objects anew, which is the end of a cluster. So that is done only where nothing has been made yet, or where the
/// release was being removed anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Roll the revision back to itself.
    RollBack(u64),
    /// Uninstall, without hooks.
    Uninstall,
}

impl Recovery {
    /// What the last revision needs, if anything.
    #[must_use]
    pub fn of(last: &Record) -> Option<Self> {
        match last.info.status {
            Status::PendingInstall if has_made_nothing(last) => Some(Self::Uninstall),
            Status::PendingInstall | Status::PendingUpgrade | Status::PendingRollback => Some(Self::RollBack(last.revision)),
            Status::Uninstalling => Some(Self::Uninstall),
            Status::Deployed | Status::Failed | Status::Superseded | Status::Uninstalled | Status::Unknown => None,
        }
    }
}

/// The hooks that come before a release's first objects are not all done.
fn has_made_nothing(record: &Record) -> bool {
    record.hooks.iter().any(|hook| hook.is_at("pre-install") && !hook.succeeded())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Hook, Info, LastRun};

    #[test]
    fn each_status_has_its_way_out() {
        let hook = |event: &str, phase: &str| Hook {
            events: vec![event.into()],
            last_run: LastRun { phase: phase.into() },
            ..Hook::default()
        };
        for (case, status, hooks, expected) in [
            ("all is well", Status::Deployed, vec![], None),
            ("Helm gave up by itself", Status::Failed, vec![], None),
            ("killed while objects were made", Status::PendingInstall, vec![], Some(Recovery::RollBack(7))),
            ("killed in a hook before", Status::PendingInstall, vec![hook("pre-install", "Running")], Some(Recovery::Uninstall)),
            ("killed before that hook", Status::PendingInstall, vec![hook("pre-install", "")], Some(Recovery::Uninstall)),
            (
                "killed after all those hooks",
                Status::PendingInstall,
                vec![hook("pre-install", "Succeeded"), hook("post-install", "Running")],
                Some(Recovery::RollBack(7)),
            ),
            ("killed in an upgrade", Status::PendingUpgrade, vec![hook("pre-install", "")], Some(Recovery::RollBack(7))),
            ("killed in a rollback", Status::PendingRollback, vec![], Some(Recovery::RollBack(7))),
            ("killed in an uninstall", Status::Uninstalling, vec![], Some(Recovery::Uninstall)),
        ] {
            let record = Record { revision: 7, info: Info { status, ..Info::default() }, hooks, ..Record::default() };
            assert_eq!(Recovery::of(&record), expected, "{case}");
        }
    }
}
