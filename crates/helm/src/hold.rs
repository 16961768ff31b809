//! One run at a time on a release of a host, and a folder of its own for it.

use std::{
    fs::{self, DirBuilder, File},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use converge::Wait;
use data_encoding::HEXLOWER;
use rustix::io::{FdFlags, fcntl_setfd};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::Error;

/// What the name of a private folder begins with.
const PRIVATE: &str = "run-";

/// The right to work on a release, which only one run of a host has at a time.
///
/// A record cannot tell a Helm that works from one that was killed. The file is locked for as long as this value lives, and for as
/// long as any `helm` lives that was started meanwhile: that one has inherited it, even if the step itself was killed.
pub struct Hold {
    folder: PathBuf,
    _file: File,
}

impl Hold {
    /// Waits until no other run of this host works on the release. `folder` keeps the locks.
    pub async fn take(folder: &Path, server: &str, release: &str, deadline: Duration) -> Result<Self, Error> {
        let failed = |act, path: &Path, source| Error::Io { act, path: path.to_owned(), source };
        let folder = folder.join(name(server, release));
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| failed("create", &folder, error))?;
        let path = folder.join("lock");
        let open = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let file = open.map_err(|error| failed("open", &path, error))?;
        fcntl_setfd(&file, FdFlags::empty()).map_err(|error| failed("open", &path, error.into()))?;
        let wait = Wait::for_condition(format!("release {release}: no other run works on it"), deadline);
        let look = async || -> Result<Result<(), String>, Error> {
            match file.try_lock() {
                Ok(()) => Ok(Ok(())),
                Err(fs::TryLockError::WouldBlock) => Ok(Err("another run, or a helm that outlived one, is at work".into())),
                Err(fs::TryLockError::Error(error)) => Err(failed("lock", &path, error)),
            }
        };
        wait.until(look).await.map_err(|error| match error {
            Error::Wait(source) => Error::Busy { release: release.to_owned(), source },
            error => error,
        })?;
        let hold = Self { folder, _file: file };
        hold.tidy();
        Ok(hold)
    }

    /// A folder that only this run's user can enter; it goes with the value.
    pub fn private_folder(&self) -> Result<TempDir, Error> {
        TempDir::with_prefix_in(PRIVATE, &self.folder).map_err(|source| Error::Io {
            act: "create a folder in",
            path: self.folder.clone(),
            source,
        })
    }

    /// Removes what killed runs have left. It is small, and in nobody's way if it stays.
    fn tidy(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(PRIVATE) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Short, whatever the address and the names are.
fn name(server: &str, release: &str) -> String {
    let digest = HEXLOWER.encode(&Sha256::digest(format!("{server} {release}")));
    digest[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use converge::Explain as _;

    use super::*;

    async fn take(folder: &Path, release: &str) -> Result<Hold, Error> {
        Hold::take(folder, "https://10.77.0.5:6443", release, Duration::from_millis(100)).await
    }

    #[tokio::test]
    async fn one_run_at_a_time_for_each_release() {
        let folder = tempfile::tempdir().unwrap();
        let first = take(folder.path(), "ns/demo").await.unwrap();
        assert_eq!(take(folder.path(), "ns/demo").await.err().map(|error| error.code()), Some("RELEASE_BUSY"));
        assert!(take(folder.path(), "ns/other").await.is_ok());
        drop(first);
        assert!(take(folder.path(), "ns/demo").await.is_ok());
    }

    #[tokio::test]
    async fn a_program_that_outlives_its_run_holds_on() {
        let folder = tempfile::tempdir().unwrap();
        let hold = take(folder.path(), "ns/demo").await.unwrap();
        let mut helm = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        drop(hold);
        assert!(take(folder.path(), "ns/demo").await.is_err(), "it still works");
        helm.kill().unwrap();
        helm.wait().unwrap();
        assert!(take(folder.path(), "ns/demo").await.is_ok());
    }

    #[tokio::test]
    async fn what_a_killed_run_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let hold = take(folder.path(), "ns/demo").await.unwrap();
        let left = hold.private_folder().unwrap().keep();
        drop(hold);
        let _hold = take(folder.path(), "ns/demo").await.unwrap();
        assert!(!left.exists());
    }
}
