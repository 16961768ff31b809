//! Why a release was not converged.

use std::io;

use converge::{Explain, Explanation};

/// Why a release is not converged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("release {release} is of chart {live}, and {wanted} is wanted")]
    OtherChart { release: String, live: String, wanted: String },
    #[error("chart {chart} has version {live}, and {wanted} is wanted")]
    ChartVersion { chart: String, live: String, wanted: String },
    #[error("there is no folder to try the chart in")]
    Scratch(#[source] io::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::OtherChart { .. } => Explanation::new("RELEASE_OTHER_CHART")
                .hint("give the release another name, or remove the other one first with state: absent"),
            Self::ChartVersion { .. } => {
                Explanation::new("CHART_VERSION").hint("set the version that the chart has, or leave it out")
            }
            Self::Scratch(_) => Explanation::new("FILE_IO").hint("look whether /tmp can be written to, and has room"),
        }
    }
}
