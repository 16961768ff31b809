//! The certificate and its key in their folder.

use std::{cell::Cell, fmt, path::PathBuf, time::SystemTime};

use converge::{Failure, Secret, Section};
use host::{
    Owner, Root,
    file::{self, Attributes, Declared, FileChange},
};
use serde_json::{Value, json};

use crate::{
    BootstrapCapnSecret,
    error::Error,
    pair::{Form, Moment, Pair, fingerprint_of},
};

/// The section: a certificate that is valid long enough, and only root can read its key.
pub(crate) struct ClientCert<'a> {
    pub step: &'a BootstrapCapnSecret,
    issued: Cell<bool>,
}

impl<'a> ClientCert<'a> {
    pub(crate) fn of(step: &'a BootstrapCapnSecret) -> Self {
        Self { step, issued: Cell::new(false) }
    }

    fn folder(&self) -> Declared {
        Declared::folder(self.step.staging_dir(), Owner::default(), file::mode(&self.step.staging_mode_dir))
    }

    /// Why a new certificate is needed, if one is.
    fn need(&self, live: &Live) -> Result<Option<String>, Error> {
        let step = self.step;
        let pair = match &live.pair {
            Ok(pair) => pair,
            Err(reason) => return Ok(Some((*reason).to_owned())),
        };
        if live.issued {
            return Ok(None);
        }
        if step.rotate {
            return Ok(Some("a new one is asked for".into()));
        }
        let form = step.form();
        if (pair.key_type, &pair.subject) != (form.key, &form.subject()) {
            return Ok(Some(format!("it is of {} with a key {}", pair.subject, pair.key_type)));
        }
        if live.now < pair.not_before.seconds {
            let now = Clock(live.now).to_string();
            return Err(Error::ClockSkew { from: pair.not_before.text.clone(), now });
        }
        let spare = u64::from(step.renew_before_days) * DAY;
        Ok(match pair.left(live.now) {
            None => Some(format!("it expired at {}", pair.not_after.text)),
            Some(left) if left < spare => Some(format!("it expires at {}", pair.not_after.text)),
            Some(_) => None,
        })
    }
}

const DAY: u64 = 24 * 3600;

/// Seconds since 1970, as a person reads them.
struct Clock(u64);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match x509_cert::der::DateTime::from_unix_duration(std::time::Duration::from_secs(self.0)) {
            Ok(time) => time.fmt(f),
            Err(_) => self.0.fmt(f),
        }
    }
}

/// The two files as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Files {
    certificate: Option<String>,
    key: Option<Secret>,
}

impl Files {
    fn read(step: &BootstrapCapnSecret) -> Result<Self, Failure> {
        let read = |path: PathBuf| -> Result<Option<String>, host::Error> {
            // Refuses links.
            file::attributes(&path)?;
            Root::default().read(&path)
        };
        Ok(Self { certificate: read(step.client_cert_path())?, key: read(step.client_key_path())?.map(Secret::from) })
    }

    /// Fails with the reason why they are no pair.
    fn pair(&self) -> Result<Pair, &'static str> {
        match (&self.certificate, &self.key) {
            (None, _) => Err("there is none"),
            (Some(_), None) => Err("its key is gone"),
            (Some(certificate), Some(key)) => Pair::of(certificate.clone(), key.clone()),
        }
    }
}

pub(crate) struct Live {
    folder: Option<file::Live>,
    files: Files,
    /// The pair that is in its place, or why there is none.
    pub pair: Result<Pair, &'static str>,
    /// Of key and certificate.
    attributes: [Option<Attributes>; 2],
    now: u64,
    /// This run has issued it.
    issued: bool,
}

impl Default for Live {
    fn default() -> Self {
        let files = Files::default();
        let pair = files.pair();
        Self { folder: None, files, pair, attributes: [None; 2], now: Moment::now(), issued: false }
    }
}

/// One thing that this section does.
pub(crate) enum Change {
    Folder(FileChange),
    Issue(Box<Issue>),
    /// The file's owner and mode.
    Guard {
        path: PathBuf,
        before: Attributes,
        after: Attributes,
    },
}

