//! Who uses a block device, or a file that one may be made of.
//!
//! Devices are compared by their numbers, because each has many names. That a device is in use is the kernel's own word: it gives
//! nobody exclusive access then. The rest finds out who it is, as far as the kernel tells: a ZFS pool, say, shows nowhere.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{fs::OFlags, io::Errno};

/// A device's number, as the kernel writes it: `8:16`.
type Number = String;

/// What the kernel tells of devices.
struct Kernel {
    sys: PathBuf,
    /// `/proc/self/mountinfo`.
    mounts: String,
    /// `/proc/swaps`.
    swaps: String,
}

/// A device with its partitions, by their names.
struct Disk {
    members: Vec<(String, Number)>,
}

/// Who uses a device, a partition of it, or a file. Nothing for what is free, and for what is neither.
pub fn user(path: &Path) -> io::Result<Option<String>> {
    let metadata = fs::metadata(path)?;
    let kernel = Kernel::read()?;
    if metadata.file_type().is_file() {
        return Ok(kernel.loop_device_of(path));
    }
    if !metadata.file_type().is_block_device() {
        return Ok(None);
    }
    let disk = kernel.disk(path, &number(metadata.rdev()));
    let user = kernel.user_of(&disk).or_else(|| kernel.loop_device_of(path));
    match user {
        None if is_claimed(path)? => Ok(Some("something that the kernel does not name, such as a ZFS pool".into())),
        user => Ok(user),
    }
}

/// Whether the kernel has given somebody exclusive access. It asks of the partitions as well.
fn is_claimed(device: &Path) -> io::Result<bool> {
    let exclusive = i32::try_from(OFlags::EXCL.bits()).unwrap_or_default();
    match fs::OpenOptions::new().read(true).custom_flags(exclusive).open(device) {
        Ok(_) => Ok(false),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => Ok(true),
        Err(error) => Err(error),
    }
}

impl Kernel {
    fn read() -> io::Result<Self> {
        Ok(Self {
            sys: "/sys".into(),
            mounts: fs::read_to_string("/proc/self/mountinfo")?,
            // A kernel without swap has no list.
            swaps: fs::read_to_string("/proc/swaps").unwrap_or_default(),
        })
    }

    fn disk(&self, path: &Path, number: &str) -> Disk {
        let folder = self.sys.join("dev/block").join(number);
        let mut members = vec![(path.display().to_string(), number.to_owned())];
        for entry in entries(&folder).filter(|entry| entry.join("partition").exists()) {
            if let (Some(name), Some(number)) = (name(&entry), line(&entry.join("dev"))) {
                members.push((format!("/dev/{name}"), number));
            }
        }
        Disk { members }
    }

    fn user_of(&self, disk: &Disk) -> Option<String> {
        let (whole, _) = disk.members.first()?;
        disk.members.iter().find_map(|(name, number)| {
            let user = self.holder(number).or_else(|| self.mount(number)).or_else(|| self.swap(number))?;
            Some(if name == whole { user } else { format!("{user} (its partition {name})") })
        })
    }

    /// A device that is made of this one: dm, md, bcache.
    fn holder(&self, number: &str) -> Option<String> {
        let holder = name(&entries(&self.sys.join("dev/block").join(number).join("holders")).next()?)?;
        let known_as = line(&self.sys.join("block").join(&holder).join("dm/name"));
        Some(known_as.map_or_else(|| format!("/dev/{holder}"), |name| format!("/dev/{holder}, which is {name}")))
    }

    fn mount(&self, wanted: &str) -> Option<String> {
        let mount = |line: &str| {
            // Number of the mount, of its parent, of the device; root, point, options; optional fields; then type and source.
            let (left, right) = line.split_once(" - ")?;
            let mut fields = left.split(' ').skip(2);
            let (number, point) = (fields.next()?, fields.nth(1)?);
            let source = right.split(' ').nth(1)?;
            // What spans devices has a number of its own, and names one of them.
            let is_it = number == wanted || number_of(Path::new(source)).as_deref() == Some(wanted);
            is_it.then(|| format!("the mount at {point}"))
        };
        self.mounts.lines().find_map(mount).or_else(|| self.btrfs(wanted))
    }

    /// A mounted btrfs names all its devices.
    fn btrfs(&self, wanted: &str) -> Option<String> {
        let filesystems = entries(&self.sys.join("fs/btrfs"));
        let mut devices = filesystems.flat_map(|filesystem| {
            let uuid = name(&filesystem).unwrap_or_default();
            entries(&filesystem.join("devices")).map(move |device| (uuid.clone(), device)).collect::<Vec<_>>()
        });
        let found = devices.find(|(_, device)| line(&device.join("dev")).as_deref() == Some(wanted));
        found.map(|(uuid, _)| format!("the btrfs {uuid}, which is mounted"))
    }

