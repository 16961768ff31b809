//! Places kubectl, clusterctl, Helm and k3s on the host, each verified.

mod checksum;
mod error;
mod fetch;
mod folder;
mod source;
mod tool;

use std::{collections::BTreeMap, path::PathBuf, thread};

use ::bundle::{Bundle, Location};
use ansible::{Run, Step};
use converge::{AbsolutePath, Failure};
use host::file;
use lab::{machine, versions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use fetch::Fetch;
use folder::Folder;
use source::Source;
use tool::{Clusterctl, Declared, Helm, K3s, Kubectl, Tool};

/// Converge kubectl, clusterctl, Helm and k3s on the host.
///
/// Each is downloaded, or taken from a folder, compared with its checksum, tried out, and only then put in its place. A record next
/// to it keeps what was verified, so that a second run needs no network.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, SmartDefault)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct BinaryFetch {
    /// Folder of the lab's programs and settings.
    #[default(machine::OPT_ROOT.into())]
    #[schemars(extend("global" = "opt_root"))]
    pub opt_root: AbsolutePath,
    /// Folder of the tools. If unset, C(bin) in O(opt_root).
    pub bin_dir: Option<AbsolutePath>,
    /// Owner of the folder and of the tools.
    #[default("root".into())]
    #[schemars(length(min = 1))]
    pub owner: String,
    /// Group of the folder and of the tools.
    #[default("root".into())]
    #[schemars(length(min = 1))]
    pub group: String,
    /// Mode of the folder and of the tools.
    #[default("0755".into())]
    #[schemars(regex(pattern = file::MODE))]
    pub mode: String,
    /// How long to wait for a server that sends nothing, in seconds.
    #[default(180)]
    #[schemars(range(min = 1))]
    pub download_timeout: u32,
    /// CPU architecture of the host.
    pub arch: Arch,
    /// Folder with the tools and their checksums, for use instead of all URLs. Each file has the name that its URL ends with.
    pub source_dir: Option<AbsolutePath>,
    /// A bundle is taken instead of the folder and of all URLs, and decides on the versions.
    #[serde(flatten)]
    pub bundle: Location,
    /// Whether kubectl is placed.
    #[default(true)]
    pub kubectl_enabled: bool,
    /// Version of kubectl.
    #[default(versions::KUBECTL.into())]
    #[schemars(regex(pattern = r"^v\d+\.\d+\.\d+$"), extend("global" = "kubectl_version"))]
    pub kubectl_version: String,
    /// URL of kubectl, with the scheme C(https) or C(file). A C(file) URL may also name the folder that kubectl is in. If
    /// unset, the release of kubectl is taken.
    #[schemars(regex(pattern = source::PATTERN))]
    pub kubectl_url: Option<String>,
    /// URL of the checksum. If unset, O(kubectl_url) with C(.sha256) after it.
    #[schemars(regex(pattern = source::PATTERN))]
    pub kubectl_checksum_url: Option<String>,
    /// Form of the checksum.
    pub kubectl_checksum_style: ChecksumStyle,
    /// SHA-256 of the file. If O(kubectl_checksum_url) gives a checksum too, both must be the same.
    #[schemars(regex(pattern = checksum::PATTERN))]
    pub kubectl_checksum_sha256: Option<String>,
    /// Name of the file in the list of checksums. Only used with O(kubectl_checksum_style=manifest).
    #[default("kubectl".into())]
    #[schemars(length(min = 1))]
    pub kubectl_checksum_entry: String,
    /// Name that kubectl gets in the folder.
    #[default("kubectl".into())]
    #[schemars(regex(pattern = tool::FILE_NAME))]
    pub kubectl_dest_filename: String,
    /// Whether clusterctl is placed.
    #[default(true)]
    pub clusterctl_enabled: bool,
    /// Version of clusterctl.
    #[default(versions::CLUSTERCTL.into())]
    #[schemars(regex(pattern = r"^v\d+\.\d+\.\d+$"), extend("global" = "clusterctl_version"))]
    pub clusterctl_version: String,
    /// URL of clusterctl, with the scheme C(https) or C(file). A C(file) URL may also name the folder that clusterctl is in. If
    /// unset, the release of clusterctl is taken.
    #[schemars(regex(pattern = source::PATTERN))]
    pub clusterctl_url: Option<String>,
    /// URL of the checksum. The release of clusterctl has no checksums, so this is required unless
    /// O(clusterctl_checksum_style=pinned).
    #[schemars(regex(pattern = source::PATTERN))]
    pub clusterctl_checksum_url: Option<String>,
    /// Form of the checksum.
    #[default(ChecksumStyle::Pinned)]
    pub clusterctl_checksum_style: ChecksumStyle,
    /// SHA-256 of the file. It is known for the default version on amd64. For another version or CPU architecture you must set
    /// it.
    #[schemars(regex(pattern = checksum::PATTERN))]
    pub clusterctl_checksum_sha256: Option<String>,
    /// Name of the file in the list of checksums. Only used with O(clusterctl_checksum_style=manifest).
    #[default("clusterctl".into())]
    #[schemars(length(min = 1))]
    pub clusterctl_checksum_entry: String,
    /// Name that clusterctl gets in the folder.
    #[default("clusterctl".into())]
    #[schemars(regex(pattern = tool::FILE_NAME))]
    pub clusterctl_dest_filename: String,
    /// Whether Helm is placed.
    #[default(true)]
    pub helm_enabled: bool,
    /// Version of Helm; 3.19 at least.
    #[default(versions::HELM.into())]
    #[schemars(regex(pattern = r"^v(3\.(19|[2-9]\d)|[4-9]\d*\.\d+)\.\d+$"), extend("global" = "helm_version"))]
    pub helm_version: String,
    /// URL of Helm, with the scheme C(https) or C(file). A C(file) URL may also name the folder that Helm is in. If the name of
    /// the file ends with C(.tar.gz), Helm is unpacked from it. If unset, the release of Helm is taken.
    #[schemars(regex(pattern = source::PATTERN))]
    pub helm_url: Option<String>,
    /// URL of the checksum. If unset, O(helm_url) with C(.sha256) after it.
    #[schemars(regex(pattern = source::PATTERN))]
    pub helm_checksum_url: Option<String>,
    /// Form of the checksum.
    pub helm_checksum_style: ChecksumStyle,
    /// SHA-256 of the file. If O(helm_checksum_url) gives a checksum too, both must be the same.
    #[schemars(regex(pattern = checksum::PATTERN))]
    pub helm_checksum_sha256: Option<String>,
    /// Name of the file in the list of checksums. Only used with O(helm_checksum_style=manifest). If unset, the name that the
    /// file has in the release of Helm.
    #[schemars(length(min = 1))]
    pub helm_checksum_entry: Option<String>,
    /// Name that Helm gets in the folder.
    #[default("helm".into())]
    #[schemars(regex(pattern = tool::FILE_NAME))]
    pub helm_dest_filename: String,
    /// Whether k3s is placed.
    #[default(true)]
    pub k3s_enabled: bool,
    /// Version of k3s.
    #[default(versions::K3S.into())]
    #[schemars(regex(pattern = r"^v\d+\.\d+\.\d+\+k3s\d+$"), extend("global" = "k3s_version"))]
    pub k3s_version: String,
    /// URL of k3s, with the scheme C(https) or C(file). A C(file) URL may also name the folder that k3s is in. If unset, the
    /// release of k3s is taken.
    #[schemars(regex(pattern = source::PATTERN))]
    pub k3s_url: Option<String>,
    /// URL of the checksum. If unset, the list of checksums in the release of k3s.
    #[schemars(regex(pattern = source::PATTERN))]
    pub k3s_checksum_url: Option<String>,
    /// Form of the checksum.
    #[default(ChecksumStyle::Manifest)]
    pub k3s_checksum_style: ChecksumStyle,
    /// SHA-256 of the file. If O(k3s_checksum_url) gives a checksum too, both must be the same.
    #[schemars(regex(pattern = checksum::PATTERN))]
    pub k3s_checksum_sha256: Option<String>,
    /// Name of the file in the list of checksums. Only used with O(k3s_checksum_style=manifest). If unset, the name that the
    /// file has in the release of k3s.
    #[schemars(length(min = 1))]
    pub k3s_checksum_entry: Option<String>,
    /// Name that k3s gets in the folder.
    #[default("k3s".into())]
    #[schemars(regex(pattern = tool::FILE_NAME))]
    pub k3s_dest_filename: String,
}

