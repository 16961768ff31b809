//! The bridge to the outside, by systemd-networkd or by iproute2. The host's own connection is not put at risk unless the user says so.

mod wanted;

use std::{fmt, time::Duration};

use converge::{Change, Failure, Section, Wait};
use host::{
    file::{self, FileChange},
    link::{self, Link, Load, Property},
    sysctl,
    unit::{self, Unit},
};
use serde_json::{Value, json};

use self::wanted::Parameter;
use crate::{Backend, BridgeFacts, LxdHost, error::Error};

const NETWORKD: &str = "systemd-networkd.service";
/// How long networkd may take to make the bridge.
const DEADLINE: Duration = Duration::from_secs(30);

/// The bridge between the uplink and LXD's instances. The host itself has no address on it.
pub(crate) struct Bridge<'a>(pub &'a LxdHost);

#[derive(Default)]
pub(crate) struct Live {
    uplink: Option<Link>,
    load: Load,
    bridge: Option<Link>,
    /// What networkd is told, in the order of the declared files.
    files: Vec<Option<file::Live>>,
    /// Nothing where systemd does not run the machine.
    networkd: Option<Unit>,
    /// The kernel's parameters of the two links, in the order of the declared ones.
    parameters: Vec<Option<String>>,
    has_ipv6: bool,
}

pub(crate) enum BridgeChange {
    File(FileChange),
    StartNetworkd,
    /// `told`: networkd has known what to do, and the bridge was deleted all the same. A reload makes it anew then, but systemd 252
    /// believes that the uplink is still in it.
    Form {
        bridge: String,
        uplink: String,
        told: bool,
    },
    Create {
        bridge: String,
    },
    Parameter {
        parameter: Parameter,
        before: Option<String>,
    },
    Join {
        bridge: String,
        uplink: String,
    },
    Up {
        link: String,
    },
    Set {
        bridge: String,
        property: Property,
        before: u32,
    },
}

pub(crate) fn facts(step: &LxdHost) -> Result<Option<BridgeFacts>, Failure> {
    let link = |name: &str| link::observe(&step.root, name);
    let (Some(uplink), Some(bridge)) = (link(&step.ext_bridge_uplink)?, link(&step.ext_bridge_name)?) else { return Ok(None) };
    Ok(Some(BridgeFacts {
        name: step.ext_bridge_name.clone(),
        uplink: step.ext_bridge_uplink.clone(),
        uplink_state: uplink.operstate,
        mtu: bridge.mtu,
        members: bridge.bridge.unwrap_or_default().members.into_iter().collect(),
    }))
}

impl Bridge<'_> {
    /// The uplink, if it may become the bridge's.
    fn fit_uplink<'l>(&self, live: &'l Live) -> Result<&'l Link, Error> {
        let step = self.0;
        let uplink = step.ext_bridge_uplink.clone();
        let Some(link) = &live.uplink else { return Err(Error::UplinkAbsent { uplink }) };
        if link.loopback {
            return Err(Error::UplinkUnfit { uplink, what: "the loopback link" });
        }
        if link.bridge.is_some() {
            return Err(Error::UplinkUnfit { uplink, what: "a bridge itself" });
        }
        if live.load.default_route && !step.ext_bridge_allow_default_route {
            return Err(Error::UplinkInUse { uplink });
        }
        match &link.master {
            Some(master) if *master != step.ext_bridge_name => Err(Error::UplinkTaken { uplink, master: master.clone() }),
            _ => Ok(link),
        }
    }

    fn plan_networkd(&self, live: &Live, formed: bool) -> Result<Vec<BridgeChange>, Error> {
        let Some(networkd) = live.networkd.as_ref().filter(|unit| unit.loaded) else { return Err(Error::NetworkdAbsent) };
        let found = live.files.iter().map(Option::as_ref).chain(std::iter::repeat(None));
        let files = self.files().into_iter().zip(found).filter_map(|(file, live)| file.compare(live));
        let mut changes: Vec<_> = files.map(BridgeChange::File).collect();
        if !(networkd.enabled && networkd.active) {
            changes.push(BridgeChange::StartNetworkd);
        }
        if !changes.is_empty() || !formed {
            // The first of the declared is the folder.
            let told = !formed && live.files.iter().skip(1).any(Option::is_some);
            let (bridge, uplink) = (self.0.ext_bridge_name.clone(), self.0.ext_bridge_uplink.clone());
            changes.push(BridgeChange::Form { bridge, uplink, told });
        }
        Ok(changes)
    }

    fn plan_iproute2(&self, live: &Live, uplink: &Link) -> Vec<BridgeChange> {
        let step = self.0;
        let (bridge, up) = (step.ext_bridge_name.clone(), |link: &str| BridgeChange::Up { link: link.to_owned() });
        let mut changes = Vec::new();
        if live.bridge.is_none() {
            changes.push(BridgeChange::Create { bridge: bridge.clone() });
        }
        let found = live.parameters.iter().cloned().chain(std::iter::repeat(None));
        let parameters = self.parameters().into_iter().zip(found).filter(|_| live.has_ipv6);
        let drifted = parameters.filter(|(parameter, before)| before.as_deref() != Some(parameter.value));
        changes.extend(drifted.map(|(parameter, before)| BridgeChange::Parameter { parameter, before }));
        if uplink.master.is_none() {
            changes.push(BridgeChange::Join { bridge: bridge.clone(), uplink: step.ext_bridge_uplink.clone() });
        }
        if !uplink.up {
            changes.push(up(&step.ext_bridge_uplink));
        }
        if live.bridge.as_ref().is_none_or(|link| !link.up) {
            changes.push(up(&bridge));
        }
        changes
    }
}

