//! LXD over HTTPS. The server is known by its own certificate, not by an authority.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, SignatureScheme,
    client::{
        WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use crate::{Client, Error, error::OTHER_CERTIFICATE, exchange::Limits};

/// How long a server may take to accept a connection.
const CONNECTING: Duration = Duration::from_secs(10);

/// Who a client is, and which server it speaks to: LXD's certificates are their own authorities, so the server's is pinned.
pub struct Identity<'a> {
    /// The client's certificate as PEM.
    pub certificate: &'a str,
    /// The client's key as PEM.
    pub key: &'a str,
    /// The server's certificate as PEM.
    pub server_certificate: &'a str,
}

impl Client {
    /// Connects to the HTTPS listener at `https://<host>:<port>`.
    pub async fn https(address: &str, identity: &Identity<'_>) -> Result<Self, Error> {
        let setup = |reason: String| Error::Setup { address: address.to_owned(), reason };
        let tls = pinned(identity.server_certificate).and_then(|tls| authenticated(tls, identity)).map_err(setup)?;
        Self::connect(http(tls), address, address.to_owned(), Limits::REMOTE).await
    }
}

/// Fails unless a server that shows this certificate listens at `https://<host>:<port>`. Whoever asks need not be known to it.
pub async fn listens(address: &str, server_certificate: &str) -> Result<(), Error> {
    let setup = |reason: String| Error::Setup { address: address.to_owned(), reason };
    let tls = pinned(server_certificate).map_err(setup)?.with_no_client_auth();
    Client::reach(http(tls), address, address.to_owned(), Limits::REMOTE).await.map(drop)
}

fn http(tls: ClientConfig) -> reqwest::ClientBuilder {
    transport::client().tls_backend_preconfigured(tls).connect_timeout(CONNECTING)
}

/// Trusts a server that shows this certificate, and no other.
fn pinned(server_certificate: &str) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
    let provider = Arc::new(ring::default_provider());
    let pinned = Pinned { certificate: certificate("the server's certificate", server_certificate)?, provider: provider.clone() };
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(pinned)))
}

fn authenticated(tls: ConfigBuilder<ClientConfig, WantsClientCert>, identity: &Identity<'_>) -> Result<ClientConfig, String> {
    let client = certificate("the client's certificate", identity.certificate)?;
    // The error of a key that cannot be read is told without the key.
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(|_| "the client's key is not PEM".to_owned())?;
    tls.with_client_auth_cert(vec![client], key).map_err(|error| error.to_string())
}

fn certificate(what: &str, pem: &str) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| format!("{what}: {error}"))
}

/// Accepts exactly one certificate, whatever name it carries and whoever signed it.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if end_entity == &self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General(OTHER_CERTIFICATE.into()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
