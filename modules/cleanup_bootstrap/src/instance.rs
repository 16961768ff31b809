//! The bootstrap instance.

use std::fmt;

use converge::{Failure, Section};
use lab::names::{BOOTSTRAP_ROLE, OWNER_KEY};
use lxd::{Client, Instance, Power};
use serde_json::{Value, json};

use crate::{CleanupBootstrap, error::Error};

/// The section: it is gone.
pub(crate) struct BootstrapInstance<'a>(pub &'a CleanupBootstrap);

pub(crate) enum Change {
    Stop(String),
    Delete(String),
}

impl BootstrapInstance<'_> {
    pub(crate) const NAME: &'static str = "instance";

    async fn client(&self) -> Result<Client, Failure> {
        Ok(self.0.lxd.client().await?.in_project(&self.0.project).patient(self.0.limit()))
    }

    /// The instance, if it and its project are there.
    pub(crate) async fn find(&self) -> Result<Option<Instance>, Failure> {
        Ok(self.client().await?.find::<Instance>(&self.0.instance_name).await?.map(|found| found.object))
    }

    async fn stop(&self, name: &str) -> Result<(), Failure> {
        let client = self.client().await?;
        if !self.0.force_stop {
            return Ok(client.stop_instance(name).await?);
        }
        Ok(client.stop_instance_at_once(name, self.0.delete_timeout).await?)
    }
}

impl Section for BootstrapInstance<'_> {
    const NAME: &'static str = "instance";
    type Live = Option<Instance>;
    type Change = Change;

    async fn observe(&self) -> Result<Self::Live, Failure> {
        self.find().await
    }

    fn plan(&self, live: &Self::Live) -> Result<Vec<Change>, Failure> {
        let Some(instance) = live else { return Ok(Vec::new()) };
        let name = instance.name.clone();
        if instance.config.get(OWNER_KEY).is_none_or(|role| role != BOOTSTRAP_ROLE) {
            return Err(Error::Foreign { name }.into());
        }
        let stop = (instance.power() != Power::Stopped).then(|| Change::Stop(name.clone()));
        Ok(stop.into_iter().chain([Change::Delete(name)]).collect())
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        let (Change::Stop(name) | Change::Delete(name)) = change;
        let done = async {
            match change {
                Change::Stop(name) => self.stop(name).await,
                Change::Delete(name) => Ok(self.client().await?.delete_instance(name).await?),
            }
        };
        let slow = || Error::Slow { name: name.clone(), seconds: self.0.delete_timeout };
        tokio::time::timeout(self.0.limit(), done).await.map_err(|_| Failure::from(slow()))?
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stop(name) => write!(f, "stop instance {name}"),
            Self::Delete(name) => write!(f, "delete instance {name}"),
        }
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        let (Self::Stop(name) | Self::Delete(name)) = self;
        format!("instance {name}")
    }

    fn before(&self) -> Value {
        match self {
            Self::Stop(_) => json!({"status": "Running"}),
            Self::Delete(name) => json!({"name": name}),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Stop(_) => json!({"status": "Stopped"}),
            Self::Delete(_) => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_labs_own_instance_goes() {
        let step = CleanupBootstrap::default();
        let instance = |role: &str, status: &str| Instance {
            name: "capi-bootstrap-0".into(),
            status: status.into(),
            config: [(OWNER_KEY.to_owned(), role.to_owned())].into(),
            ..Instance::default()
        };
        for (case, live, expected) in [
            ("gone", None, ""),
            (
                "running",
                Some(instance(BOOTSTRAP_ROLE, "Running")),
                "stop instance capi-bootstrap-0; delete instance capi-bootstrap-0",
            ),
            ("stopped", Some(instance(BOOTSTRAP_ROLE, "Stopped")), "delete instance capi-bootstrap-0"),
            (
                "frozen",
                Some(instance(BOOTSTRAP_ROLE, "Frozen")),
                "stop instance capi-bootstrap-0; delete instance capi-bootstrap-0",
            ),
            ("somebody's", Some(Instance { config: [].into(), ..instance("", "Running") }), "INSTANCE_FOREIGN"),
        ] {
            let said = match BootstrapInstance(&step).plan(&live) {
                Ok(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                Err(failure) => failure.code.to_owned(),
            };
            assert_eq!(said, expected, "{case}");
        }
    }
}