impl Section for Bridge<'_> {
    const NAME: &'static str = "bridge";
    type Live = Live;
    type Change = BridgeChange;

    async fn observe(&self) -> Result<Live, Failure> {
        let step = self.0;
        let root = &step.root;
        let mut live = Live {
            uplink: link::observe(root, &step.ext_bridge_uplink)?,
            load: link::load(root, &step.ext_bridge_uplink)?,
            bridge: link::observe(root, &step.ext_bridge_name)?,
            has_ipv6: root.has("/proc/sys/net/ipv6"),
            ..Live::default()
        };
        match step.ext_bridge_backend {
            Backend::Networkd => {
                live.files = self.files().iter().map(|file| file.observe(root)).collect::<Result<_, _>>()?;
                live.networkd = unit::observe(root, NETWORKD).await?;
            }
            Backend::Iproute2 => {
                let read = |parameter: &Parameter| sysctl::read(root, &parameter.key());
                live.parameters = self.parameters().iter().map(read).collect::<Result<_, _>>()?;
            }
        }
        Ok(live)
    }

    fn plan(&self, live: &Live) -> Result<Vec<BridgeChange>, Failure> {
        let step = self.0;
        let uplink = self.fit_uplink(live)?;
        let bridge = match &live.bridge {
            Some(Link { bridge: None, .. }) => return Err(Error::NotBridge { name: step.ext_bridge_name.clone() }.into()),
            other => other.as_ref(),
        };
        let formed = bridge.is_some() && uplink.master.is_some();
        let mut changes = match step.ext_bridge_backend {
            Backend::Networkd => self.plan_networkd(live, formed)?,
            Backend::Iproute2 => self.plan_iproute2(live, uplink),
        };
        // A reload leaves the properties of a bridge that exists as they are, so they are set here, whoever made it.
        let drifted = bridge.into_iter().flat_map(|link| {
            let all = self.properties().into_iter().map(|property| (property, current(link, property)));
            all.filter(|(property, before)| property.value() != *before)
        });
        let bridge = &step.ext_bridge_name;
        changes.extend(drifted.map(|(property, before)| BridgeChange::Set { bridge: bridge.clone(), property, before }));
        Ok(changes)
    }

    async fn apply(&self, change: &BridgeChange) -> Result<(), Failure> {
        Ok(self.carry_out(change).await?)
    }
}

impl Bridge<'_> {
    async fn carry_out(&self, change: &BridgeChange) -> Result<(), Error> {
        let step = self.0;
        let root = &step.root;
        let ip = |words: &[&str]| root.command("ip").arg("link").args(words);
        match change {
            BridgeChange::File(file) => file.apply(root)?,
            BridgeChange::StartNetworkd => unit::enable_now(root, NETWORKD).await?,
            BridgeChange::Form { told, .. } => {
                if *told {
                    unit::restart(root, NETWORKD).await?;
                } else {
                    root.command("networkctl").arg("reload").execute().await?;
                }
                self.wait_formed().await?;
            }
            BridgeChange::Create { bridge } => {
                let mtu = step.ext_bridge_mtu.to_string();
                ip(&["add", "name", bridge, "mtu", &mtu, "type", "bridge"]).execute().await?;
                for property in self.properties() {
                    link::set(root, bridge, property)?;
                }
            }
            BridgeChange::Parameter { parameter, .. } => sysctl::write(root, &parameter.key(), parameter.value)?,
            BridgeChange::Join { bridge, uplink } => drop(ip(&["set", "dev", uplink, "master", bridge]).execute().await?),
            BridgeChange::Up { link } => drop(ip(&["set", "dev", link, "up"]).execute().await?),
            BridgeChange::Set { bridge, property, .. } => link::set(root, bridge, *property)?,
        }
        Ok(())
    }

    async fn wait_formed(&self) -> Result<(), Error> {
        let (bridge, uplink) = (&self.0.ext_bridge_name, &self.0.ext_bridge_uplink);
        let look = async || {
            let link = link::observe(&self.0.root, bridge)?;
            Ok(match link.and_then(|link| link.bridge) {
                None => Err(format!("there is no bridge {bridge}")),
                Some(found) if found.members.contains(uplink) => Ok(()),
                Some(_) => Err(format!("{uplink} is not in it")),
            })
        };
        Wait::for_condition(format!("{bridge}: joins {uplink}"), DEADLINE).until(look).await
    }
}

