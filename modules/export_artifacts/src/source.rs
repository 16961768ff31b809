//! The kubeconfig as it lies on the host.

use std::{convert::Infallible, path::PathBuf};

use cluster::Kubeconfig;
use converge::{Failure, Section};
use lab::machine;
use url::{Host, Url};

use crate::{ExportArtifacts, error::Error};

/// Whether there is one. Nothing is ever changed on the host.
pub(crate) struct Source<'a>(pub &'a ExportArtifacts);

impl Section for Source<'_> {
    const NAME: &'static str = "source";
    type Live = ();
    type Change = Infallible;

    async fn observe(&self) -> Result<(), Failure> {
        read(self.0).await.map(drop)
    }

    fn plan(&self, (): &()) -> Result<Vec<Infallible>, Failure> {
        Ok(Vec::new())
    }

    async fn apply(&self, change: &Infallible) -> Result<(), Failure> {
        match *change {}
    }
}

/// The kubeconfig as the runner is to have it.
pub(crate) async fn read(step: &ExportArtifacts) -> Result<Kubeconfig, Failure> {
    let kubeconfig = Kubeconfig::read(&path(step).await?)?;
    let kubeconfig = match &step.mgmt_api_server_url {
        Some(url) => kubeconfig.with_server(url),
        None => kubeconfig,
    };
    check_server(kubeconfig.server())?;
    Ok(kubeconfig)
}

/// Whose kubeconfig it is. After the pivot the bootstrap cluster is another one, if there is one at all.
async fn path(step: &ExportArtifacts) -> Result<PathBuf, Failure> {
    let bootstrap = step.opt_root.join(machine::BOOTSTRAP_KUBECONFIG);
    let given = step.mgmt_kubeconfig_source.as_deref();
    let management = || machine::cluster_kubeconfig(&step.opt_root, &step.clusters_namespace, &step.management_cluster_name);
    match survey::may_bootstrap(step.lxd.client().await?, &step.project, step.allow_rebootstrap).await {
        Ok(_) => Ok(given.map_or(bootstrap, PathBuf::from)),
        Err(pivoted @ survey::Error::Pivoted { .. }) if given == Some(&bootstrap) => Err(pivoted.into()),
        Err(survey::Error::Pivoted { .. }) => Ok(given.map_or_else(management, PathBuf::from)),
        Err(error) => Err(error.into()),
    }
}

/// Fails where the address is none, or means something else on the runner.
pub(crate) fn check_server(server: &str) -> Result<(), Error> {
    let malformed = |reason: String| Error::Malformed { server: server.to_owned(), reason };
    let url = Url::parse(server).map_err(|error| malformed(error.to_string()))?;
    if url.scheme() != "https" {
        return Err(Error::Plain { server: server.to_owned() });
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(malformed("it has more than a host, a port and a path".to_owned()));
    }
    let is_own = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_unspecified(),
        Some(Host::Ipv6(address)) => {
            let address = address.to_canonical();
            address.is_loopback() || address.is_unspecified()
        }
        None => return Err(malformed("it names no host".to_owned())),
    };
    if is_own { Err(Error::Loopback { server: server.to_owned() }) } else { Ok(()) }
}
