//! What a block device or an image file already carries. The machine's own prober says so, which knows some eighty formats.

use std::path::Path;

use crate::{Command, Error};

/// The prober. What it finds is what it erases.
const PROBER: &str = "wipefs";

/// What a device carries, such as `ext4 (filesystem)`; nothing if it is blank. It is only read.
pub async fn detect(path: &Path) -> Result<Option<String>, Error> {
    let listed = Command::new(PROBER).args(["--noheadings", "--output", "TYPE,USAGE"]).arg(path).execute().await?;
    Ok(describe(&listed.stdout))
}

/// Erases all that a device carries, so that it counts as blank.
pub async fn erase(path: &Path) -> Result<(), Error> {
    Command::new(PROBER).arg("--all").arg(path).execute().await.map(drop)
}

/// A signature may stand in several places.
fn describe(listed: &str) -> Option<String> {
    let mut found: Vec<String> = Vec::new();
    for line in listed.lines() {
        let (kind, usage) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        let signature = if usage.is_empty() { kind.to_owned() } else { format!("{kind} ({})", usage.trim()) };
        if !kind.is_empty() && !found.contains(&signature) {
            found.push(signature);
        }
    }
    (!found.is_empty()).then(|| found.join(", "))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn each_signature_is_named_once() {
        for (listed, expected) in [
            ("", None),
            ("swap other\n", Some("swap (other)")),
            ("zfs_member filesystem\nzfs_member filesystem\n", Some("zfs_member (filesystem)")),
            (
                "gpt  partition-table\ngpt  partition-table\nPMBR partition-table\n",
                Some("gpt (partition-table), PMBR (partition-table)"),
            ),
            ("ceph_bluestore\n", Some("ceph_bluestore")),
        ] {
            assert_eq!(describe(listed).as_deref(), expected);
        }
    }

    /// Formats that a list of magic numbers easily misses.
    #[tokio::test]
    async fn the_prober_knows_them() {
        // Version 1.1 of md stands at the very beginning, with a sum over its 256 bytes and no devices.
        let mut raid = [0_u8; 256];
        raid[..8].copy_from_slice(&[0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0]);
        let sum: u64 = raid.chunks(4).map(|word| u64::from(u32::from_le_bytes([word[0], word[1], word[2], word[3]]))).sum();
        raid[216..220].copy_from_slice(&u32::try_from((sum & 0xffff_ffff) + (sum >> 32)).unwrap().to_le_bytes());
        for (bytes, expected) in [
            (&b""[..], None),
            (&raid, Some("linux_raid_member (raid)")),
            (b"bluestore block device\n", Some("ceph_bluestore (other)")),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(8 << 20).unwrap();
            file.as_file().write_all_at(bytes, 0).unwrap();
            assert_eq!(detect(file.path()).await.unwrap().as_deref(), expected);
        }
    }
}
