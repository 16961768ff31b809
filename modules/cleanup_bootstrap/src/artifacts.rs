//! The artifacts on the runner.

use std::{
    env, fmt, fs, io,
    path::{Path, PathBuf},
};

use converge::{Failure, Section};
use host::file;
use serde_json::{Value, json};

use crate::error::Error;

/// In a folder of artifacts: the host that they are of.
const CLAIM: &str = ".k8slab-host";
/// A folder so near to the root is nobody's artifacts.
const COMPONENTS: usize = 4;

/// The section: they are gone.
pub(crate) struct Artifacts<'a> {
    pub path: &'a Path,
    pub host: &'a str,
}

/// Removes the folder.
pub(crate) struct Remove(PathBuf);

impl Artifacts<'_> {
    pub(crate) const NAME: &'static str = "artifacts";

    fn refused(&self, reason: &str) -> Error {
        Error::NoArtifacts { path: self.path.to_owned(), reason: reason.to_owned() }
    }

    /// Whether there is a folder of this host's artifacts, and nothing else.
    fn look(&self) -> Result<bool, Error> {
        let found = match fs::symlink_metadata(self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            found => found.map_err(|source| Error::File { path: self.path.to_owned(), source })?,
        };
        if !found.is_dir() || self.path.canonicalize().ok().as_deref() != Some(self.path) {
            return Err(self.refused("it is no folder, or a link leads there"));
        }
        if self.path.components().count() < COMPONENTS || env::home_dir().as_deref() == Some(self.path) {
            return Err(self.refused("it is too near to the root, or somebody's home"));
        }
        match fs::read_to_string(self.path.join(CLAIM)) {
            Ok(host) if host.trim_end() == self.host => Ok(true),
            Ok(host) => Err(self.refused(&format!("its artifacts are those of {}", host.trim_end()))),
            Err(_) => Err(self.refused("nothing in it says that it holds artifacts")),
        }
    }
}

impl Section for Artifacts<'_> {
    const NAME: &'static str = "artifacts";
    type Live = bool;
    type Change = Remove;

    async fn observe(&self) -> Result<bool, Failure> {
        Ok(self.look()?)
    }

    fn plan(&self, live: &bool) -> Result<Vec<Remove>, Failure> {
        Ok(live.then(|| Remove(self.path.to_owned())).into_iter().collect())
    }

    async fn apply(&self, change: &Remove) -> Result<(), Failure> {
        Ok(file::remove(&change.0)?)
    }
}

impl fmt::Display for Remove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remove {}", self.0.display())
    }
}

impl converge::Change for Remove {
    fn object(&self) -> String {
        self.0.display().to_string()
    }

    fn before(&self) -> Value {
        json!("(there)")
    }

    fn after(&self) -> Value {
        Value::Null
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_a_folder_that_says_so_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let make = |name: &str, claim: Option<&str>| {
            let path = root.join("of").join(name);
            fs::create_dir_all(&path).unwrap();
            if let Some(claim) = claim {
                fs::write(path.join(CLAIM), claim).unwrap();
            }
            path
        };
        let ours = make("ours", Some("this\n"));
        symlink(&ours, root.join("of/link")).unwrap();
        for (case, path, expected) in [
            ("ours", ours.clone(), Some(true)),
            ("none", root.join("of/nowhere"), Some(false)),
            ("another host's", make("theirs", Some("that\n")), None),
            ("any folder", make("any", None), None),
            ("a link", root.join("of/link"), None),
            ("the root", PathBuf::from("/"), None),
            ("near to it", PathBuf::from("/usr/lib"), None),
        ] {
            assert_eq!(Artifacts { path: &path, host: "this" }.look().ok(), expected, "{case}");
        }
        file::remove(&ours).unwrap();
        assert!(!ours.exists());
    }
}
