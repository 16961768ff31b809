//! Modules of the running kernel.

use std::{
    cell::OnceCell,
    io,
    path::{Path, PathBuf},
};

use converge::{Explain, Explanation};

use crate::{Error, Root, layered};

/// How a kernel has a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Loaded or built in.
    Active,
    /// There to be loaded.
    Loadable,
    /// Not there.
    Missing,
}

/// The running kernel.
#[derive(Debug)]
pub struct Kernel<'a> {
    root: &'a Root,
    /// Its own symbols. The kernel writes the list anew for each reader, and that takes a while.
    symbols: OnceCell<String>,
}

impl<'a> Kernel<'a> {
    /// The kernel of a machine.
    #[must_use]
    pub fn of(root: &'a Root) -> Self {
        Self { root, symbols: OnceCell::new() }
    }

    /// How it has `module`.
    ///
    /// A kernel built without loadable modules has neither a list of them nor files that say what is built in. There, `symbol`, a
    /// function that nothing but this module brings, is looked for among the kernel's own.
    pub fn presence(&self, module: &str, symbol: Option<&str>) -> Result<Presence, Error> {
        let root = self.root;
        let loaded = root.read("/proc/modules")?;
        let is_loaded = |list: &String| list.lines().any(|line| line.split(' ').next().is_some_and(|name| same(name, module)));
        if loaded.as_ref().is_some_and(is_loaded) || root.has(Path::new("/sys/module").join(module.replace('-', "_"))) {
            return Ok(Presence::Active);
        }
        if loaded.is_none() {
            let built_in = symbol.map(|symbol| self.has_symbol(symbol)).transpose()?.unwrap_or_default();
            return Ok(if built_in { Presence::Active } else { Presence::Missing });
        }
        Ok(match () {
            () if self.lists("modules.builtin", module)? => Presence::Active,
            () if self.lists("modules.dep", module)? => Presence::Loadable,
            () => Presence::Missing,
        })
    }

    /// The file that keeps a module from being loaded when the machine starts; nothing for one that is built in.
    pub fn withheld(&self, module: &str) -> Result<Option<PathBuf>, Error> {
        let root = self.root;
        if !loads_modules(root) || self.lists("modules.builtin", module)? {
            return Ok(None);
        }
        for file in layered::files(root, "modprobe.d", ".conf")? {
            let text = root.read(&file)?.unwrap_or_default();
            let withholds = |line: &str| {
                let words: Vec<_> = line.split_whitespace().collect();
                match words.as_slice() {
                    ["blacklist", name, ..] => same(name, module),
                    ["install", name, command, ..] => same(name, module) && ["true", "false"].contains(&last_part(command)),
                    _ => false,
                }
            };
            if text.lines().any(withholds) {
                return Ok(Some(file));
            }
        }
        let parameters = root.read("/proc/cmdline")?.unwrap_or_default();
        let withholds = |parameter: &str| match parameter.split_once('=') {
            Some(("modprobe.blacklist" | "module_blacklist", list)) => list.split(',').any(|name| same(name, module)),
            _ => false,
        };
        Ok(parameters.split_whitespace().any(withholds).then(|| "/proc/cmdline".into()))
    }

    fn lists(&self, file: &str, module: &str) -> Result<bool, Error> {
        let release = self.root.read("/proc/sys/kernel/osrelease")?.unwrap_or_default();
        let list = self.root.read(Path::new("/lib/modules").join(release.trim()).join(file))?;
        Ok(list.is_some_and(|text| names(&text, module)))
    }

    fn has_symbol(&self, symbol: &str) -> Result<bool, Error> {
        if self.symbols.get().is_none() {
            let symbols = self.root.read("/proc/kallsyms")?.unwrap_or_default();
            self.symbols.get_or_init(|| symbols);
        }
        let wanted = format!(" {symbol}\n");
        Ok(self.symbols.get().is_some_and(|symbols| symbols.contains(&wanted)))
    }
}

/// Whether the kernel can load modules at all.
#[must_use]
pub fn loads_modules(root: &Root) -> bool {
    root.has("/proc/modules")
}

/// Loads a module.
pub async fn load(root: &Root, module: &str) -> Result<(), Error> {
    root.command("modprobe").arg("--").arg(module).execute().await.map(drop)
}

