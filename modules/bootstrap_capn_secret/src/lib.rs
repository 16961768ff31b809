//! Lets the infrastructure provider speak to LXD: a listener, a certificate that reaches the lab's project alone, and a Secret that
//! carries it.

mod client_cert;
mod error;
mod facts;
mod identity;
mod lifecycle;
mod listener;
mod pair;
mod residual;
mod retired;
mod secret;
mod trust;

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf};

use ansible::{OptionError, Run, Step};
use converge::{AbsolutePath, Failure};
use host::file;
use lab::{machine, names};
use lxd::{Connection, TrustEntry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use crate::{
    client_cert::ClientCert,
    error::Error,
    facts::{Facts, SecretFacts, TrustFacts},
    identity::Identity,
    lifecycle::Lifecycle,
    listener::Listener,
    pair::{Form, Key},
    residual::Residual,
    retired::Retired,
    secret::Secrets,
    trust::{OldTrust, Trust},
};

/// Converge the identity by which the infrastructure provider speaks to LXD.
///
/// LXD listens on the internal network, trusts a certificate for the lab's project alone, and a Secret with this certificate is in
/// every namespace that is to hold clusters. A certificate that runs out is replaced with overlap: the new one is trusted, the Secrets
/// are updated, and only then the old one is trusted no more.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct BootstrapCapnSecret {
    /// Folder of the lab's programs and settings.
    #[default(machine::OPT_ROOT.into())]
    #[schemars(extend("global" = "opt_root"))]
    pub opt_root: AbsolutePath,
    /// Project that the certificate reaches.
    #[default(names::PROJECT.into())]
    #[schemars(regex(pattern = names::OBJECT), extend("global" = "project_name"))]
    pub lxd_project: String,
    /// Network on which LXD listens.
    #[default(names::INTERNAL_NETWORK.into())]
    #[schemars(regex(pattern = names::NETWORK), extend("global" = "internal_network_name"))]
    pub internal_network_name: String,
    /// Kubeconfig of the cluster that gets the Secrets. If unset, that of the bootstrap cluster, C(etc/bootstrap_clusterctl) in
    /// O(opt_root).
    #[schemars(extend("tells_apart" = true))]
    pub kubeconfig_path: Option<AbsolutePath>,
    /// Address and port on which LXD listens. If unset, port 8443 of the host's own IPv4 address on the internal network.
    pub lxd_https_bind_address: Option<String>,
    /// Replace the address on which LXD listens, even if somebody else has set it.
    pub force_https_address: bool,
    /// Folder of the certificate and its key. If unset, C(etc/bootstrap_capn_secret) in O(opt_root).
    pub staging_dir: Option<AbsolutePath>,
    /// File of the key. If unset, C(client.key) in O(staging_dir).
    pub client_key_path: Option<AbsolutePath>,
    /// File of the certificate. If unset, C(client.crt) in O(staging_dir).
    pub client_cert_path: Option<AbsolutePath>,
    /// Common name of the certificate.
    #[default("k8slab-capn".into())]
    #[schemars(regex(pattern = NAME))]
    pub client_cert_cn: String,
    /// Country of the certificate.
    #[default("DE".into())]
    #[schemars(regex(pattern = "^[A-Z]{2}$"))]
    pub client_cert_country: String,
    /// Organization of the certificate.
    #[default("k8s-lab".into())]
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$"))]
    pub client_cert_organization: String,
    /// For how many days a certificate is valid.
    #[default(1095)]
    #[schemars(range(min = 1, max = 36500))]
    pub client_cert_validity_days: u32,
    /// Type of the key.
    pub client_key_type: KeyType,
    /// Bits of the key; only used with O(client_key_type=RSA).
    #[default(4096)]
    #[schemars(range(min = 2048, max = 4096))]
    pub client_key_size: u32,
    /// Replace the certificate when it expires in less than this number of days.
    #[default(30)]
    #[schemars(range(min = 0))]
    pub renew_before_days: u32,
    /// Replace the certificate now.
    pub rotate: bool,
    /// Remove other certificates that LXD trusts by the name O(trust_name), for this project or without a restriction.
    pub prune_old_trust: bool,
    /// Mode of O(staging_dir).
    #[default("0750".into())]
    #[schemars(regex(pattern = file::MODE))]
    pub staging_mode_dir: String,
    /// Mode of the key. Only its owner may read it.
    #[default("0600".into())]
    #[schemars(regex(pattern = "^0[46]00$"))]
    pub staging_mode_key: String,
    /// Mode of the certificate.
    #[default("0644".into())]
    #[schemars(regex(pattern = file::MODE))]
    pub staging_mode_cert: String,
    /// Name of the certificate among those that LXD trusts.
    #[default("k8slab-capn".into())]
    #[schemars(regex(pattern = NAME))]
    pub trust_name: String,
    /// Name of the Secrets.
    #[default("incus-identity".into())]
    #[schemars(regex(pattern = "^[a-z]([a-z0-9-]{0,251}[a-z0-9])?$"), extend("global" = "infrastructure_secret_name"))]
    pub name: String,
    /// Namespaces that get a Secret, and are made if they are missing.
    #[default(vec!["capi-clusters".into()])]
    #[schemars(inner(regex(pattern = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")), extend("global" = "capn_identity_namespaces"))]
    pub namespaces: Vec<String>,
    /// Label the Secrets so that C(clusterctl move) takes them along.
    #[default(true)]
    pub pivot_enabled: bool,
    /// How long to wait until LXD listens, in seconds.
    #[default(60)]
    #[schemars(range(min = 1))]
    pub wait_timeout: u64,
    /// Serve the bootstrap cluster even though the management cluster has taken over.
    pub allow_rebootstrap: bool,
    /// Where LXD is administered.
    #[serde(flatten)]
    pub lxd: Connection,
}

