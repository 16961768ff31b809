//! Network forwards: one for each address, with a list of ports for all clusters.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use converge::{Change, Failure, Section};
use lab::{capi, names::OWNER_KEY, publication::OWNER};
use lxd::{Config, Forward, ForwardPort};
use serde_json::{Value, json};

use crate::{
    ClusterPublish, Mode,
    error::Error,
    surroundings::{Holder, Surroundings},
    wanted::Wanted,
};

/// The description of a forward that the lab has made.
const DESCRIPTION: &str = "k8slab: APIs of clusters";

pub(crate) struct Forwards<'a>(pub(crate) &'a ClusterPublish);

/// What there is, and what holds ports beside.
#[derive(Default)]
pub(crate) struct Live {
    /// What has to be published; nothing when it is to be withdrawn, or is not known yet.
    pub(crate) wanted: Option<Wanted>,
    /// Forwards of the internal network.
    pub(crate) forwards: BTreeMap<IpAddr, Forward>,
    pub(crate) surroundings: Surroundings,
}

/// This cluster's port at an address, before and after. Whatever else the forward of that address has is others'.
#[derive(Clone, Debug)]
pub(crate) struct ForwardChange {
    network: String,
    address: IpAddr,
    before: Option<ForwardPort>,
    after: Option<ForwardPort>,
}

impl Forwards<'_> {
    /// The port as it should be at an address.
    fn port(&self, wanted: &Wanted, address: IpAddr, present: Option<&ForwardPort>) -> Result<ForwardPort, Error> {
        let present = present.and_then(|port| port.target_address.parse().ok());
        let balancer = &wanted.load_balancer;
        let lacks = || Error::NoAddress { name: balancer.name.clone(), address };
        let target = balancer.target(address, present).ok_or_else(lacks)?;
        Ok(ForwardPort {
            description: self.mark(),
            protocol: "tcp".into(),
            listen_port: wanted.port.to_string(),
            target_port: capi::API_PORT.to_string(),
            target_address: target.to_string(),
        })
    }

    fn mark(&self) -> String {
        self.0.publication().to_string()
    }

    fn own<'f>(&self, forward: &'f Forward) -> Option<&'f ForwardPort> {
        forward.ports.iter().find(|port| port.description == self.mark())
    }

    fn change(&self, address: IpAddr, before: Option<&ForwardPort>, after: Option<ForwardPort>) -> ForwardChange {
        ForwardChange { network: self.0.internal_network_name.clone(), address, before: before.cloned(), after }
    }

    fn publishing(&self, live: &Live, wanted: &Wanted) -> Result<Vec<ForwardChange>, Error> {
        let mut changes = Vec::new();
        for address in &wanted.addresses {
            let found = live.forwards.get(address);
            let own = found.and_then(|forward| self.own(forward));
            let port = self.port(wanted, *address, own)?;
            if own == Some(&port) {
                continue;
            }
            if own.is_none_or(|own| own.listen_port != port.listen_port) {
                self.refuse_taken(live, wanted, *address)?;
            }
            changes.push(self.change(*address, own, Some(port)));
        }
        Ok(changes)
    }

    /// Fails if anything else has the port at this address.
    fn refuse_taken(&self, live: &Live, wanted: &Wanted, address: IpAddr) -> Result<(), Error> {
        let network = || self.0.internal_network_name.clone();
        let socket = SocketAddr::new(address, wanted.port);
        if let Some(other) = live.surroundings.network_of(address) {
            return Err(Error::AddressTaken { address, network: network(), other: other.to_owned() });
        }
        let here = live.forwards.get(&address).and_then(|forward| forward.without(&self.mark()).taker(wanted.port));
        let here = here.map(|taker| Holder::Forward(format!("network {}, forward {address} to {taker}", network())));
        let rival = || wanted.rival.clone().map(Holder::Cluster);
        match here.or_else(rival).or_else(|| live.surroundings.holder(socket)) {
            Some(holder) => Err(holder.refuses(self.0, socket)),
            None => Ok(()),
        }
    }

    /// The forwards that carry this cluster's port at another address than the wanted ones.
    fn withdrawing(&self, live: &Live, wanted: &[IpAddr]) -> Vec<ForwardChange> {
        let others = live.forwards.iter().filter(|(address, _)| !wanted.contains(address));
        let ours = others.filter_map(|(address, forward)| Some((address, self.own(forward)?)));
        ours.map(|(address, own)| self.change(*address, Some(own), None)).collect()
    }
}

