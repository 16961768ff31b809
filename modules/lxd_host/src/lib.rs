//! Brings LXD to the host, keeps it at its version, and makes the bridge that its instances reach the outside by.

mod bridge;
mod distro;
mod error;
mod refresh;
mod rivals;
mod snap;
mod snapd;

use std::{collections::BTreeMap, time::Duration};

use ansible::{OptionError, Run, Step};
use converge::{AbsolutePath, Failure, Wait};
use host::{OsRelease, Root, forwarding, link};
use lab::{machine, names, versions};
use lxd::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use bridge::Bridge;
use distro::Packages;
use refresh::Refresh;
use snap::Snap;

/// Converge LXD and the host's external bridge.
///
/// Installs LXD, freezes the refreshes of its snap, waits until it answers, and makes the bridge that instances reach the outside
/// by. It manages no object of LXD.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct LxdHost {
    /// Where LXD comes from.
    pub install_method: InstallMethod,
    /// Name of the snap; only used with O(install_method=snap), as are all options of the snap.
    #[default("lxd".into())]
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9_-]*$"))]
    pub snap_name: String,
    /// Channel that the snap follows.
    #[default(versions::LXD_CHANNEL.into())]
    #[schemars(regex(pattern = "^[A-Za-z0-9._+/-]+$"))]
    pub snap_channel: String,
    /// Whether the snap is installed without confinement.
    pub snap_classic: bool,
    /// Seconds to wait for snapd's own first start.
    #[default(180)]
    #[schemars(range(min = 1))]
    pub snap_seed_wait_timeout: u32,
    /// How snapd is kept from refreshing snaps at any time. It is a setting of snapd, so it holds for all snaps of the host.
    pub snap_refresh_mode: RefreshMode,
    /// How long refreshes are held: V(forever) or a time as in V(2030-01-31T00:00:00Z); only used with O(snap_refresh_mode=hold).
    #[default("forever".into())]
    #[schemars(length(min = 1))]
    pub snap_refresh_hold_value: String,
    /// When refreshes may happen; only used with O(snap_refresh_mode=timer).
    #[default("fri,03:00-04:00".into())]
    #[schemars(length(min = 1))]
    pub snap_refresh_timer_value: String,
    /// The distribution's package of LXD; only used with O(install_method=distro).
    #[default("lxd".into())]
    #[schemars(regex(pattern = host::package::NAME))]
    pub distro_package: String,
    /// Whether to wait until LXD answers.
    #[default(true)]
    pub wait_ready: bool,
    /// Seconds to wait until LXD answers.
    #[default(300)]
    #[schemars(range(min = 1))]
    pub wait_ready_timeout: u32,
    /// Whether the host has a bridge to the outside.
    #[default(true)]
    pub ext_bridge_enabled: bool,
    /// What makes the bridge.
    pub ext_bridge_backend: Backend,
    /// Name of the bridge.
    #[default(names::EXTERNAL_BRIDGE.into())]
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$"), extend("global" = "external_bridge_name"))]
    pub ext_bridge_name: String,
    /// The network link that the bridge leads to; required with O(ext_bridge_enabled=true). It has no default, so that nobody loses
    /// the host's own connection by accident.
    #[schemars(regex(pattern = "^([A-Za-z0-9][A-Za-z0-9._-]{0,14})?$"), extend("global" = "uplink_interface"))]
    pub ext_bridge_uplink: String,
    /// Whether the uplink may be the link that carries the host's default route, which it then loses.
    pub ext_bridge_allow_default_route: bool,
    /// Whether the bridge takes part in the spanning tree protocol.
    pub ext_bridge_stp: bool,
    /// MTU of the bridge. IPv6 needs at least the minimum.
    #[default(1500)]
    #[schemars(range(min = 1280, max = 65535))]
    pub ext_bridge_mtu: u32,
    /// Seconds until a new member of the bridge forwards; at least 2 with O(ext_bridge_stp=true), as the kernel has it.
    #[schemars(range(min = 0, max = 30))]
    pub ext_bridge_forward_delay: u32,
    /// Which link-local addresses the bridge has on the host.
    pub ext_bridge_link_local: LinkLocal,
    /// Whether the host takes addresses on the bridge from router advertisements.
    pub ext_bridge_accept_ra: AcceptRa,
    /// Folder of systemd-networkd's files. Only used with O(ext_bridge_backend=networkd).
    #[default("/etc/systemd/network".into())]
    pub networkd_dir: AbsolutePath,
    /// Number at the beginning of the files' names. The uplink's file has the next number.
    #[default(30)]
    #[schemars(range(min = 0, max = 98))]
    pub networkd_file_priority: u32,
    /// Folder that stands for the machine's root, for images and chroots. Every path is taken below it but LXD's socket, and commands
    /// run inside it.
    #[schemars(extend("tells_apart" = true))]
    pub root: Root,
    /// Where LXD listens.
    #[serde(flatten)]
    pub lxd: Connection,
}

/// Where LXD comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InstallMethod {
    /// The snap, which snapd installs.
    #[default]
    Snap,
    /// The distribution's package.
    Distro,
    /// LXD is installed already. The step does not install anything.
    Existing,
}

/// What keeps snaps from being refreshed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RefreshMode {
    /// Refreshes are held for as long as O(snap_refresh_hold_value) says.
    #[default]
    Hold,
    /// Refreshes happen only at the times in O(snap_refresh_timer_value).
    Timer,
}

