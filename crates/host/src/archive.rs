//! Packed archives.

use std::{path::Path, time::Duration};

use crate::{Error, Owner, Replacement, Root, file};

/// How long an archive may take to be unpacked.
const DEADLINE: Duration = Duration::from_secs(300);

/// Takes one file out of an archive, a tar that gzip packed, to be at the real path `destination`; also gives its SHA-256. Nothing of
/// the archive is left.
pub async fn take_out(archive: Replacement, member: &str, destination: &Path) -> Result<(Replacement, String), Error> {
    let archive = archive.seal(Owner::default(), 0o600)?;
    let beside = destination.parent().unwrap_or(Path::new("/"));
    let folder = tempfile::Builder::new().prefix(".k8slab-").tempdir_in(beside);
    let folder = folder.map_err(|error| Error::io("write", beside, error))?;
    let tar = Root::default().command("tar").args(["--extract", "--gzip", "--no-same-owner", "--file"]).arg(archive.path());
    tar.arg("--directory").arg(folder.path()).args(["--", member]).within(DEADLINE).execute().await?;
    file::copy(&folder.path().join(member), destination)
}
