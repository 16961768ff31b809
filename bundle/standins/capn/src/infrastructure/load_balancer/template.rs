//! Go's template syntax, as far as a load balancer's configuration needs it: fields, variables, `if`, `range` and one function.
//!
//! The rest is refused by name. The crates that know more of the syntax visit maps in any order, and then a configuration would
//! differ from itself.

use std::iter::Peekable;

use serde_json::Value;

/// Why a template cannot be rendered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An action is not closed.
    #[error("`{{{{` without `}}}}`")]
    Unclosed,
    /// An `end` or `else` belongs to nothing, or is missing.
    #[error("`{0}` does not fit here")]
    Misplaced(String),
    /// Something that Go may know and this does not.
    #[error("`{0}` is not supported: there are fields, variables, `if`, `range` and `JoinHostPort`")]
    Unsupported(String),
    /// A name that stands for nothing.
    #[error("there is no {0}")]
    Unknown(String),
}

/// Renders a template with the given data.
pub fn render(template: &str, data: &Value) -> Result<String, Error> {
    let tokens = tokens(template)?;
    let (nodes, end) = parse(&mut tokens.into_iter().peekable())?;
    if let Some(end) = end {
        return Err(Error::Misplaced(end));
    }
    let mut output = String::new();
    let mut scope = Scope { root: data, dot: data.clone(), variables: Vec::new() };
    scope.run(&nodes, &mut output)?;
    Ok(output)
}

#[derive(Debug)]
enum Token {
    Text(String),
    Action(String),
}

/// Text and actions; a trim marker takes the white space beside it away.
fn tokens(template: &str) -> Result<Vec<Token>, Error> {
    let mut tokens = Vec::new();
    let (mut rest, mut trim) = (template, false);
    loop {
        let (text, action) = rest.split_once("{{").map_or((rest, None), |(text, action)| (text, Some(action)));
        let trim_right = action.is_some_and(|action| action.starts_with("- "));
        let text = if trim { text.trim_start() } else { text };
        tokens.push(Token::Text(if trim_right { text.trim_end() } else { text }.to_owned()));
        let Some(action) = action else { return Ok(tokens) };
        let (action, after) = action.split_once("}}").ok_or(Error::Unclosed)?;
        trim = action.ends_with(" -");
        let action = if trim_right { &action[1..] } else { action };
        let action = action.strip_suffix('-').filter(|_| trim).unwrap_or(action).trim();
        if !(action.starts_with("/*") && action.ends_with("*/")) {
            tokens.push(Token::Action(action.to_owned()));
        }
        rest = after;
    }
}

#[derive(Debug)]
enum Node {
    Text(String),
    Print(Vec<String>),
    If { condition: Vec<String>, then: Vec<Node>, otherwise: Vec<Node> },
    Range { variables: Vec<String>, over: Vec<String>, body: Vec<Node>, otherwise: Vec<Node> },
}

/// The nodes up to the `else` or `end` of the block around them, and that.
fn parse(tokens: &mut Peekable<impl Iterator<Item = Token>>) -> Result<(Vec<Node>, Option<String>), Error> {
    let mut nodes = Vec::new();
    while let Some(token) = tokens.next() {
        let action = match token {
            Token::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Token::Action(action) => action,
        };
        let (keyword, rest) = action.split_once(' ').unwrap_or((&action, ""));
        match keyword {
            "end" | "else" => return Ok((nodes, Some(action))),
            "if" => nodes.push(conditional(rest, tokens)?),
            "range" => {
                let (variables, over) = rest.split_once(":=").unwrap_or(("", rest));
                let variables: Vec<_> =
                    variables.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
                if variables.len() > 2 || variables.iter().any(|name| !name.starts_with('$')) {
                    return Err(Error::Unsupported(action));
                }
                let (body, end) = parse(tokens)?;
                let otherwise = otherwise(end, tokens)?;
                nodes.push(Node::Range { variables, over: words(over)?, body, otherwise });
            }
            "with" | "define" | "template" | "block" | "break" | "continue" => return Err(Error::Unsupported(keyword.to_owned())),
            _ => nodes.push(Node::Print(words(&action)?)),
        }
    }
    Ok((nodes, None))
}

fn conditional(condition: &str, tokens: &mut Peekable<impl Iterator<Item = Token>>) -> Result<Node, Error> {
    let condition = words(condition)?;
    let (then, end) = parse(tokens)?;
    let otherwise = match end.as_deref().and_then(|end| end.strip_prefix("else if ")) {
        // An `else if` shares the `end` of the first `if`.
        Some(next) => vec![conditional(next, tokens)?],
        None => otherwise(end, tokens)?,
    };
    Ok(Node::If { condition, then, otherwise })
}

/// What stands between an `else`, if this is one, and its `end`.
fn otherwise(end: Option<String>, tokens: &mut Peekable<impl Iterator<Item = Token>>) -> Result<Vec<Node>, Error> {
    let (nodes, end) = match end.as_deref() {
        Some("else") => parse(tokens)?,
        _ => (Vec::new(), end),
    };
    match end.as_deref() {
        Some("end") => Ok(nodes),
        other => Err(Error::Misplaced(other.unwrap_or("the end of the template").to_owned())),
    }
}

/// An expression: an operand, or a function with operands.
fn words(expression: &str) -> Result<Vec<String>, Error> {
    let words: Vec<String> = expression.split_whitespace().map(str::to_owned).collect();
    let plain = |word: &String| word.chars().all(|letter| letter.is_alphanumeric() || "._$\"-:/".contains(letter));
    if words.is_empty() || !words.iter().all(plain) {
        return Err(Error::Unsupported(expression.trim().to_owned()));
    }
    Ok(words)
}

