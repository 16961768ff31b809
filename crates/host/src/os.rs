//! The distribution, and whether the lab supports it.

use std::fmt;

use crate::{Error, Root};

/// What the machine says it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OsRelease {
    /// The distribution: `debian`.
    pub id: String,
    /// Its version, as far as it has one: `12`, `24.04`.
    pub version: Option<String>,
}

impl OsRelease {
    /// Reads `os-release`.
    pub fn read(root: &Root) -> Result<Self, Error> {
        let text = match root.read("/etc/os-release")? {
            Some(text) => text,
            None => root.read("/usr/lib/os-release")?.unwrap_or_default(),
        };
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            values.next().map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
        };
        Self { id: value("ID").unwrap_or_default(), version: value("VERSION_ID") }
    }

    /// Debian 12, Ubuntu 22.04, and what came after; Debian's testing and unstable carry no version.
    pub fn require_supported(&self) -> Result<(), Error> {
        let version = self.version.as_deref().map(|version| {
            let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
            (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
        });
        let supported = match self.id.as_str() {
            "debian" => version.is_none_or(|version| version >= (12, 0)),
            "ubuntu" => version.is_some_and(|version| version >= (22, 4)),
            _ => false,
        };
        if supported { Ok(()) } else { Err(Error::UnsupportedOs { found: self.to_string() }) }
    }
}

impl fmt::Display for OsRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = if self.id.is_empty() { "a system without os-release" } else { &self.id };
        match &self.version {
            Some(version) => write!(f, "{id} {version}"),
            None => f.write_str(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supported_systems() {
        for (text, supported) in [
            ("ID=debian\nVERSION_ID=\"11\"", false),
            ("PRETTY_NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"", true),
            ("ID=debian\nVERSION_ID=\"13\"", true),
            ("ID=debian\nVERSION_CODENAME=forky", true),
            ("ID=ubuntu\nVERSION_ID=\"20.04\"", false),
            ("ID=ubuntu\nVERSION_ID='22.04'", true),
            ("ID=ubuntu\nVERSION_ID=\"24.10\"", true),
            ("ID=linuxmint\nID_LIKE=ubuntu\nVERSION_ID=\"22.04\"", false),
            ("", false),
        ] {
            assert_eq!(OsRelease::parse(text).require_supported().is_ok(), supported, "{text}");
        }
    }
}