fn names(list: &str, module: &str) -> bool {
    let files = list.lines().filter_map(|line| line.split(':').next()?.rsplit('/').next());
    files.filter_map(|file| file.split(".ko").next()).any(|name| same(name, module))
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Dashes and underscores are one to the kernel.
fn same(one: &str, other: &str) -> bool {
    one.replace('-', "_") == other.replace('-', "_")
}

/// What the running kernel lacks or refuses.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// It has no such module.
    #[error("the running kernel has no module {module}")]
    NoModule {
        /// The module.
        module: String,
    },
    /// It has no such parameter.
    #[error("the running kernel has no parameter {key}")]
    NoParameter {
        /// The parameter.
        key: String,
    },
    /// It does not take the value.
    #[error("the kernel does not take {key} = {value}")]
    Refused {
        /// The parameter.
        key: String,
        /// The value.
        value: String,
        /// The system's words.
        source: io::Error,
    },
}

impl Explain for KernelError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoModule { .. } => Explanation::new("MODULE_NOT_FOUND")
                .hint("the kernel was upgraded without a reboot, or its package of extra modules is not installed"),
            Self::NoParameter { .. } => {
                Explanation::new("SYSCTL_NOT_FOUND").hint("the module that brings it is not loaded; add it to extra_kernel_modules")
            }
            Self::Refused { .. } => {
                Explanation::new("SYSCTL_REFUSED").hint("in a container, the parameters of the whole machine are set on its host")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::machine;

    #[test]
    fn a_kernel_with_modules() {
        let (_folder, root) = machine(&[
            ("/proc/modules", "br_netfilter 32768 0 - Live 0x0\n"),
            ("/proc/sys/kernel/osrelease", "6.1.0-1-amd64\n"),
            ("/lib/modules/6.1.0-1-amd64/modules.builtin", "kernel/fs/overlayfs/overlay.ko\n"),
            ("/lib/modules/6.1.0-1-amd64/modules.dep", "kernel/net/netfilter/nf_conntrack.ko.xz: kernel/lib/libcrc32c.ko.xz\n"),
            ("/sys/module/vxlan/version", ""),
        ]);
        for (module, expected) in [
            ("br_netfilter", Presence::Active),
            ("br-netfilter", Presence::Active),
            ("overlay", Presence::Active),
            ("vxlan", Presence::Active),
            ("nf_conntrack", Presence::Loadable),
            ("libcrc32c", Presence::Missing),
            ("conntrack", Presence::Missing),
        ] {
            assert_eq!(Kernel::of(&root).presence(module, None).unwrap(), expected, "{module}");
        }
    }

    #[test]
    fn what_keeps_a_module_from_being_loaded() {
        let modprobe = "/etc/modprobe.d/hardening.conf";
        for (case, file, text, expected) in [
            ("nothing", modprobe, "# blacklist vxlan\nblacklist vxlan2\noptions vxlan x=1\n", None),
            ("a list", modprobe, "blacklist vxlan\n", Some(modprobe)),
            ("in the other spelling", modprobe, "  blacklist  br-netfilter\n", None),
            ("a command that does nothing", modprobe, "install vxlan /bin/false\n", Some(modprobe)),
            ("a command that does more", modprobe, "install vxlan /sbin/modprobe --ignore-install vxlan\n", None),
            ("another kind of file", "/etc/modprobe.d/README", "blacklist vxlan\n", None),
            (
                "the kernel's parameters",
                "/proc/cmdline",
                "root=/dev/vda modprobe.blacklist=floppy,vxlan quiet\n",
                Some("/proc/cmdline"),
            ),
        ] {
            let (_folder, root) = machine(&[(file, text), ("/proc/modules", "")]);
            let found = Kernel::of(&root).withheld("vxlan").unwrap();
            assert_eq!(found.as_deref(), expected.map(Path::new), "{case}");
        }
        let (_folder, root) = machine(&[
            (modprobe, "blacklist br-netfilter\nblacklist overlay\n"),
            ("/proc/modules", ""),
            ("/proc/sys/kernel/osrelease", "6.1\n"),
            ("/lib/modules/6.1/modules.builtin", "kernel/fs/overlayfs/overlay.ko\n"),
        ]);
        assert_eq!(Kernel::of(&root).withheld("br_netfilter").unwrap().as_deref(), Some(Path::new(modprobe)));
        assert_eq!(Kernel::of(&root).withheld("overlay").unwrap(), None, "it is built in");
    }

    #[test]
    fn a_kernel_without_modules() {
        let (_folder, root) = machine(&[
            ("/proc/kallsyms", "0000000000000000 T nft_do_chain\n0000000000000000 t my_ip_vs_in\n"),
            ("/sys/module/overlay/parameters/metacopy", "N"),
        ]);
        for (module, symbol, expected) in [
            ("overlay", None, Presence::Active),
            ("nf_tables", Some("nft_do_chain"), Presence::Active),
            ("nf_tables", None, Presence::Missing),
            ("ip_vs", Some("ip_vs_in"), Presence::Missing),
        ] {
            assert_eq!(Kernel::of(&root).presence(module, symbol).unwrap(), expected, "{module}");
        }
    }
}