    fn swap(&self, wanted: &str) -> Option<String> {
        let mut paths = self.swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        paths.any(|path| number_of(Path::new(path)).as_deref() == Some(wanted)).then(|| "the kernel as swap".to_owned())
    }

    fn loop_device_of(&self, path: &Path) -> Option<String> {
        let mut devices = entries(&self.sys.join("block")).filter_map(|device| Some((name(&device)?, device)));
        let backs = |device: &Path| line(&device.join("loop/backing_file")).is_some_and(|file| Path::new(&file) == path);
        devices.find(|(_, device)| backs(device)).map(|(name, _)| format!("the loop device /dev/{name}"))
    }
}

fn number_of(path: &Path) -> Option<Number> {
    let metadata = fs::metadata(path).ok().filter(|_| path.is_absolute())?;
    metadata.file_type().is_block_device().then(|| number(metadata.rdev()))
}

fn number(device: u64) -> Number {
    format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

fn line(file: &Path) -> Option<String> {
    Some(fs::read_to_string(file).ok()?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with one partition, as the kernel shows it; both are free.
    fn kernel() -> (tempfile::TempDir, Kernel) {
        let folder = tempfile::tempdir().unwrap();
        let kernel = Kernel { sys: folder.path().to_owned(), mounts: String::new(), swaps: String::new() };
        for (file, text) in [
            ("dev/block/8:16/sdb1/partition", "1"),
            ("dev/block/8:16/sdb1/dev", "8:17\n"),
            ("dev/block/8:16/queue/dev", "7:7"),
            ("block/dm-0/dm/name", "vg-root\n"),
            ("block/loop3/loop/backing_file", "/srv/disk.img\n"),
        ] {
            write(&kernel, file, text);
        }
        (folder, kernel)
    }

    fn write(kernel: &Kernel, file: &str, text: &str) {
        let path = kernel.sys.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn users_are_found_by_numbers() {
        for (case, file, mounts, expected) in [
            ("free", "unused", "", None),
            ("another disk is mounted", "unused", "22 1 8:32 / /srv rw - ext4 /dev/disk/by-id/other rw", None),
            (
                "mounted by whatever name",
                "unused",
                "22 1 8:16 / /srv rw,noatime shared:1 - ext4 /dev/disk/by-id/x rw",
                Some("the mount at /srv"),
            ),
            (
                "a partition is mounted",
                "unused",
                "22 1 8:17 / /boot rw - ext4 /dev/root rw",
                Some("the mount at /boot (its partition /dev/sdb1)"),
            ),
            ("held", "dev/block/8:16/holders/md0", "", Some("/dev/md0")),
            (
                "a partition is held",
                "dev/block/8:17/holders/dm-0",
                "",
                Some("/dev/dm-0, which is vg-root (its partition /dev/sdb1)"),
            ),
        ] {
            let (_folder, mut kernel) = kernel();
            write(&kernel, file, "");
            kernel.mounts = mounts.to_owned();
            let disk = kernel.disk(Path::new("/dev/sdb"), "8:16");
            assert_eq!(kernel.user_of(&disk).as_deref(), expected, "{case}");
        }
    }

    #[test]
    fn one_of_several_devices_of_a_filesystem_is_in_use() {
        let (_folder, kernel) = kernel();
        write(&kernel, "fs/btrfs/c0ffee/devices/sdb/dev", "8:16\n");
        write(&kernel, "fs/btrfs/features/compress_lzo", "0\n");
        let disk = kernel.disk(Path::new("/dev/sdb"), "8:16");
        assert_eq!(kernel.user_of(&disk).as_deref(), Some("the btrfs c0ffee, which is mounted"));
    }

    #[test]
    fn a_file_may_be_a_loop_devices() {
        let (_folder, kernel) = kernel();
        assert_eq!(kernel.loop_device_of(Path::new("/srv/disk.img")).as_deref(), Some("the loop device /dev/loop3"));
        assert_eq!(kernel.loop_device_of(Path::new("/srv/other.img")), None);
    }

    #[test]
    fn a_file_of_ones_own_is_free() {
        assert_eq!(user(tempfile::NamedTempFile::new().unwrap().path()).unwrap(), None);
        assert_eq!(user(Path::new("/dev/null")).unwrap(), None);
    }
}