impl Section for Forwards<'_> {
    const NAME: &'static str = "forward";
    type Live = Live;
    type Change = ForwardChange;

    async fn observe(&self) -> Result<Live, Failure> {
        let client = self.0.lxd.client().await?;
        let publishes = self.0.publishes(Mode::Forward);
        if !client.has_forwards() {
            return if publishes { Err(Error::NoForwards.into()) } else { Ok(Live::default()) };
        }
        // A network that is gone has no forwards any more.
        let forwards = lxd::if_there(client.forwards(&self.0.internal_network_name).await)?.unwrap_or_default();
        let mut live = Live {
            wanted: if publishes { Some(self.0.wanted().await?.clone()) } else { None },
            forwards: forwards.into_iter().map(|forward| (forward.listen_address, forward)).collect(),
            ..Live::default()
        };
        // Where nothing is to be taken, nobody has to be asked.
        if self.publishing_needs_look(&live) {
            let own = live.wanted.as_ref().map(|wanted| wanted.proxies.as_slice()).unwrap_or_default();
            live.surroundings = Surroundings::observe(self.0, client).await?.without(own);
        }
        Ok(live)
    }

    fn plan(&self, live: &Live) -> Result<Vec<ForwardChange>, Failure> {
        if !self.0.publishes(Mode::Forward) {
            return Ok(self.withdrawing(live, &[]));
        }
        let Some(wanted) = &live.wanted else { return Ok(self.presumed()) };
        let mut changes = self.withdrawing(live, &wanted.addresses);
        changes.extend(self.publishing(live, wanted)?);
        Ok(changes)
    }

    async fn apply(&self, change: &ForwardChange) -> Result<(), Failure> {
        let client = self.0.lxd.client().await?;
        // LXD has no tags for forwards: one writer at a time on this host, who looks again.
        let _alone = host::HostLock::acquire("lxd").await?;
        let now = client.find_forward(&change.network, change.address).await?;
        let after = change.merged(now.as_ref())?;
        match (&now, &after) {
            (None, Some(after)) => client.create_forward(&change.network, after).await?,
            (Some(_), Some(after)) => client.replace_forward(&change.network, after).await?,
            (_, None) => client.delete_forward(&change.network, change.address).await?,
        }
        Ok(())
    }
}

impl Forwards<'_> {
    fn publishing_needs_look(&self, live: &Live) -> bool {
        let Some(wanted) = &live.wanted else { return false };
        let has = |address: &IpAddr| {
            let own = live.forwards.get(address).and_then(|forward| self.own(forward));
            own.is_some_and(|own| own.listen_port == wanted.port.to_string())
        };
        !wanted.addresses.iter().all(has)
    }

    /// What a run will do once there is a load balancer.
    fn presumed(&self) -> Vec<ForwardChange> {
        let port = ForwardPort {
            description: self.mark(),
            protocol: "tcp".into(),
            listen_port: self.0.presumed_port().to_string(),
            target_port: capi::API_PORT.to_string(),
            ..ForwardPort::default()
        };
        let addresses = self.0.given_addresses().into_iter();
        addresses.map(|address| self.change(address, None, Some(port.clone()))).collect()
    }
}

impl ForwardChange {
    /// The forward of the address with this change made to it; nothing if the lab has made it and no port is left. Fails where
    /// somebody else has changed this port since, or has taken the one that is wanted.
    pub(crate) fn merged(&self, now: Option<&Forward>) -> Result<Option<Forward>, Error> {
        let mut forward = now.cloned().unwrap_or_else(|| Forward {
            listen_address: self.address,
            description: DESCRIPTION.into(),
            config: Config::from([(OWNER_KEY.to_owned(), OWNER.to_owned())]),
            ports: Vec::new(),
        });
        let overtaken = || Error::Overtaken { address: self.address };
        let mut place = forward.ports.len();
        if let Some(before) = &self.before {
            place = forward.ports.iter().position(|port| port == before).ok_or_else(overtaken)?;
            forward.ports.remove(place);
        }
        if let Some(after) = &self.after {
            if after.listen_port.parse().is_ok_and(|port| forward.taker(port).is_some()) {
                return Err(overtaken());
            }
            forward.ports.insert(place, after.clone());
        }
        Ok((!forward.is_spent()).then_some(forward))
    }

    fn shown(&self, port: Option<&ForwardPort>) -> Value {
        port.map_or(Value::Null, |port| json!({"address": self.address, "port": port.listen_port, "target": target(port)}))
    }
}

fn target(port: &ForwardPort) -> String {
    match port.target_address.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{}", port.target_port),
        Ok(IpAddr::V4(address)) => format!("{address}:{}", port.target_port),
        Err(_) => "(the load balancer)".into(),
    }
}

impl fmt::Display for ForwardChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        match (&self.before, &self.after) {
            (None, Some(after)) => write!(f, "forward {address}: port {} -> {}", after.listen_port, target(after)),
            (Some(before), Some(after)) if before.listen_port == after.listen_port => {
                write!(f, "forward {address}: port {}: {} -> {}", after.listen_port, target(before), target(after))
            }
            (Some(before), Some(after)) => {
                write!(f, "forward {address}: port {} -> {} to {}", before.listen_port, after.listen_port, target(after))
            }
            (before, None) => {
                let port = before.as_ref().map(|port| port.listen_port.as_str()).unwrap_or_default();
                write!(f, "forward {address}: withdraw port {port}")
            }
        }
    }
}

impl Change for ForwardChange {
    fn object(&self) -> String {
        format!("forward {} of network {}", self.address, self.network)
    }

    fn before(&self) -> Value {
        self.shown(self.before.as_ref())
    }

    fn after(&self) -> Value {
        self.shown(self.after.as_ref())
    }
}
