use std::net::SocketAddr;

use ansible::Explain;

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
    fn code(&self) -> &'static str {
        match self {
            Self::NoNetworkAddress(_) => "NETWORK_NO_ADDRESS",
            Self::AddressTaken { .. } => "LXD_ADDRESS_TAKEN",
            Self::NotListening { source, .. } => match source.code() {
                "LXD_REFUSED" | "LXD_UNREACHABLE" => "LXD_NOT_LISTENING",
                code => code,
            },
            Self::KeyNotMade(_) => "KEY_NOT_MADE",
            Self::ClockSkew { .. } => "CLOCK_SKEW",
            Self::NoCertificate(_) => "CERTIFICATE_MISSING",
            Self::IssuedMeanwhile => "CERTIFICATE_CHANGED_MEANWHILE",
            Self::EntryOfAnother { .. } => "TRUST_ENTRY_OF_ANOTHER",
            Self::NotLetIn { .. } => "CERTIFICATE_NOT_LET_IN",
            Self::SecretType { .. } => "SECRET_TYPE",
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::NoNetworkAddress(_) => "run the role lxd_network_int_managed first, or set lxd_https_bind_address",
            Self::AddressTaken { .. } => {
                "set lxd_https_bind_address to the address that LXD has, if instances reach it, or force_https_address: true"
            }
            Self::NotListening { source, .. } => return source.hints(),
            Self::KeyNotMade(_) => "look at client_key_type and client_key_size",
            Self::ClockSkew { .. } => "set the host's clock; if it is right, run once with rotate: true",
            Self::NoCertificate(_) => "leave flow_control_client_cert on, or put key and certificate there",
            Self::IssuedMeanwhile => "run again when the other run is done",
            Self::EntryOfAnother { .. } => "let the step make a certificate of its own: move the files away, or set staging_dir",
            Self::NotLetIn { .. } => "look at `lxc config trust list`; the step's section lxd_trust makes the entry",
            Self::SecretType { .. } => "delete it, or set another name",
        };
        vec![hint.into()]
    }

    fn is_prerequisite(&self) -> bool {
        matches!(self, Self::NoNetworkAddress(_))
    }

    fn is_conflict(&self) -> bool {
        matches!(self, Self::IssuedMeanwhile)
    }
}
