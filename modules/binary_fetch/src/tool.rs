//! The tools that the lab knows, and the options of each.

use ansible::OptionError;
use bundle::{Bundle, Role};
use lab::versions;

use crate::{Arch, BinaryFetch, ChecksumStyle, checksum::Checksum, source::Source};

/// The form of a file's name in options.
pub(crate) const FILE_NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._+-]*$";

/// One of the tools.
pub(crate) trait Tool {
    /// Its name, and its section's.
    const NAME: &'static str;
    /// What its program is called with, to say its version.
    const VERSION: &'static [&'static str];

    /// The tool as the options want it; nothing if it is switched off.
    fn declare(step: &BinaryFetch) -> Option<Declared>;
}

/// A tool as it should be.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub name: &'static str,
    pub version: String,
    pub arch: Arch,
    pub file_name: String,
    pub source: Source,
    /// Its name in a folder.
    pub asset: String,
    /// The one file that is taken out of it, if it is a packed archive.
    pub member: Option<String>,
    /// Of the file as it comes from its source.
    pub checksum: Checksum,
    /// What it is instead, if it is not what its name says.
    pub standin: Option<String>,
}

impl Declared {
    /// The same tool as a bundle has it, which decides on the version.
    pub(crate) fn of_bundle(self, bundle: &Bundle) -> Result<Self, bundle::Error> {
        let entry = bundle.file(Role::Executable, self.name, self.arch.name())?;
        let checksum = Checksum::pinned(&entry.sha256);
        let standin = entry.instead().map(str::to_owned);
        Ok(Self {
            version: entry.version.clone(),
            source: Source::File(bundle.path(entry)),
            member: None,
            checksum,
            standin,
            ..self
        })
    }

    /// Whether there is a checksum to be had at all.
    pub(crate) fn check(&self) -> Result<(), OptionError> {
        let option = |what: &str| Err(OptionError::Missing { option: format!("{}_checksum_{what}", self.name) });
        match self.checksum.style {
            ChecksumStyle::Pinned if self.checksum.pinned.is_none() => option("sha256"),
            ChecksumStyle::Plain | ChecksumStyle::Manifest if self.checksum.source.is_none() => option("url"),
            _ => Ok(()),
        }
    }
}

pub(crate) struct Kubectl;

impl Tool for Kubectl {
    const NAME: &'static str = "kubectl";
    const VERSION: &'static [&'static str] = &["version", "--client=true", "--output=yaml"];

    fn declare(step: &BinaryFetch) -> Option<Declared> {
        let (version, arch) = (&step.kubectl_version, step.arch.name());
        let release = format!("https://dl.k8s.io/release/{version}/bin/linux/{arch}/kubectl");
        let beside = format!("{}.sha256", step.kubectl_url.as_ref().unwrap_or(&release));
        step.kubectl_enabled.then(|| Declared {
            name: Self::NAME,
            version: version.clone(),
            arch: step.arch,
            file_name: step.kubectl_dest_filename.clone(),
            source: step.source(step.kubectl_url.as_ref(), &release),
            asset: "kubectl".into(),
            member: None,
            checksum: Checksum {
                style: step.kubectl_checksum_style,
                source: Some(step.source(step.kubectl_checksum_url.as_ref(), &beside)),
                pinned: lower(step.kubectl_checksum_sha256.as_ref()),
                entry: step.kubectl_checksum_entry.clone(),
            },
            standin: None,
        })
    }
}

pub(crate) struct Clusterctl;

