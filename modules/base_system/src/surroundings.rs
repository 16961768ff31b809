//! What can spoil a lab, and is not this step's to change.

use host::{
    Error, forwarding,
    kernel::{Kernel, Presence},
    memory,
};
use lab::machine;

use crate::{BaseSystem, modules::Modules, sysctl};

/// What the user should know of.
pub(crate) async fn warnings(step: &BaseSystem, kernel: &Kernel<'_>) -> Result<Vec<String>, Error> {
    let found = [small_memory(step)?, missing_modules(kernel)?, forwarding::dropped(&step.root).await];
    let mut warnings: Vec<_> = found.into_iter().flatten().collect();
    warnings.extend(sysctl::overruled(step)?);
    for module in Modules::names(step) {
        if let Some(file) = kernel.withheld(&module)? {
            warnings.push(format!("{} keeps {module} from being loaded when the machine starts", file.display()));
        }
    }
    Ok(warnings)
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
