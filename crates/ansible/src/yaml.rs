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

/// The longest line that a person wants to read.
const WIDTH: usize = 140;

/// The same with long expressions on several lines, which YAML puts together again.
pub(crate) fn folded(text: &str) -> String {
    text.lines().map(|line| fold(line).unwrap_or_else(|| format!("{line}\n"))).collect()
}

/// A top-level key with an expression that is too long for one line and has nothing escaped in it.
fn fold(line: &str) -> Option<String> {
    let (key, expression) = line.split_once(": \"{{").filter(|_| line.len() > WIDTH && !line.starts_with(' '))?;
    let expression = expression.strip_suffix('"').filter(|expression| !expression.contains(['\\', '"']))?;
    let mut folded = format!("{key}: >-\n  {{{{");
    let mut length = folded.len() - key.len();
    for word in expression.split(' ').skip_while(|word| word.is_empty()) {
        if length + word.len() >= WIDTH {
            folded.push_str("\n ");
            length = 1;
        }
        folded.push(' ');
        folded.push_str(word);
        length += word.len() + 1;
    }
    folded.push('\n');
    Some(folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_expression_is_the_same_on_several_lines() {
        let words = (0..40).map(|number| format!("'word{number}'")).collect::<Vec<_>>().join(", ");
        let long = format!("short: 1\nnames: \"{{{{ [{words}] }}}}\"\n");
        let text = folded(&long);
        assert!(text.lines().all(|line| line.len() <= WIDTH) && text.lines().count() > 3, "{text}");
        let words =
            |text: &str| text.replace(['"'], "").split_whitespace().filter(|word| *word != ">-").collect::<Vec<_>>().join(" ");
        assert_eq!(words(&text), words(&long));
        assert_eq!(folded("a: 1\nb: \"{{ c }}\"\n"), "a: 1\nb: \"{{ c }}\"\n");
    }
}
