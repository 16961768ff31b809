//! When the LXD snap may be updated.

use std::{collections::BTreeMap, fmt, time::Duration};

use converge::{Change, Failure, Section};
use serde_json::{Value, json};

use crate::{LxdHost, RefreshMode, snap, snapd::same_hold};

const HOLD: &str = "refresh.hold";
const TIMER: &str = "refresh.timer";
/// How long snapd may take for a setting of its own.
const DEADLINE: Duration = Duration::from_secs(60);

/// What keeps snapd from refreshing LXD under the lab.
pub(crate) struct Refresh<'a>(pub &'a LxdHost);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    hold: Option<String>,
    timer: Option<String>,
}

pub(crate) struct PolicyChange {
    before: Policy,
    after: Policy,
}

impl Refresh<'_> {
    fn wanted(&self) -> Policy {
        let step = self.0;
        match step.snap_refresh_mode {
            RefreshMode::Hold => Policy { hold: Some(step.snap_refresh_hold_value.clone()), timer: None },
            RefreshMode::Timer => Policy { hold: None, timer: Some(step.snap_refresh_timer_value.clone()) },
        }
    }
}

impl Section for Refresh<'_> {
    const NAME: &'static str = "refresh";
    type Live = Policy;
    type Change = PolicyChange;

    async fn observe(&self) -> Result<Policy, Failure> {
        let snapd = snap::connect(self.0)?;
        let text = |value: Option<Value>| value.and_then(|value| Some(value.as_str()?.to_owned())).filter(|text| !text.is_empty());
        Ok(Policy { hold: text(snapd.system_option(HOLD).await?), timer: text(snapd.system_option(TIMER).await?) })
    }

    fn plan(&self, live: &Policy) -> Result<Vec<PolicyChange>, Failure> {
        let wanted = self.wanted();
        let held = match (&live.hold, &wanted.hold) {
            (Some(one), Some(other)) => same_hold(one, other),
            (one, other) => one == other,
        };
        let as_wanted = held && live.timer == wanted.timer;
        Ok(if as_wanted { Vec::new() } else { vec![PolicyChange { before: live.clone(), after: wanted }] })
    }

    async fn apply(&self, change: &PolicyChange) -> Result<(), Failure> {
        let options = BTreeMap::from([(HOLD, change.after.hold.as_deref()), (TIMER, change.after.timer.as_deref())]);
        Ok(snap::connect(self.0)?.set_system_options(&options, DEADLINE).await?)
    }
}

impl fmt::Display for PolicyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.after.hold, &self.after.timer) {
            (Some(hold), _) => write!(f, "hold snap refreshes: {hold}"),
            (None, timer) => write!(f, "refresh snaps at: {}", timer.as_deref().unwrap_or("any time")),
        }
    }
}

impl Change for PolicyChange {
    fn object(&self) -> String {
        "snapd's refreshes".into()
    }

    fn before(&self) -> Value {
        shown(&self.before)
    }

    fn after(&self) -> Value {
        shown(&self.after)
    }
}

fn shown(policy: &Policy) -> Value {
    json!({HOLD: policy.hold, TIMER: policy.timer})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans() {
        let policy = |hold: &str, timer: &str| {
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Policy { hold: text(hold), timer: text(timer) }
        };
        for (mode, live, expected) in [
            (RefreshMode::Hold, policy("", ""), "hold snap refreshes: forever"),
            (RefreshMode::Hold, policy("forever", ""), ""),
            (RefreshMode::Hold, policy("2318-01-01T00:00:00Z", ""), ""),
            (RefreshMode::Hold, policy("2027-01-01T00:00:00Z", ""), "hold snap refreshes: forever"),
            (RefreshMode::Hold, policy("forever", "fri"), "hold snap refreshes: forever"),
            (RefreshMode::Timer, policy("", "fri,03:00-04:00"), ""),
            (RefreshMode::Timer, policy("forever", "fri,03:00-04:00"), "refresh snaps at: fri,03:00-04:00"),
        ] {
            let step = LxdHost { snap_refresh_mode: mode, ..LxdHost::default() };
            let plan = Refresh(&step).plan(&live).unwrap();
            assert_eq!(plan.iter().map(ToString::to_string).collect::<String>(), expected, "{mode:?} {live:?}");
        }
    }
}
