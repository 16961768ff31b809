//! The kubeconfig of the cluster in the bootstrap instance.

use std::net::{IpAddr, SocketAddr};

use cluster::{Kubeconfig, TLS_SERVER_NAME};
use lab::capi::{API_PORT, K3S_KUBECONFIG};
use lxd::Client;

use crate::Error;

/// The administrator's kubeconfig in an instance, rebuilt for those who reach it at an address; none before k3s has written it.
pub async fn kubeconfig(client: &Client, instance: &str, address: IpAddr) -> Result<Option<Kubeconfig>, Error> {
    let Some((_, text)) = client.read_file(instance, K3S_KUBECONFIG).await? else { return Ok(None) };
    let own = Kubeconfig::parse(&String::from_utf8_lossy(&text))?;
    own.travels()?;
    Ok(Some(rebuilt(own, address)))
}

/// A kubeconfig as k3s writes it, for those who reach the cluster at an address: the server is that address with its own port, and
/// is known by a name that its certificate has, whatever the address.
#[must_use]
pub fn rebuilt(own: Kubeconfig, address: IpAddr) -> Kubeconfig {
    let port = own.server().trim_end_matches('/').rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(API_PORT);
    own.with_server(&format!("https://{}", SocketAddr::new(address, port))).with_tls_server_name(TLS_SERVER_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_reached_where_the_instance_is() {
        for (server, address, expected) in [
            ("https://127.0.0.1:6443", "10.77.0.5", "https://10.77.0.5:6443"),
            ("https://127.0.0.1:6444/", "10.77.0.5", "https://10.77.0.5:6444"),
            ("https://[::1]:6443", "fd42:77:1::5", "https://[fd42:77:1::5]:6443"),
        ] {
            let own = Kubeconfig::parse(&format!("clusters: [{{name: a, cluster: {{server: '{server}'}}}}]")).unwrap();
            let rebuilt = rebuilt(own, address.parse().unwrap());
            assert_eq!(rebuilt.server(), expected);
            assert!(rebuilt.to_yaml().expose().contains("tls-server-name: kubernetes.default.svc"));
        }
    }
}
