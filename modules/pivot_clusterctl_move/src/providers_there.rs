//! Cluster API on the target.

use cluster::providers::Provider;
use converge::{Failure, Section};
use lab::capi;
use pivot::Where;
use providers::{Installation, Installer, Sources};
use semver::Version;

use crate::{clusters::Clusters, error::Error};

/// The section: the target has every provider, and none that is older than the source's.
pub(crate) struct ProvidersThere<'a> {
    pub clusters: &'a Clusters<'a>,
    pub sources: &'a Sources,
}

#[derive(Default)]
pub(crate) struct Live {
    target: providers::Live,
    /// Those of the source; none once everything is moved, when there may be no source.
    source: Vec<Provider>,
}

impl ProvidersThere<'_> {
    fn installer(&self) -> Installer<'_> {
        let step = self.clusters.step;
        Installer {
            options: &step.providers,
            sources: self.sources,
            clusterctl: step.clusterctl(),
            kubeconfig: self.clusters.kubeconfig(Where::Target),
            patience: step.patience(),
        }
    }
}

impl Section for ProvidersThere<'_> {
    const NAME: &'static str = "providers";
    type Live = Live;
    type Change = Installation;

    async fn observe(&self) -> Result<Live, Failure> {
        let server = &self.clusters.step.lxd.client().await?.server().environment;
        let concurrency = capi::concurrency(&server.server, &server.server_version);
        let target = self.installer().observe(self.clusters.client(Where::Target).await?, concurrency).await?;
        if self.clusters.is_finished().await? {
            return Ok(Live { target, source: Vec::new() });
        }
        let source = self.clusters.client(Where::Source).await?.providers().await?;
        Ok(Live { target, source })
    }

    fn plan(&self, live: &Live) -> Result<Vec<Installation>, Failure> {
        let wanted = self.clusters.step.providers.wanted();
        let older: Vec<_> = wanted.iter().filter_map(|wanted| older(wanted, &live.source)).collect();
        if !older.is_empty() {
            return Err(Error::Older { older }.into());
        }
        Ok(self.installer().plan(&live.target)?)
    }

    async fn apply(&self, installation: &Installation) -> Result<(), Failure> {
        self.installer().apply(self.clusters.client(Where::Target).await?, installation).await
    }
}

/// What the source has instead, if that is newer.
fn older(wanted: &Provider, source: &[Provider]) -> Option<String> {
    let there = source.iter().find(|there| there.is_same(wanted))?;
    let version = |provider: &Provider| Version::parse(provider.version.trim_start_matches('v')).ok();
    (version(wanted)? < version(there)?).then(|| format!("{wanted} where the source has {}", there.version))
}

#[cfg(test)]
mod tests {
    use cluster::providers::Kind;

    use super::*;

    #[test]
    fn older_providers_are_told() {
        let provider = |version: &str| Provider::new(Kind::Core, "cluster-api", version);
        for (wanted, there, expected) in [
            ("v1.12.5", "v1.12.5", None),
            ("v1.13.0", "v1.12.5", None),
            ("v1.12.5", "v1.12.10", Some("cluster-api v1.12.5 where the source has v1.12.10")),
            ("v1.13.0-rc.1", "v1.13.0", Some("cluster-api v1.13.0-rc.1 where the source has v1.13.0")),
        ] {
            assert_eq!(older(&provider(wanted), &[provider(there)]).as_deref(), expected);
        }
        assert_eq!(older(&provider("v1.12.5"), &[]), None);
    }
}