impl Tool for Clusterctl {
    const NAME: &'static str = "clusterctl";
    const VERSION: &'static [&'static str] = &["version", "--output=yaml"];

    fn declare(step: &BinaryFetch) -> Option<Declared> {
        let (version, arch) = (&step.clusterctl_version, step.arch.name());
        let asset = format!("clusterctl-linux-{arch}");
        let release = format!("https://github.com/kubernetes-sigs/cluster-api/releases/download/{version}/{asset}");
        let built_in = versions::CLUSTERCTL_SHA256.iter().find(|(pinned, of, _)| pinned == version && *of == arch);
        let built_in = built_in.map(|(.., digest)| (*digest).to_owned());
        let url = step.clusterctl_checksum_url.as_ref();
        let style = step.clusterctl_checksum_style;
        step.clusterctl_enabled.then(|| Declared {
            name: Self::NAME,
            version: version.clone(),
            arch: step.arch,
            file_name: step.clusterctl_dest_filename.clone(),
            source: step.source(step.clusterctl_url.as_ref(), &release),
            asset,
            member: None,
            checksum: Checksum {
                style,
                source: url.map(|url| step.source(Some(url), url)),
                pinned: lower(step.clusterctl_checksum_sha256.as_ref()).or(built_in.filter(|_| style == ChecksumStyle::Pinned)),
                entry: step.clusterctl_checksum_entry.clone(),
            },
            standin: None,
        })
    }
}

pub(crate) struct Helm;

impl Tool for Helm {
    const NAME: &'static str = "helm";
    const VERSION: &'static [&'static str] = &["version", "--short"];

    fn declare(step: &BinaryFetch) -> Option<Declared> {
        let (version, arch) = (&step.helm_version, step.arch.name());
        let asset = format!("helm-{version}-linux-{arch}.tar.gz");
        let release = format!("https://get.helm.sh/{asset}");
        let url = step.helm_url.as_ref().unwrap_or(&release);
        let beside = format!("{url}.sha256");
        let source = step.source(Some(url), url);
        step.helm_enabled.then(|| Declared {
            name: Self::NAME,
            version: version.clone(),
            arch: step.arch,
            file_name: step.helm_dest_filename.clone(),
            member: source.of_asset(&asset).ends_with(".tar.gz").then(|| format!("linux-{arch}/helm")),
            source,
            checksum: Checksum {
                style: step.helm_checksum_style,
                source: Some(step.source(step.helm_checksum_url.as_ref(), &beside)),
                pinned: lower(step.helm_checksum_sha256.as_ref()),
                entry: step.helm_checksum_entry.clone().unwrap_or_else(|| asset.clone()),
            },
            asset,
            standin: None,
        })
    }
}

pub(crate) struct K3s;

impl Tool for K3s {
    const NAME: &'static str = "k3s";
    const VERSION: &'static [&'static str] = &["--version"];

    fn declare(step: &BinaryFetch) -> Option<Declared> {
        let (version, arch) = (&step.k3s_version, step.arch.name());
        let asset = if step.arch == Arch::Amd64 { "k3s".to_owned() } else { format!("k3s-{arch}") };
        let releases = format!("https://github.com/k3s-io/k3s/releases/download/{}", version.replace('+', "%2B"));
        step.k3s_enabled.then(|| Declared {
            name: Self::NAME,
            version: version.clone(),
            arch: step.arch,
            file_name: step.k3s_dest_filename.clone(),
            source: step.source(step.k3s_url.as_ref(), &format!("{releases}/{asset}")),
            checksum: Checksum {
                style: step.k3s_checksum_style,
                source: Some(step.source(step.k3s_checksum_url.as_ref(), &format!("{releases}/sha256sum-{arch}.txt"))),
                pinned: lower(step.k3s_checksum_sha256.as_ref()),
                entry: step.k3s_checksum_entry.clone().unwrap_or_else(|| asset.clone()),
            },
            asset,
            member: None,
            standin: None,
        })
    }
}