/// A CPU architecture, as Kubernetes names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64.
    #[default]
    Amd64,
    /// AArch64.
    Arm64,
}

impl Arch {
    fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// What form a checksum has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChecksumStyle {
    /// A file that begins with the checksum.
    #[default]
    Plain,
    /// A file that lists several files, one on each line, with their checksums.
    Manifest,
    /// An option with the checksum, instead of a file.
    Pinned,
}

/// What the step returns.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Facts {
    /// The tools by name.
    pub tools: BTreeMap<String, ToolFacts>,
    /// Tools that are stand-ins. Each is listed with what it is instead.
    pub standins: BTreeMap<String, String>,
}

/// A tool as it is now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ToolFacts {
    /// Where it is.
    pub path: String,
    /// Version of the tool.
    pub version: String,
    /// SHA-256 of the file that was verified. It is empty if the file was never verified.
    pub sha256: Option<String>,
    /// This run placed it.
    pub changed: bool,
}

impl Step for BinaryFetch {
    const NAME: &'static str = "binary_fetch";
    const SECTIONS: &'static [&'static str] = &[Kubectl::NAME, Clusterctl::NAME, Helm::NAME, K3s::NAME];
    const EXAMPLES: &'static str = "\
- name: Place the tools
  k8slab.capi.binary_fetch:
  become: true

