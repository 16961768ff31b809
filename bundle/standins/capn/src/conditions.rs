//! What is said of an object: conditions with a reason for programs and a message for people.

use converge::Explain;
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

/// The object is as it should be.
pub const READY: &str = "Ready";
/// Nobody works on the object.
pub const PAUSED: &str = "Paused";
/// The control plane can be reached.
pub const LOAD_BALANCER: &str = "LoadBalancerAvailable";
/// The machine's instance is there.
pub const INSTANCE: &str = "InstanceProvisioned";

/// Whether something holds, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// It holds.
    pub holds: bool,
    /// The reason, as programs know it.
    pub reason: String,
    /// What a person can make of it.
    pub message: String,
}

impl Verdict {
    /// It holds.
    pub fn yes(reason: &str) -> Self {
        Self { holds: true, reason: reason.to_owned(), message: String::new() }
    }

    /// It does not hold.
    pub fn no(reason: &str, message: impl Into<String>) -> Self {
        Self { holds: false, reason: reason.to_owned(), message: message.into() }
    }

    /// It does not hold because of an error that tells what to do about it.
    pub fn of(error: &impl Explain) -> Self {
        let mut message = error.to_string();
        for hint in error.hints() {
            message = format!("{message}; {hint}");
        }
        Self { holds: false, reason: reason_of(error.code(), &message), message }
    }
}

/// `LXD_RESTRICTION_NIC` as a condition's reason: `LxdRestrictionNic`. A quota has no code, only LXD's words.
fn reason_of(code: &str, message: &str) -> String {
    if message.contains("Reached maximum")
        || message.contains("exceeding project limit")
        || message.contains("limit has been reached")
    {
        return "QuotaReached".to_owned();
    }
    let word =
        |word: &str| word.chars().take(1).chain(word.chars().skip(1).map(|letter| letter.to_ascii_lowercase())).collect::<String>();
    code.split('_').map(word).collect()
}

/// Sets a condition; the time of its last transition changes only with its status.
pub fn set(conditions: &mut Vec<Condition>, kind: &str, verdict: &Verdict, generation: Option<i64>, now: Timestamp) {
    let status = if verdict.holds { "True" } else { "False" };
    let known = conditions.iter_mut().find(|condition| condition.type_ == kind);
    let since = known.as_ref().filter(|known| known.status == status).map_or(Time(now), |known| known.last_transition_time.clone());
    let condition = Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.clone(),
        message: verdict.message.clone(),
        observed_generation: generation,
        last_transition_time: since,
    };
    match known {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}

/// Says whether somebody works on the object.
fn set_paused(conditions: &mut Vec<Condition>, paused: bool, generation: Option<i64>, now: Timestamp) {
    let verdict = if paused { Verdict::yes("Paused") } else { Verdict::no("NotPaused", "") };
    set(conditions, PAUSED, &verdict, generation, now);
}

/// Says whether somebody works on the object, and how it is: by the condition that its kind has, and by Ready.
pub fn tell(
    conditions: &mut Vec<Condition>,
    kind: &str,
    paused: bool,
    verdict: Option<&Verdict>,
    generation: Option<i64>,
    now: Timestamp,
) {
    set_paused(conditions, paused, generation, now);
    if let Some(verdict) = verdict {
        for kind in [kind, READY] {
            set(conditions, kind, verdict, generation, now);
        }
    }
}

/// Whether a condition holds.
pub fn holds(conditions: &[Condition], kind: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_is_a_change_of_status() {
        let (start, later) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        for (case, next, since) in
            [("another reason", Verdict::no("Starting", ""), start), ("another status", Verdict::yes("Provisioned"), later)]
        {
            let mut conditions = Vec::new();
            set(&mut conditions, READY, &Verdict::no("Creating", ""), Some(1), start);
            set(&mut conditions, READY, &next, Some(2), later);
            assert_eq!(conditions.len(), 1, "{case}");
            assert_eq!((conditions[0].last_transition_time.0, &conditions[0].reason), (since, &next.reason), "{case}");
            assert_eq!(conditions[0].observed_generation, Some(2), "{case}");
        }
    }

    #[test]
    fn lxds_errors_have_reasons() {
        for (status, message, reason) in [
            (403, "not authorized", "LxdForbidden"),
            (400, "Use of low-level config \"raw.lxc\" is forbidden", "LxdRestrictionLowlevel"),
            (400, "Reached maximum number of instances in project \"lab\"", "QuotaReached"),
            (404, "Profile not found", "LxdNotFound"),
        ] {
            let error = lxd::Error::Refused { request: "POST /1.0/instances".into(), status, message: message.into() };
            let verdict = Verdict::of(&error);
            assert_eq!(verdict.reason, reason);
            assert!(verdict.message.contains(message) && verdict.message.contains("; "), "{}", verdict.message);
        }
    }
}
