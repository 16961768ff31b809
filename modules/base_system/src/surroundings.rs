//! What can spoil a lab, and is not this step's to change.

use host::{
    Error,
    kernel::{Kernel, Presence},
    memory,
};
use lab::machine;

use crate::BaseSystem;

/// What the user should know of.
pub(crate) async fn warnings(step: &BaseSystem, kernel: &Kernel<'_>) -> Result<Vec<String>, Error> {
    let found = [small_memory(step)?, missing_modules(kernel)?, dropped_forwarding(step).await];
    Ok(found.into_iter().flatten().collect())
}

fn small_memory(step: &BaseSystem) -> Result<Option<String>, Error> {
    let total = memory::total_mib(&step.root)?;
    let small = total.filter(|total| *total < step.memory_warning_mib.into());
    Ok(small.map(|total| format!("{total} MiB of memory; a whole lab wants {} MiB", step.memory_warning_mib)))
}

fn missing_modules(kernel: &Kernel<'_>) -> Result<Option<String>, Error> {
    let mut missing = Vec::new();
    for module in machine::NODE_MODULES {
        if kernel.presence(module.name, Some(module.symbol))? == Presence::Missing {
            missing.push(module.name);
        }
    }
    let text = || format!("the kernel does not have {}, which Kubernetes nodes may ask for", missing.join(", "));
    Ok((!missing.is_empty()).then(text))
}

/// Docker makes the host drop what it does not forward itself, bridged traffic of containers included.
async fn dropped_forwarding(step: &BaseSystem) -> Option<String> {
    let docker = step.root.has("/run/docker.sock") || step.root.has("/sys/class/net/docker0");
    if !docker {
        return None;
    }
    let rules = step.root.command("iptables").args(["-S", "FORWARD"]).execute().await.ok()?;
    let drops = rules.stdout.lines().any(|rule| rule == "-P FORWARD DROP");
    drops.then(|| {
        "Docker has set the policy of the FORWARD chain to DROP; instances on the lab's bridges will have no network".into()
    })
}
