//! Packages: dpkg's own record of what is installed, and APT to install more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    time::{Duration, SystemTime},
};

use converge::{Change, Explain, Explanation, Wait, WaitError};
use serde_json::{Value, json};

use crate::{Command, CommandError, Error, Root};

/// The form of a package's name in options.
pub const NAME: &str = "^[a-z0-9][a-z0-9+.-]+$";

/// How long another package manager is waited for.
const LOCK_DEADLINE: Duration = Duration::from_secs(120);
/// How long APT may take for one call, on a slow mirror.
const APT_DEADLINE: Duration = Duration::from_secs(1800);
/// How APT and dpkg say that another of their kind is at work.
const LOCKED: [&str; 3] = ["Could not get lock", "Unable to acquire the dpkg frontend lock", "Unable to lock directory"];

/// The installed packages and their versions; what an installed package provides counts, without a version.
pub fn installed(root: &Root) -> Result<BTreeMap<String, String>, Error> {
    Ok(parse(&root.read("/var/lib/dpkg/status")?.unwrap_or_default()))
}

fn parse(status: &str) -> BTreeMap<String, String> {
    let mut packages = BTreeMap::new();
    for paragraph in status.split("\n\n") {
        let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        if field("Status").is_none_or(|status| !status.ends_with(" installed")) {
            continue;
        }
        let version = field("Version").unwrap_or_default();
        packages.insert(field("Package").unwrap_or_default().to_owned(), version.to_owned());
        let provided = field("Provides").unwrap_or_default().split(',').filter_map(|name| name.split_whitespace().next());
        for name in provided {
            packages.entry(name.to_owned()).or_default();
        }
    }
    packages
}

/// Packages to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// Their names, sorted.
    pub packages: Vec<String>,
}

impl Install {
    /// Those of the wanted packages that are not installed; nothing if all are. Pure.
    pub fn missing<'a>(wanted: impl IntoIterator<Item = &'a str>, installed: &BTreeMap<String, String>) -> Option<Self> {
        let missing: BTreeSet<_> = wanted.into_iter().filter(|name| !installed.contains_key(*name)).collect();
        (!missing.is_empty()).then(|| Self { packages: missing.into_iter().map(str::to_owned).collect() })
    }

    /// Installs them, without what they only recommend. APT's lists are refreshed first if they are older than `valid`.
    pub async fn apply(&self, root: &Root, valid: Duration) -> Result<(), Error> {
        if lists_age(root).is_none_or(|age| age > valid) {
            tracing::info!("refreshing APT's lists");
            run(&apt_get(root).arg("update")).await?;
        }
        run(&apt_get(root).args(["install", "--yes", "--no-install-recommends", "--"]).args(&self.packages)).await
    }
}

impl fmt::Display for Install {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "install {}", self.packages.join(", "))
    }
}

impl Change for Install {
    fn object(&self) -> String {
        "packages".into()
    }

    fn before(&self) -> Value {
        Value::Null
    }

    fn after(&self) -> Value {
        json!({"installed": self.packages})
    }
}

fn apt_get(root: &Root) -> Command {
    // What the administrator changed in a configuration file stays.
    let keep = ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"];
    root.command("env")
        .args(["DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1", "apt-get", "--quiet"])
        .args(keep)
        .within(APT_DEADLINE)
}

/// How long ago APT's lists were refreshed; nothing if they never were.
fn lists_age(root: &Root) -> Option<Duration> {
    let age = |path: &Path| SystemTime::now().duration_since(root.at(path).metadata().ok()?.modified().ok()?).ok();
    let never = root.list("/var/lib/apt/lists").is_ok_and(|lists| !lists.iter().any(|name| name.ends_with("Release")));
    if never { None } else { age(Path::new("/var/lib/apt/lists")) }
}

async fn run(command: &Command) -> Result<(), Error> {
    let lock = Wait::for_condition("APT: the package manager's lock", LOCK_DEADLINE);
    let attempt = async || match command.execute().await {
        Ok(_) => Ok(Ok(())),
        Err(Error::Command(CommandError::Failed { tail, .. })) if is_locked(&tail) => Ok(Err(holder(&tail))),
        Err(Error::Command(CommandError::Failed { tail, .. })) if !unknown(&tail).is_empty() => {
            Err(PackageError::Unknown { packages: unknown(&tail) }.into())
        }
        Err(error) => Err(error),
    };
    match lock.until(attempt).await {
        Err(Error::Locked(over)) => Err(PackageError::Locked(over).into()),
        outcome => outcome,
    }
}

fn is_locked(words: &str) -> bool {
    LOCKED.iter().any(|locked| words.contains(locked))
}

/// APT names the process that holds the lock.
fn holder(words: &str) -> String {
    words.lines().find(|line| line.contains("lock")).unwrap_or("locked").trim_start_matches("E: ").to_owned()
}

fn unknown(words: &str) -> Vec<String> {
    let name = |line: &str| {
        let rest = line
            .strip_prefix("E: Unable to locate package ")
            .or_else(|| line.strip_prefix("E: Package '")?.strip_suffix("' has no installation candidate"));
        rest.map(str::to_owned)
    };
    words.lines().filter_map(name).collect()
}

/// Why a package was not installed.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Another package manager is at work.
    #[error(transparent)]
    Locked(WaitError),
    /// APT knows no such package.
    #[error("APT knows no package {}", packages.join(", "))]
    Unknown {
        /// The packages.
        packages: Vec<String>,
    },
}

impl Explain for PackageError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Locked(error) => {
                error.explain().with_code("APT_LOCKED").with_hint("unattended-upgrades may be at work; run again when it is done")
            }
            Self::Unknown { .. } => Explanation::new("PACKAGE_NOT_FOUND")
                .hint("look for it with `apt-cache policy`; its repository may not be configured"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wholly_installed_counts() {
        let status = "\
Package: curl\nStatus: install ok installed\nVersion: 7.88.1\n
Package: held\nStatus: hold ok installed\nVersion: 1\n
Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n
Package: half\nStatus: install ok half-configured\nVersion: 1\n
Package: mawk\nStatus: install ok installed\nProvides: awk, posix-awk (= 1)\nVersion: 1.3\n";
        let installed = parse(status);
        let names: Vec<_> = installed.keys().map(String::as_str).collect();
        assert_eq!(names, ["awk", "curl", "held", "mawk", "posix-awk"]);
        assert_eq!(installed["curl"], "7.88.1");
    }

    #[test]
    fn apts_words() {
        let locked = "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 (unattended-upgr)\n\
            E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?";
        assert!(is_locked(locked));
        assert_eq!(holder(locked), "Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 (unattended-upgr)");
        let missing = "E: Unable to locate package nosuch\nE: Package 'snapd' has no installation candidate";
        assert!(!is_locked(missing));
        assert_eq!(unknown(missing), ["nosuch", "snapd"]);
        assert_eq!(unknown("E: Unable to fetch some archives"), [""; 0]);
    }
}