impl Change {
    pub(crate) fn issue(&self) -> Option<&Issue> {
        match self {
            Self::Issue(issue) => Some(issue),
            _ => None,
        }
    }
}

/// A new pair takes the place of what is there.
pub(crate) struct Issue {
    why: String,
    form: Form,
    validity_days: u32,
    before: Value,
    files: Files,
}

impl Issue {
    /// The certificate whose place it takes.
    pub(crate) fn replaced(&self) -> Option<String> {
        fingerprint_of(self.files.certificate.as_deref()?)
    }
}

impl Section for ClientCert<'_> {
    const NAME: &'static str = "client_cert";
    type Live = Live;
    type Change = Change;

    async fn observe(&self) -> Result<Live, Failure> {
        let files = Files::read(self.step)?;
        let attributes = [file::attributes(&self.step.client_key_path())?, file::attributes(&self.step.client_cert_path())?];
        Ok(Live {
            folder: self.folder().observe(&Root::default())?,
            pair: files.pair(),
            files,
            attributes,
            now: Moment::now(),
            issued: self.issued.get(),
        })
    }

    fn plan(&self, live: &Live) -> Result<Vec<Change>, Failure> {
        let step = self.step;
        let mut changes: Vec<_> = self.folder().compare(live.folder.as_ref()).into_iter().map(Change::Folder).collect();
        if let Some(why) = self.need(live)? {
            let before = live.pair.as_ref().map_or(Value::Null, Pair::shown);
            let issue =
                Issue { why, form: step.form(), validity_days: step.client_cert_validity_days, before, files: live.files.clone() };
            changes.push(Change::Issue(Box::new(issue)));
            return Ok(changes);
        }
        let wanted = [(step.client_key_path(), &step.staging_mode_key), (step.client_cert_path(), &step.staging_mode_cert)];
        for ((path, mode), before) in wanted.into_iter().zip(live.attributes) {
            let after = Attributes { owner: Owner::default(), mode: file::mode(mode) };
            if let Some(before) = before.filter(|before| *before != after) {
                changes.push(Change::Guard { path, before, after });
            }
        }
        Ok(changes)
    }

    async fn apply(&self, change: &Change) -> Result<(), Failure> {
        match change {
            Change::Folder(change) => change.apply(&Root::default())?,
            Change::Issue(issue) => self.issue(issue)?,
            Change::Guard { path, after, .. } => file::set_attributes(path, after.owner, after.mode)?,
        }
        Ok(())
    }
}

impl ClientCert<'_> {
    /// Puts a new pair in its place. What it replaces is noted first: until it is trusted no more it has to be remembered, and a run
    /// may be killed at any point.
    fn issue(&self, issue: &Issue) -> Result<(), Failure> {
        let step = self.step;
        let pair = issue.form.issue(issue.validity_days, SystemTime::now())?;
        let _lock = file::lock(&step.staging_dir())?;
        if Files::read(step)? != issue.files {
            return Err(Error::IssuedMeanwhile.into());
        }
        if let Some(fingerprint) = issue.replaced() {
            step.retired().add(&fingerprint)?;
        }
        let write = |path: PathBuf, text: &str, mode: &str| file::write(&path, text.as_bytes(), Owner::default(), file::mode(mode));
        write(step.client_key_path(), pair.key.expose(), &step.staging_mode_key)?;
        write(step.client_cert_path(), &pair.certificate, &step.staging_mode_cert)?;
        self.issued.set(true);
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(change) => change.fmt(f),
            Self::Issue(issue) => write!(f, "issue a certificate: {}", issue.why),
            Self::Guard { path, .. } => write!(f, "set owner and mode of {}", path.display()),
        }
    }
}

impl converge::Change for Change {
    fn object(&self) -> String {
        match self {
            Self::Folder(change) => change.object(),
            Self::Issue(_) => "client certificate".into(),
            Self::Guard { path, .. } => path.display().to_string(),
        }
    }

    fn before(&self) -> Value {
        match self {
            Self::Folder(change) => change.before(),
            Self::Issue(issue) => issue.before.clone(),
            Self::Guard { before, .. } => guarded(*before),
        }
    }

