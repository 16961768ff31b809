//! A lock that all runs on one host share.
//!
//! It lies in a folder of root's own, so that nobody else can hold it, or put something in its place that a run would wait for. Where
//! there cannot be such a folder, because this user may not make one, there is no lock: what it guards has to bear that.
//!
//! Who holds it has written its process into it, so that who waits can say for whom.

use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    process,
    time::{Duration, Instant},
};

use converge::Wait;
use rustix::{
    fs::{Mode, OFlags, mkdir, open, openat},
    process::geteuid,
};

use crate::Error;

/// Made by whoever comes first after a start of the host.
const FOLDER: &str = "/run/k8slab";
const PATIENCE: Duration = Duration::from_secs(120);

/// Held by one run at a time on this host, until it is dropped or the process ends.
#[derive(Debug)]
#[must_use]
pub struct HostLock {
    file: Option<File>,
    waited: Duration,
}

impl HostLock {
    /// Whether there is a lock on this host, and this run has it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.file.is_some()
    }

    /// How long another run was waited for, if one was.
    #[must_use]
    pub fn waited(&self) -> Option<Duration> {
        Some(self.waited).filter(|waited| !waited.is_zero())
    }

    /// Waits for the end of what another run does under this name.
    pub async fn acquire(name: &str) -> Result<Self, Error> {
        Self::acquire_within(name, PATIENCE).await
    }

    /// The same, for who has another patience.
    pub async fn acquire_within(name: &str, patience: Duration) -> Result<Self, Error> {
        Self::acquire_in(Path::new(FOLDER), name, patience).await
    }

    async fn acquire_in(folder: &Path, name: &str, patience: Duration) -> Result<Self, Error> {
        let mut held = Self { file: None, waited: Duration::ZERO };
        let Ok(file) = place(folder, name) else { return Ok(held) };
        let start = Instant::now();
        if is_held(&file) {
            let what = format!("the end of what another run does, which holds {}/{name}", folder.display());
            let look = async || Ok::<_, Error>(if is_held(&file) { Err(format!("{} is at work", holder(&file))) } else { Ok(()) });
            Wait::for_condition(what, patience).until(look).await?;
            held.waited = start.elapsed();
        }
        // Without the process in it, the lock is as good.
        let _ = file.set_len(0).and_then(|()| file.write_all_at(process::id().to_string().as_bytes(), 0));
        held.file = Some(file);
        Ok(held)
    }
}

/// Whether somebody else holds the lock. It is ours otherwise, or there is none on this file system.
fn is_held(file: &File) -> bool {
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

fn holder(file: &File) -> String {
    let mut text = [0; 20];
    let read = file.read_at(&mut text, 0).unwrap_or_default();
    let id = std::str::from_utf8(&text[..read]).ok().filter(|id| !id.is_empty());
    id.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"))
}

/// The file to lock. Neither it nor its folder can be another user's.
fn place(folder: &Path, name: &str) -> io::Result<File> {
    match mkdir(folder, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = File::from(open(folder, how, Mode::empty())?);
    let found = folder.metadata()?;
    if found.uid() != geteuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user's folder"));
    }
    let how = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(openat(&folder, name, how, Mode::RUSR | Mode::WUSR)?.into())
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
        time::Instant,
    };

    use converge::Explain as _;
    use rustix::fs::mknodat;

    use super::*;

    const BRIEFLY: Duration = Duration::from_millis(60);

    #[tokio::test]
    async fn is_had_by_one_after_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let acquire = async || HostLock::acquire_in(&folder.path().join("locks"), "lxd", BRIEFLY).await;
        let first = acquire().await.unwrap();
        assert!(first.is_held());
        let second = acquire().await.unwrap_err();
        assert_eq!(second.code(), "WAIT_TIMEOUT");
        let who = format!("process {} is at work", process::id());
        assert!(second.to_string().contains("another run") && second.to_string().ends_with(&who), "{second}");
        assert_eq!(first.waited(), None);
        drop(first);
        assert!(acquire().await.unwrap().is_held());
    }

    #[tokio::test]
    async fn says_how_long_it_was_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let acquire = async || HostLock::acquire_in(&folder.path().join("locks"), "lxd", Duration::from_secs(10)).await.unwrap();
        let first = acquire().await;
        let (second, ()) = tokio::join!(acquire(), async {
            tokio::time::sleep(BRIEFLY).await;
            drop(first);
        });
        assert!(second.waited().is_some_and(|waited| waited >= BRIEFLY / 2), "{:?}", second.waited());
    }

    #[tokio::test]
    async fn nobody_else_can_hold_it() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("locks");
        drop(HostLock::acquire_in(&folder, "lxd", BRIEFLY).await.unwrap());
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("lxd"))), (0o700, 0o600));
    }

    /// What another user could prepare in a folder that all may write: a held lock, and a pipe that nobody writes to.
    #[tokio::test]
    async fn what_another_user_prepares_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let held = File::create(folder.path().join("held")).unwrap();
        held.lock().unwrap();
        let how = (rustix::fs::FileType::Fifo, Mode::RWXU, 0);
        mknodat(rustix::fs::CWD, folder.path().join("pipe"), how.0, how.1, how.2).unwrap();
        let start = Instant::now();
        for name in ["held", "pipe"] {
            let lock = HostLock::acquire_in(folder.path(), name, Duration::from_secs(60)).await.unwrap();
            assert!(!lock.is_held(), "{name}");
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_pipe_in_our_own_folder_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        mknodat(rustix::fs::CWD, folder.path().join("lxd"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(HostLock::acquire_in(folder.path(), "lxd", BRIEFLY).await.is_ok());
    }

    #[tokio::test]
    async fn is_given_where_nothing_can_be_locked() {
        let nowhere = HostLock::acquire_in(Path::new("/nowhere/locks"), "lxd", BRIEFLY).await;
        assert!(!nowhere.unwrap().is_held());
    }
}
