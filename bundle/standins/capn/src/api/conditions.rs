//! What is said of an object: how far it is, and why, in the form that the contract of Cluster API asks for.
//!
//! The older contract, v1beta1, is the one that the real provider keeps. It has `ready`, and conditions that give a reason only where
//! they do not hold. The newer one, v1beta2, has `initialization.provisioned`, and conditions as Kubernetes has them. Reasons are those
//! of the real provider: it tells a missing image, profile or quota by a message alone, so nobody can rely on more here.

use converge::Explain;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The object is as it should be.
pub const READY: &str = "Ready";
/// Nobody works on the object.
pub const PAUSED: &str = "Paused";
/// The control plane can be reached.
pub const LOAD_BALANCER: ConditionType = ConditionType {
    name: "LoadBalancerAvailable",
    provisioned: "LoadBalancerProvisioned",
    failed: "LoadBalancerProvisioningFailed",
    aborted: "LoadBalancerProvisioningAbortedReason",
};
/// The machine's instance is there.
pub const INSTANCE: ConditionType = ConditionType {
    name: "InstanceProvisioned",
    provisioned: "InstanceProvisioned",
    failed: "InstanceProvisioningFailed",
    aborted: "InstanceProvisioningAborted",
};

/// A condition of one kind of objects, with its reasons.
pub struct ConditionType {
    name: &'static str,
    provisioned: &'static str,
    failed: &'static str,
    aborted: &'static str,
}

/// A contract of Cluster API with its infrastructure providers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Contract {
    /// The real provider's.
    #[default]
    V1beta1,
    /// Cluster API's present one.
    V1beta2,
}

impl Contract {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1beta1 => "v1beta1",
            Self::V1beta2 => "v1beta2",
        }
    }
}

/// How far an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is as it should be.
    Provisioned,
    /// Something else has to happen first, or LXD is at work. It has a reason of its own.
    Waiting(&'static str),
    /// An attempt failed, and is made again.
    Failed,
    /// No attempt can succeed before the object is another one.
    Aborted,
    /// What was there is no more. It has a reason of its own.
    Lost(&'static str),
}

/// How far an object is, and what a person can make of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionState {
    /// How far it is.
    pub cause: Cause,
    /// What a person can make of it.
    pub message: String,
}

impl ConditionState {
    /// It is as it should be.
    pub fn provisioned() -> Self {
        Self { cause: Cause::Provisioned, message: String::new() }
    }

    /// It is not, and why.
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into() }
    }

    /// An attempt failed with an error that tells what to do about it.
    pub fn of(error: &impl Explain) -> Self {
        let mut message = error.to_string();
        for hint in error.hints() {
            message = format!("{message}; {hint}");
        }
        Self::new(Cause::Failed, message)
    }

    fn holds(&self) -> bool {
        self.cause == Cause::Provisioned
    }

    fn reason(&self, condition: &ConditionType) -> &'static str {
        match self.cause {
            Cause::Provisioned => condition.provisioned,
            Cause::Failed => condition.failed,
            Cause::Aborted => condition.aborted,
            Cause::Waiting(reason) | Cause::Lost(reason) => reason,
        }
    }

    fn severity(&self) -> Option<&'static str> {
        match self.cause {
            Cause::Provisioned => None,
            Cause::Waiting(_) => Some("Info"),
            Cause::Failed => Some("Warning"),
            Cause::Aborted | Cause::Lost(_) => Some("Error"),
        }
    }
}

/// The part of a status that Cluster API reads.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ContractStatus {
    /// The infrastructure is there; of contract v1beta1.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ready: bool,
    /// How far the infrastructure has come; of contract v1beta2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initialization: Option<Initialization>,
    /// The conditions of the contract.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What contract v1beta1 has of v1beta2 already.
    #[serde(rename = "v1beta2", skip_serializing_if = "Option::is_none")]
    pub newer: Option<NewerStatus>,
}

