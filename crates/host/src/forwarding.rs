//! Whether the host lets through what its bridges forward.

use crate::Root;

/// What to say where Docker makes the host drop what it does not forward itself, bridged traffic of containers included. A host whose
/// rules cannot be read says nothing.
pub async fn dropped(root: &Root) -> Option<String> {
    let docker = root.has("/run/docker.sock") || root.has("/sys/class/net/docker0");
    if !docker {
        return None;
    }
    let rules = root.command("iptables").args(["-S", "FORWARD"]).execute().await.ok()?;
    let drops = rules.stdout.lines().any(|rule| rule == "-P FORWARD DROP");
    drops.then(|| {
        "Docker has set the policy of the FORWARD chain to DROP; instances on the lab's bridges will have no network".to_owned()
    })
}
