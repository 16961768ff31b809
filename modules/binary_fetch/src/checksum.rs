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

    /// The checksum, if it needs neither network nor file. What was recorded before another one was pinned is out of date.
    pub(crate) fn known(&self, recorded: Option<&str>) -> Option<String> {
        let is_current = |recorded: &&str| self.pinned.as_ref().is_none_or(|pinned| pinned == recorded);
        match self.style {
            ChecksumStyle::Pinned => self.pinned.clone(),
            ChecksumStyle::Plain | ChecksumStyle::Manifest => recorded.filter(is_current).map(str::to_owned),
        }
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
            ChecksumStyle::Plain | ChecksumStyle::Pinned => text.lines().find_map(|line| Some(Line::read(line)?.digest)),
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

/// The digest in the line of one file. A list that has nothing but one digest is of whatever it lies beside.
fn entry(list: &str, name: &str) -> Option<String> {
    let lines: Vec<Line<'_>> = list.lines().filter_map(Line::read).collect();
    match lines.as_slice() {
        [Line { digest, name: None }] => Some(digest.clone()),
        lines => lines.iter().find(|line| line.name == Some(name)).map(|line| line.digest.clone()),
    }
}

/// A line of a list, as `sha256sum`, `shasum` or `openssl` write it.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    digest: String,
    name: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let line = line.trim();
        // `SHA256 (name) = digest`, which openssl writes without the blanks and for some versions as SHA2-256.
        let tagged = || {
            let rest = ["SHA256", "SHA2-256"].iter().find_map(|tag| line.strip_prefix(tag))?;
            let (name, sum) = rest.trim_start().strip_prefix('(')?.rsplit_once(')')?;
            Some(Self { digest: digest(sum.trim_start().strip_prefix('=')?.trim())?, name: Some(bare(name)) })
        };
        let plain = || {
            let (sum, name) = line.split_once(char::is_whitespace).map_or((line, ""), |(sum, name)| (sum, name.trim()));
            // A star says that the file was read as it is.
            let name = bare(name.strip_prefix('*').unwrap_or(name));
            Some(Self { digest: digest(sum)?, name: Some(name).filter(|name| !name.is_empty()) })
        };
        tagged().or_else(plain)
    }
}

fn bare(name: &str) -> &str {
    name.strip_prefix("./").unwrap_or(name)
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
    fn lists_come_in_many_forms() {
        for (case, list, expected) in [
            ("of sha256sum", format!("{A}  other\n{B}  k3s\n"), Some(B)),
            ("read as it is", format!("{A} *other\n{B} *k3s\n"), Some(B)),
            ("by find", format!("{A}  ./other\n{B}  ./k3s\n"), Some(B)),
            ("in capitals, with the line ends of another system", format!("{}  k3s\r\n", B.to_uppercase()), Some(B)),
            ("of BSD", format!("SHA256 (other) = {A}\nSHA256 (k3s) = {B}\n"), Some(B)),
            ("of openssl", format!("SHA2-256(k3s)= {B}\n"), Some(B)),
            ("with other digests beside", format!("MD5 (k3s) = 00\nSHA512 (k3s) = {A}{A}\nSHA256 (k3s) = {B}\n"), Some(B)),
            ("signed", format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{B}  k3s\n"), Some(B)),
            ("nothing but a digest", format!("{B}\n"), Some(B)),
            ("nothing but digests", format!("{A}\n{B}\n"), None),
            ("of another folder", format!("{B}  arm64/k3s\n"), None),
            ("of another file", format!("{B}  k3s.sig\n"), None),
        ] {
            assert_eq!(entry(&list, "k3s").as_deref(), expected, "{case}");
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
            (ChecksumStyle::Pinned, Some(A), None, Some(A)),
            (ChecksumStyle::Pinned, Some(A), Some(B), Some(A)),
            (ChecksumStyle::Plain, None, Some(B), Some(B)),
            (ChecksumStyle::Plain, None, None, None),
            (ChecksumStyle::Manifest, Some(A), None, None),
            (ChecksumStyle::Manifest, Some(A), Some(A), Some(A)),
            (ChecksumStyle::Manifest, Some(A), Some(B), None),
        ] {
            let known = checksum(style, pinned).known(recorded);
            assert_eq!(known.as_deref(), expected, "{style:?} {pinned:?} {recorded:?}");
        }
    }
}
