//! Modules of the running kernel.

use std::{cell::OnceCell, path::Path};

use crate::{Error, Root};

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
        let release = root.read("/proc/sys/kernel/osrelease")?.unwrap_or_default();
        let folder = Path::new("/lib/modules").join(release.trim());
        let lists = |file: &str| Ok::<_, Error>(root.read(folder.join(file))?.is_some_and(|text| names(&text, module)));
        Ok(match () {
            () if lists("modules.builtin")? => Presence::Active,
            () if lists("modules.dep")? => Presence::Loadable,
            () => Presence::Missing,
        })
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

/// Dashes and underscores are one to the kernel.
fn same(one: &str, other: &str) -> bool {
    one.replace('-', "_") == other.replace('-', "_")
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