/// How far an object's infrastructure has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Initialization {
    /// It is there.
    #[serde(default)]
    pub provisioned: bool,
}

/// Conditions of contract v1beta2 in a status of v1beta1.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct NewerStatus {
    /// The conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A condition in either form.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True` or `False`.
    pub status: String,
    /// When its status changed last.
    pub last_transition_time: Time,
    /// The reason, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The message, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How bad it is; of contract v1beta1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// The generation of the object that it is about; of contract v1beta2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// What there is to say of an object of any kind.
pub struct Observation<'a> {
    /// Nobody works on it.
    pub paused: bool,
    /// Its infrastructure is there.
    pub provisioned: bool,
    /// How it is, if somebody looked.
    pub state: Option<&'a ConditionState>,
    /// Its generation.
    pub generation: Option<i64>,
}

impl ContractStatus {
    /// The infrastructure was there once. That does not go back.
    pub fn is_provisioned(&self) -> bool {
        self.ready || self.initialization.as_ref().is_some_and(|now| now.provisioned)
    }

    /// Whether a condition holds.
    pub fn holds(&self, kind: &str) -> bool {
        self.conditions.iter().any(|condition| condition.kind == kind && condition.status == "True")
    }

    /// Says what was observed: by the condition of the object's kind, and by Ready.
    pub fn tell(&mut self, contract: Contract, condition: &ConditionType, seen: &Observation<'_>, now: Timestamp) {
        if seen.provisioned {
            match contract {
                Contract::V1beta1 => self.ready = true,
                Contract::V1beta2 => self.initialization = Some(Initialization { provisioned: true }),
            }
        }
        let paused = Condition {
            kind: PAUSED.to_owned(),
            status: status(seen.paused),
            last_transition_time: Time(now),
            reason: Some(if seen.paused { "Paused" } else { "NotPaused" }.to_owned()),
            message: Some(String::new()),
            severity: None,
            observed_generation: seen.generation,
        };
        match contract {
            Contract::V1beta1 => set(&mut self.newer.get_or_insert_default().conditions, paused),
            Contract::V1beta2 => set(&mut self.conditions, paused),
        }
        let Some(state) = seen.state else { return };
        for kind in [condition.name, READY] {
            let filled = |text: &str| Some(text.to_owned()).filter(|text| contract == Contract::V1beta2 || !text.is_empty());
            let older = contract == Contract::V1beta1;
            let condition = Condition {
                kind: kind.to_owned(),
                status: status(state.holds()),
                last_transition_time: Time(now),
                reason: Some(state.reason(condition).to_owned()).filter(|_| !(older && state.holds())),
                message: filled(&state.message),
                severity: state.severity().filter(|_| older).map(str::to_owned),
                observed_generation: seen.generation.filter(|_| !older),
            };
            set(&mut self.conditions, condition);
        }
    }
}

fn status(holds: bool) -> String {
    if holds { "True" } else { "False" }.to_owned()
}

