//! The kubeconfig as it lies on the host.

use std::{convert::Infallible, fmt, net::IpAddr, path::PathBuf};

use cluster::Kubeconfig;
use converge::{Failure, Section};
use lab::machine;
use serde_json::Value;

use crate::{ExportArtifacts, error::Error};

/// Whether there is one. Nothing is ever changed on the host.
pub(crate) struct Source<'a>(pub &'a ExportArtifacts);

/// A change that there cannot be.
pub(crate) struct Never(Infallible);

impl Section for Source<'_> {
    const NAME: &'static str = "source";
    type Live = ();
    type Change = Never;

    async fn observe(&self) -> Result<(), Failure> {
        read(self.0).await.map(drop)
    }

    fn plan(&self, (): &()) -> Result<Vec<Never>, Failure> {
        Ok(Vec::new())
    }

    async fn apply(&self, change: &Never) -> Result<(), Failure> {
        match change.0 {}
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

/// Fails where the address means something else on the runner.
pub(crate) fn check_server(server: &str) -> Result<(), Error> {
    let Some(rest) = server.strip_prefix("https://") else { return Err(Error::Plain { server: server.to_owned() }) };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    let is_own = |address: IpAddr| address.is_loopback() || address.is_unspecified();
    if host == "localhost" || host.parse().is_ok_and(is_own) {
        return Err(Error::Loopback { server: server.to_owned() });
    }
    Ok(())
}

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

impl converge::Change for Never {
    fn object(&self) -> String {
        match self.0 {}
    }

    fn before(&self) -> Value {
        match self.0 {}
    }

    fn after(&self) -> Value {
        match self.0 {}
    }
}
