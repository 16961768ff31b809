//! What k3s is called with.

use ansible::OptionError;
use lab::address;

use crate::BootstrapK3s;

/// The secret by which nodes join.
pub(crate) const TOKEN: &str = "/etc/rancher/k3s/token";

/// Lets the kubelet go without `/dev/kmsg` and without kernel parameters that a container may not set.
pub(crate) const USER_NAMESPACE: (&str, &str) = ("KubeletInUserNamespace", "true");

/// What the lab does without: it has load balancers of its own, and they would not run in the instance.
const DISABLED: [&str; 2] = ["traefik", "servicelb"];

/// Flags that the step sets. k3s takes the last of several, so one among the extra arguments would win.
const OWN: [&str; 13] = [
    "cluster-cidr",
    "cluster-dns",
    "disable",
    "disable-cloud-controller",
    "disable-network-policy",
    "flannel-ipv6-masq",
    "kubelet-arg",
    "node-ip",
    "service-cidr",
    "tls-san",
    "token",
    "token-file",
    "write-kubeconfig-mode",
];

/// Flags that move what the lab, this step and those after it find at its usual place.
const FIXED: [(&str, &str); 8] = [
    ("bind-address", "the API is reached at the node's address"),
    ("config", "the file could set what the step sets itself"),
    ("data-dir", "images and the token are in the usual folder"),
    ("disable-agent", "the instance is the cluster's one node"),
    ("disable-apiserver", "the API is in the instance"),
    ("https-listen-port", "the steps after this one reach the API at its usual port"),
    ("rootless", "the instance has a user namespace already"),
    ("write-kubeconfig", "the steps after this one read the kubeconfig at its usual place"),
];

/// The short names that some of them have.
const SHORT: [(&str, &str); 4] = [("c", "config"), ("d", "data-dir"), ("o", "write-kubeconfig"), ("t", "token")];

/// The arguments of `k3s server`, but for the node's addresses, which the launcher finds out.
pub(crate) fn server(step: &BootstrapK3s) -> Vec<String> {
    let (gate, value) = USER_NAMESPACE;
    let gates: Vec<String> = [format!("{gate}={value}")].into_iter().chain(step.extra_kubelet_feature_gates.clone()).collect();
    let mut flags = vec![
        format!("--write-kubeconfig-mode={}", step.write_kubeconfig_mode),
        // k3s' own cloud controller may start before it is allowed to, and ends k3s then.
        "--disable-cloud-controller".to_owned(),
        format!("--kubelet-arg=feature-gates={}", gates.join(",")),
        format!("--cluster-cidr={}", address::BOOTSTRAP_PODS.join(",")),
        format!("--service-cidr={}", address::BOOTSTRAP_SERVICES.join(",")),
        format!("--cluster-dns={}", address::BOOTSTRAP_DNS.join(",")),
        // The providers' controllers are pods, and load balancers have addresses of both families.
        "--flannel-ipv6-masq".to_owned(),
        // Ends k3s in a container with addresses of both families.
        "--disable-network-policy".to_owned(),
    ];
    let disabled = DISABLED.iter().copied().chain(step.extra_disable_components.iter().map(String::as_str));
    flags.extend(disabled.map(|component| format!("--disable={component}")));
    flags.extend(step.tls_san.iter().map(|san| format!("--tls-san={san}")));
    flags.extend(step.token.iter().map(|_| format!("--token-file={TOKEN}")));
    flags.extend(step.extra_args.iter().cloned());
    flags
}

/// Refuses an extra argument that is one of the step's own flags, or breaks what is built on k3s.
pub(crate) fn refuse_own(extra: &[String]) -> Result<(), OptionError> {
    for name in extra.iter().filter_map(|argument| name(argument)) {
        if OWN.contains(&name) {
            let key = format!("--{name}");
            return Err(OptionError::Collision { option: "extra_args".into(), key, required: "its own".into() });
        }
        if let Some((_, why)) = FIXED.iter().find(|(fixed, _)| *fixed == name) {
            return Err(OptionError::invalid("extra_args", format!("`--{name}` is not for a lab: {why}")));
        }
    }
    Ok(())
}

fn name(argument: &str) -> Option<&str> {
    let name = argument.strip_prefix('-')?.trim_start_matches('-').split('=').next().unwrap_or_default();
    Some(SHORT.iter().find(|(short, _)| *short == name).map_or(name, |(_, long)| long))
}
