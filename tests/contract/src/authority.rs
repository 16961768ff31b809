//! Certificates of the tests' own servers and clients, which sign themselves as LXD's do.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};

/// A certificate that signs itself, and its key.
#[derive(Clone, Debug)]
pub struct SelfSigned {
    /// The certificate as PEM.
    pub certificate: String,
    /// Its key as PEM.
    pub key: String,
}

impl SelfSigned {
    /// For a server of this name.
    pub fn of(name: &str) -> Self {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("name a server");
        Self::with(&params)
    }

    /// With these parameters.
    pub fn with(params: &CertificateParams) -> Self {
        let key = KeyPair::generate().expect("make a key");
        let certificate = params.self_signed(&key).expect("make a certificate").pem();
        Self { certificate, key: key.serialize_pem() }
    }

    /// How a server shows it, to clients that may show any certificate or none.
    pub(crate) fn serve(&self) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("read the certificate");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("read the key");
        ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("choose TLS versions")
            .with_client_cert_verifier(Arc::new(Anybody(provider)))
            .with_single_cert(vec![certificate], key)
            .expect("set TLS up")
    }
}

/// Takes any client certificate: who may do what is decided by what it is.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
