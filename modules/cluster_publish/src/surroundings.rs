//! Everything on this host that may hold a port already.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use converge::Failure;
use host::{
    Root,
    listener::{self, Listener},
    redirection::{self, Redirection},
};
use lxd::{Client, Forward};

use crate::{ClusterPublish, error::Error};

/// The daemon's keys that say where it listens, and the port of each where it is left out.
const LISTENERS: [(&str, u16); 4] =
    [("core.https_address", 8443), ("cluster.https_address", 8443), ("core.metrics_address", 8443), ("core.bgp_address", 179)];
/// Kinds of networks that have forwards.
const KINDS: [&str; 2] = ["bridge", "ovn"];

/// What may hold a port.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    /// Forwards of other networks.
    pub(crate) elsewhere: Vec<(String, Forward)>,
    /// Where LXD listens, by key.
    pub(crate) lxd: Vec<(&'static str, SocketAddr)>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) redirections: Vec<Redirection>,
}

/// What holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Another Cluster is to have it.
    Cluster(String),
    /// A forward leads it elsewhere.
    Forward(String),
    /// LXD itself listens there.
    Lxd(&'static str),
    /// A program listens there.
    Listener { address: SocketAddr, program: Option<String> },
    /// A rule of the packet filter leads it elsewhere.
    Redirection(String),
}

impl Surroundings {
    /// Looks at the host and at LXD.
    pub(crate) async fn observe(step: &ClusterPublish, client: &Client) -> Result<Self, Failure> {
        let root = Root::default();
        let mut found = Self {
            lxd: lxds_own(client),
            listeners: listener::all(&root)?,
            redirections: redirection::all(&root).await?,
            ..Self::default()
        };
        if client.has_forwards() {
            let networks: Vec<lxd::Network> = client.list().await?;
            let others = networks.into_iter().filter(|network| network.managed && KINDS.contains(&network.kind.as_str()));
            for network in others.filter(|network| network.name != step.internal_network_name) {
                // One that goes meanwhile holds nothing.
                let forwards = lxd::if_there(client.forwards(&network.name).await)?.unwrap_or_default();
                found.elsewhere.extend(forwards.into_iter().map(|forward| (network.name.clone(), forward)));
            }
        }
        Ok(found)
    }

    /// The same without what the step's own proxy devices listen at: they go before their ports are taken. LXD listens for both
    /// families where it is to listen at all IPv4 addresses.
    pub(crate) fn without(mut self, own: &[SocketAddr]) -> Self {
        let is_own = |found: SocketAddr| {
            let alike = |own: &SocketAddr| own.ip() == found.ip() || own.ip().is_unspecified() && found.ip().is_unspecified();
            own.iter().any(|own| own.port() == found.port() && alike(own))
        };
        self.listeners.retain(|listener| !is_own(listener.address));
        self
    }

    /// What holds a port, but for forwards of the lab's own network.
    pub(crate) fn holder(&self, address: SocketAddr) -> Option<Holder> {
        let elsewhere = || {
            let taken = |(network, forward): &(String, Forward)| {
                let taker = forward.taker(address.port()).filter(|_| concerns(forward.listen_address, address.ip()))?;
                Some(Holder::Forward(format!("network {network}, forward {} to {taker}", forward.listen_address)))
            };
            self.elsewhere.iter().find_map(taken)
        };
        let lxd = || {
            let takes =
                |(_, own): &&(&'static str, SocketAddr)| Listener::at(*own).takes(address) || concerns_socket(*own, address);
            self.lxd.iter().find(takes).map(|(key, _)| Holder::Lxd(key))
        };
        let listener = || {
            let takes = |own: &&Listener| own.takes(address) || concerns_socket(own.address, address);
            let found = self.listeners.iter().find(takes)?;
            Some(Holder::Listener { address: found.address, program: found.program(&Root::default()) })
        };
        let redirection = || {
            let found = self.redirections.iter().find(|rule| rule.takes(address))?;
            Some(Holder::Redirection(found.place.clone()))
        };
        elsewhere().or_else(lxd).or_else(listener).or_else(redirection)
    }

    /// The network that has a forward for this address already: an address serves one network alone.
    pub(crate) fn network_of(&self, address: IpAddr) -> Option<&str> {
        self.elsewhere.iter().find(|(_, forward)| forward.listen_address == address).map(|(network, _)| network.as_str())
    }
}

/// Who listens on all addresses meets whoever listens on one.
fn concerns(one: IpAddr, other: IpAddr) -> bool {
    one == other || other.is_unspecified()
}

fn concerns_socket(own: SocketAddr, wanted: SocketAddr) -> bool {
    own.port() == wanted.port() && concerns(own.ip(), wanted.ip())
}

fn lxds_own(client: &Client) -> Vec<(&'static str, SocketAddr)> {
    let config = client.server().config.as_ref();
    let own = |(key, port): &(&'static str, u16)| {
        let text = config?.get(*key)?.as_str().filter(|text| !text.is_empty())?;
        Some((*key, socket_address(text, *port)?))
    };
    LISTENERS.iter().filter_map(own).collect()
}

/// LXD takes an address without its port, and a port without its address.
pub(crate) fn socket_address(text: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Some(SocketAddr::new(address, port));
    }
    let port = text.strip_prefix(':')?.parse().ok()?;
    Some(SocketAddr::new(IpAddr::from([0; 16]), port))
}

impl Holder {
    /// The refusal that names both.
    pub(crate) fn refuses(self, step: &ClusterPublish, address: SocketAddr) -> Error {
        Error::PortTaken { cluster: format!("{}/{}", step.namespace, step.name), address, holder: self }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(name) => write!(f, "cluster {name}, whose annotation names the port"),
            Self::Forward(place) => write!(f, "a network forward ({place})"),
            Self::Lxd(key) => write!(f, "LXD itself ({key})"),
            Self::Listener { address, program: Some(program) } => write!(f, "{program}, which listens on {address}"),
            Self::Listener { address, program: None } => write!(f, "a program that listens on {address}"),
            Self::Redirection(place) => write!(f, "a rule of the packet filter ({place})"),
        }
    }
}
