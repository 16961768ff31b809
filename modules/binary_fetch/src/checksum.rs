//! The checksum that a tool must have, and the lists in which releases publish it.

use std::time::Duration;

use crate::{ChecksumStyle, error::Error, source::Source};

/// The form of a SHA-256 in options.
pub(crate) const PATTERN: &str = "^[0-9a-fA-F]{64}$";

/// How a tool's checksum is come by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checksum {
    pub style: ChecksumStyle,
    /// Where it is; nothing for a pinned one.
    pub source: Option<Source>,
    pub pinned: Option<String>,
    /// The tool's name in a list.
    pub entry: String,
}

impl Checksum {
    /// One that is known.
    pub(crate) fn pinned(digest: &str) -> Self {
        Self { style: ChecksumStyle::Pinned, source: None, pinned: Some(digest.to_owned()), entry: String::new() }
    }

    /// The checksum, if it needs neither network nor file.
    pub(crate) fn known(&self, recorded: Option<&str>) -> Result<Option<String>, Error> {
        if self.style == ChecksumStyle::Pinned {
            return Ok(self.pinned.clone());
        }
        recorded.map(|recorded| self.agreed(recorded, "the record of what was verified")).transpose()
    }

    /// The checksum from its file, which agrees with a pinned one.
    pub(crate) async fn fetch(&self, silence: Duration) -> Result<String, Error> {
        let Some(source) = &self.source else { return self.pinned.clone().ok_or(Error::ChecksumUnknown) };
        // A folder need not hold the checksum of a tool whose checksum is pinned.
        if let Some(pinned) = self.pinned.as_ref().filter(|_| source.is_absent()) {
            return Ok(pinned.clone());
        }
        let failed = |error| Error::ChecksumFetch { url: source.to_string(), source: error };
        let text = source.text(silence).await.map_err(failed)?;
        let found = match self.style {
            ChecksumStyle::Manifest => entry(&text, &self.entry),
            ChecksumStyle::Plain | ChecksumStyle::Pinned => text.split_whitespace().next().and_then(digest),
        };
        let missing = || Error::ChecksumEntry { url: source.to_string(), entry: self.entry.clone() };
        self.agreed(&found.ok_or_else(missing)?, &source.to_string())
    }

    fn agreed(&self, found: &str, place: &str) -> Result<String, Error> {
        match &self.pinned {
            Some(pinned) if pinned != found => {
                Err(Error::ChecksumMismatch { place: place.to_owned(), expected: pinned.clone(), found: found.to_owned() })
            }
            _ => Ok(found.to_owned()),
        }
    }
}

/// The digest in the line of one file; a star before the name says that the file was read as it is.
fn entry(list: &str, name: &str) -> Option<String> {
    list.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (sum, file) = (fields.next()?, fields.next()?);
        (file.trim_start_matches('*') == name).then(|| digest(sum))?
    })
}

fn digest(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    (text.len() == 64 && text.bytes().all(|letter| letter.is_ascii_hexdigit())).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn a_list_is_read_by_whole_names() {
        let list = format!("{A}  k3s-airgap-images-amd64.tar\n{B} *k3s\nnot-a-digest  k3s-arm64\n");
        for (name, expected) in [("k3s", Some(B)), ("k3s-airgap-images-amd64.tar", Some(A)), ("k3s-arm64", None), ("", None)] {
            assert_eq!(entry(&list, name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn what_needs_no_network() {
        let checksum = |style, pinned: Option<&str>| Checksum {
            style,
            source: Some(Source::of("/x")),
            pinned: pinned.map(str::to_owned),
            entry: "k3s".into(),
        };
        for (style, pinned, recorded, expected) in [
            (ChecksumStyle::Pinned, Some(A), None, Some(Some(A))),
            (ChecksumStyle::Pinned, Some(A), Some(B), Some(Some(A))),
            (ChecksumStyle::Plain, None, Some(B), Some(Some(B))),
            (ChecksumStyle::Plain, None, None, Some(None)),
            (ChecksumStyle::Manifest, Some(A), None, Some(None)),
            (ChecksumStyle::Manifest, Some(A), Some(A), Some(Some(A))),
            (ChecksumStyle::Manifest, Some(A), Some(B), None),
        ] {
            let known = checksum(style, pinned).known(recorded).ok();
            assert_eq!(known, expected.map(|known| known.map(str::to_owned)), "{style:?} {pinned:?} {recorded:?}");
        }
    }
}
