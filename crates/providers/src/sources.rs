//! Where clusterctl takes the providers and cert-manager from.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use bundle::{Bundle, Entry, Role};
use cluster::providers::{Kind, Provider};
use converge::Failure;
use lab::capi;
use serde_json::{Value, json};

use crate::{Error, Options};

/// The bundle's files, or nothing: then clusterctl knows where releases are.
#[derive(Default)]
pub struct Sources {
    bundle: Option<Bundle>,
    /// The objects of each provider, and what clusterctl reads beside them.
    components: Vec<(Provider, Entry)>,
    metadata: Vec<Entry>,
    cert_manager: Option<Entry>,
}

impl Sources {
    /// What the bundle has of what is wanted.
    pub fn of(options: &Options, bundle: &bundle::Location) -> Result<Self, Failure> {
        let Some(bundle) = bundle.open()? else { return Ok(Self::default()) };
        let mut sources = Self::default();
        for provider in options.wanted() {
            if provider.kind == Kind::Infrastructure && options.capn_provider_url.is_some() {
                continue;
            }
            sources.metadata.push(find(&bundle, Role::Metadata, &provider.label(), &provider)?);
            let components = find(&bundle, Role::Components, &provider.label(), &provider)?;
            sources.components.push((provider, components));
        }
        let cert_manager = Provider::new(Kind::Core, "cert-manager", &options.cert_manager_version);
        sources.cert_manager = Some(find(&bundle, Role::Manifest, "cert-manager", &cert_manager)?);
        Ok(Self { bundle: Some(bundle), ..sources })
    }

    /// Fails if a file of the bundle is not what it was when the bundle was built.
    pub fn verify(&self) -> Result<(), Failure> {
        let Some(bundle) = &self.bundle else { return Ok(()) };
        let mut entries = self.components.iter().map(|(_, entry)| entry).chain(&self.metadata).chain(&self.cert_manager);
        Ok(entries.try_for_each(|entry| bundle.verify(entry))?)
    }

    /// The providers that are not what their names say, and what they are instead.
    #[must_use]
    pub fn standins(&self) -> BTreeMap<String, String> {
        let instead = |(provider, entry): &(Provider, Entry)| Some((provider.label(), entry.instead()?.to_owned()));
        self.components.iter().filter_map(instead).collect()
    }

    /// clusterctl's configuration. What it says of a provider wins over what clusterctl knows.
    #[must_use]
    pub fn config(&self, options: &Options) -> Value {
        let provider = |name: &str, kind: &str, url: &str| json!({"name": name, "type": kind, "url": url});
        let mut providers: Vec<_> =
            self.components.iter().map(|(own, entry)| provider(&own.name, own.kind.name(), &self.url(entry))).collect();
        if !self.components.iter().any(|(own, _)| own.kind == Kind::Infrastructure) {
            let release = format!("{}/{}/infrastructure-components.yaml", capi::INFRASTRUCTURE_RELEASES, options.capn_version);
            let url = options.capn_provider_url.as_deref().unwrap_or(&release);
            providers.push(provider(capi::INFRASTRUCTURE, Kind::Infrastructure.name(), url));
        }
        providers.extend(options.extra_providers.iter().map(|extra| provider(&extra.name, &extra.kind, &extra.url)));
        let mut cert_manager = json!({"version": options.cert_manager_version});
        if let Some(entry) = &self.cert_manager {
            cert_manager["url"] = self.url(entry).into();
        }
        if let Some(timeout) = &options.cert_manager_timeout {
            cert_manager["timeout"] = timeout.as_str().into();
        }
        json!({"providers": providers, "cert-manager": cert_manager})
    }

    fn url(&self, entry: &Entry) -> String {
        self.bundle.as_ref().map(|bundle| file_url(&bundle.path(entry))).unwrap_or_default()
    }
}

fn find(bundle: &Bundle, role: Role, name: &str, wanted: &Provider) -> Result<Entry, Failure> {
    let files = || bundle.files(role, bundle::architecture()).filter(|entry| entry.name == name);
    let found = files().find(|entry| entry.version == wanted.version).cloned();
    found.ok_or_else(|| {
        let has = files().map(|entry| entry.version.clone()).collect();
        Error::NotInBundle { wanted: wanted.clone(), has }.into()
    })
}

/// The URL of a real path. clusterctl reads escapes, and would take a dollar sign for a variable.
fn file_url(path: &Path) -> String {
    path.as_os_str().as_encoded_bytes().iter().fold("file://".to_owned(), |mut url, byte| {
        if byte.is_ascii_alphanumeric() || b"/._-~+".contains(byte) {
            url.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(url, "%{byte:02X}");
        }
        url
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_so_that_clusterctl_reads_it() {
        for (path, url) in [
            (
                "/srv/k8slab/providers/cluster-api/v1.12.5/core-components.yaml",
                "file:///srv/k8slab/providers/cluster-api/v1.12.5/core-components.yaml",
            ),
            ("/srv/our lab/100%/$HOME/#1?", "file:///srv/our%20lab/100%25/%24HOME/%231%3F"),
        ] {
            assert_eq!(file_url(Path::new(path)), url);
        }
    }
}