/// A name in a certificate and in LXD's trust store.
const NAME: &str = "^[A-Za-z][A-Za-z0-9._-]{0,62}$";

/// Types of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum KeyType {
    /// A key on the elliptic curve P-256.
    #[default]
    Ecdsa,
    /// An RSA key. It takes some seconds to make one.
    Rsa,
}

impl Step for BootstrapCapnSecret {
    const NAME: &'static str = "bootstrap_capn_secret";
    const SECTIONS: &'static [&'static str] = &["lxd_https", "client_cert", "lxd_trust", "residual", "secret", "old_trust"];
    const EXAMPLES: &'static str = "\
- name: Let the infrastructure provider speak to LXD
  k8slab.capi.bootstrap_capn_secret:
  become: true

- name: Replace the certificate, and serve one more namespace of the management cluster
  k8slab.capi.bootstrap_capn_secret:
    kubeconfig_path: /root/mgmt.kubeconfig
    namespaces: [capi-clusters, team-a]
    rotate: true
  become: true
";
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        if let Some(address) = &self.lxd_https_bind_address
            && self.bind_address().is_none_or(|address| address.port() == 0)
        {
            let reason = format!("`{address}` is not an address with a port, such as 10.77.0.1:8443");
            return Err(OptionError::invalid("lxd_https_bind_address", reason).into());
        }
        if self.renew_before_days >= self.client_cert_validity_days {
            let reason = "a certificate would be replaced as soon as it is made; it must be less than client_cert_validity_days";
            return Err(OptionError::invalid("renew_before_days", reason).into());
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.namespaces.iter().find(|namespace| !seen.insert(*namespace)) {
            return Err(OptionError::invalid("namespaces", format!("`{twice}` is in it twice")).into());
        }
        Ok(())
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        run.section(&Lifecycle { step: self, proved: false }).await?;
        let listener = Listener::of(self);
        run.section(&listener).await?;
        let identity = Identity::of(run, &ClientCert::of(self)).await?;
        let trusted = run.section(&Trust { step: self, identity: &identity }).await?.changes;
        // Nobody is handed a certificate that is not let in.
        run.section(&Residual { step: self, listener: &listener, identity: &identity }).await?;
        let secrets = Secrets::of(self, &listener, &identity);
        let delivered = run.section(&secrets).await?.changes;
        let complete = run.is_on("secret") && !self.namespaces.is_empty();
        run.section(&OldTrust::of(self, &identity, &secrets, complete)?).await?;
        run.section(&Lifecycle { step: self, proved: complete }).await?;

        let trust = TrustFacts {
            created: trusted.iter().any(trust::Change::creates),
            repaired: trusted.iter().any(|change| !change.creates()),
        };
        let changed = |namespace: &&String| delivered.iter().any(|change| change.namespace() == Some(namespace));
        let delivered =
            self.namespaces.iter().map(|namespace| SecretFacts { namespace: namespace.clone(), changed: changed(&namespace) });
        let facts = self.facts(&listener, &identity, &secrets, trust, delivered.collect());
        let Some((facts, warnings)) = run.verify(facts).await? else { return Ok(None) };
        for warning in warnings {
            run.warn(warning);
        }
        Ok(Some(facts))
    }
}

