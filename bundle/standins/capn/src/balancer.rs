//! The load balancer: a container with haproxy.

use std::{collections::BTreeMap, time::Duration};

use converge::Wait;
use lxd::{Client, Source};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::{net::TcpStream, time::timeout};

use crate::{conditions::Verdict, identity, template};

/// On a load balancer's instance: the digest of the configuration that haproxy was last seen to serve.
pub const SERVED_KEY: &str = "user.capn.served";
/// The image of a load balancer that names none.
pub const IMAGE: &str = "haproxy";

const CONFIGURATION: &str = "/etc/haproxy/haproxy.cfg";
const MODE: u32 = 0o440;
/// How long haproxy may take, the container's own start included.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one attempt to connect may take.
const TRY: Duration = Duration::from_secs(2);
/// The share of requests that each API server gets.
const WEIGHT: u32 = 100;

const TEMPLATE: &str = "\
global
  log /dev/log local0
  log /dev/log local1 notice
  daemon

defaults
  log global
  mode tcp
  option dontlognull
  timeout connect 5s
  # Watches are silent for minutes.
  timeout client 10m
  timeout server 10m
  # Another server gets what one refuses that is about to go.
  option redispatch 1
  default-server init-addr none inter 1s fall 2 rise 1

frontend control-plane
  bind :::{{ .FrontendControlPlanePort }} v4v6
  default_backend kube-apiservers

backend kube-apiservers
{{- if .EnableHealthzCheck }}
  option httpchk GET /healthz
{{- end }}
{{- range $server, $backend := .BackendServers }}
  server {{ $server }} {{ JoinHostPort $backend.Address $.BackendControlPlanePort }} weight {{ $backend.Weight }} check check-ssl verify none
{{- end }}
";

/// Why a load balancer does not serve what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// LXD does not answer as it should.
    #[error(transparent)]
    Lxd(#[from] lxd::Error),
    /// haproxy refuses its configuration.
    #[error("haproxy refuses its configuration: {0}")]
    Refused(String),
    /// haproxy does not serve it.
    #[error("haproxy does not serve its configuration: {wait}; its log ends with: {log}")]
    NotServed {
        /// What was waited for.
        wait: converge::WaitError,
        /// What it wrote last.
        log: String,
    },
}

impl Error {
    /// What is said of it.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Lxd(error) => identity::refusal(error),
            Self::Refused(_) => Verdict::no("LoadBalancerConfigurationRefused", self.to_string()),
            Self::NotServed { .. } => Verdict::no("LoadBalancerReloadFailed", self.to_string()),
        }
    }
}

/// The name of a load balancer's instance. Clusters of the same name in two namespaces have two.
pub fn name(cluster: &str, namespace: &str) -> String {
    format!("{cluster}-{}-lb", &digest(namespace)[..5])
}

/// haproxy's configuration.
pub fn configuration(
    custom: Option<&str>,
    port: i32,
    backends: &BTreeMap<String, String>,
    healthz_check: bool,
) -> Result<String, template::Error> {
    let servers: BTreeMap<_, _> =
        backends.iter().map(|(name, address)| (name, json!({"Address": address, "Weight": WEIGHT}))).collect();
    let data = json!({
        "FrontendControlPlanePort": port.to_string(),
        "BackendControlPlanePort": crate::api::API_PORT.to_string(),
        "BackendServers": servers,
        "IPv6": false,
        "EnableHealthzCheck": healthz_check,
    });
    template::render(custom.unwrap_or(TEMPLATE), &data)
}

/// A digest, such as the one by which a configuration is known on the instance.
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// Has haproxy serve a configuration, and notes on the instance that it does.
///
/// The exit code of a reload says little: where haproxy cannot raise its file limit it succeeds, and no port opens. So the port is tried.
pub async fn serve(client: &Client, instance: &str, configuration: &str, address: &str, port: u16) -> Result<(), Error> {
    let file = client.stage_file(instance, CONFIGURATION, MODE, Source::Bytes(configuration.as_bytes())).await?;
    let check = client.exec(instance, &["haproxy", "-c", "-f", file.staged()]).await?;
    if check.code != 0 {
        return Err(Error::Refused(last_lines(&format!("{}\n{}", check.stdout, check.stderr))));
    }
    file.publish().await?;
    let served = async {
        reload(client, instance).await?;
        listens(address, port).await
    };
    if let Err(error) = served.await {
        let lxd::Error::Wait(wait) = error else { return Err(error.into()) };
        let log = client.exec(instance, &["journalctl", "--unit=haproxy", "--output=cat", "--lines=5", "--no-pager"]).await;
        return Err(Error::NotServed { wait, log: log.map(|log| last_lines(&log.stdout)).unwrap_or_default() });
    }
    let served = json!({"config": {SERVED_KEY: digest(configuration)}});
    client.patch(&format!("instances/{instance}"), &served, None).await?;
    Ok(())
}

/// The container may only just have started.
async fn reload(client: &Client, instance: &str) -> Result<(), lxd::Error> {
    let wait = Wait::for_condition(format!("{instance}: haproxy reloaded"), PATIENCE);
    let look = async || {
        let reload = client.exec(instance, &["systemctl", "reload-or-restart", "haproxy"]).await?;
        Ok(if reload.code == 0 { Ok(()) } else { Err(last_lines(&reload.stderr)) })
    };
    wait.until(look).await
}

async fn listens(address: &str, port: u16) -> Result<(), lxd::Error> {
    let wait = Wait::for_condition(format!("{address}, port {port}: open"), PATIENCE);
    let look = async || match timeout(TRY, TcpStream::connect((address, port))).await {
        Ok(connected) => Ok(connected.map(drop).map_err(|error| error.to_string())),
        Err(_) => Ok(Err("no answer".to_owned())),
    };
    wait.until(look).await
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_namespaces_apart() {
        assert_eq!(name("lab-default-j8hvk", "capi-clusters"), "lab-default-j8hvk-deb12-lb");
        assert_ne!(name("mgmt-1", "a"), name("mgmt-1", "b"));
    }

    #[test]
    fn the_configuration_lists_the_control_plane() {
        let backends = [("cp-2".to_owned(), "fd42:77:1::2".to_owned()), ("cp-1".to_owned(), "10.77.0.11".to_owned())].into();
        let rendered = configuration(None, 6443, &backends, true).unwrap();
        let expected = "
frontend control-plane
  bind :::6443 v4v6
  default_backend kube-apiservers

backend kube-apiservers
  option httpchk GET /healthz
  server cp-1 10.77.0.11:6443 weight 100 check check-ssl verify none
  server cp-2 [fd42:77:1::2]:6443 weight 100 check check-ssl verify none
";
        assert!(rendered.ends_with(expected), "{rendered}");
        assert!(!configuration(None, 6443, &backends, false).unwrap().contains("httpchk"));
    }

    #[test]
    fn a_custom_template_takes_its_place() {
        let template = "bind *:{{ .FrontendControlPlanePort }}{{ if .IPv6 }} six{{ end }}";
        assert_eq!(configuration(Some(template), 7443, &BTreeMap::new(), true).unwrap(), "bind *:7443");
        assert!(configuration(Some("{{ .Nothing }}"), 6443, &BTreeMap::new(), true).is_err());
    }
}
