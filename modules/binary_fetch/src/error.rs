use ansible::Explain;

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
    fn code(&self) -> &'static str {
        match self {
            Self::ChecksumFetch { .. } => "CHECKSUM_FETCH_FAILED",
            Self::ChecksumEntry { .. } => "CHECKSUM_ENTRY_MISSING",
            Self::ChecksumUnknown => "CHECKSUM_UNKNOWN",
            Self::ChecksumMismatch { .. } => "CHECKSUM_MISMATCH",
            Self::VersionMismatch { .. } => "VERSION_MISMATCH",
            Self::Host(error) => error.code(),
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::ChecksumFetch { source, .. } => return source.hints(),
            Self::ChecksumEntry { .. } => "look at checksum_style and checksum_entry of the tool",
            Self::ChecksumUnknown => "give checksum_sha256 or checksum_url of the tool",
            Self::ChecksumMismatch { .. } => "version and checksum must belong together; otherwise the source is not to be trusted",
            Self::VersionMismatch { .. } => "version and URL of the tool must belong together",
            Self::Host(error) => return error.hints(),
        };
        vec![hint.into()]
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::VersionMismatch { said, .. } => Some(said.clone()),
            Self::Host(error) => error.detail(),
            _ => None,
        }
    }
}
