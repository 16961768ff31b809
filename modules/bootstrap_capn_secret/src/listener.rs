//! LXD's HTTPS listener.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use converge::{Change as _, Explain as _, Failure, Foreseen, Section, Wait};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{BootstrapCapnSecret, error::Error};

/// Where LXD listens unless its configuration says otherwise.
pub(crate) const PORT: u16 = 8443;
const ADDRESS: &str = "core.https_address";
/// LXD keeps an address before it listens there, and tries for a second to.
const OPENING: Duration = Duration::from_secs(2);

/// The section: LXD answers where the provider looks for it.
pub(crate) struct Listener<'a> {
    pub step: &'a BootstrapCapnSecret,
    address: OnceCell<SocketAddr>,
}

impl<'a> Listener<'a> {
    pub(crate) fn of(step: &'a BootstrapCapnSecret) -> Self {
        Self { step, address: OnceCell::new() }
    }

    /// Where the provider looks for LXD: the address of the option, else the host's own on the internal network.
    pub(crate) async fn address(&self) -> Result<SocketAddr, Failure> {
        self.address.get_or_try_init(async || self.find_address().await).await.copied()
    }

    async fn find_address(&self) -> Result<SocketAddr, Failure> {
        if let Some(given) = self.step.bind_address() {
            return Ok(given);
        }
        let network = &self.step.internal_network_name;
        let none = || Error::NoNetworkAddress(network.clone());
        let interface = lxd::if_there(self.step.lxd.client().await?.network_interface(network).await)?.ok_or_else(none)?;
        let address = interface.global_addresses().find(IpAddr::is_ipv4).ok_or_else(none)?;
        Ok(SocketAddr::new(address, PORT))
    }

    /// Waits until somebody answers at an address.
    async fn answer(&self, address: SocketAddr, deadline: Duration) -> Result<Answer, Failure> {
        let certificate = &self.step.lxd.client().await?.server().environment.certificate;
        let wait = Wait::for_condition(format!("LXD answers on {address}"), deadline);
        let look = async || match lxd::listens(&format!("https://{address}"), certificate).await {
            Ok(()) => Ok(Ok(Answer::Itself)),
            Err(lxd::Error::OtherCertificate { .. }) => Ok(Ok(Answer::AnotherServer)),
            Err(error) => Ok(Err(error)),
        };
        wait.until(look).await
    }
}

#[derive(Default)]
pub(crate) struct Live {
    /// Where it should listen; unknown until there is a network.
    wanted: Option<SocketAddr>,
    configured: String,
    etag: Option<String>,
    /// Who answers at the wanted address, if the configured one covers it.
    answer: Option<Answer>,
}

/// Who answers where LXD should.
pub(crate) enum Answer {
    Itself,
    AnotherServer,
    Nobody,
}

/// LXD is told where to listen.
pub(crate) struct Listen {
    before: String,
    after: String,
    etag: Option<String>,
}

impl Section for Listener<'_> {
    const NAME: &'static str = "lxd_https";
    type Live = Live;
    type Change = Listen;

    async fn observe(&self) -> Result<Live, Failure> {
        let client = self.step.lxd.client().await?;
        let wanted = self.address().await?;
        let server = client.get::<lxd::Server>("").await?;
        let configured = server.object.config.as_ref().and_then(|config| config.get(ADDRESS)).and_then(Value::as_str);
        let configured = configured.unwrap_or_default().to_owned();
        let mut answer = None;
        if covers(&configured, wanted) {
            answer = Some(self.answer(wanted, OPENING).await.unwrap_or(Answer::Nobody));
        }
        Ok(Live { wanted: Some(wanted), configured, etag: server.etag, answer })
    }

    fn plan(&self, live: &Live) -> Result<Vec<Listen>, Failure> {
        let Some(wanted) = live.wanted else { return Ok(Vec::new()) };
        match &live.answer {
            Some(Answer::Itself) => Ok(Vec::new()),
            // It may have been refused the address when it started, and does not try again by itself.
            Some(Answer::Nobody) => Ok(vec![live.listen(live.configured.clone())]),
            Some(Answer::AnotherServer) => Err(Error::another_server(wanted).into()),
            None if live.configured.is_empty() || self.step.force_https_address => Ok(vec![live.listen(wanted.to_string())]),
            None => Err(Error::AddressTaken { live: live.configured.clone(), wanted }.into()),
        }
    }

    fn foresee(&self) -> Vec<Foreseen> {
        let nowhere = Live::default().listen(String::new());
        let line = "let LXD listen on the internal network".into();
        vec![Foreseen { line, object: nowhere.object(), before: nowhere.before(), after: nowhere.after() }]
    }

    async fn apply(&self, change: &Listen) -> Result<(), Failure> {
        let client = self.step.lxd.client().await?;
        let address = self.address().await?;
        let set = async |value: &str, etag: Option<&str>| client.patch("", &json!({"config": {ADDRESS: value}}), etag).await;
        let mut etag = change.etag.as_deref();
        if change.before == change.after {
            // Only a change makes LXD listen anew.
            set("", etag.take()).await?;
        }
        if let Err(source) = set(&change.after, etag).await {
            if source.is_conflict() {
                return Err(source.into());
            }
            // LXD keeps an address that it was refused. With the old one back the next run begins where this one did.
            set(if change.before == change.after { "" } else { &change.before }, None).await?;
            return Err(Error::NotListening { address, source }.into());
        }
        match self.answer(address, Duration::from_secs(self.step.wait_timeout)).await? {
            Answer::AnotherServer => Err(Error::another_server(address).into()),
            Answer::Itself | Answer::Nobody => Ok(()),
        }
    }
}

