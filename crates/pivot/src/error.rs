//! Why a move cannot begin, go on or be called finished.

use std::{
    io,
    path::{Path, PathBuf},
};

use converge::{Explain, Explanation};

/// What can go wrong with the copy of what is moved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be read or written.
    #[error("{} cannot be read or written", path.display())]
    File {
        /// Where it is.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A file is not what clusterctl or a step wrote.
    #[error("{} is not as it was written", path.display())]
    NoObject {
        /// Where it is.
        path: PathBuf,
    },
    /// clusterctl has not copied what there is.
    #[error("clusterctl has copied {copied} objects where {wanted} are to be moved")]
    Incomplete {
        /// How many were copied.
        copied: usize,
        /// How many there are.
        wanted: usize,
        /// Those that it has left out.
        lacking: Vec<String>,
        /// Those that were not expected.
        beyond: Vec<String>,
    },
    /// The host refused.
    #[error(transparent)]
    Host(#[from] host::Error),
}

impl Error {
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::File { .. } => Explanation::new("PIVOT_COPY_FILE").hint("look at the disk, and at who owns the folder"),
            Self::NoObject { .. } => Explanation::new("PIVOT_COPY_DAMAGED")
                .hint("bring the file back from a backup; while a move is open, nothing can be told without it"),
            Self::Incomplete { lacking, beyond, .. } => {
                let lacking = lacking.iter().map(|key| format!("not copied: {key}"));
                let lines: Vec<_> = lacking.chain(beyond.iter().map(|key| format!("not expected: {key}"))).collect();
                Explanation::new("PIVOT_COPY_INCOMPLETE")
                    .hint("let whoever changes objects in the namespace come to an end, then run again")
                    .detail(lines.join("\n"))
            }
            Self::Host(error) => error.explain(),
        }
    }
}
