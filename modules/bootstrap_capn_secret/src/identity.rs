//! The certificate that this run hands out.

use ansible::Run;
use converge::{Failure, Known};

use crate::{
    client_cert::{Change, ClientCert, Issue},
    pair::Pair,
};

/// The certificate that this run hands out.
pub(crate) struct Identity {
    pub pair: Known<Pair>,
    /// It is issued by this run.
    pub issued: bool,
    /// The certificate whose place it takes.
    pub replaced: Option<String>,
}

impl Identity {
    /// What there is after the section.
    pub(crate) async fn of(run: &mut Run, section: &ClientCert<'_>) -> Result<Self, Failure> {
        let certified = run.section(section).await?;
        let issue = certified.changes.iter().find_map(Change::issue);
        let (issued, replaced) = (issue.is_some(), issue.and_then(Issue::replaced));
        let pair = match certified.known(section, |change| change.issue().is_some()).await? {
            Known::Now(live) => Known::Now(live.pair.map_err(|_| section.step.no_certificate())?),
            Known::AfterApply => Known::AfterApply,
        };
        Ok(Self { pair, issued, replaced })
    }

    /// The certificate as PEM.
    pub(crate) fn pem(&self) -> &str {
        self.pair.now().map_or("", |pair| &pair.certificate)
    }

    /// The certificate as LXD's trust store takes it: a PEM without its armour.
    pub(crate) fn base64(&self) -> String {
        self.pem().lines().filter(|line| !line.starts_with("-----")).collect()
    }
}