impl BootstrapCapnSecret {
    fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig_path.as_deref().map_or_else(|| self.bootstrap_kubeconfig(), Into::into)
    }

    fn bootstrap_kubeconfig(&self) -> PathBuf {
        self.opt_root.join(machine::BOOTSTRAP_KUBECONFIG)
    }

    fn bind_address(&self) -> Option<SocketAddr> {
        self.lxd_https_bind_address.as_ref()?.parse().ok()
    }

    fn staging_dir(&self) -> PathBuf {
        self.staging_dir.as_deref().map_or_else(|| self.opt_root.join(machine::PROVIDER_KEYS), Into::into)
    }

    fn client_key_path(&self) -> PathBuf {
        self.client_key_path.as_deref().map_or_else(|| self.staging_dir().join("client.key"), Into::into)
    }

    fn client_cert_path(&self) -> PathBuf {
        self.client_cert_path.as_deref().map_or_else(|| self.staging_dir().join("client.crt"), Into::into)
    }

    fn retired(&self) -> Retired {
        Retired(self.staging_dir().join("replaced"))
    }

    fn form(&self) -> Form {
        Form {
            common_name: self.client_cert_cn.clone(),
            organization: self.client_cert_organization.clone(),
            country: self.client_cert_country.clone(),
            key: match self.client_key_type {
                KeyType::Ecdsa => Key::EcdsaP256,
                KeyType::Rsa => Key::Rsa(self.client_key_size as usize),
            },
        }
    }

    /// The group of the identities that operate the project, on servers that have such.
    fn group(&self) -> String {
        format!("{}-{}", self.trust_name, self.lxd_project)
    }

    /// Whether an entry in the trust store is one that this step makes, or was made before it restricted any.
    fn owns(&self, entry: &TrustEntry) -> bool {
        let ours = !entry.restricted || entry.reaches_only(&self.lxd_project);
        entry.name == self.trust_name && entry.kind == "client" && ours
    }

    /// The connection that the certificate opens, which shows that LXD lets it into the project.
    async fn enter(&self, listener: &Listener<'_>, identity: &Identity) -> Result<lxd::Client, Failure> {
        let pair = identity.pair.now().ok_or_else(|| self.no_certificate())?;
        let environment = &self.lxd.client().await?.server().environment;
        let address = listener.address().await?;
        let shown =
            lxd::Identity { certificate: &pair.certificate, key: pair.key.expose(), server_certificate: &environment.certificate };
        let enter = async || {
            let provider = lxd::Client::https(&format!("https://{address}"), &shown).await?.in_project(&self.lxd_project);
            provider.get::<Vec<String>>("instances").await?;
            Ok(provider)
        };
        Ok(enter().await.map_err(|source| Error::NotLetIn { address, source })?)
    }

    fn no_certificate(&self) -> Error {
        Error::NoCertificate(self.client_cert_path().display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use converge::{Known, Section};

    use super::*;

    /// A certificate that is in its place.
    pub(crate) fn identity() -> Identity {
        let pair = Known::Now(BootstrapCapnSecret::default().form().issue(365, SystemTime::now()).unwrap());
        Identity { pair, issued: false, replaced: None }
    }

    /// A plan as one line.
    pub(crate) fn planned<S: Section>(section: &S, live: &S::Live) -> String {
        match section.plan(live) {
            Ok(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn options_that_contradict_each_other() {
        let default = BootstrapCapnSecret::default;
        let address = |address: &str| BootstrapCapnSecret { lxd_https_bind_address: Some(address.into()), ..default() };
        for (case, step, code) in [
            ("the defaults", default(), None),
            ("an address", address("10.77.0.1:8443"), None),
            ("an address of IPv6", address("[fd42::1]:8443"), None),
            ("a name", address("lxd.example.org:8443"), Some("OPTION_INVALID")),
            ("no port", address("10.77.0.1"), Some("OPTION_INVALID")),
            ("port 0", address("10.77.0.1:0"), Some("OPTION_INVALID")),
            ("renewed at once", BootstrapCapnSecret { client_cert_validity_days: 30, ..default() }, Some("OPTION_INVALID")),
            (
                "a namespace twice",
                BootstrapCapnSecret { namespaces: vec!["a".into(), "a".into()], ..default() },
                Some("OPTION_INVALID"),
            ),
        ] {
            assert_eq!(step.preflight().err().map(|failure| failure.code), code, "{case}");
        }
    }
}
