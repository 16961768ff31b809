use converge::WaitError;

use crate::Error;

/// Why a wait ended without what was waited for.
pub(crate) enum Ended {
    Deadline(WaitError),
    Failed(Error),
}

impl Ended {
    pub(crate) fn into_error(self, deadline: fn(WaitError) -> Error) -> Error {
        match self {
            Self::Deadline(error) => deadline(error),
            Self::Failed(error) => error,
        }
    }
}

impl From<WaitError> for Ended {
    fn from(error: WaitError) -> Self {
        Self::Deadline(error)
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
