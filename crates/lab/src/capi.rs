//! Cluster API, as the lab's management clusters carry it.

/// The name of the infrastructure provider, which clusterctl does not know by itself.
pub const INFRASTRUCTURE: &str = "incus";
/// Where the infrastructure provider's releases are.
pub const INFRASTRUCTURE_RELEASES: &str = "https://github.com/lxc/cluster-api-provider-incus/releases";

/// The namespace of the infrastructure provider.
pub const INFRASTRUCTURE_NAMESPACE: &str = "capn-system";
/// A Deployment: namespace and name.
pub type Deployment = (&'static str, &'static str);

/// The namespace of cert-manager.
pub const CERT_MANAGER: &str = "cert-manager";
/// The Deployment of cert-manager that others ask, and where the API server is told to ask it.
pub const CERT_MANAGER_WEBHOOK: &str = "cert-manager-webhook";
/// The Deployment of Cluster API's own controllers.
pub const CORE_DEPLOYMENT: Deployment = ("capi-system", "capi-controller-manager");
const BOOTSTRAP_DEPLOYMENT: Deployment = ("capi-kubeadm-bootstrap-system", "capi-kubeadm-bootstrap-controller-manager");
const CONTROL_PLANE_DEPLOYMENT: Deployment = ("capi-kubeadm-control-plane-system", "capi-kubeadm-control-plane-controller-manager");
/// Where the infrastructure provider runs.
pub const INFRASTRUCTURE_DEPLOYMENT: Deployment = (INFRASTRUCTURE_NAMESPACE, "capn-controller-manager");
/// The Deployments that a management cluster stands on.
pub const DEPLOYMENTS: [Deployment; 7] = [
    (CERT_MANAGER, "cert-manager"),
    (CERT_MANAGER, "cert-manager-cainjector"),
    (CERT_MANAGER, CERT_MANAGER_WEBHOOK),
    CORE_DEPLOYMENT,
    BOOTSTRAP_DEPLOYMENT,
    CONTROL_PLANE_DEPLOYMENT,
    INFRASTRUCTURE_DEPLOYMENT,
];

/// The Deployment of one of the lab's own providers, by clusterctl's name of the provider.
#[must_use]
pub fn deployment_of(provider: &str) -> Option<Deployment> {
    match provider {
        "cluster-api" => Some(CORE_DEPLOYMENT),
        "bootstrap-kubeadm" => Some(BOOTSTRAP_DEPLOYMENT),
        "control-plane-kubeadm" => Some(CONTROL_PLANE_DEPLOYMENT),
        "infrastructure-incus" => Some(INFRASTRUCTURE_DEPLOYMENT),
        _ => None,
    }
}

/// The flag by which its manager is told how many machines it makes at once.
const CONCURRENCY: &str = "--concurrency";

/// How many machines the infrastructure provider may make at once on this kind of server; nothing where its own default will do.
///
/// LXD 5.0 takes a new container that has no ids yet for the owner of the first 65,536, and gives the next one those that follow. No
/// container may have these: of two that are made at once one never starts, and cannot be deleted.
#[must_use]
pub fn concurrency(server: &str, version: &str) -> Option<u16> {
    let is_affected = server == "lxd" && (version == "5.0" || version.starts_with("5.0."));
    is_affected.then_some(1)
}

/// What a manager's arguments say of it.
#[must_use]
pub fn concurrency_of(arguments: &[String]) -> Option<&str> {
    let position = arguments.iter().rposition(|argument| value(argument).is_some())?;
    match value(&arguments[position]) {
        Some("") => arguments.get(position + 1).map(String::as_str),
        given => given.map(|given| &given[1..]),
    }
}

/// A manager's arguments with this concurrency and no other. The rest stays as it is.
#[must_use]
pub fn with_concurrency(arguments: &[String], concurrency: u16) -> Vec<String> {
    let mut rest = arguments.iter();
    let mut kept = Vec::new();
    while let Some(argument) = rest.next() {
        match value(argument) {
            None => kept.push(argument.clone()),
            // The value is an argument of its own.
            Some("") => drop(rest.next()),
            Some(_) => {}
        }
    }
    kept.push(format!("{CONCURRENCY}={concurrency}"));
    kept
}

/// What follows the flag, with its equals sign; nothing if it is another flag.
fn value(argument: &str) -> Option<&str> {
    argument.strip_prefix(CONCURRENCY).filter(|rest| rest.is_empty() || rest.starts_with('='))
}

/// The port of an API server inside its instance.
pub const API_PORT: u16 = 6443;
/// The kubeconfig that k3s writes for its administrator, inside its instance.
pub const K3S_KUBECONFIG: &str = "/etc/rancher/k3s/k3s.yaml";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lxd_5_0_makes_one_container_at_a_time() {
        for (server, version, expected) in [
            ("lxd", "5.0.2", Some(1)),
            ("lxd", "5.0", Some(1)),
            ("lxd", "5.21.3", None),
            ("lxd", "6.1", None),
            ("incus", "6.0.4", None),
            ("incus", "5.0.1", None),
        ] {
            assert_eq!(concurrency(server, version), expected, "{server} {version}");
        }
    }

    #[test]
    fn a_managers_arguments_keep_whatever_else_they_say() {
        for (arguments, live, with) in [
            ("run --v=2", None, "run --v=2 --concurrency=1"),
            ("--concurrency=10 --v=2", Some("10"), "--v=2 --concurrency=1"),
            ("--concurrency 10 --v=2", Some("10"), "--v=2 --concurrency=1"),
            ("--concurrency=2 --concurrency=1", Some("1"), "--concurrency=1"),
            ("--concurrency-of-others=5", None, "--concurrency-of-others=5 --concurrency=1"),
            ("--concurrency", None, "--concurrency=1"),
        ] {
            let arguments: Vec<_> = arguments.split(' ').map(str::to_owned).collect();
            assert_eq!(concurrency_of(&arguments), live, "{arguments:?}");
            assert_eq!(with_concurrency(&arguments, 1).join(" "), with, "{arguments:?}");
        }
    }
}
