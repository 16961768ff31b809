use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use converge::Wait;

use crate::Error;

/// Every user of LXD may look for it here.
const PLACE: &str = "/run/lock/k8slab-lxd";
const PATIENCE: Duration = Duration::from_secs(120);

/// One run at a time on this host, until it is dropped: for what LXD itself lets two requests spoil for each other.
#[derive(Debug)]
#[must_use]
pub struct Turn {
    _lock: Option<File>,
}

impl Turn {
    /// Waits for the end of what another run does.
    pub async fn take() -> Result<Self, Error> {
        Self::take_at(Path::new(PLACE), PATIENCE).await
    }

    async fn take_at(place: &Path, patience: Duration) -> Result<Self, Error> {
        // Where nothing can be locked, LXD's own tags still tell who came second.
        let Ok(file) = open(place) else { return Ok(Self { _lock: None }) };
        let wait = Wait::for_condition(format!("the end of what another run changes, which holds {}", place.display()), patience);
        let look = async || match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok::<_, Error>(Err("it goes on")),
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Ok(())),
        };
        wait.until(look).await?;
        Ok(Self { _lock: Some(file) })
    }
}

/// Another user's file can be locked, too, but not be opened as if it were to be made.
fn open(place: &Path) -> io::Result<File> {
    match File::open(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o644).open(place) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => File::open(place),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use converge::Explain as _;

    use super::*;

    #[tokio::test]
    async fn is_had_by_one_after_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("turn");
        let take = async || Turn::take_at(&place, Duration::from_millis(60)).await;
        let first = take().await.unwrap();
        let second = take().await.unwrap_err();
        assert_eq!(second.code(), "WAIT_TIMEOUT");
        assert!(second.to_string().contains("another run"), "{second}");
        drop(first);
        assert!(take().await.is_ok());
    }

    #[tokio::test]
    async fn is_given_where_nothing_can_be_locked() {
        let nowhere = Turn::take_at(Path::new("/nowhere/turn"), Duration::from_millis(60)).await;
        assert!(nowhere.is_ok());
    }
}
