//! The load balancer: a container with haproxy, which listens on port 6443 and sends requests to port 6443 of the control plane.

mod template;

use std::{collections::BTreeMap, time::Duration};

use converge::Wait;
use data_encoding::HEXLOWER;
use lxd::{Client, Source};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::{net::TcpStream, time::timeout};

use self::template::Error as TemplateError;
use super::identity;
use crate::api::{
    API_PORT,
    conditions::{Cause, ConditionState},
};

/// On a load balancer's instance: the digest of the configuration that haproxy was last seen to serve.
pub const SERVED_KEY: &str = "user.capn.served";

const CONFIGURATION: &str = "/etc/haproxy/haproxy.cfg";
const MODE: u32 = 0o440;
/// How long haproxy may take, the container's own start included.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one attempt to connect may take.
const TRY: Duration = Duration::from_secs(2);
/// The share of requests that each API server gets.
const WEIGHT: u32 = 100;

/// Does what the real provider's own does, also where one would want something else: it binds IPv4 alone, a watch that is silent for
/// 50 seconds ends, and whoever reaches port 8404 may take servers away.
const TEMPLATE: &str = "\
global
  daemon
  maxconn 100000
  log /dev/log local0
  log /dev/log local1 notice

defaults
  mode tcp
  log global
  option dontlognull
  timeout connect 5s
  timeout client 50s
  timeout server 50s
  default-server init-addr none

frontend stats
  mode http
  bind *:8404
  stats enable
  stats uri /stats
  stats refresh 1s
  stats admin if TRUE

frontend control-plane
  bind *:{{ .FrontendControlPlanePort }}
{{- if .IPv6 }}
  bind :::{{ .FrontendControlPlanePort }} v6only
{{- end }}
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
    pub fn state(&self) -> ConditionState {
        match self {
            Self::Lxd(error) => identity::refusal(error),
            Self::Refused(_) | Self::NotServed { .. } => ConditionState::new(Cause::Failed, self.to_string()),
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
    backends: &BTreeMap<String, String>,
    healthz_check: bool,
) -> Result<String, TemplateError> {
    let servers: BTreeMap<_, _> =
        backends.iter().map(|(name, address)| (name, json!({"Address": address, "Weight": WEIGHT}))).collect();
    let data = json!({
        "FrontendControlPlanePort": API_PORT.to_string(),
        "BackendControlPlanePort": API_PORT.to_string(),
        "BackendServers": servers,
        "IPv6": false,
        "EnableHealthzCheck": healthz_check,
    });
    template::render(custom.unwrap_or(TEMPLATE), &data)
}

/// A digest, such as the one by which a configuration is known on the instance.
pub fn digest(text: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(text))
}

/// Has haproxy serve a configuration, and notes on the instance that it does.
///
/// The exit code of a reload says little: where haproxy cannot raise its file limit it succeeds, and no port opens. So the port is tried.
pub async fn serve(client: &Client, instance: &str, configuration: &str, address: &str) -> Result<(), Error> {
    let file = client.stage_file(instance, CONFIGURATION, MODE, Source::Bytes(configuration.as_bytes())).await?;
    let check = client.exec(instance, &["haproxy", "-c", "-f", file.staged()]).await?;
    if check.code != 0 {
        return Err(Error::Refused(last_lines(&format!("{}\n{}", check.stdout, check.stderr))));
    }
    file.publish().await?;
    let served = async {
        reload(client, instance).await?;
        listens(address).await
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

async fn listens(address: &str) -> Result<(), lxd::Error> {
    let wait = Wait::for_condition(format!("{address}, port {API_PORT}: open"), PATIENCE);
    let look = async || match timeout(TRY, TcpStream::connect((address, API_PORT))).await {
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
        let rendered = configuration(None, &backends, true).unwrap();
        let expected = "
frontend control-plane
  bind *:6443
  default_backend kube-apiservers

backend kube-apiservers
  option httpchk GET /healthz
  server cp-1 10.77.0.11:6443 weight 100 check check-ssl verify none
  server cp-2 [fd42:77:1::2]:6443 weight 100 check check-ssl verify none
";
        assert!(rendered.ends_with(expected), "{rendered}");
        assert!(!configuration(None, &backends, false).unwrap().contains("httpchk"));
    }

    #[test]
    fn a_custom_template_takes_its_place() {
        let template = "bind *:{{ .FrontendControlPlanePort }}{{ if .IPv6 }} six{{ end }}";
        assert_eq!(configuration(Some(template), &BTreeMap::new(), true).unwrap(), "bind *:6443");
        assert!(configuration(Some("{{ .Nothing }}"), &BTreeMap::new(), true).is_err());
    }
}
