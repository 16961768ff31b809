use std::io;

use ansible::Explain;

/// Why a pool cannot be made, or cannot be what it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("pool {pool} has no source")]
    NoSource { pool: String },
    #[error("pool {pool}: there is no {path}")]
    SourceMissing { pool: String, path: String },
    #[error("pool {pool}: {path} carries {found}")]
    SourceDirty { pool: String, path: String, found: &'static str },
    #[error("pool {pool}: {path} is in use by {by}")]
    SourceInUse { pool: String, path: String, by: String },
    #[error("pool {pool} was made on {found}, not on {wanted}")]
    SourceMismatch { pool: String, found: String, wanted: String },
    #[error("pool {pool} has the driver {found}, not {wanted}")]
    DriverMismatch { pool: String, found: String, wanted: String },
    #[error("pool {pool} is {status}, not Created")]
    NotCreated { pool: String, status: String },
    #[error("{path} cannot be looked at: {source}")]
    Unreadable { path: String, source: io::Error },
}

impl Explain for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSource { .. } => "OPTION_MISSING",
            Self::SourceMissing { .. } => "POOL_SOURCE_MISSING",
            Self::SourceDirty { .. } => "POOL_DEVICE_DIRTY",
            Self::SourceInUse { .. } => "POOL_SOURCE_IN_USE",
            Self::SourceMismatch { .. } => "POOL_SOURCE_MISMATCH",
            Self::DriverMismatch { .. } => "POOL_DRIVER_MISMATCH",
            Self::NotCreated { .. } => "POOL_STATUS_ERRORED",
            Self::Unreadable { .. } => "POOL_SOURCE_UNREADABLE",
        }
    }

    fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::NoSource { .. } => {
                "set k8s_lab_storage_source, or config.source of the pool, to a disk by its /dev/disk/by-id name"
            }
            Self::SourceMissing { .. } => {
                "look at `ls -l /dev/disk/by-id`; a source is a disk, a partition or what else the driver takes"
            }
            Self::SourceDirty { .. } => "if nothing on it is needed, clear it with `wipefs --all`, or set wipe: true on the pool",
            Self::SourceInUse { .. } => "give each pool a disk of its own",
            Self::SourceMismatch { .. } | Self::DriverMismatch { .. } => {
                "it was settled when the pool was made; delete the pool and run again, or declare what is there"
            }
            Self::NotCreated { .. } => "LXD did not finish making it; delete it with `lxc storage delete` and run again",
            Self::Unreadable { .. } => "run the task with become: true",
        };
        vec![hint.into()]
    }
}