fn current(link: &Link, property: Property) -> u32 {
    let bridge = link.bridge.clone().unwrap_or_default();
    match property {
        Property::Mtu(_) => link.mtu,
        Property::Stp(_) => bridge.stp.into(),
        Property::ForwardDelay(_) => bridge.forward_delay,
        Property::MulticastSnooping(_) => bridge.multicast_snooping.into(),
    }
}

impl fmt::Display for BridgeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.fmt(f),
            Self::StartNetworkd => write!(f, "start {NETWORKD}"),
            Self::Form { bridge, uplink, .. } | Self::Join { bridge, uplink } => write!(f, "join {uplink} to bridge {bridge}"),
            Self::Create { bridge } => write!(f, "create bridge {bridge}"),
            Self::Parameter { parameter, before } => {
                write!(f, "{}: {} -> {}", parameter.key(), before.as_deref().unwrap_or("(unset)"), parameter.value)
            }
            Self::Up { link } => write!(f, "set {link} up"),
            Self::Set { bridge, property, before } => {
                write!(f, "bridge {bridge}: {}: {before} -> {}", property.name(), property.value())
            }
        }
    }
}

impl Change for BridgeChange {
    fn object(&self) -> String {
        match self {
            Self::File(file) => file.object(),
            Self::StartNetworkd => NETWORKD.into(),
            Self::Form { bridge, .. } | Self::Create { bridge } | Self::Join { bridge, .. } | Self::Set { bridge, .. } => {
                format!("bridge {bridge}")
            }
            Self::Parameter { parameter, .. } => format!("link {}", parameter.link),
            Self::Up { link } => format!("link {link}"),
        }
    }

    fn before(&self) -> Value {
        match self {
            Self::File(file) => file.before(),
            Self::StartNetworkd => json!({"active": false}),
            Self::Form { .. } | Self::Create { .. } => Value::Null,
            Self::Parameter { parameter, before } => json!({parameter.name: before}),
            Self::Join { .. } => json!({"uplink": null}),
            Self::Up { .. } => json!({"up": false}),
            Self::Set { property, before, .. } => json!({property.name(): before}),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::File(file) => file.after(),
            Self::StartNetworkd => json!({"active": true}),
            Self::Form { uplink, .. } | Self::Join { uplink, .. } => json!({"uplink": uplink}),
            Self::Create { .. } => json!({}),
            Self::Parameter { parameter, .. } => json!({parameter.name: parameter.value}),
            Self::Up { .. } => json!({"up": true}),
            Self::Set { property, .. } => json!({property.name(): property.value()}),
        }
    }
}

#[cfg(test)]
mod tests {
    use host::file::Declared;

    use super::*;

    fn step(backend: Backend) -> LxdHost {
        LxdHost { ext_bridge_uplink: "eth1".into(), ext_bridge_backend: backend, ..LxdHost::default() }
    }

    /// A host on which everything is as the step wants it, then bent.
    fn live(step: &LxdHost, bend: impl FnOnce(&mut Live)) -> Live {
        let section = Bridge(step);
        let file = |file: Declared| Some(file::Live { content: Some(file.content), owner: file.owner, mode: file.mode });
        let bridge = link::Bridge { members: ["eth1".to_owned()].into(), ..link::Bridge::default() };
        let mut live = Live {
            uplink: Some(Link { mtu: 1500, up: true, master: Some("br-ext6".into()), ..Link::default() }),
            bridge: Some(Link { mtu: 1500, up: true, bridge: Some(bridge), ..Link::default() }),
            files: section.files().into_iter().map(file).collect(),
            networkd: Some(Unit { loaded: true, enabled: true, active: true }),
            parameters: section.parameters().iter().map(|parameter| Some(parameter.value.to_owned())).collect(),
            has_ipv6: true,
            load: Load::default(),
        };
        bend(&mut live);
        live
    }

