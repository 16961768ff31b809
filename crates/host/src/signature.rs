//! What a block device or an image file already carries, by its magic numbers.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use crate::{Command, Error};

/// Offset, bytes, and what they say.
const SIGNATURES: [(u64, &[u8], &str); 14] = [
    (0, b"XFSB", "xfs"),
    (0, b"LUKS\xba\xbe", "LUKS"),
    (0, b"hsqs", "squashfs"),
    (3, b"NTFS    ", "ntfs"),
    (0x52, b"FAT32   ", "vfat"),
    (0x36, b"FAT", "vfat"),
    (512, b"EFI PART", "GPT partition table"),
    (0x218, b"LVM2 001", "LVM2 physical volume"),
    (0x438, b"\x53\xef", "ext4"),
    (4096, b"\xfc\x4e\x2b\xa9", "Linux RAID member"),
    (4086, b"SWAPSPACE2", "swap"),
    (0x10040, b"_BHRfS_M", "btrfs"),
    (0x8001, b"CD001", "iso9660"),
    // Last: a boot sector's mark also stands in some of the above.
    (510, b"\x55\xaa", "MBR partition table"),
];

/// A ZFS label's uberblocks; they start at one of many places in this range, on either side of the byte order.
const ZFS: (u64, usize, [&[u8]; 2]) =
    (128 * 1024, 128 * 1024, [b"\x0c\xb1\xba\x00\x00\x00\x00\x00", b"\x00\x00\x00\x00\x00\xba\xb1\x0c"]);
const ZFS_STEP: usize = 1024;

/// The first signature found, or nothing on a blank device. Opens it for reading only.
pub fn detect(path: &Path) -> io::Result<Option<&'static str>> {
    let mut file = File::open(path)?;
    for (offset, magic, name) in SIGNATURES {
        if read(&mut file, offset, magic.len())? == magic {
            return Ok(Some(name));
        }
    }
    let (offset, length, magics) = ZFS;
    let area = read(&mut file, offset, length)?;
    let zfs = area.chunks(ZFS_STEP).any(|block| magics.iter().any(|magic| block.starts_with(magic)));
    Ok(zfs.then_some("zfs member"))
}

/// Erases all that a device carries, so that it counts as blank.
pub async fn erase(path: &Path) -> Result<(), Error> {
    Command::new("wipefs").arg("--all").arg(path).execute().await.map(drop)
}

/// As much as there is, up to `length`.
fn read(file: &mut File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn image(parts: &[(u64, &[u8])]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        for (offset, bytes) in parts {
            file.seek(SeekFrom::Start(*offset)).unwrap();
            file.write_all(bytes).unwrap();
        }
        file
    }

    #[test]
    fn every_signature_is_found_where_it_stands() {
        for (offset, magic, name) in SIGNATURES {
            assert_eq!(detect(image(&[(offset, magic)]).path()).unwrap(), Some(name));
        }
        assert_eq!(detect(image(&[(128 * 1024 + 3 * 1024, ZFS.2[0])]).path()).unwrap(), Some("zfs member"));
    }

    #[test]
    fn a_blank_device_carries_nothing() {
        assert_eq!(detect(image(&[]).path()).unwrap(), None);
        assert_eq!(detect(image(&[(100, b"XFSB")]).path()).unwrap(), None);
    }
}
