//! Brings a bare host to what LXD and Kubernetes nodes in containers need.

mod directories;
mod modules;
mod packages;
mod pool;
mod surroundings;
mod sysctl;

use std::collections::BTreeMap;

use ansible::{OptionError, Run, Step};
use converge::{AbsolutePath, Failure};
use host::{OsRelease, Root, file, kernel::Kernel, package};
use lab::machine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use directories::Directories;
use modules::{ModuleChange, Modules};
use packages::Packages;
use sysctl::{Sysctl, SysctlChange};

/// Converge the host's packages, kernel modules, kernel parameters and folders.
///
/// Brings a bare Debian or Ubuntu host to what LXD and Kubernetes nodes in containers need. It installs no LXD, formats and mounts
/// nothing, and adds no package repository. A limit of the kernel is only ever raised: one that is higher stays, now and when the machine
/// starts. Files that undo a setting when the machine starts are named.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct BaseSystem {
    /// Folder of the lab's programs and settings; its folders C(bin) and C(etc) are made with it.
    #[default(machine::OPT_ROOT.into())]
    #[schemars(extend("global" = "opt_root"))]
    pub opt_root: AbsolutePath,
    /// Owner of these folders.
    #[default("root".into())]
    #[schemars(length(min = 1))]
    pub opt_owner: String,
    /// Group of these folders.
    #[default("root".into())]
    #[schemars(length(min = 1))]
    pub opt_group: String,
    /// Mode of these folders.
    #[default("0755".into())]
    #[schemars(regex(pattern = file::MODE))]
    pub opt_mode: String,
    /// Packages to install beside the required ones.
    #[schemars(inner(regex(pattern = package::NAME)))]
    pub extra_packages: Vec<String>,
    /// Whether snapd is among the required packages; it is needed only for LXD from its snap.
    #[default(true)]
    pub snapd_enabled: bool,
    /// Whether the programs for btrfs are among the required packages.
    #[default(true)]
    pub btrfs_enabled: bool,
    /// Packages to install beside those for btrfs; only used with O(btrfs_enabled=true).
    #[schemars(inner(regex(pattern = package::NAME)))]
    pub btrfs_extra_packages: Vec<String>,
    /// Before packages are installed, APT's lists are refreshed if they are older than this, in seconds. A refresh alone does
    /// not count as a change.
    #[default(3600)]
    #[schemars(range(min = 0))]
    pub apt_cache_valid_time: u32,
    /// Whether kernel parameters are set at once, and not only written to C(/etc/sysctl.d).
    #[default(true)]
    pub sysctl_apply: bool,
    /// Kernel parameters to set beside the required ones. A required one cannot be overridden.
    #[schemars(extend("key_pattern" = r"^[A-Za-z0-9_-]+([./][A-Za-z0-9_:.@/-]+)+$"))]
    pub extra_sysctl: BTreeMap<String, String>,
    /// Kernel modules to load beside the required ones.
    #[schemars(inner(regex(pattern = r"^[A-Za-z0-9_-]+$")))]
    pub extra_kernel_modules: Vec<String>,
    /// Whether the filesystem for LXD's pool must be mounted already.
    pub btrfs_pool_required: bool,
    /// Where this filesystem must be mounted. Only used with O(btrfs_pool_required=true).
    #[default("/var/lib/k8slab/lxd-pool".into())]
    pub btrfs_pool_mountpoint: AbsolutePath,
    /// Type that this filesystem must have.
    #[default("btrfs".into())]
    #[schemars(length(min = 1))]
    pub btrfs_pool_fstype: String,
    /// Label that this filesystem should have. If it has another one, the step warns. With an empty text, any label will do.
    #[default("k8slab-lxdpool".into())]
    pub btrfs_pool_label: String,
    /// If the host has less memory than this, in MiB, the step warns. With V(0) it never warns. A whole lab fits in the
    /// default.
    #[default(machine::MEMORY_MIB)]
    #[schemars(range(min = 0))]
    pub memory_warning_mib: u32,
    /// Folder that stands for the machine's root, for images and chroots. Every path is taken below it, and commands run inside it.
    #[schemars(extend("tells_apart" = true))]
    pub root: Root,
}

/// What the step returns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Facts {
    /// Packages that this run installed.
    pub packages_installed: Vec<String>,
    /// Kernel modules that this run loaded.
    pub modules_loaded: Vec<String>,
    /// Kernel modules that from this run on are loaded with the machine.
    pub modules_persisted: Vec<String>,
    /// Kernel parameters that this run set, with their new values.
    pub sysctl_changed: BTreeMap<String, String>,
    /// The lab's folders.
    pub directories: Vec<String>,
}

impl Step for BaseSystem {
    const NAME: &'static str = "base_system";
    const SECTIONS: &'static [&'static str] = &["packages", "modules", "sysctl"];
    const EXAMPLES: &'static str = "\
- name: Prepare the host
  k8slab.capi.base_system:
    extra_packages:
      - jq
    extra_sysctl:
      vm.max_map_count: 262144
  become: true
";
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        let refused = self.extra_sysctl.iter().find_map(|(key, value)| {
            let required = sysctl::required(key)?.value;
            (!sysctl::is_met(key, required, value)).then(|| (key.clone(), required.to_owned()))
        });
        match refused {
            Some((key, required)) => Err(OptionError::Collision { option: "extra_sysctl".into(), key, required }.into()),
            None => Ok(()),
        }
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        OsRelease::read(&self.root)?.require_supported()?;
        let kernel = Kernel::of(&self.root);
        for warning in pool::check(self)?.into_iter().chain(surroundings::warnings(self, &kernel).await?) {
            run.warn(warning);
        }
        let packages = run.section(&Packages(self)).await?.changes;
        let modules = run.section(&Modules { step: self, kernel: &kernel }).await?.changes;
        let sysctl = run.section(&Sysctl(self)).await?.changes;
        let directories = Directories(self);
        run.section(&directories).await?;
        run.verify(async {
            Ok(Facts {
                packages_installed: packages.into_iter().flat_map(|change| change.packages).collect(),
                modules_loaded: modules.iter().filter_map(ModuleChange::loaded).collect(),
                modules_persisted: modules.iter().filter_map(ModuleChange::persisted).collect(),
                sysctl_changed: sysctl.iter().filter_map(SysctlChange::parameter).collect(),
                directories: directories.paths().map(|path| path.display().to_string()).collect(),
            })
        })
        .await
    }
}
