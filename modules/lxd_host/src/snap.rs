//! LXD from its snap.

use std::{fmt, time::Duration};

use converge::{Change, Failure, Section};
use host::unit::{self, Unit};
use serde_json::{Value, json};

use crate::{
    LxdHost, SnapFacts,
    snapd::{self, Snapd},
};

/// What starts snapd when it is asked something.
const SOCKET_UNIT: &str = "snapd.socket";
/// How long snapd may take to download and set up a snap.
const DEADLINE: Duration = Duration::from_secs(900);

/// LXD as a snap.
pub(crate) struct Snap<'a>(pub &'a LxdHost);

#[derive(Default)]
pub(crate) struct Live {
    /// snapd is installed, and switched off.
    snapd_off: bool,
    snap: Option<snapd::Snap>,
}

pub(crate) enum SnapChange {
    StartSnapd,
    Install { name: String, channel: String },
    Switch { name: String, before: String, after: String },
}

pub(crate) fn connect(step: &LxdHost) -> Result<Snapd, snapd::Error> {
    Snapd::new(&step.root.at(snapd::SOCKET))
}

pub(crate) async fn facts(step: &LxdHost) -> Result<SnapFacts, Failure> {
    let snap = connect(step)?.snap(&step.snap_name).await?.unwrap_or_default();
    Ok(SnapFacts { name: step.snap_name.clone(), channel: snap.tracking_channel, version: snap.version, revision: snap.revision })
}

impl Section for Snap<'_> {
    const NAME: &'static str = "snap";
    type Live = Live;
    type Change = SnapChange;

    async fn observe(&self) -> Result<Live, Failure> {
        let step = self.0;
        let off = |unit: &Unit| unit.loaded && !(unit.enabled && unit.active);
        if unit::observe(&step.root, SOCKET_UNIT).await?.as_ref().is_some_and(off) {
            return Ok(Live { snapd_off: true, snap: None });
        }
        let snapd = connect(step)?;
        snapd.wait_seeded(Duration::from_secs(step.snap_seed_wait_timeout.into())).await?;
        Ok(Live { snapd_off: false, snap: snapd.snap(&step.snap_name).await? })
    }

    fn plan(&self, live: &Live) -> Result<Vec<SnapChange>, Failure> {
        let (name, channel) = (self.0.snap_name.clone(), self.0.snap_channel.clone());
        let start = live.snapd_off.then_some(SnapChange::StartSnapd);
        let change = match &live.snap {
            None => Some(SnapChange::Install { name, channel }),
            Some(snap) if !same_channel(&snap.tracking_channel, &channel) => {
                Some(SnapChange::Switch { name, before: snap.tracking_channel.clone(), after: channel })
            }
            Some(_) => None,
        };
        Ok(start.into_iter().chain(change).collect())
    }

    async fn apply(&self, change: &SnapChange) -> Result<(), Failure> {
        let step = self.0;
        match change {
            SnapChange::StartSnapd => unit::enable_now(&step.root, SOCKET_UNIT).await?,
            SnapChange::Install { name, channel } => {
                let snapd = connect(step)?;
                snapd.wait_seeded(Duration::from_secs(step.snap_seed_wait_timeout.into())).await?;
                // While snapd was off, nothing could tell whether the snap is there.
                match snapd.snap(name).await? {
                    None => snapd.install(name, channel, step.snap_classic, DEADLINE).await?,
                    Some(snap) if same_channel(&snap.tracking_channel, channel) => {}
                    Some(_) => snapd.switch(name, channel, DEADLINE).await?,
                }
            }
            SnapChange::Switch { name, after, .. } => connect(step)?.switch(name, after, DEADLINE).await?,
        }
        Ok(())
    }
}

/// snapd writes `stable` as `latest/stable`, and `6` as `6/stable`.
fn same_channel(one: &str, other: &str) -> bool {
    const RISKS: [&str; 4] = ["stable", "candidate", "beta", "edge"];
    let full = |channel: &str| {
        let first = channel.split('/').next().unwrap_or_default();
        match (RISKS.contains(&first), channel.contains('/')) {
            (true, _) => format!("latest/{channel}"),
            (false, false) => format!("{channel}/stable"),
            (false, true) => channel.to_owned(),
        }
    };
    full(one) == full(other)
}

impl fmt::Display for SnapChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartSnapd => write!(f, "start {SOCKET_UNIT}"),
            Self::Install { name, channel } => write!(f, "install snap {name} from {channel}"),
            Self::Switch { name, before, after } => write!(f, "snap {name}: {before} -> {after}"),
        }
    }
}

impl Change for SnapChange {
    fn object(&self) -> String {
        match self {
            Self::StartSnapd => SOCKET_UNIT.into(),
            Self::Install { name, .. } | Self::Switch { name, .. } => format!("snap {name}"),
        }
    }

    fn before(&self) -> Value {
        match self {
            Self::StartSnapd => json!({"active": false}),
            Self::Install { .. } => Value::Null,
            Self::Switch { before, .. } => json!({"channel": before}),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::StartSnapd => json!({"active": true}),
            Self::Install { channel, .. } => json!({"channel": channel}),
            Self::Switch { after, .. } => json!({"channel": after}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans() {
        let snap = |channel: &str| Some(snapd::Snap { tracking_channel: channel.into(), ..snapd::Snap::default() });
        for (snapd_off, snap, wanted, expected) in [
            (false, None, "6/stable", "install snap lxd from 6/stable"),
            (true, None, "6/stable", "start snapd.socket; install snap lxd from 6/stable"),
            (false, snap("6/stable"), "6/stable", ""),
            (false, snap("6/stable"), "6", ""),
            (false, snap("latest/stable"), "stable", ""),
            (false, snap("latest/edge"), "stable", "snap lxd: latest/edge -> stable"),
            (false, snap("5.21/stable"), "6/stable", "snap lxd: 5.21/stable -> 6/stable"),
            (false, snap("6/stable"), "6/stable/hotfix", "snap lxd: 6/stable -> 6/stable/hotfix"),
        ] {
            let step = LxdHost { snap_channel: wanted.into(), ..LxdHost::default() };
            let plan = Snap(&step).plan(&Live { snapd_off, snap }).unwrap();
            assert_eq!(plan.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), expected);
        }
    }
}
