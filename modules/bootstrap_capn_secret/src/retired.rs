//! Certificates that were replaced and are still to be taken out of the trust store.

use std::path::PathBuf;

use converge::Failure;
use host::{
    Owner, Root,
    file::{self, Declared},
};

/// The file that remembers them, a fingerprint a line: a run that is killed between issuing a certificate and removing the old one
/// leaves nothing else by which the old one is known.
pub(crate) struct Retired(pub PathBuf);

impl Retired {
    pub(crate) fn read(&self) -> Result<Vec<String>, Failure> {
        file::attributes(&self.0)?;
        let text = Root::default().read(&self.0)?.unwrap_or_default();
        Ok(text.lines().map(str::to_owned).collect())
    }

    pub(crate) fn add(&self, fingerprint: &str) -> Result<(), Failure> {
        let mut all = self.read()?;
        if !all.iter().any(|known| known == fingerprint) {
            all.push(fingerprint.to_owned());
            self.write(&all)?;
        }
        Ok(())
    }

    /// Forgets a certificate that is trusted no more.
    pub(crate) fn remove(&self, fingerprint: &str) -> Result<(), Failure> {
        let mut all = self.read()?;
        all.retain(|known| known != fingerprint);
        self.write(&all)
    }

    fn write(&self, fingerprints: &[String]) -> Result<(), Failure> {
        let text = fingerprints.iter().fold(String::new(), |text, fingerprint| text + fingerprint + "\n");
        let file = Declared { owner: Owner::default(), ..Declared::configuration(&self.0, text) };
        if let Some(change) = file.compare(file.observe(&Root::default())?.as_ref()) {
            change.apply(&Root::default())?;
        }
        Ok(())
    }
}