struct Scope<'a> {
    root: &'a Value,
    dot: Value,
    variables: Vec<(String, Value)>,
}

impl Scope<'_> {
    fn run(&mut self, nodes: &[Node], output: &mut String) -> Result<(), Error> {
        for node in nodes {
            match node {
                Node::Text(text) => output.push_str(text),
                Node::Print(expression) => output.push_str(&shown(&self.value(expression)?)),
                Node::If { condition, then, otherwise } => {
                    let branch = if is_true(&self.value(condition)?) { then } else { otherwise };
                    self.run(branch, output)?;
                }
                Node::Range { variables, over, body, otherwise } => {
                    let items = items(&self.value(over)?).ok_or_else(|| Error::Unsupported(format!("range {}", over.join(" "))))?;
                    if items.is_empty() {
                        self.run(otherwise, output)?;
                    }
                    for item in items {
                        self.iterate(variables, item, body, output)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn iterate(&mut self, names: &[String], (key, value): (Value, Value), body: &[Node], output: &mut String) -> Result<(), Error> {
        let outer = std::mem::replace(&mut self.dot, value.clone());
        let depth = self.variables.len();
        match names {
            [] => {}
            [one] => self.variables.push((one.clone(), value)),
            [first, second, ..] => self.variables.extend([(first.clone(), key), (second.clone(), value)]),
        }
        let done = self.run(body, output);
        self.variables.truncate(depth);
        self.dot = outer;
        done
    }

    fn value(&self, expression: &[String]) -> Result<Value, Error> {
        match expression {
            [operand] => self.operand(operand),
            [function, host, port] if function == "JoinHostPort" => {
                Ok(join_host_port(&shown(&self.operand(host)?), &shown(&self.operand(port)?)).into())
            }
            _ => Err(Error::Unsupported(expression.join(" "))),
        }
    }

    fn operand(&self, operand: &str) -> Result<Value, Error> {
        if let Some(text) = operand.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            return Ok(text.into());
        }
        if let Ok(number) = operand.parse::<i64>() {
            return Ok(number.into());
        }
        let (base, path) = match operand.split_once('.') {
            Some((base, path)) if base.is_empty() || base.starts_with('$') => (base, path),
            None if operand.starts_with('$') => (operand, ""),
            _ => return Err(Error::Unsupported(operand.to_owned())),
        };
        let start = match base {
            "" => &self.dot,
            "$" => self.root,
            name => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                &known.ok_or_else(|| Error::Unknown(format!("variable {name}")))?.1
            }
        };
        let mut fields = path.split('.').filter(|field| !field.is_empty());
        fields.try_fold(start, |value, field| value.get(field)).cloned().ok_or_else(|| Error::Unknown(format!("field {operand}")))
    }
}

fn items(value: &Value) -> Option<Vec<(Value, Value)>> {
    match value {
        Value::Object(fields) => {
            let mut items: Vec<_> = fields.iter().collect();
            items.sort_by_key(|(name, _)| *name);
            Some(items.into_iter().map(|(name, value)| (name.as_str().into(), value.clone())).collect())
        }
        Value::Array(items) => Some(items.iter().enumerate().map(|(index, value)| (index.into(), value.clone())).collect()),
        _ => None,
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn join_host_port(host: &str, port: &str) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn data() -> Value {
        json!({
            "Port": "6443", "IPv6": false, "Healthz": true, "Nobody": {},
            "Servers": {"cp-2": {"Address": "fd42::2", "Weight": 100}, "cp-1": {"Address": "10.0.0.1", "Weight": 100}},
        })
    }

    #[test]
    fn renders() {
        for (template, expected) in [
            ("plain", "plain"),
            ("bind *:{{ .Port }}\n", "bind *:6443\n"),
            ("{{/* why */}}x", "x"),
            ("a  {{- .Port -}}  b", "a6443b"),
            ("{{ if .IPv6 }}six{{ end }}.", "."),
            ("{{ if .IPv6 }}six{{ else }}four{{ end }}", "four"),
            ("{{ if .IPv6 }}six{{ else if .Healthz }}health{{ else }}none{{ end }}", "health"),
            ("{{ if .Nobody }}some{{ else }}none{{ end }}", "none"),
            (
                "{{ range $n, $s := .Servers }}{{ $n }}={{ JoinHostPort $s.Address $.Port }}/{{ $s.Weight }} {{ end }}",
                "cp-1=10.0.0.1:6443/100 cp-2=[fd42::2]:6443/100 ",
            ),
            ("{{ range .Servers }}{{ .Address }},{{ end }}", "10.0.0.1,fd42::2,"),
            ("{{ range .Nobody }}x{{ else }}none{{ end }}", "none"),
            (r#"{{ JoinHostPort "::1" 80 }}"#, "[::1]:80"),
        ] {
            assert_eq!(render(template, &data()).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for (template, error) in [
            ("{{ .Port", "`{{` without `}}`"),
            ("{{ if .IPv6 }}", "`the end of the template` does not fit here"),
            ("{{ end }}", "`end` does not fit here"),
            ("{{ .Ports }}", "there is no field .Ports"),
            ("{{ $x }}", "there is no variable $x"),
            ("{{ .Port | printf \"%s\" }}", "is not supported"),
            ("{{ with .Port }}{{ end }}", "`with` is not supported"),
            ("{{ len .Servers }}", "`len .Servers` is not supported"),
            ("{{ range .Port }}{{ end }}", "`range .Port` is not supported"),
        ] {
            let refused = render(template, &data()).unwrap_err().to_string();
            assert!(refused.contains(error), "{template}: {refused}");
        }
    }
}
