//! A client certificate and its key: how they are made, and what is read from them.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use converge::Secret;
use data_encoding::HEXLOWER;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
    PublicKeyData as _,
};
use rsa::{
    RsaPrivateKey, RsaPublicKey,
    pkcs1::DecodeRsaPublicKey as _,
    pkcs8::{EncodePrivateKey as _, LineEnding},
    rand_core::OsRng,
    traits::PublicKeyParts as _,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use x509_cert::{
    Certificate,
    der::{Decode as _, Encode as _, pem},
};

use crate::error::Error;

/// Clocks of other machines may be this much behind.
const BACKDATED: Duration = Duration::from_secs(3600);
const DAY: u64 = 24 * 3600;

/// What a certificate says and what its key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub common_name: String,
    pub organization: String,
    pub country: String,
    pub key: Key,
}

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    EcdsaP256,
    Rsa(usize),
    /// None that this step makes.
    Other,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EcdsaP256 => f.write_str("ECDSA P-256"),
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::Other => f.write_str("of another type"),
        }
    }
}

impl Form {
    /// The subject as certificates are shown.
    pub(crate) fn subject(&self) -> String {
        format!("CN={},O={},C={}", self.common_name, self.organization, self.country)
    }

    /// Makes a key and a certificate that it signs itself. An RSA key takes seconds.
    pub(crate) fn issue(&self, validity_days: u32, now: SystemTime) -> Result<Pair, Error> {
        let failed = |error: &dyn fmt::Display| Error::KeyNotMade(error.to_string());
        let key = match self.key {
            Key::Rsa(bits) => {
                let key = RsaPrivateKey::new(&mut OsRng, bits).map_err(|error| failed(&error))?;
                let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|error| failed(&error))?;
                KeyPair::from_pem(&pem).map_err(|error| failed(&error))?
            }
            Key::EcdsaP256 | Key::Other => KeyPair::generate().map_err(|error| failed(&error))?,
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = self.distinguished_name().map_err(|error| failed(&error))?;
        params.not_before = OffsetDateTime::from(now - BACKDATED);
        params.not_after = OffsetDateTime::from(now + Duration::from_secs(u64::from(validity_days) * DAY));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.self_signed(&key).map_err(|error| failed(&error))?.pem();
        let key = Secret::from(key.serialize_pem());
        Pair::of(certificate, key).map_err(|reason| failed(&reason))
    }

    fn distinguished_name(&self) -> Result<DistinguishedName, rcgen::Error> {
        let mut name = DistinguishedName::new();
        name.push(DnType::CountryName, DnValue::PrintableString(self.country.as_str().try_into()?));
        name.push(DnType::OrganizationName, self.organization.as_str());
        name.push(DnType::CommonName, self.common_name.as_str());
        Ok(name)
    }
}

/// A certificate and the key that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The certificate as PEM.
    pub certificate: String,
    pub key: Secret,
    /// The certificate's SHA-256.
    pub fingerprint: String,
    pub subject: String,
    pub key_type: Key,
    pub not_before: Moment,
    pub not_after: Moment,
}

/// A point in time, and how a person reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Since 1970.
    pub seconds: u64,
    pub text: String,
}

impl Pair {
    /// Fails with the reason why the two are of no use.
    pub(crate) fn of(certificate: String, key: Secret) -> Result<Self, &'static str> {
        let key_pair = KeyPair::from_pem(key.expose()).map_err(|_| "the key cannot be read")?;
        let (_, der) = pem::decode_vec(certificate.as_bytes()).map_err(|_| "the certificate cannot be read")?;
        let parsed = Certificate::from_der(&der).map_err(|_| "the certificate cannot be read")?.tbs_certificate;
        let public_key = parsed.subject_public_key_info.to_der().map_err(|_| "the certificate cannot be read")?;
        if public_key != key_pair.subject_public_key_info() {
            return Err("key and certificate do not belong together");
        }
        Ok(Self {
            fingerprint: fingerprint(&der),
            subject: parsed.subject.to_string(),
            key_type: key_type(&key_pair),
            not_before: Moment::of(parsed.validity.not_before),
            not_after: Moment::of(parsed.validity.not_after),
            certificate,
            key,
        })
    }

    /// What may be shown of it.
    pub(crate) fn shown(&self) -> Value {
        json!({
            "subject": self.subject,
            "key": self.key_type.to_string(),
            "not_after": self.not_after.text,
            "fingerprint": self.fingerprint,
        })
    }

    /// Seconds until it expires; none once it has.
    pub(crate) fn left(&self, now: u64) -> Option<u64> {
        self.not_after.seconds.checked_sub(now)
    }
}

impl Moment {
    fn of(time: x509_cert::time::Time) -> Self {
        Self { seconds: time.to_unix_duration().as_secs(), text: time.to_date_time().to_string() }
    }

    /// This host's clock.
    pub(crate) fn now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

/// The SHA-256 of the certificate in a PEM; none if there is no certificate in it.
pub(crate) fn fingerprint_of(pem: &str) -> Option<String> {
    let (label, der) = pem::decode_vec(pem.as_bytes()).ok()?;
    (label == "CERTIFICATE").then(|| fingerprint(&der))
}

fn fingerprint(der: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(der))
}

fn key_type(key: &KeyPair) -> Key {
    if key.algorithm() == &rcgen::PKCS_ECDSA_P256_SHA256 {
        return Key::EcdsaP256;
    }
    if key.algorithm() == &PKCS_RSA_SHA256
        && let Ok(key) = RsaPublicKey::from_pkcs1_der(key.public_key_raw())
    {
        return Key::Rsa(key.n().bits());
    }
    Key::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(key: Key) -> Form {
        Form { common_name: "k8slab-capn".into(), organization: "k8s-lab".into(), country: "DE".into(), key }
    }

    #[test]
    fn what_is_issued_is_what_was_asked_for() {
        for key in [Key::EcdsaP256, Key::Rsa(2048)] {
            let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
            let pair = form(key).issue(30, now).unwrap();
            assert_eq!((pair.key_type, pair.subject.as_str()), (key, "CN=k8slab-capn,O=k8s-lab,C=DE"));
            assert_eq!(pair.not_before.seconds, 1_800_000_000 - 3600);
            assert_eq!((pair.not_after.seconds, pair.not_after.text.as_str()), (1_802_592_000, "2027-02-14T08:00:00Z"));
            assert_eq!(fingerprint_of(&pair.certificate).as_deref(), Some(pair.fingerprint.as_str()));
            assert_eq!(Pair::of(pair.certificate.clone(), pair.key.clone()), Ok(pair));
        }
    }

    #[test]
    fn halves_of_two_pairs_are_no_pair() {
        let [one, other] = [(), ()].map(|()| form(Key::EcdsaP256).issue(1, SystemTime::now()).unwrap());
        let certificate = one.certificate.clone();
        assert_eq!(Pair::of(one.certificate, other.key), Err("key and certificate do not belong together"));
        assert_eq!(Pair::of(certificate.clone(), String::new().into()), Err("the key cannot be read"));
        assert_eq!(Pair::of(certificate[..80].into(), one.key), Err("the certificate cannot be read"));
    }

    #[test]
    fn nothing_of_the_key_is_shown() {
        let pair = form(Key::EcdsaP256).issue(1, SystemTime::now()).unwrap();
        let shown = format!("{} {pair:?}", pair.shown());
        assert!(!shown.contains(pair.key.expose().lines().nth(1).unwrap()));
    }
}
