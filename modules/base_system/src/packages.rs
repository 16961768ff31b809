//! Packages of the distribution.

use std::{collections::BTreeMap, time::Duration};

use converge::{Failure, Section};
use host::package::Install;
use lab::machine;

use crate::BaseSystem;

/// The packages that must be installed.
pub(crate) struct Packages<'a>(pub &'a BaseSystem);

impl Packages<'_> {
    fn wanted(&self) -> impl Iterator<Item = &str> {
        let step = self.0;
        let snapd = step.snapd_enabled.then_some(machine::SNAPD);
        let btrfs = step.btrfs_enabled.then_some(machine::BTRFS);
        let for_btrfs = step.btrfs_extra_packages.iter().filter(|_| step.btrfs_enabled);
        let extra = step.extra_packages.iter().chain(for_btrfs).map(String::as_str);
        machine::PACKAGES.into_iter().chain(snapd).chain(btrfs).chain(extra)
    }
}

impl Section for Packages<'_> {
    const NAME: &'static str = "packages";
    type Live = BTreeMap<String, String>;
    type Change = Install;

    async fn observe(&self) -> Result<Self::Live, Failure> {
        Ok(host::package::installed(&self.0.root)?)
    }

    fn plan(&self, installed: &Self::Live) -> Result<Vec<Install>, Failure> {
        Ok(Install::missing(self.wanted(), installed).into_iter().collect())
    }

    async fn apply(&self, change: &Install) -> Result<(), Failure> {
        let valid = Duration::from_secs(self.0.apt_cache_valid_time.into());
        Ok(change.apply(&self.0.root, valid).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(step: &BaseSystem, installed: &str) -> String {
        let installed = installed.split(' ').map(|name| (name.to_owned(), "1".to_owned())).collect();
        Packages(step).plan(&installed).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn plans() {
        const BASE: &str = "python3 python3-apt ca-certificates curl tar gzip xz-utils";
        let with = |bend: fn(&mut BaseSystem)| {
            let mut step = BaseSystem::default();
            bend(&mut step);
            step
        };
        let everything = format!("{BASE} snapd btrfs-progs");
        for (case, step, installed, expected) in [
            ("all there", with(|_| ()), everything.as_str(), ""),
            (
                "some missing",
                with(|_| ()),
                "python3 python3-apt tar gzip snapd btrfs-progs",
                "install ca-certificates, curl, xz-utils",
            ),
            ("without snapd", with(|step| step.snapd_enabled = false), &format!("{BASE} btrfs-progs"), ""),
            (
                "without btrfs, whose additions then do not count",
                with(|step| {
                    step.btrfs_enabled = false;
                    step.btrfs_extra_packages = vec!["btrbk".into()];
                }),
                &format!("{BASE} snapd"),
                "",
            ),
            (
                "additions, one of them twice",
                with(|step| {
                    step.extra_packages = vec!["jq".into(), "btrbk".into()];
                    step.btrfs_extra_packages = vec!["btrbk".into()];
                }),
                &everything,
                "install btrbk, jq",
            ),
        ] {
            assert_eq!(plan(&step, installed), expected, "{case}");
        }
    }
}
