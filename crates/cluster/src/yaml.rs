//! YAML as people write it, for what they will read.

use serde::Serialize;
use serde_saphyr::{SerializerOptions, to_string_with_options};

/// A value as YAML that other programs read: sorted as it comes, each value on one line.
pub fn yaml(value: &impl Serialize) -> String {
    let mut options = SerializerOptions::default();
    options.prefer_block_scalars = false;
    // Only values with keys that are no text cannot be written, and there are none here.
    let mut text = to_string_with_options(value, options).unwrap_or_default();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
