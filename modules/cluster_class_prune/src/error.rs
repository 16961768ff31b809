//! Why nothing is removed.

use converge::{Explain, Explanation};

/// Why nothing is removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("Cluster API's objects are being moved to another cluster; none of them may be deleted until that is verified")]
    PivotOpen,
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::PivotOpen => {
                Explanation::new("PIVOT_OPEN").hint("run the role pivot_clusterctl_move again; it goes on where it stopped")
            }
        }
    }
}
