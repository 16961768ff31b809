//! Why the infrastructure provider cannot speak to LXD.

use std::net::SocketAddr;

use converge::{Explain, Explanation};

/// Why the infrastructure provider cannot speak to LXD.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("network {0} has no IPv4 address of the host")]
    NoNetworkAddress(String),
    #[error("LXD listens on {live}, which is not {wanted} and does not cover it")]
    AddressTaken { live: String, wanted: SocketAddr },
    #[error("LXD does not listen on {address}")]
    NotListening { address: SocketAddr, source: lxd::Error },
    #[error("the key cannot be made: {0}")]
    KeyNotMade(String),
    #[error("the certificate is valid from {from}, but this host's clock says {now}")]
    ClockSkew { from: String, now: String },
    #[error("there is no certificate at {0}, and none is made")]
    NoCertificate(String),
    #[error("another run has written the certificate meanwhile")]
    IssuedMeanwhile,
    #[error("LXD trusts the certificate under the name {name} already, and not for project {project} alone")]
    EntryOfAnother { name: String, project: String },
    #[error("LXD at {address} does not let the certificate in")]
    NotLetIn { address: SocketAddr, source: lxd::Error },
    #[error("Secret {namespace}/{name} is of type {kind}, which cannot be changed")]
    SecretType { namespace: String, name: String, kind: String },
}

impl Error {
    pub(crate) fn another_server(address: SocketAddr) -> Self {
        Self::NotListening { address, source: lxd::Error::OtherCertificate { address: address.to_string() } }
    }
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoNetworkAddress(_) => Explanation::new("NETWORK_NO_ADDRESS")
                .hint("run the role lxd_network_int_managed first, or set lxd_https_bind_address")
                .prerequisite(),
            Self::AddressTaken { .. } => Explanation::new("LXD_ADDRESS_TAKEN").hint(
                "set lxd_https_bind_address to the address that LXD has, if instances reach it, or force_https_address: true",
            ),
            Self::NotListening { source, .. } => {
                let explanation = source.explain();
                match explanation.code {
                    "LXD_REFUSED" | "LXD_UNREACHABLE" => explanation.with_code("LXD_NOT_LISTENING"),
                    _ => explanation,
                }
            }
            Self::KeyNotMade(_) => Explanation::new("KEY_NOT_MADE").hint("look at client_key_type and client_key_size"),
            Self::ClockSkew { .. } => {
                Explanation::new("CLOCK_SKEW").hint("set the host's clock; if it is right, run once with rotate: true")
            }
            Self::NoCertificate(_) => {
                Explanation::new("CERTIFICATE_MISSING").hint("leave flow_control_client_cert on, or put key and certificate there")
            }
            Self::IssuedMeanwhile => {
                Explanation::new("CERTIFICATE_CHANGED_MEANWHILE").hint("run again when the other run is done").conflict()
            }
            Self::EntryOfAnother { .. } => Explanation::new("TRUST_ENTRY_OF_ANOTHER")
                .hint("let the step make a certificate of its own: move the files away, or set staging_dir"),
            Self::NotLetIn { source, .. } => source
                .explain()
                .with_code("CERTIFICATE_NOT_LET_IN")
                .with_hint("look at `lxc config trust list`; the step's section lxd_trust makes the entry"),
            Self::SecretType { .. } => Explanation::new("SECRET_TYPE").hint("delete it, or set another name"),
        }
    }
}
