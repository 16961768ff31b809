//! What Ansible does to every option of type `path`.

use std::env;

use regex_lite::{Captures, Regex};

/// The home folder and the environment's variables put in place of `~`, `$NAME` and `${NAME}`, as Ansible does.
/// What is not set stays as it is.
pub(crate) fn expand(text: &str) -> String {
    let text = match Regex::new(r"\$(?:(?<bare>\w+)|\{(?<braced>[^}]*)\})") {
        Ok(variable) => variable.replace_all(text, |found: &Captures<'_>| {
            let name = found.name("bare").or(found.name("braced")).map_or("", |name| name.as_str());
            env::var(name).unwrap_or_else(|_| found[0].to_owned())
        }),
        Err(_) => text.into(),
    };
    match (text.strip_prefix('~'), env::var("HOME")) {
        (Some(rest), Ok(home)) if rest.is_empty() || rest.starts_with('/') => format!("{}{rest}", home.trim_end_matches('/')),
        _ => text.into_owned(),
    }
}