    fn plan(step: &LxdHost, live: &Live) -> String {
        match Bridge(step).plan(live) {
            Ok(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            Err(failure) => failure.code.to_owned(),
        }
    }

    #[test]
    fn plans_for_networkd() {
        let step = step(Backend::Networkd);
        let uplink = |live: &mut Live, bend: fn(&mut Link)| bend(live.uplink.as_mut().unwrap());
        let bridge = |live: &mut Live, bend: fn(&mut Link)| bend(live.bridge.as_mut().unwrap());
        for (case, live, expected) in [
            ("as wanted", live(&step, |_| ()), ""),
            (
                "bare",
                live(&step, |live| {
                    live.bridge = None;
                    live.files = Vec::new();
                    live.networkd = Some(Unit { loaded: true, ..Unit::default() });
                    uplink(live, |link| link.master = None);
                }),
                "create /etc/systemd/network; create /etc/systemd/network/30-br-ext6.netdev; \
                 create /etc/systemd/network/30-br-ext6.network; create /etc/systemd/network/31-br-ext6-uplink.network; \
                 start systemd-networkd.service; join eth1 to bridge br-ext6",
            ),
            ("taken out by hand", live(&step, |live| uplink(live, |link| link.master = None)), "join eth1 to bridge br-ext6"),
            (
                "drifted properties",
                live(&step, |live| {
                    bridge(live, |link| {
                        link.mtu = 9000;
                        link.bridge.as_mut().unwrap().multicast_snooping = true;
                    });
                }),
                "bridge br-ext6: mtu: 9000 -> 1500; bridge br-ext6: multicast_snooping: 1 -> 0",
            ),
            ("no such uplink", live(&step, |live| live.uplink = None), "UPLINK_ABSENT"),
            ("the loopback link", live(&step, |live| uplink(live, |link| link.loopback = true)), "UPLINK_UNFIT"),
            (
                "a bridge as uplink",
                live(&step, |live| uplink(live, |link| link.bridge = Some(link::Bridge::default()))),
                "UPLINK_UNFIT",
            ),
            ("the default route", live(&step, |live| live.load.default_route = true), "UPLINK_DEFAULT_ROUTE"),
            ("another bridge's", live(&step, |live| uplink(live, |link| link.master = Some("br0".into()))), "UPLINK_TAKEN"),
            ("no bridge", live(&step, |live| bridge(live, |link| link.bridge = None)), "BRIDGE_NAME_TAKEN"),
            ("no systemd", live(&step, |live| live.networkd = None), "NETWORKD_ABSENT"),
            ("no networkd", live(&step, |live| live.networkd = Some(Unit::default())), "NETWORKD_ABSENT"),
        ] {
            assert_eq!(plan(&step, &live), expected, "{case}");
        }
        let daring = LxdHost { ext_bridge_allow_default_route: true, ..step.clone() };
        assert_eq!(plan(&daring, &live(&step, |live| live.load.default_route = true)), "");
    }

    #[test]
    fn a_bridge_in_a_spanning_tree_has_the_delay_that_the_kernel_takes() {
        for (stp, delay, expected) in [(false, 0, 0), (true, 0, 2), (true, 15, 15), (false, 15, 15)] {
            let step = LxdHost { ext_bridge_stp: stp, ext_bridge_forward_delay: delay, ..step(Backend::Networkd) };
            assert_eq!(Bridge(&step).properties()[2].value(), expected, "{stp} {delay}");
        }
    }

    #[test]
    fn plans_for_iproute2() {
        let step = step(Backend::Iproute2);
        for (case, live, expected) in [
            ("as wanted, without networkd", live(&step, |live| live.networkd = None), ""),
            (
                "bare",
                live(&step, |live| {
                    live.bridge = None;
                    live.parameters = vec![None, None, Some("0".into()), Some("0".into())];
                    live.uplink = Some(Link { mtu: 1500, ..Link::default() });
                }),
                "create bridge br-ext6; net/ipv6/conf/br-ext6/addr_gen_mode: (unset) -> 1; \
                 net/ipv6/conf/br-ext6/accept_ra: (unset) -> 0; net/ipv6/conf/eth1/addr_gen_mode: 0 -> 1; \
                 join eth1 to bridge br-ext6; set eth1 up; set br-ext6 up",
            ),
            (
                "bare, on a host without IPv6",
                live(&step, |live| {
                    live.bridge = None;
                    live.parameters = Vec::new();
                    live.has_ipv6 = false;
                    live.uplink = Some(Link { mtu: 1500, ..Link::default() });
                }),
                "create bridge br-ext6; join eth1 to bridge br-ext6; set eth1 up; set br-ext6 up",
            ),
            (
                "snooping",
                live(&step, |live| live.bridge.as_mut().unwrap().bridge.as_mut().unwrap().multicast_snooping = true),
                "bridge br-ext6: multicast_snooping: 1 -> 0",
            ),
        ] {
            assert_eq!(plan(&step, &live), expected, "{case}");
        }
    }
}
