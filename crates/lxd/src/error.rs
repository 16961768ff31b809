//! What can go wrong between a step and LXD.
//!
//! LXD has no codes for its refusals, so they are known by their words, which are alike across versions.

use std::{io, path::PathBuf, time::Duration};

use converge::{Explain, Explanation, WaitError};

/// What can go wrong between a step and LXD.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket exists.
    #[error("LXD is not there: no socket at {}", list(probed))]
    NoSocket {
        /// The paths that were tried.
        probed: Vec<PathBuf>,
    },
    /// The address does not answer.
    #[error("LXD at {address} cannot be reached: {reason}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// The system's words.
        reason: String,
        /// The socket may be used by others only.
        denied: bool,
    },
    /// The server at the address is another one.
    #[error("{address}: {OTHER_CERTIFICATE}")]
    OtherCertificate {
        /// The address.
        address: String,
    },
    /// Something answers, but not as LXD does.
    #[error("{address} does not answer as LXD or Incus does: {reason}")]
    NotLxd {
        /// The address.
        address: String,
        /// What was odd.
        reason: String,
    },
    /// No answer came in time; whether the request was carried out is unknown.
    #[error("LXD at {address} did not answer {request} within {} s", limit.as_secs())]
    Silent {
        /// Where it listens.
        address: String,
        /// Method and path.
        request: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The connection broke after the request was sent; whether it was carried out is unknown.
    #[error("the connection broke during {request}: {reason}")]
    Interrupted {
        /// Method and path.
        request: String,
        /// The library's words.
        reason: String,
    },
    /// LXD answered with an error.
    #[error("LXD refused {request}: {message}")]
    Refused {
        /// Method and path.
        request: String,
        /// The status code.
        status: u16,
        /// LXD's own words.
        message: String,
    },
    /// The object was changed by somebody else since it was read.
    #[error("{request}: the object was changed by somebody else meanwhile")]
    Conflict {
        /// Method and path.
        request: String,
    },
    /// LXD accepted the request and then failed to carry it out.
    #[error("LXD could not finish {request}: {message}")]
    Failed {
        /// Method and path.
        request: String,
        /// LXD's own words.
        message: String,
    },
    /// An operation did not end in time.
    #[error("LXD did not finish {request} within {} s; last seen: {seen}", deadline.as_secs())]
    Slow {
        /// Method and path.
        request: String,
        /// How long it was waited for.
        deadline: Duration,
        /// The operation's last state.
        seen: String,
    },
    /// An instance does not start.
    #[error("instance {name} does not start: {refusal}{}", first_error(log).map(|error| format!("; {error}")).unwrap_or_default())]
    NotStarted {
        /// Its name.
        name: String,
        /// What LXD said, which may not be why.
        refusal: Box<Error>,
        /// The end of the log of the start.
        log: String,
    },
    /// A file that was to be sent cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// An image's files are not those that were listed.
    #[error("the files of image {alias} have the fingerprint {actual}, and {listed} is listed")]
    ImageDiffers {
        /// The alias that it was meant for.
        alias: String,
        /// The fingerprint that it should have.
        listed: String,
        /// The one that it has.
        actual: String,
    },
    /// A named condition did not come to hold.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// The client itself could not be set up.
    #[error("the connection to {address} cannot be set up: {reason}")]
    Setup {
        /// The address.
        address: String,
        /// What the library said.
        reason: String,
    },
}

/// How the check of a server's certificate ends when it is not the one that LXD's socket named.
pub(crate) const OTHER_CERTIFICATE: &str = "the server shows another certificate than LXD's own";

/// What a server says that carries nothing out, because it starts or is about to start again.
pub(crate) const STARTING: [&str; 2] = [SETTING_UP, "shutting down"];
const SETTING_UP: &str = "daemon setup in progress";

/// What a server says when a profile is saved and instances that run could not be given what is new.
const SAVED_ONLY: &str = "profile change still saved";

