//! Modules of the kernel, loaded now and at every start.

use std::{collections::BTreeMap, fmt};

use converge::{Change, Failure, Section};
use host::{
    file::{Declared, FileChange},
    kernel::{self, Kernel, KernelError, Presence},
};
use lab::machine;
use serde_json::{Value, json};

use crate::BaseSystem;

/// The kernel modules that must be loaded, now and with the machine.
pub(crate) struct Modules<'a> {
    pub step: &'a BaseSystem,
    pub kernel: &'a Kernel<'a>,
}

#[derive(Default)]
pub(crate) struct Live {
    presence: BTreeMap<String, Presence>,
    unit_files: BTreeMap<String, host::file::Live>,
}

pub(crate) enum ModuleChange {
    Load(String),
    Persist { module: String, file: FileChange },
}

impl Modules<'_> {
    /// Each module with the trace that it leaves in a kernel without modules, where one is known.
    fn wanted(&self) -> BTreeMap<String, Option<&'static str>> {
        Self::of(self.step)
    }

    fn of(step: &BaseSystem) -> BTreeMap<String, Option<&'static str>> {
        let required = machine::MODULES.iter().map(|module| (module.name.to_owned(), Some(module.symbol)));
        let extra = step.extra_kernel_modules.iter().map(|name| {
            let node = machine::NODE_MODULES.iter().find(|module| module.name == *name);
            (name.replace('-', "_"), node.map(|module| module.symbol))
        });
        extra.chain(required).collect()
    }

    /// The names of all of them.
    pub(crate) fn names(step: &BaseSystem) -> impl Iterator<Item = String> {
        Self::of(step).into_keys()
    }

    fn unit_file(module: &str) -> Declared {
        Declared::configuration(format!("/etc/modules-load.d/{module}.conf"), format!("{module}\n"))
    }
}

impl Section for Modules<'_> {
    const NAME: &'static str = "modules";
    type Live = Live;
    type Change = ModuleChange;

    async fn observe(&self) -> Result<Live, Failure> {
        let root = &self.step.root;
        let mut live = Live::default();
        for (module, symbol) in self.wanted() {
            if let Some(file) = Self::unit_file(&module).observe(root)? {
                live.unit_files.insert(module.clone(), file);
            }
            live.presence.insert(module.clone(), self.kernel.presence(&module, symbol)?);
        }
        Ok(live)
    }

    fn plan(&self, live: &Live) -> Result<Vec<ModuleChange>, Failure> {
        let mut changes = Vec::new();
        for module in self.wanted().into_keys() {
            match live.presence.get(&module) {
                Some(Presence::Active) => {}
                Some(Presence::Missing) => return Err(KernelError::NoModule { module }.into()),
                Some(Presence::Loadable) | None => changes.push(ModuleChange::Load(module.clone())),
            }
            if let Some(file) = Self::unit_file(&module).compare(live.unit_files.get(&module)) {
                changes.push(ModuleChange::Persist { module, file });
            }
        }
        Ok(changes)
    }

    async fn apply(&self, change: &ModuleChange) -> Result<(), Failure> {
        match change {
            ModuleChange::Load(module) => kernel::load(&self.step.root, module).await?,
            ModuleChange::Persist { file, .. } => file.apply(&self.step.root)?,
        }
        Ok(())
    }
}

impl ModuleChange {
    pub(crate) fn loaded(&self) -> Option<String> {
        if let Self::Load(module) = self { Some(module.clone()) } else { None }
    }

    pub(crate) fn persisted(&self) -> Option<String> {
        if let Self::Persist { module, .. } = self { Some(module.clone()) } else { None }
    }
}

impl fmt::Display for ModuleChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(module) => write!(f, "load module {module}"),
            Self::Persist { file, .. } => file.fmt(f),
        }
    }
}

impl Change for ModuleChange {
    fn object(&self) -> String {
        match self {
            Self::Load(module) => format!("module {module}"),
            Self::Persist { file, .. } => file.object(),
        }
    }

    fn before(&self) -> Value {
        match self {
            Self::Load(_) => json!({"loaded": false}),
            Self::Persist { file, .. } => file.before(),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Load(_) => json!({"loaded": true}),
            Self::Persist { file, .. } => file.after(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(active: &[&str], loadable: &[&str], missing: &[&str]) -> Live {
        let states = [(active, Presence::Active), (loadable, Presence::Loadable), (missing, Presence::Missing)];
        let presence = states.into_iter().flat_map(|(names, state)| names.iter().map(move |name| ((*name).to_owned(), state)));
        let file = |module: &str| host::file::Live {
            content: Some(Modules::unit_file(module).content),
            owner: host::Owner::default(),
            mode: 0o644,
        };
        Live { presence: presence.collect(), unit_files: active.iter().map(|name| ((*name).to_owned(), file(name))).collect() }
    }

    #[test]
    fn plans() {
        const REQUIRED: [&str; 3] = ["br_netfilter", "nf_conntrack", "overlay"];
        for (case, extra, live, expected) in [
            ("all active and persisted", vec![], live(&REQUIRED, &[], &[]), ""),
            (
                "one not loaded",
                vec![],
                live(&REQUIRED[1..], &["br_netfilter"], &[]),
                "load module br_netfilter; create /etc/modules-load.d/br_netfilter.conf",
            ),
            (
                "an addition in the other spelling",
                vec!["dm-crypt"],
                live(&REQUIRED, &["dm_crypt"], &[]),
                "load module dm_crypt; create /etc/modules-load.d/dm_crypt.conf",
            ),
            ("an addition that is required anyway", vec!["overlay"], live(&REQUIRED, &[], &[]), ""),
            (
                "one that the kernel does not have",
                vec!["zfs"],
                live(&REQUIRED, &[], &["zfs"]),
                "MODULE_NOT_FOUND: the running kernel has no module zfs",
            ),
        ] {
            let extra = extra.into_iter().map(str::to_owned).collect();
            let step = BaseSystem { extra_kernel_modules: extra, ..BaseSystem::default() };
            let plan = match (Modules { step: &step, kernel: &Kernel::of(&step.root) }).plan(&live) {
                Ok(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                Err(failure) => failure.to_string(),
            };
            assert_eq!(plan, expected, "{case}");
        }
    }
}
