//! Why a tool is not in its place.

use converge::{Explain, Explanation};

/// Why a tool is not in its place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the checksum at {url} cannot be had")]
    ChecksumFetch { url: String, source: host::Error },
    #[error("{url} has no SHA-256 of {entry}")]
    ChecksumEntry { url: String, entry: String },
    #[error("nothing says which checksum the tool must have")]
    ChecksumUnknown,
    #[error("{place} has the SHA-256 {found}, but {expected} is expected")]
    ChecksumMismatch { place: String, expected: String, found: String },
    #[error("{tool} from {place} does not say that it is {version}")]
    VersionMismatch { tool: &'static str, place: String, version: String, said: String },
    #[error(transparent)]
    Host(#[from] host::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::ChecksumFetch { source, .. } => source.explain().with_code("CHECKSUM_FETCH_FAILED"),
            Self::ChecksumEntry { .. } => {
                Explanation::new("CHECKSUM_ENTRY_MISSING").hint("look at checksum_style and checksum_entry of the tool")
            }
            Self::ChecksumUnknown => Explanation::new("CHECKSUM_UNKNOWN").hint("give checksum_sha256 or checksum_url of the tool"),
            Self::ChecksumMismatch { .. } => Explanation::new("CHECKSUM_MISMATCH")
                .hint("version and checksum must belong together; otherwise the source is not to be trusted"),
            Self::VersionMismatch { said, .. } => {
                Explanation::new("VERSION_MISMATCH").hint("version and URL of the tool must belong together").detail(said.as_str())
            }
            Self::Host(error) => error.explain(),
        }
    }
}