impl Live {
    fn listen(&self, after: String) -> Listen {
        Listen { before: self.configured.clone(), after, etag: self.etag.clone() }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "let LXD listen on {}", self.after)?;
        match self.before.as_str() {
            "" => Ok(()),
            before if before == self.after => f.write_str(" again"),
            before => write!(f, " instead of {before}"),
        }
    }
}

impl converge::Change for Listen {
    fn object(&self) -> String {
        "LXD".into()
    }

    fn before(&self) -> Value {
        json!({ADDRESS: self.before, "listens": false})
    }

    fn after(&self) -> Value {
        json!({ADDRESS: self.after, "listens": true})
    }
}

/// Whether a configured address is the wanted one, or a wildcard that includes it.
fn covers(configured: &str, wanted: SocketAddr) -> bool {
    let (host, port) = match configured.parse::<IpAddr>() {
        Ok(_) => (configured, PORT),
        Err(_) => match configured.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => match port.parse() {
                Ok(port) => (host, port),
                Err(_) => return false,
            },
            _ => (configured, PORT),
        },
    };
    let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let covered = match host.parse::<IpAddr>() {
        // The IPv6 wildcard takes IPv4 too.
        Ok(host) if host == any[1] => true,
        Ok(host) if host == any[0] => wanted.is_ipv4(),
        Ok(host) => host == wanted.ip(),
        Err(_) => host.is_empty() && !configured.is_empty(),
    };
    covered && port == wanted.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers() {
        for (configured, wanted, expected) in [
            ("10.77.0.1:8443", "10.77.0.1:8443", true),
            ("10.77.0.1", "10.77.0.1:8443", true),
            ("10.77.0.2:8443", "10.77.0.1:8443", false),
            ("10.77.0.1:9443", "10.77.0.1:8443", false),
            (":8443", "10.77.0.1:8443", true),
            (":9443", "10.77.0.1:8443", false),
            ("0.0.0.0:8443", "10.77.0.1:8443", true),
            ("0.0.0.0", "10.77.0.1:8443", true),
            ("0.0.0.0:8443", "[fd42::1]:8443", false),
            ("[::]:8443", "10.77.0.1:8443", true),
            ("[::]", "10.77.0.1:8443", true),
            ("::", "10.77.0.1:8443", true),
            ("[fd42::1]:8443", "[fd42::1]:8443", true),
            ("lxd.example.org:8443", "10.77.0.1:8443", false),
            ("", "10.77.0.1:8443", false),
        ] {
            assert_eq!(covers(configured, wanted.parse().unwrap()), expected, "{configured} {wanted}");
        }
    }

    #[test]
    fn plans() {
        let step = BootstrapCapnSecret::default();
        let taken = "LXD_ADDRESS_TAKEN: LXD listens on 192.0.2.7:8443, which is not 10.77.0.1:8443 and does not cover it";
        let theirs = "LXD_OTHER_CERTIFICATE: LXD does not listen on 10.77.0.1:8443: \
                      10.77.0.1:8443: the server shows another certificate than LXD's own";
        for (case, configured, answer, force, expected) in [
            ("nowhere yet", "", None, false, "let LXD listen on 10.77.0.1:8443"),
            ("as desired", "10.77.0.1:8443", Some(Answer::Itself), false, ""),
            ("a wildcard", ":8443", Some(Answer::Itself), false, ""),
            ("an operator's own", "192.0.2.7:8443", None, false, taken),
            (
                "an operator's own, given up",
                "192.0.2.7:8443",
                None,
                true,
                "let LXD listen on 10.77.0.1:8443 instead of 192.0.2.7:8443",
            ),
            ("refused when LXD started", ":8443", Some(Answer::Nobody), false, "let LXD listen on :8443 again"),
            ("somebody else answers", ":8443", Some(Answer::AnotherServer), false, theirs),
        ] {
            let wanted = Some("10.77.0.1:8443".parse().unwrap());
            let live = Live { wanted, configured: configured.into(), etag: None, answer };
            let step = BootstrapCapnSecret { force_https_address: force, ..step.clone() };
            let planned = match Listener::of(&step).plan(&live) {
                Ok(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                Err(failure) => failure.to_string(),
            };
            assert_eq!(planned, expected, "{case}");
        }
        let foreseen = Listener::of(&step).foresee();
        assert_eq!(foreseen[0].to_string(), "let LXD listen on the internal network", "before there is a network");
    }
}
