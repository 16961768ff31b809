//! How much memory the machine has.

use crate::{Error, Root};

/// The machine's memory in MiB, as far as it tells.
pub fn total_mib(root: &Root) -> Result<Option<u64>, Error> {
    Ok(root.read("/proc/meminfo")?.as_deref().and_then(parse))
}

fn parse(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_in_mib() {
        assert_eq!(parse("MemTotal:       24604348 kB\nMemFree: 1 kB\n"), Some(24027));
        assert_eq!(parse("MemFree: 1 kB\n"), None);
    }
}