/// LXD's words, what they mean, and what to do. Servers word their refusals alike across versions, and have no codes for them.
const MEANINGS: [(&str, &str, &str); 22] = [
    // Names what is in the way in the words of the other refusals, so it is looked for first.
    (
        "Conflict detected when changing",
        "LXD_RESTRICTION_CONFLICT",
        "what is in the project has to give up first what is to be forbidden; the playbook substrate goes from the inside out",
    ),
    (
        SETTING_UP,
        "LXD_STARTING",
        "LXD is still setting itself up; `lxd waitready` ends when it is done, and its log says what takes so long",
    ),
    (
        "syscall interception is forbidden",
        "LXD_RESTRICTION_INTERCEPTION",
        "the project lacks restricted.containers.interception=allow; use isolation: reference or drop the interception keys",
    ),
    (
        "Unix character devices are forbidden",
        "LXD_RESTRICTION_UNIX_CHAR",
        "the project lacks restricted.devices.unix-char=allow; use isolation: reference or drop the device",
    ),
    (
        "Proxy devices are forbidden",
        "LXD_RESTRICTION_PROXY",
        "the project lacks restricted.devices.proxy=allow; in strict isolation a network forward publishes the API",
    ),
    ("Only managed network devices are allowed", "LXD_RESTRICTION_NIC", "the project lacks restricted.devices.nic=allow"),
    ("Network not allowed in project", "LXD_RESTRICTION_NETWORK", "add the network to lxd_project's restricted_networks"),
    ("disk path", "LXD_RESTRICTION_DISK", "the project's restricted.devices.disk.paths does not list the path"),
    (
        "low-level",
        "LXD_RESTRICTION_LOWLEVEL",
        "raw.* and linux.kernel_modules need isolation: reference; in strict isolation the host loads the modules",
    ),
    (
        "low level",
        "LXD_RESTRICTION_LOWLEVEL",
        "raw.* and linux.kernel_modules need isolation: reference; in strict isolation the host loads the modules",
    ),
    (
        "nstance is not running",
        "INSTANCE_NOT_RUNNING",
        "it was stopped meanwhile; run the role lxd_bootstrap_instance, or `lxc start`",
    ),
    ("nstance is frozen", "INSTANCE_NOT_RUNNING", "it was paused; run the role lxd_bootstrap_instance, or `lxc start`"),
    (
        "Failed loading kernel module",
        "HOST_MODULE_MISSING",
        "load the module on the host; base_system does it for those that the lab needs",
    ),
    ("isn't valid yet", "CLOCK_SKEW", "the clock of LXD's host is behind the certificate; set it"),
    ("certificate is expired", "CLOCK_SKEW", "the clock of LXD's host is ahead of the certificate; set it, or have a new one made"),
    ("address already in use", "LXD_LISTEN_IN_USE", "another program holds the port; `ss -ltnp` names it"),
    ("cannot assign requested address", "LXD_LISTEN_NO_ADDRESS", "the address must be one of this host's; `ip address` lists them"),
    ("No root device could be found", "NO_ROOT_DISK", "the profile capi-base carries the root disk; run lxd_profiles first"),
    (
        "cannot be disabled on non-empty project",
        "PROJECT_FEATURE_LOCKED",
        "features can be changed only while the project is empty; empty it, or recreate it",
    ),
    ("image couldn't be found", "IMAGE_NOT_FOUND", "look at `lxc image list <remote>:`; the alias may be spelled otherwise there"),
    ("remote image info", "IMAGE_SERVER_UNREACHABLE", "look whether the host reaches the image server, or use image_source: alias"),
    (
        "Network type does not support non-default projects",
        "NETWORK_PROJECT",
        "bridges live in the default project; set features.networks=false on the lab's",
    ),
];

impl Error {
    /// The object does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// LXD is away for a while, as when it is restarted.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { denied: false, .. }
                | Self::Silent { .. }
                | Self::Interrupted { .. }
                | Self::Refused { status: 503, .. }
        )
    }

    /// A profile is as it was asked to be, but running instances go on as before. These are named, if the server names them.
    #[must_use]
    pub fn not_in_force(&self) -> Option<Vec<String>> {
        let (Self::Refused { message, .. } | Self::Failed { message, .. }) = self else { return None };
        let (_, failures) = message.split_once(SAVED_ONLY)?;
        let names = failures.split("Instance: ").skip(1).filter_map(|failure| failure.split_once(':'));
        Some(names.map(|(name, _)| name.to_owned()).collect())
    }
}

/// What LXD answers with, or nothing where it says that there is no such object.
pub fn if_there<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoSocket { .. } => {
                Explanation::new("LXD_UNREACHABLE").hint("run the role lxd_host first, or set lxd_socket_path").prerequisite()
            }
            Self::Unreachable { denied: true, .. } => {
                Explanation::new("LXD_UNREACHABLE").hint("run the task with become: true, or as a member of the socket's group")
            }
            Self::Unreachable { .. } => Explanation::new("LXD_UNREACHABLE").hint("start LXD; its service may have stopped"),
            Self::OtherCertificate { .. } => {
                Explanation::new("LXD_OTHER_CERTIFICATE").hint("another program holds the address; `ss -ltnp` names it")
            }
            Self::NotLxd { .. } => Explanation::new("LXD_UNEXPECTED_ANSWER").hint("point lxd_socket_path at LXD's own socket"),
            Self::Silent { .. } => Explanation::new("LXD_SILENT")
                .hint("look at LXD's log, and restart it if it hangs: instances run on, and a step goes on from the live state")
                .hint("if the socket is another program's, point lxd_socket_path at LXD's own"),
            Self::Interrupted { .. } => Explanation::new("LXD_CONNECTION_LOST")
                .hint("look whether LXD was restarted, then run again: a step goes on from the live state"),
            Self::Refused { status, message, .. } => explain_words(
                message,
                match status {
                    403 => "LXD_FORBIDDEN",
                    404 => "LXD_NOT_FOUND",
                    _ => "LXD_REFUSED",
                },
            ),
            Self::Failed { message, .. } => explain_words(message, "LXD_OPERATION_FAILED"),
            Self::Conflict { .. } => Explanation::new("LXD_CHANGED_MEANWHILE")
                .hint("another program changes the same object; run again when it is done")
                .conflict(),
            Self::Slow { .. } => Explanation::new("LXD_OPERATION_TIMEOUT")
                .hint("look at `lxc operation list`, then run again: a step goes on from the live state"),
            Self::NotStarted { refusal, log, .. } => {
                let explanation = refusal.explain().detail(log.as_str());
                match explanation.code {
                    // Where LXD's words have a meaning, it is more than that the instance did not start.
                    "LXD_OPERATION_FAILED" | "LXD_REFUSED" => explanation.with_code("INSTANCE_START_FAILED"),
                    _ => explanation,
                }
            }
            Self::Unreadable { .. } => {
                Explanation::new("FILE_UNREADABLE").hint("look whether the file is there, and at its owner and mode")
            }
            Self::ImageDiffers { .. } => Explanation::new("BUNDLE_DIGEST")
                .hint("build the bundle anew with `cargo xtask bundle build`; what is whole is kept"),
            Self::Wait(error) => error.explain(),
            Self::Setup { .. } => Explanation::new("LXD_CLIENT"),
        }
    }
}

