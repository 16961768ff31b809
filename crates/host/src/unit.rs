//! systemd's units.

use crate::{Error, Root};

/// The state of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// It exists.
    pub loaded: bool,
    /// It starts with the machine.
    pub enabled: bool,
    /// It runs.
    pub active: bool,
}

/// The state of a unit; nothing if the machine is not run by systemd.
pub async fn observe(root: &Root, name: &str) -> Result<Option<Unit>, Error> {
    if !root.has("/run/systemd/system") {
        return Ok(None);
    }
    let show = root.command("systemctl").args(["show", "--property=LoadState,UnitFileState,ActiveState", "--", name]);
    Ok(Some(parse(&show.execute().await?.stdout)))
}

fn parse(properties: &str) -> Unit {
    let is = |name: &str, values: &[&str]| {
        properties.lines().any(|line| line.split_once('=').is_some_and(|(key, value)| key == name && values.contains(&value)))
    };
    Unit {
        loaded: is("LoadState", &["loaded"]),
        enabled: is("UnitFileState", &["enabled", "enabled-runtime", "static", "alias", "indirect"]),
        active: is("ActiveState", &["active", "reloading"]),
    }
}

/// Starts a unit now and with the machine.
pub async fn enable_now(root: &Root, name: &str) -> Result<(), Error> {
    root.command("systemctl").args(["enable", "--now", "--", name]).execute().await.map(drop)
}

/// Stops a unit and starts it again.
pub async fn restart(root: &Root, name: &str) -> Result<(), Error> {
    root.command("systemctl").args(["restart", "--", name]).execute().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        let unit = |loaded, enabled, active| Unit { loaded, enabled, active };
        for (text, expected) in [
            ("LoadState=loaded\nUnitFileState=enabled\nActiveState=active\n", unit(true, true, true)),
            ("LoadState=loaded\nUnitFileState=disabled\nActiveState=inactive\n", unit(true, false, false)),
            ("LoadState=masked\nUnitFileState=masked\nActiveState=inactive\n", unit(false, false, false)),
            ("LoadState=not-found\nUnitFileState=\nActiveState=inactive\n", unit(false, false, false)),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
