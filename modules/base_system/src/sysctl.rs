//! Parameters of the kernel, set now and at every start.

use std::{collections::BTreeMap, fmt, fmt::Write as _, path::Path};

use converge::{Change, Failure, Section};
use host::{
    file::{Declared, FileChange},
    sysctl::{self, Setting},
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
    /// All parameters. What the user gives meets what is required.
    fn wanted(&self) -> BTreeMap<String, String> {
        let extra = &self.0.extra_sysctl;
        let is_given = |key: &str| extra.keys().any(|extra| sysctl::path(extra) == sysctl::path(key));
        let required = machine::SYSCTLS.iter().filter(|parameter| !is_given(parameter.key));
        let required = required.map(|parameter| (parameter.key.to_owned(), parameter.value.to_owned()));
        required.chain(extra.iter().map(|(key, value)| (key.clone(), sysctl::normalised(value)))).collect()
    }

    /// The parameters as they are written down. A limit that is higher by now would be lowered when the machine starts.
    fn kept(&self, live: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut kept = self.wanted();
        kept.retain(|key, wanted| live.get(key).is_none_or(|found| found == wanted || !is_met(key, wanted, found)));
        kept
    }

    fn file(&self, live: &BTreeMap<String, String>) -> Declared {
        let mut text = String::from("# Managed by k8slab.capi.base_system.\n");
        for (key, value) in self.kept(live) {
            let _ = writeln!(text, "{key} = {value}");
        }
        Declared::configuration(machine::SYSCTL_FILE, text)
    }
}

/// What the lab requires of a parameter, however its name is spelt.
pub(crate) fn required(key: &str) -> Option<&'static machine::Parameter> {
    machine::SYSCTLS.iter().find(|parameter| sysctl::path(parameter.key) == sysctl::path(key))
}

/// Whether a value does where another is wanted. A limit is only ever raised.
pub(crate) fn is_met(key: &str, wanted: &str, found: &str) -> bool {
    let is_higher = || matches!((found.parse::<u64>(), wanted.parse::<u64>()), (Ok(found), Ok(wanted)) if found > wanted);
    found == wanted || required(key).is_some_and(|parameter| parameter.is_limit) && is_higher()
}

/// What files that are read after ours set to something else when the machine starts.
pub(crate) fn overruled(step: &BaseSystem) -> Result<Vec<String>, host::Error> {
    let later = sysctl::later(&step.root, Path::new(machine::SYSCTL_FILE))?;
    let overruled = Sysctl(step).wanted().into_iter().filter_map(|(key, wanted)| {
        let Setting { file, value } = later.get(&sysctl::path(&key)).filter(|setting| !is_met(&key, &wanted, &setting.value))?;
        Some(format!("{} sets {key} to {value} when the machine starts, after {}", file.display(), machine::SYSCTL_FILE))
    });
    Ok(overruled.collect())
}

impl Section for Sysctl<'_> {
    const NAME: &'static str = "sysctl";
    type Live = Live;
    type Change = SysctlChange;

    async fn observe(&self) -> Result<Live, Failure> {
        let root = &self.0.root;
        let mut values = BTreeMap::new();
        for key in self.wanted().into_keys() {
            if let Some(value) = sysctl::read(root, &key)? {
                values.insert(key, value);
            }
        }
        Ok(Live { file: self.file(&values).observe(root)?, values })
    }

    fn plan(&self, live: &Live) -> Result<Vec<SysctlChange>, Failure> {
        let mut changes: Vec<_> = self.file(&live.values).compare(live.file.as_ref()).map(SysctlChange::Keep).into_iter().collect();
        if self.0.sysctl_apply {
            changes.extend(self.wanted().into_iter().filter_map(|(key, after)| {
                let before = live.values.get(&key).cloned();
                let is_met = before.as_ref().is_some_and(|before| is_met(&key, &after, before));
                (!is_met).then_some(SysctlChange::Set { key, before, after })
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
        let values = section.wanted();
        let content = Some(section.file(&values).content);
        Live { file: Some(host::file::Live { content, owner: host::Owner::default(), mode: 0o644 }), values }
    }

    #[test]
    fn plans() {
        let step = BaseSystem::default();
        let extra = BaseSystem { extra_sysctl: BTreeMap::from([("vm.swappiness".into(), "10".into())]), ..BaseSystem::default() };
        let raised =
            BaseSystem { extra_sysctl: BTreeMap::from([("fs.file-max".into(), "4194304".into())]), ..BaseSystem::default() };
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
            ("a lower limit", &step, drifted(&step, "fs.file-max", Some("8192")), "fs.file-max: 8192 -> 2097152"),
            (
                "a higher limit, which our file would lower at the next start",
                &step,
                drifted(&step, "fs.file-max", Some("9223372036854775807")),
                "write /etc/sysctl.d/60-k8slab-base-system.conf",
            ),
            (
                "a limit that the user wants higher still",
                &raised,
                as_wanted(&step),
                "write /etc/sysctl.d/60-k8slab-base-system.conf; fs.file-max: 2097152 -> 4194304",
            ),
            ("not to be applied", &only_file, drifted(&only_file, "net.ipv4.ip_forward", Some("0")), ""),
        ] {
            let plan = Sysctl(step).plan(&live).unwrap();
            assert_eq!(plan.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), expected, "{case}");
        }
    }
    #[test]
    fn a_higher_limit_is_left_out_of_the_file_and_stays_so() {
        let step = BaseSystem::default();
        let section = Sysctl(&step);
        let higher = BTreeMap::from([("fs.file-max".to_owned(), "9223372036854775807".to_owned())]);
        assert!(!section.kept(&higher).contains_key("fs.file-max"));
        for met in ["2097152", "8192"] {
            let live = BTreeMap::from([("fs.file-max".to_owned(), met.to_owned())]);
            assert_eq!(section.kept(&live)["fs.file-max"], "2097152", "{met}");
        }
        assert!(!is_met("net.ipv4.ip_forward", "1", "2"), "a switch has no order");
    }

    #[test]
    fn later_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = converge::AbsolutePath::new(folder.path().to_str().unwrap()).unwrap();
        let step = BaseSystem { root: root.into(), ..BaseSystem::default() };
        std::fs::create_dir_all(step.root.at("/etc/sysctl.d")).unwrap();
        std::fs::write(step.root.at("/etc/sysctl.d/99-hardening.conf"), "net/ipv4/ip_forward = 0\nfs.file-max = 9999999\n")
            .unwrap();
        let expected = "/etc/sysctl.d/99-hardening.conf sets net.ipv4.ip_forward to 0 when the machine starts, \
                        after /etc/sysctl.d/60-k8slab-base-system.conf";
        assert_eq!(overruled(&step).unwrap(), [expected]);
    }
}
