//! Why LXD or the bridge cannot be set up.

use converge::{Explain, Explanation, WaitError};

/// Why the bridge cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no network link {uplink}")]
    UplinkAbsent { uplink: String },
    #[error("{uplink} is {what}, which cannot be a bridge's uplink")]
    UplinkUnfit { uplink: String, what: &'static str },
    #[error("{uplink} carries the default route of this host, which would lose its connection")]
    UplinkInUse { uplink: String },
    #[error("{uplink} belongs to {master} already")]
    UplinkTaken { uplink: String, master: String },
    #[error("{name} exists, but is no bridge")]
    NotBridge { name: String },
    #[error("systemd-networkd does not run this host's network")]
    NetworkdAbsent,
    #[error(transparent)]
    NotFormed(#[from] WaitError),
    #[error(transparent)]
    Host(#[from] host::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::UplinkAbsent { .. } => Explanation::new("UPLINK_ABSENT").hint("`ip link` lists the links"),
            Self::UplinkUnfit { .. } => {
                Explanation::new("UPLINK_UNFIT").hint("give a network card, a VLAN or a virtual cable as ext_bridge_uplink")
            }
            Self::UplinkInUse { .. } => Explanation::new("UPLINK_DEFAULT_ROUTE")
                .hint("give another link as ext_bridge_uplink; ext_bridge_allow_default_route: true takes this one all the same"),
            Self::UplinkTaken { .. } => Explanation::new("UPLINK_TAKEN")
                .hint("take it out first: `ip link set dev LINK nomaster`, and the configuration that put it there"),
            Self::NotBridge { .. } => Explanation::new("BRIDGE_NAME_TAKEN").hint("choose another ext_bridge_name"),
            Self::NetworkdAbsent => {
                Explanation::new("NETWORKD_ABSENT").hint("ext_bridge_backend: iproute2 needs no systemd-networkd")
            }
            Self::NotFormed(error) => error
                .explain()
                .with_code("BRIDGE_NOT_FORMED")
                .with_hint("`networkctl status` and the journal of systemd-networkd say why"),
            Self::Host(error) => error.explain(),
        }
    }
}
