//! The files that tell the instance how to run k3s.

use std::{collections::BTreeMap, fmt::Write as _};

use ansible::OptionError;
use converge::Secret;
use host::file;
use lab::address;

use crate::{BootstrapK3s, flags};

const REGISTRIES: &str = "/etc/rancher/k3s/registries.yaml";
const LAUNCHER: &str = "/usr/local/sbin/k3s-server-launcher";

/// The first line of what is removed again when it is no longer wanted.
const MARK: &str = "# Written by k8slab.capi.";

/// A file as it should be.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub path: String,
    pub mode: u32,
    /// Nothing where there should be no file.
    pub text: Option<Secret>,
    /// What it says may be shown.
    pub shown: bool,
}

impl File {
    /// Whether a file that should not be there is the step's to remove.
    pub(crate) fn is_ours(&self, text: &str) -> bool {
        self.path == flags::TOKEN || text.starts_with(MARK)
    }
}

/// All files, in the order in which they are written.
pub(crate) fn declare(step: &BootstrapK3s) -> Vec<File> {
    let token = step.token.as_ref().map(|token| format!("{}\n", token.expose()).into());
    let registries = step.registries.as_ref().map(|text| format!("{MARK}\n{}\n", text.expose().trim_end()).into());
    vec![
        File { path: flags::TOKEN.into(), mode: 0o600, text: token, shown: false },
        File { path: REGISTRIES.into(), mode: 0o600, text: registries, shown: false },
        File { path: step.env_path(), mode: 0o600, text: Some(environment(&step.environment).into()), shown: false },
        File { path: LAUNCHER.into(), mode: 0o755, text: Some(launcher(step).into()), shown: true },
        File { path: step.unit_path(), mode: file::mode(&step.unit_mode), text: Some(unit(step).into()), shown: true },
    ]
}

/// Refuses what the environment's file cannot say, and what has an option of its own.
pub(crate) fn check_environment(variables: &BTreeMap<String, Secret>) -> Result<(), OptionError> {
    for (name, value) in variables {
        let reason = match name.as_str() {
            "K3S_TOKEN" | "K3S_TOKEN_FILE" => "the option token is for that",
            "K3S_KUBECONFIG_MODE" => "the option write_kubeconfig_mode is for that",
            "K3S_CONFIG_FILE" | "K3S_DATA_DIR" | "K3S_KUBECONFIG_OUTPUT" | "K3S_URL" => {
                "the steps after this one find k3s at its usual place, and it is a server"
            }
            _ if value.expose().contains(char::is_control) => "a value is one line of text",
            _ => continue,
        };
        return Err(OptionError::invalid(format!("environment.{name}"), reason));
    }
    Ok(())
}

fn environment(variables: &BTreeMap<String, Secret>) -> String {
    let line = |text, (name, value): (&String, &Secret)| format!("{text}{name}={}\n", in_quotes(value.expose()));
    variables.iter().fold(format!("{MARK}\n"), line)
}

fn unit(step: &BootstrapK3s) -> String {
    let arguments = flags::server(step).iter().fold(String::new(), |mut text, argument| {
        let _ = write!(text, " \\\n    {}", word(argument));
        text
    });
    format!(
        "{MARK}
[Unit]
Description=k3s with the lab's bootstrap cluster
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
EnvironmentFile=-{}
ExecStart={LAUNCHER}{arguments}
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s

[Install]
WantedBy=multi-user.target
",
        step.env_path()
    )
}

/// An argument as systemd reads it.
fn word(argument: &str) -> String {
    let text = argument.replace('%', "%%").replace('$', "$$");
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=.,:/@+%".contains(letter);
    if text.chars().all(plain) { text } else { in_quotes(&text) }
}

fn in_quotes(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// By a proxy, the API server would not find the webhooks in its own cluster, nor the kubelets. The node's networks are known when k3s
/// starts; the rest is known now.
fn no_proxy(step: &BootstrapK3s) -> String {
    let is_proxy = |name: &String| ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].contains(&name.to_uppercase().as_str());
    if !step.environment.keys().any(is_proxy) {
        return String::new();
    }
    let interface = &step.internal_ifname;
    let own = ["localhost", "127.0.0.0/8", "::1", ".svc", ".cluster.local"];
    let own: Vec<_> = own.into_iter().chain(address::BOOTSTRAP_PODS).chain(address::BOOTSTRAP_SERVICES).collect();
    format!(
        r#"
# No proxy leads to the cluster itself, nor to its node.
networks=$({{ ip -o -4 route show dev {interface}; ip -o -6 route show dev {interface}; }} |
    awk '/ via / {{ next }} $1 ~ "/" && $1 !~ /^(fe80|ff)/ {{ printf ",%s", $1 }}')
known=${{NO_PROXY:-${{no_proxy:-}}}}
NO_PROXY=${{known:+$known,}}{}$networks
export NO_PROXY
export no_proxy="$NO_PROXY"
"#,
        own.join(",")
    )
}

/// Files of environment variables are read before any command runs, so the addresses cannot come from there.
fn launcher(step: &BootstrapK3s) -> String {
    let (interface, binary, no_proxy) = (&step.internal_ifname, step.binary_path(), no_proxy(step));
    format!(
        r#"#!/bin/sh
{MARK}
# Runs k3s with the node's addresses. Until there are both, systemd tries again.
set -eu

# The first address by which others reach the node; one that changes by itself only where there is no other.
address() {{
    ip -o "$1" address show dev {interface} scope global -tentative -deprecated -dadfailed |
        awk '/ temporary / {{ spare = spare ? spare : $4; next }} {{ found = $4; exit }} END {{ print found ? found : spare }}' |
        cut -d / -f 1
}}

ipv4=$(address -4)
ipv6=$(address -6)
if [ -z "$ipv4" ] || [ -z "$ipv6" ]; then
    echo "{interface} lacks a global address: IPv4 '$ipv4', IPv6 '$ipv6'" >&2
    exit 1
fi
{no_proxy}exec '{binary}' server --node-ip="$ipv4,$ipv6" "$@"
"#
    )
}
