//! YAML for people: documentation and diffs.

use serde::Serialize;
use serde_saphyr::{SerializerOptions, to_string_with_options};

/// A value as the YAML that people write by hand: lists indented, long text folded.
pub(crate) fn text(value: &impl Serialize) -> String {
    let mut options = SerializerOptions::default();
    options.compact_list_indent = false;
    // Only values with keys that are no text cannot be written, and there are none here.
    let mut text = to_string_with_options(value, options).unwrap_or_else(|error| format!("# not shown: {error}"));
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
