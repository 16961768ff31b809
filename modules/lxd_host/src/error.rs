use ansible::{Explain, WaitError};

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
    fn code(&self) -> &'static str {
        match self {
            Self::UplinkAbsent { .. } => "UPLINK_ABSENT",
            Self::UplinkUnfit { .. } => "UPLINK_UNFIT",
            Self::UplinkInUse { .. } => "UPLINK_DEFAULT_ROUTE",
            Self::UplinkTaken { .. } => "UPLINK_TAKEN",
            Self::NotBridge { .. } => "BRIDGE_NAME_TAKEN",
            Self::NetworkdAbsent => "NETWORKD_ABSENT",
            Self::NotFormed(_) => "BRIDGE_NOT_FORMED",
            Self::Host(error) => error.code(),
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::UplinkAbsent { .. } => "`ip link` lists the links",
            Self::UplinkUnfit { .. } => "give a network card, a VLAN or a virtual cable as ext_bridge_uplink",
            Self::UplinkInUse { .. } => {
                "give another link as ext_bridge_uplink; ext_bridge_allow_default_route: true takes this one all the same"
            }
            Self::UplinkTaken { .. } => {
                "take it out first: `ip link set dev LINK nomaster`, and the configuration that put it there"
            }
            Self::NotBridge { .. } => "choose another ext_bridge_name",
            Self::NetworkdAbsent => "ext_bridge_backend: iproute2 needs no systemd-networkd",
            Self::NotFormed(_) => "`networkctl status` and the journal of systemd-networkd say why",
            Self::Host(error) => return error.hints(),
        };
        vec![hint.into()]
    }

    fn detail(&self) -> Option<String> {
        if let Self::Host(error) = self { error.detail() } else { None }
    }
}
