//! Files of systemd-networkd that come before one of ours, or add to it.
//!
//! networkd takes the first file that fits a link, and reads nothing of those after it. Whether a file fits is judged by name, kind and
//! hardware address; of one that asks for more nothing is claimed.

use std::path::{Path, PathBuf};

use crate::{Error, Root, layered};

/// Why a file of ours is not, or not alone, what networkd goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rival {
    /// Its name comes first, and it fits the same link.
    First(PathBuf),
    /// It lies in the folder whose files are read into ours.
    Within(PathBuf),
}

impl Rival {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        let (Self::First(path) | Self::Within(path)) = self;
        path
    }
}

/// The files beside `own` that say what becomes of `link`.
pub fn rivals(root: &Root, own: &Path, link: &str) -> Result<Vec<Rival>, Error> {
    let (Some(name), Some(extension)) = (own.file_name(), own.extension().and_then(|extension| extension.to_str())) else {
        return Ok(Vec::new());
    };
    let suffix = format!(".{extension}");
    let mut rivals = Vec::new();
    for file in layered::files(root, "systemd/network", &suffix)? {
        if file.file_name().is_some_and(|other| other < name) && fits(root, &file, link)? {
            rivals.push(Rival::First(file));
        }
    }
    let within = format!("systemd/network/{}.d", name.to_string_lossy());
    rivals.extend(layered::files(root, &within, ".conf")?.into_iter().map(Rival::Within));
    Ok(rivals)
}

fn fits(root: &Root, file: &Path, link: &str) -> Result<bool, Error> {
    let text = root.read(file)?.unwrap_or_default();
    let mut section = "";
    let mut asked = false;
    for line in text.lines().map(str::trim).filter(|line| layered::is_said(line)) {
        if line.starts_with('[') {
            section = line;
            continue;
        }
        let Some((key, value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else { continue };
        let fits = match (section, key) {
            ("[NetDev]", "Name") => value == link,
            ("[Match]", "Name") => matches_any(value, link),
            // Bridges and the like have a type of their own.
            ("[Match]", "Type") => value.split_whitespace().any(|kind| kind == "ether") && is_card(root, link),
            ("[Match]", "MACAddress" | "PermanentMACAddress") => has_address(root, link, value)?,
            ("[Match]", _) => false,
            _ => continue,
        };
        if !fits {
            return Ok(false);
        }
        asked = true;
    }
    Ok(asked)
}

/// Names are patterns, apart by blanks; an exclamation mark before them turns all of them round.
fn matches_any(patterns: &str, link: &str) -> bool {
    let (patterns, wanted) = patterns.strip_prefix('!').map_or((patterns, true), |rest| (rest, false));
    patterns.split_whitespace().any(|pattern| matches(pattern.as_bytes(), link.as_bytes())) == wanted
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
        ([b'?', rest @ ..], [_, name @ ..]) => matches(rest, name),
        ([one, rest @ ..], [other, name @ ..]) => one == other && matches(rest, name),
        (pattern, name) => pattern.is_empty() && name.is_empty(),
    }
}

fn is_card(root: &Root, link: &str) -> bool {
    root.has(Path::new("/sys/class/net").join(link).join("device"))
}

fn has_address(root: &Root, link: &str, addresses: &str) -> Result<bool, Error> {
    let own = root.read(Path::new("/sys/class/net").join(link).join("address"))?.unwrap_or_default();
    let own = own.trim();
    Ok(!own.is_empty() && addresses.split_whitespace().any(|address| address.replace('-', ":").eq_ignore_ascii_case(own)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::machine;

    #[test]
    fn the_first_that_fits_wins() {
        for (case, file, text, fits) in [
            ("its name", "20-other.network", "[Match]\nName=eth1\n", true),
            ("a pattern", "20-other.network", "[Match]\nName=lo e*\n[Network]\nDHCP=yes\n", true),
            ("a pattern with one letter open", "20-other.network", "[Match]\nName=eth?\n", true),
            ("another name", "20-other.network", "[Match]\nName=eth10 eth\n", false),
            ("all but it", "20-other.network", "[Match]\nName=!eth1 eth2\n", false),
            ("all but another", "20-other.network", "[Match]\nName=!eth2\n", true),
            ("every card", "20-other.network", "# all\n[Match]\nType=ether\n", true),
            ("its hardware address", "20-other.network", "[Match]\nMACAddress=00:16:3E:AA:BB:CC\n", true),
            ("what is not judged", "20-other.network", "[Match]\nName=eth1\nSSID=home\n", false),
            ("no match at all", "20-other.network", "[Network]\nDHCP=yes\n", false),
            ("a later one", "40-other.network", "[Match]\nName=eth1\n", false),
            ("another kind of file", "20-other.link", "[Match]\nName=eth1\n", false),
        ] {
            let path = format!("/usr/lib/systemd/network/{file}");
            let (_folder, root) = machine(&[
                (&path, text),
                ("/etc/systemd/network/31-br-uplink.network", "[Match]\nName=eth1\n"),
                ("/sys/class/net/eth1/address", "00:16:3e:aa:bb:cc\n"),
                ("/sys/class/net/eth1/device/vendor", "0x1af4\n"),
            ]);
            let found = rivals(&root, Path::new("/etc/systemd/network/31-br-uplink.network"), "eth1").unwrap();
            let expected: Vec<_> = fits.then(|| Rival::First(path.into())).into_iter().collect();
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn what_adds_to_a_file_and_what_makes_the_same_link() {
        let (_folder, root) = machine(&[
            ("/etc/systemd/network/30-br.netdev", "[NetDev]\nName=br\nKind=bridge\n"),
            ("/etc/systemd/network/10-lan.netdev", "[NetDev]\nName=br\nKind=bridge\n[Bridge]\nSTP=yes\n"),
            ("/etc/systemd/network/10-lan2.netdev", "[NetDev]\nName=br2\nKind=bridge\n"),
            ("/run/systemd/network/30-br.netdev.d/stp.conf", "[Bridge]\nSTP=yes\n"),
        ]);
        let found = rivals(&root, Path::new("/etc/systemd/network/30-br.netdev"), "br").unwrap();
        let expected = [
            Rival::First("/etc/systemd/network/10-lan.netdev".into()),
            Rival::Within("/run/systemd/network/30-br.netdev.d/stp.conf".into()),
        ];
        assert_eq!(found, expected);
    }
}
