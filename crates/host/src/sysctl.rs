//! Kernel parameters.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{Error, Root, kernel::KernelError, layered, root::is_absent};

/// Read after all others by `sysctl --system`.
const LAST: &str = "/etc/sysctl.conf";

/// A parameter in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The file.
    pub file: PathBuf,
    /// The value.
    pub value: String,
}

/// What is set after the file `own` when the machine starts, by the parameter's [`path`]. A name with patterns is left out: it does
/// not reach what another file names.
pub fn later(root: &Root, own: &Path) -> Result<BTreeMap<PathBuf, Setting>, Error> {
    let mut files = layered::files(root, "sysctl.d", ".conf")?;
    files.retain(|file| file.file_name() > own.file_name());
    files.push(LAST.into());
    let mut settings = BTreeMap::new();
    for file in files {
        let text = root.read(&file)?.unwrap_or_default();
        for line in text.lines().map(str::trim).filter(|line| layered::is_said(line)) {
            let Some((key, value)) = line.split_once('=') else { continue };
            let key = key.trim().trim_start_matches('-');
            if !key.contains(['*', '?', '[']) {
                settings.insert(path(key), Setting { file: file.clone(), value: normalised(value) });
            }
        }
    }
    Ok(settings)
}

/// The live value; nothing if the running kernel has no such parameter.
pub fn read(root: &Root, key: &str) -> Result<Option<String>, Error> {
    Ok(root.read(path(key))?.map(|value| normalised(&value)))
}

/// Sets the live value.
pub fn write(root: &Root, key: &str, value: &str) -> Result<(), Error> {
    root.set(path(key), value).map_err(|source| {
        let (key, value) = (key.to_owned(), value.to_owned());
        let error = if is_absent(&source) { KernelError::NoParameter { key } } else { KernelError::Refused { key, value, source } };
        error.into()
    })
}

/// Values of several numbers are apart by tabs in the kernel and by blanks in files.
#[must_use]
pub fn normalised(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Where the kernel has a parameter. As `sysctl` itself reads names: whichever of dot and slash comes first parts the name, and the other stands for itself.
#[must_use]
pub fn path(key: &str) -> PathBuf {
    let dotted = key.find(['.', '/']).is_some_and(|first| key[first..].starts_with('.'));
    let swapped = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let relative = if dotted { key.chars().map(swapped).collect() } else { key.to_owned() };
    PathBuf::from("/proc/sys").join(relative)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use converge::{AbsolutePath, Explain as _};

    use super::*;
    use crate::root::tests::machine;

    #[test]
    fn names_and_their_paths() {
        for (key, file) in [
            ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.100/forwarding", "/proc/sys/net/ipv4/conf/eth0.100/forwarding"),
            ("net.ipv4.conf.eth0/100.forwarding", "/proc/sys/net/ipv4/conf/eth0.100/forwarding"),
        ] {
            assert_eq!(path(key), PathBuf::from(file), "{key}");
        }
    }

    #[test]
    fn what_is_read_later_wins() {
        let own = "/etc/sysctl.d/60-own.conf";
        for (case, files, expected) in [
            ("nothing else", vec![], None),
            ("an earlier one", vec![("/etc/sysctl.d/10-a.conf", "vm.swappiness = 1\n")], None),
            ("a later one", vec![("/usr/lib/sysctl.d/90-b.conf", "vm.swappiness=1\n")], Some(("/usr/lib/sysctl.d/90-b.conf", "1"))),
            (
                "the last of several, in the other spelling",
                vec![("/etc/sysctl.d/70-a.conf", "vm.swappiness=1\n"), ("/etc/sysctl.d/80-b.conf", "-vm/swappiness = 2\n")],
                Some(("/etc/sysctl.d/80-b.conf", "2")),
            ),
            (
                "the one that is read last",
                vec![("/etc/sysctl.d/80-b.conf", "vm.swappiness=1\n"), ("/etc/sysctl.conf", "vm.swappiness=3\n")],
                Some(("/etc/sysctl.conf", "3")),
            ),
            (
                "hidden by one of its name",
                vec![("/usr/lib/sysctl.d/90-b.conf", "vm.swappiness=1\n"), ("/etc/sysctl.d/90-b.conf", "# nothing\n")],
                None,
            ),
            (
                "another parameter, a comment, a pattern",
                vec![("/etc/sysctl.d/90-b.conf", "vm.x=1\n#vm.swappiness=1\nvm.*=1\n")],
                None,
            ),
        ] {
            let (_folder, root) = machine(&files);
            let found = later(&root, Path::new(own)).unwrap();
            let expected = expected.map(|(file, value)| Setting { file: file.into(), value: value.into() });
            assert_eq!(found.get(&path("vm.swappiness")), expected.as_ref(), "{case}");
        }
    }

    #[test]
    fn a_parameter_is_written_only_where_the_kernel_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::from(AbsolutePath::new(folder.path().to_str().unwrap()).unwrap());
        fs::create_dir_all(root.at("/proc/sys/net/ipv4")).unwrap();
        fs::write(root.at("/proc/sys/net/ipv4/tcp_rmem"), "4096\t131072\t6291456\n").unwrap();
        assert_eq!(read(&root, "net.ipv4.tcp_rmem").unwrap().as_deref(), Some("4096 131072 6291456"));
        write(&root, "net.ipv4.tcp_rmem", "1 2 3").unwrap();
        assert_eq!(write(&root, "net.bridge.bridge-nf-call-iptables", "1").unwrap_err().code(), "SYSCTL_NOT_FOUND");
        assert!(!root.has("/proc/sys/net/bridge"));
    }
}