fn lower(digest: Option<&String>) -> Option<String> {
    digest.map(|digest| digest.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(step: &BinaryFetch) -> [Declared; 4] {
        [Kubectl::declare(step), Clusterctl::declare(step), Helm::declare(step), K3s::declare(step)].map(Option::unwrap)
    }

    #[test]
    fn where_releases_are() {
        let url = |source: &Source| source.to_string();
        let [kubectl, clusterctl, helm, k3s] = declared(&BinaryFetch { arch: Arch::Arm64, ..BinaryFetch::default() });
        assert_eq!(url(&kubectl.source), "https://dl.k8s.io/release/v1.35.3/bin/linux/arm64/kubectl");
        assert_eq!(url(kubectl.checksum.source.as_ref().unwrap()), format!("{}.sha256", url(&kubectl.source)));
        assert!(url(&clusterctl.source).ends_with("/v1.12.5/clusterctl-linux-arm64"));
        assert_eq!(url(&helm.source), "https://get.helm.sh/helm-v4.3.1-linux-arm64.tar.gz");
        assert_eq!(url(helm.checksum.source.as_ref().unwrap()), format!("{}.sha256", url(&helm.source)));
        assert_eq!(helm.member.as_deref(), Some("linux-arm64/helm"));
        assert!(url(&k3s.source).ends_with("/v1.35.3%2Bk3s1/k3s-arm64"));
        assert!(url(k3s.checksum.source.as_ref().unwrap()).ends_with("/v1.35.3%2Bk3s1/sha256sum-arm64.txt"));
        assert_eq!(k3s.checksum.entry, "k3s-arm64");
    }

    #[test]
    fn a_folder_holds_the_last_parts_of_the_urls() {
        let step = BinaryFetch { source_dir: Some("/srv/mirror".into()), ..BinaryFetch::default() };
        let [kubectl, clusterctl, helm, k3s] = declared(&step);
        for (source, expected) in [
            (&kubectl.source, "/srv/mirror/kubectl"),
            (kubectl.checksum.source.as_ref().unwrap(), "/srv/mirror/kubectl.sha256"),
            (&clusterctl.source, "/srv/mirror/clusterctl-linux-amd64"),
            (&helm.source, "/srv/mirror/helm-v4.3.1-linux-amd64.tar.gz"),
            (helm.checksum.source.as_ref().unwrap(), "/srv/mirror/helm-v4.3.1-linux-amd64.tar.gz.sha256"),
            (&k3s.source, "/srv/mirror/k3s"),
            (k3s.checksum.source.as_ref().unwrap(), "/srv/mirror/sha256sum-amd64.txt"),
        ] {
            assert_eq!(source.to_string(), expected);
        }
    }

    #[test]
    fn a_program_is_taken_out_of_what_is_packed() {
        for (url, expected) in [
            (None, Some("linux-amd64/helm")),
            (Some("https://mirror.example.org/helm.tar.gz"), Some("linux-amd64/helm")),
            (Some("https://mirror.example.org/helm"), None),
            (Some("file:///"), Some("linux-amd64/helm")),
        ] {
            let step = BinaryFetch { helm_url: url.map(str::to_owned), ..BinaryFetch::default() };
            assert_eq!(Helm::declare(&step).unwrap().member.as_deref(), expected, "{url:?}");
        }
    }

    #[test]
    fn another_clusterctl_needs_its_own_digest() {
        for (step, expected) in [
            (BinaryFetch::default(), Ok(())),
            (BinaryFetch { clusterctl_version: "v1.12.6".into(), ..BinaryFetch::default() }, Err("clusterctl_checksum_sha256")),
            (BinaryFetch { arch: Arch::Arm64, ..BinaryFetch::default() }, Err("clusterctl_checksum_sha256")),
            (
                BinaryFetch { clusterctl_checksum_style: ChecksumStyle::Plain, ..BinaryFetch::default() },
                Err("clusterctl_checksum_url"),
            ),
            (
                BinaryFetch {
                    clusterctl_version: "v1.12.6".into(),
                    clusterctl_checksum_style: ChecksumStyle::Manifest,
                    clusterctl_checksum_url: Some("https://mirror.example.org/sums".into()),
                    ..BinaryFetch::default()
                },
                Ok(()),
            ),
        ] {
            let expected = expected.map_err(|option| OptionError::Missing { option: option.to_owned() });
            assert_eq!(Clusterctl::declare(&step).unwrap().check(), expected);
        }
        let off = BinaryFetch { clusterctl_enabled: false, clusterctl_version: "v9.9.9".into(), ..BinaryFetch::default() };
        assert!(Clusterctl::declare(&off).is_none(), "a tool that is not wanted needs no digest");
    }
}