/// A refusal in LXD's own words: what they mean where that is known, or else what its status says.
fn explain_words(message: &str, code: &'static str) -> Explanation {
    let explanation = match MEANINGS.iter().find(|(words, ..)| message.contains(words)) {
        Some((_, code, hint)) => Explanation::new(code).hint(*hint),
        None => Explanation::new(code).hint("LXD's log has more: `lxc monitor --type=logging`, or its service's journal"),
    };
    // Another run has made it since it was looked for, or is at it, or the operation of one that was killed is.
    let overtaken = ["already exists", "already in trust store", "is busy running"].iter().any(|words| message.contains(words));
    match () {
        () if message.contains(SAVED_ONLY) => explanation.with_code("PROFILE_NOT_IN_FORCE").made(),
        () if overtaken => explanation.conflict(),
        () => explanation,
    }
}

/// The first error in a log of LXC; those that follow come of it.
fn first_error(log: &str) -> Option<&str> {
    log.lines().find_map(|line| line.split_once(" ERROR ")).map(|(_, error)| error.trim())
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_is_a_conflict() {
        let refused = |message: &str| Error::Refused { request: "POST /1.0/x".into(), status: 400, message: message.into() };
        assert!(refused("The network already exists").is_conflict());
        assert!(!refused("Unknown driver").is_conflict());
    }

    #[test]
    fn who_does_not_have_a_saved_change_is_named() {
        let message = "The following instances failed to update (profile change still saved):\n - Project: lab, Instance: boot: \
                       Failed to add device \"eth1\": no\n - Project: lab, Instance: node: no";
        let error = Error::Failed { request: "PUT /1.0/profiles/x".into(), message: message.into() };
        assert_eq!(error.not_in_force(), Some(vec!["boot".into(), "node".into()]));
        assert!(error.explain().is_made && error.code() == "PROFILE_NOT_IN_FORCE");
        let other = Error::Failed { request: "PUT /1.0/profiles/x".into(), message: "no".into() };
        assert_eq!(other.not_in_force(), None);
    }

    #[test]
    fn why_an_instance_does_not_start_is_in_its_log() {
        let refusal = || Box::new(Error::Failed { request: "PUT /1.0/instances/a/state".into(), message: "exit status 1".into() });
        let log =
            "lxc a 20260101 WARN     conf - odd\nlxc a 20260101 ERROR    conf - no ids\nlxc a 20260101 ERROR    start - gave up";
        for (log, expected) in [
            (log, "instance a does not start: LXD could not finish PUT /1.0/instances/a/state: exit status 1; conf - no ids"),
            ("", "instance a does not start: LXD could not finish PUT /1.0/instances/a/state: exit status 1"),
        ] {
            let error = Error::NotStarted { name: "a".into(), refusal: refusal(), log: log.into() };
            assert_eq!((error.to_string().as_str(), error.code()), (expected, "INSTANCE_START_FAILED"));
        }
    }

    #[test]
    fn lxds_words_have_codes() {
        for (message, status, code) in [
            ("Container syscall interception is forbidden", 500, "LXD_RESTRICTION_INTERCEPTION"),
            ("Project feature \"features.images\" cannot be disabled on non-empty projects", 400, "PROJECT_FEATURE_LOCKED"),
            (
                "Conflict detected when changing \"restricted\" in project \"p\": Use of low-level config \"raw.lxc\" is forbidden",
                400,
                "LXD_RESTRICTION_CONFLICT",
            ),
            ("Storage pool not found", 404, "LXD_NOT_FOUND"),
            ("not authorized", 403, "LXD_FORBIDDEN"),
            ("something else", 500, "LXD_REFUSED"),
        ] {
            let error = Error::Refused { request: "POST /1.0/x".into(), status, message: message.into() };
            assert_eq!(error.code(), code, "{message}");
        }
    }
}
