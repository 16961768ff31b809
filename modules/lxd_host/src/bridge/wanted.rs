//! The bridge as it should be: the files of networkd, and what of the kernel is set where networkd does not.

use std::path::PathBuf;

use host::{Owner, file::Declared, link::Property};

use super::Bridge;
use crate::{AcceptRa, LinkLocal};

/// A parameter of a link that networkd would set as well.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub link: String,
    pub name: &'static str,
    pub value: &'static str,
}

impl Parameter {
    /// With slashes, because a link's name may have dots.
    pub fn key(&self) -> String {
        format!("net/ipv6/conf/{}/{}", self.link, self.name)
    }
}

impl Bridge<'_> {
    /// Matched by exact names, so that no other link is ever meant.
    pub(super) fn files(&self) -> Vec<Declared> {
        let step = self.0;
        let (bridge, uplink, priority) = (&step.ext_bridge_name, &step.ext_bridge_uplink, step.networkd_file_priority);
        let file = |name: String, text: String| {
            let text = format!("# Managed by k8slab.capi.lxd_host.\n{text}");
            Declared::configuration(step.networkd_dir.join(name), text)
        };
        let link_local = match step.ext_bridge_link_local {
            LinkLocal::Yes => "yes",
            LinkLocal::No => "no",
            LinkLocal::Ipv4 => "ipv4",
            LinkLocal::Ipv6 => "ipv6",
            LinkLocal::Fallback => "fallback",
        };
        vec![
            Declared::folder(step.networkd_dir.to_path_buf(), Owner::default(), 0o755),
            // Without an address the bridge asks for no listeners, and a snooping bridge stops to pass router advertisements on.
            file(
                format!("{priority:02}-{bridge}.netdev"),
                format!(
                    "[NetDev]\nName={bridge}\nKind=bridge\nMTUBytes={}\n\n\
                     [Bridge]\nSTP={}\nForwardDelaySec={}\nMulticastSnooping=no\n",
                    step.ext_bridge_mtu,
                    yes_or_no(step.ext_bridge_stp),
                    step.forward_delay(),
                ),
            ),
            // Nothing at boot waits for links that give the host no address.
            file(
                format!("{priority:02}-{bridge}.network"),
                format!(
                    "[Match]\nName={bridge}\n\n[Link]\nRequiredForOnline=no\n\n\
                     [Network]\nLinkLocalAddressing={link_local}\nIPv6AcceptRA={}\nConfigureWithoutCarrier=yes\n",
                    yes_or_no(step.ext_bridge_accept_ra == AcceptRa::Yes),
                ),
            ),
            file(
                format!("{:02}-{bridge}-uplink.network", priority + 1),
                format!(
                    "[Match]\nName={uplink}\n\n[Link]\nRequiredForOnline=no\n\n\
                     [Network]\nBridge={bridge}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
                ),
            ),
        ]
    }

    /// The files of networkd that say what becomes of a link, each with the link.
    pub(crate) fn told(&self) -> Vec<(PathBuf, String)> {
        let (bridge, uplink) = (&self.0.ext_bridge_name, &self.0.ext_bridge_uplink);
        // The first of the declared is the folder.
        let files = self.files().into_iter().skip(1).map(|file| file.path);
        files.zip([bridge, bridge, uplink].map(Clone::clone)).collect()
    }

    /// What keeps the host without addresses on the two links, where networkd does not.
    pub(super) fn parameters(&self) -> Vec<Parameter> {
        const NO_ADDRESS: &str = "1";
        const BY_HARDWARE: &str = "0";
        let step = self.0;
        let addressing = match step.ext_bridge_link_local {
            LinkLocal::Yes | LinkLocal::Ipv6 => BY_HARDWARE,
            LinkLocal::No | LinkLocal::Ipv4 | LinkLocal::Fallback => NO_ADDRESS,
        };
        let accept_ra = if step.ext_bridge_accept_ra == AcceptRa::Yes { "1" } else { "0" };
        let of = |link: &str, name, value| Parameter { link: link.to_owned(), name, value };
        vec![
            of(&step.ext_bridge_name, "addr_gen_mode", addressing),
            of(&step.ext_bridge_name, "accept_ra", accept_ra),
            of(&step.ext_bridge_uplink, "addr_gen_mode", NO_ADDRESS),
            of(&step.ext_bridge_uplink, "accept_ra", "0"),
        ]
    }

    pub(super) fn properties(&self) -> [Property; 4] {
        [
            Property::Mtu(self.0.ext_bridge_mtu),
            Property::Stp(self.0.ext_bridge_stp),
            Property::ForwardDelay(self.0.forward_delay()),
            Property::MulticastSnooping(false),
        ]
    }
}

fn yes_or_no(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}
