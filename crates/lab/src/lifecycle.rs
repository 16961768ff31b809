//! How far a lab has come, judged from what was seen of it.

use std::fmt;

use converge::{Explain, Explanation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::profiles::{BASE, BOOTSTRAP, CONTROL_PLANE, WORKER};

/// The project key that records the phase that was last proved.
pub const PHASE_KEY: &str = "user.k8slab.phase";

/// How far a lab has come. Live state decides; what a run records on the project is a hint.
///
/// The phases tell who owns the Cluster API objects and what is left to do before they have moved to where they stay. Whether the
/// management cluster is made, initialised or ready while the bootstrap cluster still owns it is no phase of its own: it comes and
/// goes while the phase stays, so it is a fact beside the phase ([`Evidence::management`]), and what is missing of it is said there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing, or not all, of the substrate is there.
    #[default]
    Absent,
    /// Project, pool, network and profiles are there.
    Substrate,
    /// The bootstrap cluster carries the providers.
    Bootstrapped,
    /// The runner holds the management kubeconfig.
    Exported,
    /// The management cluster owns the Cluster API objects.
    Pivoted,
    /// The bootstrap instance is gone.
    Cleaned,
}

/// Why nothing is done on a cluster while Cluster API's objects are on their way to another one.
#[derive(Debug, thiserror::Error)]
#[error("Cluster API's objects are being moved to another cluster; {refused} until that is verified")]
pub struct PivotOpen {
    /// What is refused, as the middle of a sentence.
    pub refused: &'static str,
}

impl Explain for PivotOpen {
    fn explain(&self) -> Explanation {
        Explanation::new("PIVOT_OPEN").hint("run the role pivot_clusterctl_move again; it goes on where it stopped")
    }
}

impl Phase {
    /// All phases, in order.
    pub const ALL: [Self; 6] = [Self::Absent, Self::Substrate, Self::Bootstrapped, Self::Exported, Self::Pivoted, Self::Cleaned];

    /// The phase that a record names; none if this version does not know it.
    #[must_use]
    pub fn recorded(record: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.to_string() == record)
    }

    /// The management cluster has taken over: what would be bootstrapped now would be a second lab.
    #[must_use]
    pub fn is_over(self) -> bool {
        self >= Self::Pivoted
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "absent",
            Self::Substrate => "substrate",
            Self::Bootstrapped => "bootstrapped",
            Self::Exported => "exported",
            Self::Pivoted => "pivoted",
            Self::Cleaned => "cleaned",
        })
    }
}

/// What was seen of a lab, as far as its phase depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
// Each is a part of its own, and none implies another.
#[allow(clippy::struct_excessive_bools)]
pub struct Evidence {
    /// LXD answers.
    pub server: bool,
    /// The project is there.
    pub project: bool,
    /// The storage pool is there.
    pub pool: bool,
    /// The internal network is there, and LXD manages it.
    pub network: bool,
    /// The project's profiles.
    pub profiles: Vec<String>,
    /// The bootstrap instance's status, as LXD says it; none if it is not there.
    pub bootstrap_instance: Option<String>,
    /// The cluster in the bootstrap instance; none if it was not looked at.
    pub bootstrap: Option<Carrier>,
    /// The management cluster; none if there is no kubeconfig of it on the host.
    pub management: Option<Carrier>,
    /// The phase that was last proved.
    pub recorded: Option<Phase>,
}

/// A cluster, as far as it can carry Cluster API's objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carrier {
    /// What keeps it from carrying the providers.
    pub unmet: Vec<String>,
    /// The management cluster's own Cluster object lives in it; not known where it does not answer.
    pub owns: Option<bool>,
}

/// Whose API has the management cluster's own Cluster object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// The bootstrap cluster's: it has not moved yet.
    Bootstrap,
    /// Its own.
    Management,
}

impl Evidence {
    /// Where the management cluster's own Cluster object lives; none if nowhere, or in both while a move is under way.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        let owns = |carrier: &Option<Carrier>| carrier.as_ref().is_some_and(|carrier| carrier.owns == Some(true));
        match (owns(&self.bootstrap), owns(&self.management)) {
            (true, false) => Some(Owner::Bootstrap),
            (false, true) => Some(Owner::Management),
            _ => None,
        }
    }

    /// The phase, and what the next one lacks.
    #[must_use]
    pub fn judge(&self) -> (Phase, Vec<String>) {
        let substrate = self.missing_of_substrate();
        if self.owner() == Some(Owner::Management) && substrate.is_empty() {
            let missing = self.management.iter().flat_map(|cluster| cluster.unmet.clone()).collect();
            return (if self.bootstrap_instance.is_none() { Phase::Cleaned } else { Phase::Pivoted }, missing);
        }
        // A management cluster that has taken over and does not answer has not given the lab back.
        if let Some(silent) = self.management.as_ref().filter(|cluster| cluster.owns.is_none())
            && let Some(recorded) = self.recorded.filter(|recorded| recorded.is_over())
            && self.owner().is_none()
            && substrate.is_empty()
        {
            return (recorded, silent.unmet.clone());
        }
        let running = (!self.bootstrap_runs()).then(|| "running bootstrap instance".to_owned());
        if !substrate.is_empty() {
            return (Phase::Absent, substrate.into_iter().chain(running).collect());
        }
        match &self.bootstrap {
            _ if running.is_some() => (Phase::Substrate, running.into_iter().collect()),
            Some(cluster) if cluster.unmet.is_empty() => (Phase::Bootstrapped, Vec::new()),
            cluster => (Phase::Substrate, cluster.iter().flat_map(|cluster| cluster.unmet.clone()).collect()),
        }
    }

    /// The bootstrap instance is there and runs.
    #[must_use]
    pub fn bootstrap_runs(&self) -> bool {
        self.bootstrap_instance.as_deref() == Some("Running")
    }

    fn missing_of_substrate(&self) -> Vec<String> {
        let parts =
            [(self.server, "LXD"), (self.project, "project"), (self.pool, "storage pool"), (self.network, "internal network")];
        let parts = parts.into_iter().filter(|(there, _)| !there).map(|(_, part)| part.to_owned());
        let profiles = [BASE, BOOTSTRAP, CONTROL_PLANE, WORKER].into_iter();
        let profiles = profiles.filter(|profile| !self.profiles.iter().any(|found| found == profile));
        parts.chain(profiles.map(|profile| format!("profile {profile}"))).collect()
    }
}