    fn after(&self) -> Value {
        match self {
            Self::Folder(change) => change.after(),
            Self::Issue(issue) => json!({
                "subject": issue.form.subject(),
                "key": issue.form.key.to_string(),
                "validity_days": issue.validity_days,
            }),
            Self::Guard { after, .. } => guarded(*after),
        }
    }
}

fn guarded(attributes: Attributes) -> Value {
    json!({"owner": attributes.owner.user, "group": attributes.owner.group, "mode": format!("{:04o}", attributes.mode)})
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use converge::AbsolutePath;

    use super::*;
    use crate::{KeyType, pair::Key};

    const NOW: u64 = 1_800_000_000;

    fn step() -> BootstrapCapnSecret {
        BootstrapCapnSecret { staging_dir: AbsolutePath::new("/s"), ..BootstrapCapnSecret::default() }
    }

    fn folder(mode: u32) -> file::Live {
        file::Live { content: Some(file::Content::Folder), owner: Owner::default(), mode }
    }

    /// A pair of a year that was issued now, bent.
    fn live(bend: impl FnOnce(&mut Live)) -> Live {
        let form = Form { key: Key::EcdsaP256, ..step().form() };
        let pair = form.issue(365, UNIX_EPOCH + Duration::from_secs(NOW)).unwrap();
        let attributes = |mode| Some(Attributes { owner: Owner::default(), mode });
        let mut live = Live {
            folder: Some(folder(0o750)),
            files: Files { certificate: Some(pair.certificate.clone()), key: Some(pair.key.clone()) },
            pair: Ok(pair),
            attributes: [attributes(0o600), attributes(0o644)],
            now: NOW,
            issued: false,
        };
        bend(&mut live);
        live
    }

    fn plan(step: &BootstrapCapnSecret, live: &Live) -> String {
        match ClientCert::of(step).plan(live) {
            Ok(changes) => changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn plans() {
        for (case, live, expected) in [
            ("nothing there", Live { now: NOW, ..Live::default() }, "create /s; issue a certificate: there is none"),
            ("as desired", live(|_| ()), ""),
            ("a day before renewal", live(|live| live.now += 334 * DAY), ""),
            ("time to renew", live(|live| live.now += 336 * DAY), "issue a certificate: it expires at 2028-01-15T08:00:00Z"),
            ("expired", live(|live| live.now += 366 * DAY), "issue a certificate: it expired at 2028-01-15T08:00:00Z"),
            (
                "the clock is behind",
                live(|live| live.now -= 2 * DAY),
                "CLOCK_SKEW: the certificate is valid from 2027-01-15T07:00:00Z, but this host's clock says 2027-01-13T08:00:00Z",
            ),
            ("no pair", live(|live| live.pair = Err("its key is gone")), "issue a certificate: its key is gone"),
            (
                "everybody reads the key",
                live(|live| live.attributes[0].as_mut().unwrap().mode = 0o644),
                "set owner and mode of /s/client.key",
            ),
            (
                "somebody else's certificate",
                live(|live| live.attributes[1].as_mut().unwrap().owner.user = 1000),
                "set owner and mode of /s/client.crt",
            ),
            ("everybody enters the folder", live(|live| live.folder = Some(folder(0o777))), "set owner and mode of /s"),
        ] {
            assert_eq!(plan(&step(), &live), expected, "{case}");
        }
    }

    #[test]
    fn another_certificate_is_wanted() {
        let rotated = BootstrapCapnSecret { rotate: true, ..step() };
        assert_eq!(plan(&rotated, &live(|_| ())), "issue a certificate: a new one is asked for");
        assert_eq!(plan(&rotated, &live(|live| live.now -= 2 * DAY)), "issue a certificate: a new one is asked for");
        assert_eq!(plan(&rotated, &live(|live| live.issued = true)), "", "asked for once, made once");
        let was = "issue a certificate: it is of CN=k8slab-capn,O=k8s-lab,C=DE with a key ECDSA P-256";
        let rsa = BootstrapCapnSecret { client_key_type: KeyType::Rsa, ..step() };
        let named = BootstrapCapnSecret { client_cert_cn: "other".into(), ..step() };
        for step in [rsa, named] {
            assert_eq!(plan(&step, &live(|_| ())), was);
        }
    }
}