- name: Place the tools from a folder, without any network
  k8slab.capi.binary_fetch:
    source_dir: /srv/mirror
    clusterctl_checksum_sha256: b20044c66b62e273d6fe101ea82a00dc2329c28e2bca1e9b6274b744474429ba
  become: true
";
    type Facts = Facts;

    fn preflight(&self) -> Result<(), Failure> {
        if self.bundle.bundle.is_some() {
            return Ok(());
        }
        self.declared().try_for_each(|tool| tool.check()).map_err(Into::into)
    }

    async fn converge(&self, run: &mut Run) -> Result<Option<Facts>, Failure> {
        let bundle = self.bundle.open()?;
        let mut facts = Facts::default();
        run.section(&Folder(self)).await?;
        let digests = self.digests();
        self.place::<Kubectl>(run, bundle.as_ref(), &digests, &mut facts).await?;
        self.place::<Clusterctl>(run, bundle.as_ref(), &digests, &mut facts).await?;
        self.place::<Helm>(run, bundle.as_ref(), &digests, &mut facts).await?;
        self.place::<K3s>(run, bundle.as_ref(), &digests, &mut facts).await?;
        run.verify(async { Ok(facts) }).await
    }
}

impl BinaryFetch {
    /// The tools that are not switched off.
    fn declared(&self) -> impl Iterator<Item = Declared> {
        [Kubectl::declare(self), Clusterctl::declare(self), Helm::declare(self), K3s::declare(self)].into_iter().flatten()
    }

    /// Places a tool unless it is switched off.
    async fn place<T: Tool>(
        &self,
        run: &mut Run,
        bundle: Option<&Bundle>,
        digests: &BTreeMap<PathBuf, String>,
        facts: &mut Facts,
    ) -> Result<(), Failure> {
        let Some(mut tool) = T::declare(self) else { return Ok(()) };
        if let Some(bundle) = bundle {
            tool = tool.of_bundle(bundle)?;
        }
        facts.standins.extend(tool.standin.clone().map(|instead| (T::NAME.to_owned(), instead)));
        let path = self.bin_dir().join(&tool.file_name);
        let section = Fetch::<T>::new(self, tool, path.clone(), digests.get(&path).cloned());
        let changed = !run.section(&section).await?.changes.is_empty();
        let tool =
            ToolFacts { path: path.display().to_string(), sha256: section.verified()?, version: section.tool.version, changed };
        facts.tools.insert(T::NAME.to_owned(), tool);
        Ok(())
    }

    /// The SHA-256 of every tool that is there and can be read. To read them takes longest, so they are read side by side.
    fn digests(&self) -> BTreeMap<PathBuf, String> {
        let paths: Vec<_> = self.declared().map(|tool| self.bin_dir().join(tool.file_name)).collect();
        thread::scope(|scope| {
            let reading: Vec<_> = paths.iter().map(|path| (path, scope.spawn(|| file::sha256(path)))).collect();
            let read = reading.into_iter().filter_map(|(path, digest)| Some((path.clone(), digest.join().ok()?.ok()??)));
            read.collect()
        })
    }

    fn bin_dir(&self) -> PathBuf {
        self.bin_dir.as_ref().map_or_else(|| self.opt_root.join("bin"), |path| path.to_path_buf())
    }

    /// Where something is: in the folder, in the place that was given, or where its release has it.
    fn source(&self, given: Option<&String>, release: &str) -> Source {
        let url = given.map_or(release, String::as_str);
        match &self.source_dir {
            Some(folder) => Source::File(folder.join(url.rsplit('/').next().unwrap_or_default())),
            None => Source::of(url),
        }
    }
}