/// What makes the bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// systemd-networkd, from files. After a restart of the machine, the bridge is there again.
    #[default]
    Networkd,
    /// The program C(ip), for hosts without systemd-networkd. After a restart of the machine, the bridge is gone until the step
    /// runs again.
    Iproute2,
}

/// Which link-local addresses a link has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LinkLocal {
    /// Both IPv4 and IPv6.
    Yes,
    /// None.
    #[default]
    No,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// IPv4, where DHCP gives no address. systemd-networkd no longer knows it since version 246.
    Fallback,
}

/// Whether router advertisements are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AcceptRa {
    /// It takes them.
    Yes,
    /// It does not take them.
    #[default]
    No,
}

/// What the step returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Facts {
    /// The snap; only with O(install_method=snap).
    pub snap: Option<SnapFacts>,
    /// LXD's version, if it answers.
    pub lxd_version: Option<String>,
    /// Extensions of LXD's API that the lab makes use of, and whether this LXD has them.
    pub api_extensions_present: BTreeMap<String, bool>,
    /// The bridge; only with O(ext_bridge_enabled=true).
    pub bridge: Option<BridgeFacts>,
}

/// A snap as it is now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SnapFacts {
    /// Name of the snap.
    pub name: String,
    /// The channel that it follows.
    pub channel: String,
    /// Version of the snap.
    pub version: String,
    /// Revision of the snap.
    pub revision: String,
}

/// A bridge as it is now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BridgeFacts {
    /// Name of the bridge.
    pub name: String,
    /// The link that it leads to.
    pub uplink: String,
    /// The uplink's state: C(up) when something is at its other end.
    pub uplink_state: String,
    /// MTU of the bridge.
    pub mtu: u32,
    /// The links that it joins.
    pub members: Vec<String>,
}

impl Step for LxdHost {
    const NAME: &'static str = "lxd_host";
    const SECTIONS: &'static [&'static str] = &["snap", "refresh", "packages", "bridge"];
    const EXAMPLES: &'static str = "\
- name: Install LXD from its snap and bridge the second network card
  k8slab.capi.lxd_host:
    ext_bridge_uplink: eth1
  become: true

- name: Use the LXD that is there
  k8slab.capi.lxd_host:
    install_method: existing
    ext_bridge_enabled: false
  become: true
";
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        if !self.ext_bridge_enabled {
            return Ok(());
        }
        if self.ext_bridge_uplink.is_empty() {
            return Err(OptionError::Missing { option: "ext_bridge_uplink".into() }.into());
        }
        if self.ext_bridge_uplink == self.ext_bridge_name {
            return Err(OptionError::invalid("ext_bridge_uplink", "is the bridge itself").into());
        }
        Ok(())
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        OsRelease::read(&self.root)?.require_supported()?;
        match self.install_method {
            InstallMethod::Snap => {
                run.section(&Snap(self)).await?;
                run.section(&Refresh(self)).await?;
            }
            InstallMethod::Distro => drop(run.section(&Packages(self)).await?),
            InstallMethod::Existing => {}
        }
        if self.ext_bridge_enabled {
            let load = link::load(&self.root, &self.ext_bridge_uplink)?;
            if !load.networks.is_empty() {
                run.warn(format!(
                    "{} has addresses of its own, which end in a bridge: {}",
                    self.ext_bridge_uplink,
                    load.networks.join(", ")
                ));
            }
            run.section(&Bridge(self)).await?;
            for warning in rivals::warnings(self)?.into_iter().chain(forwarding::dropped(&self.root).await) {
                run.warn(warning);
            }
        }
        let facts = run.verify(self.facts()).await?;
        let bridge = facts.as_ref().and_then(|facts| facts.bridge.as_ref());
        if let Some(bridge) = bridge.filter(|bridge| !["up", "unknown"].contains(&bridge.uplink_state.as_str())) {
            run.warn(format!("{} is {}: nothing is at its other end", bridge.uplink, bridge.uplink_state));
        }
        Ok(facts)
    }
}

impl LxdHost {
    /// A kernel that takes part in the spanning tree protocol accepts no less than two seconds.
    fn forward_delay(&self) -> u32 {
        if self.ext_bridge_stp { self.ext_bridge_forward_delay.max(2) } else { self.ext_bridge_forward_delay }
    }

    async fn facts(&self) -> Result<Facts, Failure> {
        let client = if self.wait_ready { Some(self.ready().await?) } else { self.lxd.client().await.ok() };
        let extension = |name: &&str| ((*name).to_owned(), client.is_some_and(|client| client.has(name)));
        Ok(Facts {
            snap: if self.install_method == InstallMethod::Snap { Some(snap::facts(self).await?) } else { None },
            lxd_version: client.map(|client| client.server().environment.server_version.clone()),
            api_extensions_present: machine::API_EXTENSIONS.iter().map(extension).collect(),
            bridge: if self.ext_bridge_enabled { bridge::facts(self)? } else { None },
        })
    }

    /// LXD, once it answers. What should be there already is not waited for when it has not even a socket.
    async fn ready(&self) -> Result<&lxd::Client, Failure> {
        let wait = Wait::for_condition("LXD: answers", Duration::from_secs(self.wait_ready_timeout.into()));
        wait.until(async || match self.lxd.client().await {
            Ok(client) => Ok(Ok(client)),
            Err(error @ lxd::Error::NoSocket { .. }) if self.install_method == InstallMethod::Existing => Err(error.into()),
            Err(error) => Ok(Err(error)),
        })
        .await
    }
}
