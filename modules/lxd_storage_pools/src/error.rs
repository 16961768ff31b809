//! Why a pool cannot be made, or cannot be what it should be.

use std::io;

use converge::{Explain, Explanation};

/// Why a pool cannot be made, or cannot be what it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("pool {pool} has no source")]
    NoSource { pool: String },
    #[error("pool {pool}: there is no {path}")]
    SourceMissing { pool: String, path: String },
    #[error("pool {pool}: {path} carries {found}")]
    SourceDirty { pool: String, path: String, found: String },
    #[error("pool {pool}: {path} is in use by {by}")]
    SourceInUse { pool: String, path: String, by: String },
    #[error("pool {pool} was made on {found}, not on {wanted}")]
    SourceMismatch { pool: String, found: String, wanted: String },
    #[error("pool {pool} has the driver {found}, not {wanted}")]
    DriverMismatch { pool: String, found: String, wanted: String },
    #[error("pool {pool} is {status}, and LXD does not finish making it")]
    NotCreated { pool: String, status: String },
    #[error("{path} cannot be looked at: {source}")]
    Unreadable { path: String, source: io::Error },
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        const SETTLED: &str = "it was set when the pool was made; delete the pool and run again, or declare what is there";
        match self {
            Self::NoSource { .. } => Explanation::new("OPTION_MISSING")
                .hint("set k8s_lab_storage_source, or config.source of the pool, to a disk by its /dev/disk/by-id name")
                .hint("or to `loop`, and LXD makes a file of config.size itself"),
            Self::SourceMissing { .. } => Explanation::new("POOL_SOURCE_MISSING")
                .hint("look at `ls -l /dev/disk/by-id`; a source is a disk, a partition or what else the driver takes"),
            Self::SourceDirty { .. } => Explanation::new("POOL_DEVICE_DIRTY")
                .hint("if nothing on it is needed, clear it with `wipefs --all`, or set wipe: true on the pool"),
            Self::SourceInUse { .. } => Explanation::new("POOL_SOURCE_IN_USE")
                .hint("give each pool a disk of its own that nothing else uses; `lsblk` shows them"),
            Self::SourceMismatch { .. } => Explanation::new("POOL_SOURCE_MISMATCH").hint(SETTLED),
            Self::DriverMismatch { .. } => Explanation::new("POOL_DRIVER_MISMATCH").hint(SETTLED),
            Self::NotCreated { .. } => {
                Explanation::new("POOL_STATUS_ERRORED").hint("delete it with `lxc storage delete` and run again")
            }
            Self::Unreadable { .. } => Explanation::new("POOL_SOURCE_UNREADABLE").hint("run the task with become: true"),
        }
    }
}
