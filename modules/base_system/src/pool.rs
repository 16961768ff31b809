//! The filesystem that a user has prepared for LXD's pool.

use std::path::{Path, PathBuf};

use converge::{Explain, Explanation};
use host::mount;

use crate::BaseSystem;

/// The pool's filesystem is not mounted as it must be.
#[derive(Debug, thiserror::Error)]
#[error("{} must carry one mounted {wanted} filesystem, but {found}", point.display())]
pub(crate) struct PoolMissing {
    point: PathBuf,
    wanted: String,
    found: String,
}

impl Explain for PoolMissing {
    fn explain(&self) -> Explanation {
        Explanation::new("POOL_MOUNT_MISSING").hint("mount it there first; this step formats and mounts nothing")
    }
}

/// Fails if the pool is required and not mounted; warns if what is mounted has another label.
pub(crate) fn check(step: &BaseSystem) -> Result<Option<String>, converge::Failure> {
    if !step.btrfs_pool_required {
        return Ok(None);
    }
    let point = step.btrfs_pool_mountpoint.to_path_buf();
    let missing = |found: String| PoolMissing { point: point.clone(), wanted: step.btrfs_pool_fstype.clone(), found };
    let mounts = mount::at(&step.root, &point)?;
    let mount = match mounts.as_slice() {
        [] => return Err(missing("nothing is mounted there".into()).into()),
        [mount] if mount.kind == step.btrfs_pool_fstype => mount,
        [mount] => return Err(missing(format!("{} is mounted there", mount.kind)).into()),
        several => return Err(missing(format!("{} are mounted over each other", several.len())).into()),
    };
    let label = Path::new("/dev/disk/by-label").join(&step.btrfs_pool_label);
    let real = |path: &Path| step.root.at(path).canonicalize().ok();
    let labelled =
        step.btrfs_pool_label.is_empty() || real(&label).is_some_and(|device| Some(device) == real(Path::new(&mount.source)));
    Ok((!labelled).then(|| format!("{} at {} does not have the label {}", mount.source, point.display(), step.btrfs_pool_label)))
}
