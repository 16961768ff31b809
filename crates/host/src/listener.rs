//! Who listens at which TCP port, as the kernel's tables show it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::{Error, Root};

/// The state of a socket that listens.
const LISTEN: &str = "0A";

/// A socket that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: SocketAddr,
    inode: String,
}

/// All of this host's listening sockets.
pub fn all(root: &Root) -> Result<Vec<Listener>, Error> {
    let mut found = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // A host may have no IPv6.
        found.extend(parse(&root.read(table)?.unwrap_or_default()));
    }
    Ok(found)
}

impl Listener {
    /// One that a test makes up.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self { address, inode: String::new() }
    }

    /// Whether a connection to an address of this host reaches it. One for all IPv6 addresses takes IPv4 too, unless its program has
    /// said otherwise, which cannot be seen.
    #[must_use]
    pub fn takes(&self, address: SocketAddr) -> bool {
        let own = self.address.ip();
        let everywhere = own.is_unspecified() && (own.is_ipv6() || address.is_ipv4());
        self.address.port() == address.port() && (everywhere || own == address.ip())
    }

    /// The name of the program that listens, for those who may see it.
    #[must_use]
    pub fn program(&self, root: &Root) -> Option<String> {
        let socket = format!("socket:[{}]", self.inode);
        let processes = root.list("/proc").ok()?.into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        let holds = |process: &String| {
            let open = fs::read_dir(root.at(format!("/proc/{process}/fd"))).into_iter().flatten().flatten();
            open.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| target.as_os_str() == socket.as_str())
        };
        let holder = processes.into_iter().find(holds)?;
        Some(root.read(format!("/proc/{holder}/comm")).ok()??.trim().to_owned())
    }
}

/// Lines of number, local and remote address, state and more; the tenth field is the socket's inode.
fn parse(table: &str) -> impl Iterator<Item = Listener> {
    table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (address, port) = local.split_once(':')?;
        let address = SocketAddr::new(ip(address)?, u16::from_str_radix(port, 16).ok()?);
        (*state == LISTEN).then(|| Listener { address, inode: (*inode).to_owned() })
    })
}

/// Words of 32 bits in the byte order of the machine; every supported one is little-endian.
fn ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.swap_bytes());
    match text.len() {
        8 => Some(Ipv4Addr::from_bits(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bits = words.into_iter().fold(0, |bits, word| bits << 32 | u128::from(word));
            Some(Ipv6Addr::from_bits(bits).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn tables_are_read() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F91 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000 100 0 0 10 0
";
        let found: Vec<_> = parse(table).collect();
        assert_eq!(found, [Listener { address: "127.0.0.1:8080".parse().unwrap(), inode: "4711".into() }]);
        for (text, expected) in [
            ("00000000000000000000000000000000", "::"),
            ("7700 42FD".replace(' ', "").as_str(), "253.66.0.119"),
            ("770042FD000001000000000001000000", "fd42:77:1::1"),
            ("0000000000000000FFFF00000100007F", "127.0.0.1"),
        ] {
            assert_eq!(ip(text).map(|address| address.to_string()).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn one_for_all_addresses_takes_every_address() {
        for (listener, address, expected) in [
            ("192.0.2.10:80", "192.0.2.10:80", true),
            ("192.0.2.10:80", "192.0.2.10:81", false),
            ("192.0.2.10:80", "192.0.2.11:80", false),
            ("0.0.0.0:80", "192.0.2.10:80", true),
            ("0.0.0.0:80", "[2001:db8::1]:80", false),
            ("[::]:80", "192.0.2.10:80", true),
            ("[::]:80", "[2001:db8::1]:80", true),
        ] {
            let listener = Listener::at(listener.parse().unwrap());
            assert_eq!(listener.takes(address.parse().unwrap()), expected, "{listener:?} {address}");
        }
    }

    #[test]
    fn this_program_is_found_by_its_socket() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let root = Root::default();
        let listener = all(&root).unwrap().into_iter().find(|listener| listener.address == address).unwrap();
        let own = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(listener.program(&root).as_deref(), Some(own.trim()));
    }
}
