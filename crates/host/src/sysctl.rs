//! Kernel parameters.

use std::path::PathBuf;

use crate::{Error, Root, root::is_absent};

/// The live value; nothing if the running kernel has no such parameter.
pub fn read(root: &Root, key: &str) -> Result<Option<String>, Error> {
    Ok(root.read(path(key))?.map(|value| normalised(&value)))
}

/// Sets the live value.
pub fn write(root: &Root, key: &str, value: &str) -> Result<(), Error> {
    root.set(path(key), value).map_err(|source| {
        let (key, value) = (key.to_owned(), value.to_owned());
        if is_absent(&source) { Error::SysctlUnknown { key } } else { Error::SysctlRefused { key, value, source } }
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