/// Whether a lab may be bootstrapped, by what its project has recorded. The recorded phase that forbids it is the error.
pub fn may_bootstrap(recorded: Option<&str>, allow_rebootstrap: bool) -> Result<(), Phase> {
    match recorded.and_then(Phase::recorded) {
        Some(phase) if phase.is_over() && !allow_rebootstrap => Err(phase),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> Evidence {
        Evidence {
            server: true,
            project: true,
            pool: true,
            network: true,
            profiles: [BASE, BOOTSTRAP, CONTROL_PLANE, WORKER].map(str::to_owned).into(),
            bootstrap_instance: Some("Running".into()),
            bootstrap: Some(Carrier { unmet: Vec::new(), owns: Some(false) }),
            management: None,
            recorded: None,
        }
    }

    #[test]
    fn the_live_state_decides_the_phase() {
        let bent = |bend: fn(&mut Evidence)| {
            let mut evidence = complete();
            bend(&mut evidence);
            evidence
        };
        let owner = |owns| Some(Carrier { unmet: Vec::new(), owns });
        for (case, evidence, phase, missing) in [
            ("everything", complete(), Phase::Bootstrapped, ""),
            (
                "a Deployment not available",
                bent(|seen| seen.bootstrap = Some(Carrier { unmet: vec!["Deployment x: not there".into()], owns: None })),
                Phase::Substrate,
                "Deployment x: not there",
            ),
            ("a profile gone", bent(|seen| drop(seen.profiles.pop())), Phase::Absent, "profile capi-worker"),
            (
                "the instance stopped",
                bent(|seen| seen.bootstrap_instance = Some("Stopped".into())),
                Phase::Substrate,
                "running bootstrap instance",
            ),
            ("no pool", bent(|seen| seen.pool = false), Phase::Absent, "storage pool"),
            (
                "a management cluster that owns nothing yet",
                Evidence { management: owner(Some(false)), ..complete() },
                Phase::Bootstrapped,
                "",
            ),
            ("one that owns itself", Evidence { management: owner(Some(true)), ..complete() }, Phase::Pivoted, ""),
            (
                "one that owns itself alone",
                Evidence { management: owner(Some(true)), bootstrap_instance: None, bootstrap: None, ..complete() },
                Phase::Cleaned,
                "",
            ),
            (
                "no bootstrap instance, and all else",
                Evidence { bootstrap_instance: None, bootstrap: None, ..complete() },
                Phase::Substrate,
                "running bootstrap instance",
            ),
            (
                "one that does not answer, without a bootstrap instance",
                Evidence { management: owner(None), bootstrap_instance: None, bootstrap: None, ..complete() },
                Phase::Substrate,
                "running bootstrap instance",
            ),
            (
                "one that does not answer, once the bootstrap instance has gone by intent",
                Evidence {
                    management: Some(Carrier { unmet: vec!["no answer".into()], owns: None }),
                    bootstrap_instance: None,
                    bootstrap: None,
                    recorded: Some(Phase::Cleaned),
                    ..complete()
                },
                Phase::Cleaned,
                "no answer",
            ),
            (
                "one that has taken over and does not answer, beside what is left of the other",
                Evidence { management: owner(None), recorded: Some(Phase::Pivoted), ..complete() },
                Phase::Pivoted,
                "",
            ),
            (
                "one that answers and owns nothing, whatever was recorded",
                Evidence { management: owner(Some(false)), recorded: Some(Phase::Pivoted), ..complete() },
                Phase::Bootstrapped,
                "",
            ),
            (
                "a move under way",
                Evidence { bootstrap: owner(Some(true)), management: owner(Some(true)), ..complete() },
                Phase::Bootstrapped,
                "",
            ),
            (
                "nothing",
                Evidence::default(),
                Phase::Absent,
                "LXD, project, storage pool, internal network, profile capi-base, profile capi-bootstrap, \
                 profile capi-controlplane, profile capi-worker, running bootstrap instance",
            ),
        ] {
            let (judged, lacks) = evidence.judge();
            assert_eq!((judged, lacks.join(", ").as_str()), (phase, missing), "{case}");
        }
    }

    #[test]
    fn a_lab_that_stands_on_its_own_is_not_bootstrapped_again() {
        for (recorded, over) in [
            (None, None),
            (Some("of a later version"), None),
            (Some("substrate"), None),
            (Some("exported"), None),
            (Some("pivoted"), Some(Phase::Pivoted)),
            (Some("cleaned"), Some(Phase::Cleaned)),
        ] {
            assert_eq!(may_bootstrap(recorded, false).err(), over, "{recorded:?}");
            assert_eq!(may_bootstrap(recorded, true), Ok(()), "{recorded:?}");
        }
    }
}
