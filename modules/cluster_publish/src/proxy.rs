//! Proxy devices on the load balancer: LXD listens on the host itself and passes connections on.

use std::net::{IpAddr, SocketAddr};

use converge::{Failure, Section};
use lab::{capi, keys, publication::DEVICE};
use lxd::{Declared, Devices, Instance, ObjectChange, Tagged};

use crate::{
    ClusterPublish, Mode,
    error::Error,
    load_balancer,
    surroundings::{Holder, Surroundings},
    wanted::Wanted,
};

pub(crate) struct Proxies<'a>(pub(crate) &'a ClusterPublish);

/// The load balancer with its devices, and what holds ports.
#[derive(Default)]
pub(crate) struct Live {
    pub(crate) wanted: Option<Wanted>,
    /// The load balancer; nothing if there is none any more.
    pub(crate) instance: Option<Tagged<Instance>>,
    pub(crate) surroundings: Surroundings,
    /// Ports that forwards of the internal network take.
    pub(crate) forwards: Vec<lxd::Forward>,
}

impl Proxies<'_> {
    /// The devices as they should be: the wanted ones, and all others of ours gone.
    fn declare(wanted: Option<&Wanted>, instance: &Instance) -> Declared<Instance> {
        let mut declared = Declared::new(&instance.name, &instance.description);
        for name in instance.devices.keys().filter(|name| name.starts_with(DEVICE)) {
            declared.devices.insert(name.clone(), None);
        }
        for (number, address) in wanted.iter().flat_map(|wanted| &wanted.addresses).enumerate() {
            let port = wanted.map(|wanted| wanted.port).unwrap_or_default();
            let keys = keys::set([
                ("type", "proxy".to_owned()),
                ("bind", "host".to_owned()),
                ("listen", format!("tcp:{}", SocketAddr::new(*address, port))),
                ("connect", format!("tcp:127.0.0.1:{}", capi::API_PORT)),
            ]);
            declared.devices.insert(format!("{DEVICE}{number}"), Some(keys));
        }
        declared
    }

    fn refuse_taken(&self, live: &Live, wanted: &Wanted, devices: &Devices) -> Result<(), Error> {
        let mark = self.0.publication().to_string();
        for address in wanted.addresses.iter().map(|address| SocketAddr::new(*address, wanted.port)) {
            if listeners(devices).contains(&address) {
                continue;
            }
            let forward = || {
                let taken = |forward: &lxd::Forward| {
                    let concerns = forward.listen_address == address.ip() || address.ip().is_unspecified();
                    // The step's own goes before this.
                    let taker = forward.without(&mark).taker(address.port()).filter(|_| concerns)?;
                    Some(Holder::Forward(format!("forward {} to {taker}", forward.listen_address)))
                };
                live.forwards.iter().find_map(taken)
            };
            let rival = wanted.rival.clone().map(Holder::Cluster);
            if let Some(holder) = rival.or_else(forward).or_else(|| live.surroundings.holder(address)) {
                return Err(holder.refuses(self.0, address));
            }
        }
        Ok(())
    }
}

/// Where our devices listen.
pub(crate) fn listeners(devices: &Devices) -> Vec<SocketAddr> {
    let ours = devices.iter().filter(|(name, _)| name.starts_with(DEVICE)).map(|(_, device)| device);
    ours.filter_map(|device| device.get("listen")?.strip_prefix("tcp:")?.parse().ok()).collect()
}

impl Section for Proxies<'_> {
    const NAME: &'static str = "proxy";
    type Live = Live;
    type Change = ObjectChange;

    async fn observe(&self) -> Result<Live, Failure> {
        let client = self.0.lxd.client().await?;
        let mut live = Live::default();
        if self.0.publishes(Mode::Proxy) {
            live.wanted = Some(self.0.wanted().await?.clone());
        }
        let instances = load_balancer::instances(self.0).await?;
        let Some(found) = load_balancer::find(self.0, &instances)? else { return Ok(live) };
        live.instance = client.in_project(&self.0.project).find(&found.name).await?;
        if let Some(wanted) = &live.wanted {
            let own = listeners(&found.devices);
            if !wanted.addresses.iter().all(|address| own.contains(&SocketAddr::new(*address, wanted.port))) {
                live.surroundings = Surroundings::observe(self.0, client).await?.without(&own);
                live.forwards =
                    if client.has_forwards() { client.forwards(&self.0.internal_network_name).await? } else { Vec::new() };
            }
        }
        Ok(live)
    }

    fn plan(&self, live: &Live) -> Result<Vec<ObjectChange>, Failure> {
        let Some(instance) = &live.instance else { return Ok(Vec::new()) };
        if let Some(wanted) = &live.wanted {
            self.refuse_taken(live, wanted, &instance.object.devices)?;
        }
        Ok(Self::declare(live.wanted.as_ref(), &instance.object).compare(Some(instance)).into_iter().collect())
    }

    async fn apply(&self, change: &ObjectChange) -> Result<(), Failure> {
        let client = self.0.lxd.client().await?.in_project(&self.0.project);
        Ok(change.apply(&client).await?)
    }
}

/// A wildcard stands for every address of the host; the loopback one is always there.
pub(crate) fn reached_at(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) if address.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(address) if address.is_unspecified() => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        address => address,
    }
}
