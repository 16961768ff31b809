//! Parameters of the kernel, set now and at every start.

use std::{collections::BTreeMap, fmt, fmt::Write as _};

use converge::{Change, Failure, Section};
use host::{
    file::{Declared, FileChange},
    sysctl,
};
use lab::machine;
use serde_json::{Value, json};

use crate::BaseSystem;

/// The kernel parameters, in their file and live.
pub(crate) struct Sysctl<'a>(pub &'a BaseSystem);

#[derive(Default)]
pub(crate) struct Live {
    file: Option<host::file::Live>,
    values: BTreeMap<String, String>,
}

pub(crate) enum SysctlChange {
    Keep(FileChange),
    Set { key: String, before: Option<String>, after: String },
}

impl Sysctl<'_> {
    fn wanted(&self) -> BTreeMap<String, String> {
        let required = machine::SYSCTLS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let extra = self.0.extra_sysctl.iter().map(|(key, value)| (key.clone(), sysctl::normalised(value)));
        extra.chain(required).collect()
    }

    fn file(&self) -> Declared {
        let mut text = String::from("# Managed by k8slab.capi.base_system.\n");
        for (key, value) in self.wanted() {
            let _ = writeln!(text, "{key} = {value}");
        }
        Declared::configuration(machine::SYSCTL_FILE, text)
    }
}

impl Section for Sysctl<'_> {
    const NAME: &'static str = "sysctl";
    type Live = Live;
    type Change = SysctlChange;

    async fn observe(&self) -> Result<Live, Failure> {
        let root = &self.0.root;
        let mut live = Live { file: self.file().observe(root)?, values: BTreeMap::new() };
        for key in self.wanted().into_keys() {
            if let Some(value) = sysctl::read(root, &key)? {
                live.values.insert(key, value);
            }
        }
        Ok(live)
    }

    fn plan(&self, live: &Live) -> Result<Vec<SysctlChange>, Failure> {
        let mut changes: Vec<_> = self.file().compare(live.file.as_ref()).map(SysctlChange::Keep).into_iter().collect();
        if self.0.sysctl_apply {
            changes.extend(self.wanted().into_iter().filter_map(|(key, after)| {
                let before = live.values.get(&key).cloned();
                (before.as_ref() != Some(&after)).then_some(SysctlChange::Set { key, before, after })
            }));
        }
        Ok(changes)
    }

    async fn apply(&self, change: &SysctlChange) -> Result<(), Failure> {
        match change {
            SysctlChange::Keep(file) => file.apply(&self.0.root)?,
            SysctlChange::Set { key, after, .. } => sysctl::write(&self.0.root, key, after)?,
        }
        Ok(())
    }
}

impl SysctlChange {
    pub(crate) fn parameter(&self) -> Option<(String, String)> {
        if let Self::Set { key, after, .. } = self { Some((key.clone(), after.clone())) } else { None }
    }
}

impl fmt::Display for SysctlChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep(file) => file.fmt(f),
            Self::Set { key, before, after } => write!(f, "{key}: {} -> {after}", before.as_deref().unwrap_or("(unset)")),
        }
    }
}

impl Change for SysctlChange {
    fn object(&self) -> String {
        match self {
            Self::Keep(file) => file.object(),
            Self::Set { .. } => "kernel parameters".into(),
        }
    }

    fn before(&self) -> Value {
        match self {
            Self::Keep(file) => file.before(),
            Self::Set { key, before, .. } => json!({key: before}),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Keep(file) => file.after(),
            Self::Set { key, after, .. } => json!({key: after}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_wanted(step: &BaseSystem) -> Live {
        let section = Sysctl(step);
        let file = host::file::Live { content: Some(section.file().content), owner: host::Owner::default(), mode: 0o644 };
        Live { file: Some(file), values: section.wanted() }
    }

    #[test]
    fn plans() {
        let step = BaseSystem::default();
        let extra = BaseSystem { extra_sysctl: BTreeMap::from([("vm.swappiness".into(), "10".into())]), ..BaseSystem::default() };
        let only_file = BaseSystem { sysctl_apply: false, ..BaseSystem::default() };
        let drifted = |step: &BaseSystem, key: &str, value: Option<&str>| {
            let mut live = as_wanted(step);
            live.values.remove(key);
            live.values.extend(value.map(|value| (key.to_owned(), value.to_owned())));
            live
        };
        for (case, step, live, expected) in [
            ("as wanted", &step, as_wanted(&step), ""),
            ("a value drifted", &step, drifted(&step, "net.ipv4.ip_forward", Some("0")), "net.ipv4.ip_forward: 0 -> 1"),
            (
                "a parameter that its module has yet to bring",
                &step,
                drifted(&step, "net.ipv4.ip_forward", None),
                "net.ipv4.ip_forward: (unset) -> 1",
            ),
            (
                "an addition",
                &extra,
                as_wanted(&step),
                "write /etc/sysctl.d/60-k8slab-base-system.conf; vm.swappiness: (unset) -> 10",
            ),
            ("not to be applied", &only_file, drifted(&only_file, "net.ipv4.ip_forward", Some("0")), ""),
        ] {
            let plan = Sysctl(step).plan(&live).unwrap();
            assert_eq!(plan.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), expected, "{case}");
        }
    }
}
