//! Users and groups by name, as numbers.

use crate::{Error, Root};

/// Who owns a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub user: u32,
    /// The group's number.
    pub group: u32,
}

impl Owner {
    /// The owner by the names, or the numbers, of a user and a group.
    pub async fn resolve(root: &Root, user: &str, group: &str) -> Result<Self, Error> {
        Ok(Self { user: number(root, "passwd", user).await?, group: number(root, "group", group).await? })
    }

    /// Whoever runs this process.
    #[must_use]
    pub fn own() -> Self {
        Self { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() }
    }
}

async fn number(root: &Root, database: &'static str, name: &str) -> Result<u32, Error> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let local = root.read(format!("/etc/{database}"))?.unwrap_or_default();
    if let Some(number) = find(&local, name) {
        return Ok(number);
    }
    // Accounts from a directory service are in no file.
    let answer = root.command("getent").arg(database).arg(name).execute().await.map(|output| output.stdout);
    let found = answer.ok().and_then(|answer| find(&answer, name));
    found.ok_or_else(|| Error::AccountUnknown { database, name: name.to_owned() })
}

/// Both databases have the name first and the number third.
fn find(database: &str, name: &str) -> Option<u32> {
    let mut entries = database.lines().map(|line| line.split(':'));
    entries.find_map(|mut fields| (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use converge::Explain as _;

    use super::*;

    #[test]
    fn entries_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/usr/sbin/nologin\n";
        for (name, number) in [("root", Some(0)), ("nobody", Some(65534)), ("no", None), ("", None)] {
            assert_eq!(find(passwd, name), number, "{name}");
        }
    }

    #[tokio::test]
    async fn a_name_without_an_account_is_named() {
        let owner = Owner::resolve(&Root::default(), "0", "no-such-group-here").await;
        let error = owner.unwrap_err();
        assert_eq!((error.code(), error.to_string()), ("ACCOUNT_UNKNOWN", "there is no group no-such-group-here".into()));
    }
}