/// Sets a condition; the time of its last transition changes only with its status.
fn set(conditions: &mut Vec<Condition>, condition: Condition) {
    match conditions.iter_mut().find(|known| known.kind == condition.kind) {
        Some(known) if known.status == condition.status => {
            *known = Condition { last_transition_time: known.last_transition_time.clone(), ..condition };
        }
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
    use serde_json::{Value, json};

    use super::*;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn told(contract: Contract, state: &ConditionState, provisioned: bool) -> Value {
        let mut status = ContractStatus::default();
        let seen = Observation { paused: false, provisioned, state: Some(state), generation: Some(3) };
        status.tell(contract, &INSTANCE, &seen, START);
        json!(status)
    }

    #[test]
    fn the_older_contract_gives_a_reason_only_where_something_is_wrong() {
        let ready = told(Contract::V1beta1, &ConditionState::provisioned(), true);
        let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "1970-01-01T00:00:00Z"});
        assert_eq!(ready["ready"], true);
        assert_eq!(ready["conditions"], json!([condition("InstanceProvisioned"), condition("Ready")]));
        assert_eq!(ready["v1beta2"]["conditions"][0]["reason"], "NotPaused");
        assert_eq!(ready.get("initialization"), None);

        for (cause, reason, severity) in [
            (Cause::Waiting("WaitingForBootstrapData"), "WaitingForBootstrapData", "Info"),
            (Cause::Failed, "InstanceProvisioningFailed", "Warning"),
            (Cause::Aborted, "InstanceProvisioningAborted", "Error"),
            (Cause::Lost("InstanceDeleted"), "InstanceDeleted", "Error"),
        ] {
            let status = told(Contract::V1beta1, &ConditionState::new(cause, "why"), false);
            assert_eq!(status.get("ready"), None, "{reason}");
            for condition in status["conditions"].as_array().unwrap() {
                let seen = [&condition["reason"], &condition["severity"], &condition["message"]];
                assert_eq!(seen, [reason, severity, "why"], "{condition}");
                assert_eq!(condition.get("observedGeneration"), None);
            }
        }
    }

    #[test]
    fn the_newer_contract_has_kubernetes_conditions() {
        let status = told(Contract::V1beta2, &ConditionState::provisioned(), true);
        assert_eq!(status["initialization"]["provisioned"], true);
        assert_eq!((status.get("ready"), status.get("v1beta2")), (None, None));
        let conditions: Vec<meta::Condition> = serde_json::from_value(status["conditions"].clone()).unwrap();
        let seen: Vec<_> = conditions.iter().map(|it| (it.type_.as_str(), it.reason.as_str(), it.observed_generation)).collect();
        let provisioned = |kind| (kind, "InstanceProvisioned", Some(3));
        assert_eq!(seen, [("Paused", "NotPaused", Some(3)), provisioned("InstanceProvisioned"), provisioned("Ready")]);
    }

    #[test]
    fn a_transition_is_a_change_of_status() {
        for contract in [Contract::V1beta1, Contract::V1beta2] {
            for (case, next, since) in [
                ("another reason", ConditionState::new(Cause::Failed, "x"), START),
                ("another status", ConditionState::provisioned(), Timestamp::MAX),
            ] {
                let mut status = ContractStatus::default();
                let first = ConditionState::new(Cause::Waiting("CreatingInstance"), "");
                for (state, now) in [(&first, START), (&next, Timestamp::MAX)] {
                    let seen = Observation { paused: false, provisioned: false, state: Some(state), generation: None };
                    status.tell(contract, &INSTANCE, &seen, now);
                }
                let ready: Vec<_> = status.conditions.iter().filter(|it| it.kind == READY).collect();
                assert_eq!(ready.len(), 1, "{case}");
                assert_eq!(ready[0].last_transition_time.0, since, "{case}");
            }
        }
    }

    #[test]
    fn what_was_provisioned_stays_so() {
        for contract in [Contract::V1beta1, Contract::V1beta2] {
            let mut status = ContractStatus::default();
            for (provisioned, state) in [(true, ConditionState::provisioned()), (false, ConditionState::new(Cause::Failed, "x"))] {
                let seen = Observation { paused: false, provisioned, state: Some(&state), generation: None };
                status.tell(contract, &LOAD_BALANCER, &seen, START);
                assert!(status.is_provisioned(), "{contract:?}");
            }
            assert!(!status.holds(READY));
        }
    }

    #[test]
    fn lxds_errors_tell_what_to_do() {
        for (status, message) in
            [(403, "not authorized"), (400, "Use of low-level config \"raw.lxc\" is forbidden"), (404, "Profile not found")]
        {
            let error = lxd::Error::Refused { request: "POST /1.0/instances".into(), status, message: message.into() };
            let state = ConditionState::of(&error);
            assert_eq!(state.cause, Cause::Failed);
            assert!(state.message.contains(message) && state.message.contains("; "), "{}", state.message);
        }
    }
}
