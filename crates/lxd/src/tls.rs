use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use crate::{Client, Error};

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
        let tls = configuration(identity).map_err(setup)?;
        let http = transport::client().tls_backend_preconfigured(tls);
        Self::connect(http, address, address.to_owned()).await
    }
}

fn configuration(identity: &Identity<'_>) -> Result<ClientConfig, String> {
    let certificate =
        |what: &str, pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| format!("{what}: {error}"));
    let provider = Arc::new(ring::default_provider());
    let pinned =
        Pinned { certificate: certificate("the server's certificate", identity.server_certificate)?, provider: provider.clone() };
    let client = certificate("the client's certificate", identity.certificate)?;
    // The error of a key that cannot be read is told without the key.
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(|_| "the client's key is not PEM".to_owned())?;
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_client_auth_cert(vec![client], key)
        .map_err(|error| error.to_string())
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
        Err(rustls::Error::General("the server shows another certificate than the pinned one".into()))
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
