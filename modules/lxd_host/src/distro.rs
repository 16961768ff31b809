//! LXD from the distribution's package.

use std::{collections::BTreeMap, time::Duration};

use converge::{Failure, Section};
use host::package::{self, Install};
use lab::machine;

use crate::LxdHost;

/// How old APT's lists may be when LXD is installed.
const LISTS_VALID: Duration = Duration::from_secs(3600);

/// LXD as the distribution's package.
pub(crate) struct Packages<'a>(pub &'a LxdHost);

impl Section for Packages<'_> {
    const NAME: &'static str = "packages";
    type Live = BTreeMap<String, String>;
    type Change = Install;

    async fn observe(&self) -> Result<Self::Live, Failure> {
        Ok(package::installed(&self.0.root)?)
    }

    fn plan(&self, installed: &Self::Live) -> Result<Vec<Install>, Failure> {
        // One after the other: LXD is started by its own installation.
        let first = Install::missing(machine::BEFORE_LXD, installed);
        let lxd = Install::missing([self.0.distro_package.as_str()], installed);
        Ok(first.into_iter().chain(lxd).collect())
    }

    async fn apply(&self, change: &Install) -> Result<(), Failure> {
        Ok(change.apply(&self.0.root, LISTS_VALID).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans() {
        for (installed, expected) in [
            (&[][..], "install iptables, nftables; install lxd"),
            (&["nftables"], "install iptables; install lxd"),
            (&["iptables", "lxd", "nftables"], ""),
        ] {
            let installed = installed.iter().map(|name| ((*name).to_owned(), String::new())).collect();
            let plan = Packages(&LxdHost::default()).plan(&installed).unwrap();
            assert_eq!(plan.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), expected);
        }
    }
}
