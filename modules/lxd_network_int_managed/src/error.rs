//! Why a network cannot be the internal one.

use converge::{Explain, Explanation};

/// Something else has the network's name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("{network} is an interface of the host that LXD does not manage")]
    Unmanaged { network: String },
    #[error("network {network} is of type {kind}, not bridge")]
    OtherType { network: String, kind: String },
    #[error("network {network} is {status}, not Created")]
    NotCreated { network: String, status: String },
}

impl Explain for Unusable {
    fn explain(&self) -> Explanation {
        const NAME: &str = "choose another name with k8s_lab_internal_network_name";
        match self {
            Self::Unmanaged { .. } => Explanation::new("NETWORK_UNMANAGED_CLASH").hint(NAME),
            Self::OtherType { .. } => Explanation::new("NETWORK_TYPE_MISMATCH").hint(NAME),
            Self::NotCreated { .. } => Explanation::new("NETWORK_STATUS_ERRORED")
                .hint("LXD did not finish making it; delete it with `lxc network delete` and run again"),
        }
    }
}

/// The network lacks what the bootstrap cluster needs.
#[derive(Debug, thiserror::Error)]
#[error("network {network} lacks {missing}")]
pub(crate) struct SingleStack {
    pub network: String,
    pub missing: &'static str,
}

impl Explain for SingleStack {
    fn explain(&self) -> Explanation {
        Explanation::new("NETWORK_SINGLE_STACK")
            .hint("the bootstrap cluster needs IPv4 and IPv6; set both subnets, or allow_single_stack if you do without it")
    }
}
