//! What this step fails with.

use std::path::PathBuf;

use converge::{Explain, Explanation};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("clusters {one} and {other} would both be published at port {port}")]
    PortShared { one: String, other: String, port: u16 },
    #[error("the bundle has no image for nodes of cluster {name} with Kubernetes {version}; it has {}", listed(versions))]
    NoImage { name: String, version: String, versions: Vec<String> },
    #[error("the bundle has no image for load balancers")]
    NoLoadBalancerImage,
    #[error("there is no bundle in {}", folder.display())]
    NoBundle { folder: PathBuf },
}

fn listed(versions: &[String]) -> String {
    if versions.is_empty() { "none".to_owned() } else { versions.join(", ") }
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::PortShared { .. } => Explanation::new("PORT_SHARED")
                .hint("set the port of one of them; without it the port follows from the name, and two names can lead to one port"),
            Self::NoImage { .. } => Explanation::new("VERSION_NOT_IN_BUNDLE")
                .hint("take one of these versions, or add this one to the bundle's definition and build it anew"),
            Self::NoLoadBalancerImage => {
                Explanation::new("IMAGE_NOT_IN_BUNDLE").hint("build it anew with `cargo xtask bundle build`; what is whole is kept")
            }
            Self::NoBundle { .. } => Explanation::new("BUNDLE_MISSING")
                .hint("build it with `cargo xtask bundle build`, or name the folder that it is in")
                .prerequisite(),
        }
    }
}
