//! The table of a step's options, read from the schema of its struct.
//!
//! Types, defaults, patterns and documentation stand at the fields and nowhere else. Limits: a field's type must be one that Ansible
//! has a name for; nested structs become dictionaries with options of their own.

use converge::AbsolutePath;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{OptionError, coerce};

/// Settings of a lab by which one lab is not another.
const LAB: [&str; 3] = ["project_name", "opt_root", "lxd_socket_path"];

/// The type of an option, in Ansible's words where Ansible has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `str`
    Str,
    /// `path`
    Path,
    /// `int`
    Int,
    /// `bool`
    Bool,
    /// `list` of elements
    List(Box<OptionSpec>),
    /// `dict` with known keys
    Dict(OptionTable),
    /// `dict` with free keys whose values have one type
    Map(Box<OptionSpec>),
    /// `raw`: whatever is given
    Any,
}

impl Kind {
    /// Ansible's name of the type.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Str => "str",
            Self::Path => "path",
            Self::Int => "int",
            Self::Bool => "bool",
            Self::List(_) => "list",
            Self::Dict(_) | Self::Map(_) => "dict",
            Self::Any => "raw",
        }
    }

    fn holds_secret(&self) -> bool {
        match self {
            Self::List(element) | Self::Map(element) => element.secret,
            Self::Dict(table) => table.options.iter().any(|option| option.secret),
            Self::Str | Self::Path | Self::Int | Self::Bool | Self::Any => false,
        }
    }
}

/// One option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionSpec {
    /// The option's name.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// Its documentation, a paragraph an entry.
    pub description: Vec<String>,
    /// The value when none is given; `null` when the option may stay unset.
    pub default: Value,
    /// It has no default and must be given.
    pub required: bool,
    /// The only accepted values; empty if any is.
    pub choices: Vec<String>,
    /// Other names that are accepted for it.
    pub aliases: Vec<String>,
    /// The `k8s_lab_*` variable, without that prefix, that a role takes it from.
    pub global: Option<String>,
    /// Runs that differ in it are about different things, and may go side by side.
    pub tells_apart: bool,
    /// What a role's default is, where a plain global does not say it.
    pub role_default: Option<Value>,
    /// Its value is a secret, or holds one.
    pub secret: bool,
    /// The regular expression that its text matches.
    pub pattern: Option<String>,
    /// The regular expression that its keys match.
    pub key_pattern: Option<String>,
    min_length: Option<u64>,
    minimum: Option<i64>,
    maximum: Option<i64>,
    min_items: Option<u64>,
}

/// All options of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OptionTable {
    /// By name, the switches last.
    pub options: Vec<OptionSpec>,
    /// The struct's own documentation, a paragraph an entry.
    pub description: Vec<String>,
}

impl OptionTable {
    /// The table of a struct of options.
    #[must_use]
    pub fn of<T: JsonSchema>() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        Self::read(settings.into_generator().into_root_schema_for::<T>().as_value())
    }

    /// The table of a struct that is written, not read: what a step returns.
    #[must_use]
    pub fn of_output<T: JsonSchema>() -> Self {
        let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| settings.inline_subschemas = true);
        Self::read(settings.into_generator().into_root_schema_for::<T>().as_value())
    }

    fn read(schema: &Value) -> Self {
        let required: Vec<&str> = strings(&schema["required"]).collect();
        let options = schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, property)| match OptionSpec::read(name, property) {
                // What has to be given has no default, whatever the struct starts from.
                option if required.contains(&name.as_str()) => OptionSpec { required: true, default: Value::Null, ..option },
                option => option,
            })
            .collect();
        Self { options, description: paragraphs(schema) }
    }

    /// What a run with these options is about, of all that the step may be about on one host.
    #[must_use]
    pub fn subject(&self, options: &Map<String, Value>) -> Vec<String> {
        let given = self.options.iter().filter(|option| option.tells_apart).filter_map(|option| options.get(&option.name));
        given
            .filter(|value| !value.is_null())
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            .collect()
    }

    /// The switches that every step has: `enabled`, and one `flow_control_*` for each section.
    #[must_use]
    pub fn with_switches(mut self, sections: &[&str]) -> Self {
        let switch =
            |name: String, text: &str| OptionSpec::read(&name, &json!({"type": "boolean", "default": true, "description": text}));
        self.options.push(switch("enabled".into(), "Whether the step does anything at all."));
        for section in sections {
            self.options
                .push(switch(format!("flow_control_{section}"), &format!("Whether the step runs its section C({section}).")));
        }
        self
    }

    /// Checks what a user gave, coerces it as Ansible's own modules do, and fills in the defaults.
    pub fn resolve(&self, given: &Map<String, Value>) -> Result<Map<String, Value>, OptionError> {
        if given.get("enabled").and_then(coerce::boolean) != Some(false) {
            return coerce::table(self, given, "");
        }
        // What is switched off may lack what it would need.
        let options = self.options.iter().map(|option| OptionSpec { required: false, ..option.clone() }).collect();
        coerce::table(&Self { options, description: Vec::new() }, given, "")
    }

    /// Resolved options as they may be shown.
    #[must_use]
    pub fn shown(&self, resolved: &Map<String, Value>) -> Map<String, Value> {
        let is_secret = |name: &str| self.find(name).is_some_and(|option| option.secret);
        let shown =
            |name: &str, value: &Value| if is_secret(name) && !value.is_null() { json!("<redacted>") } else { value.clone() };
        resolved.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect()
    }

    /// The option that answers to `name`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&OptionSpec> {
        self.options.iter().find(|option| option.name == name || option.aliases.iter().any(|alias| alias == name))
    }
}

impl OptionSpec {
    fn read(name: &str, schema: &Value) -> Self {
        let schema = &without_null(schema);
        let text = |key: &str| schema[key].as_str().map(str::to_owned);
        let kind = kind(schema);
        Self {
            name: name.to_owned(),
            description: paragraphs(schema),
            default: schema.get("default").cloned().unwrap_or(Value::Null),
            required: false,
            choices: choices(schema),
            aliases: strings(&schema["aliases"]).map(str::to_owned).collect(),
            tells_apart: schema["tells_apart"] == true || schema["global"].as_str().is_some_and(|global| LAB.contains(&global)),
            global: text("global"),
            role_default: schema.get("role_default").cloned(),
            secret: schema["writeOnly"] == json!(true) || kind.holds_secret(),
            kind,
            pattern: text("pattern"),
            min_length: schema["minLength"].as_u64(),
            minimum: schema["minimum"].as_i64(),
            maximum: schema["maximum"].as_i64(),
            min_items: schema["minItems"].as_u64(),
            key_pattern: text("key_pattern"),
        }
    }

    /// What a valid value breaks, if anything.
    pub(super) fn complaint(&self, value: &Value) -> Option<String> {
        if let Some(text) = value.as_str() {
            if !self.choices.is_empty() && !self.choices.iter().any(|choice| choice == text) {
                return Some(format!("`{}` is not one of {}", self.shown(text), self.choices.join(", ")));
            }
            if self.kind == Kind::Path && AbsolutePath::new(text).is_none() {
                return Some(AbsolutePath::complaint(text));
            }
            if self.min_length.is_some_and(|least| (text.chars().count() as u64) < least) {
                return Some("must not be empty".into());
            }
            if let Some(pattern) = &self.pattern
                && !matches(pattern, text)
            {
                return Some(format!("`{}` does not match {pattern}", self.shown(text)));
            }
        }
        if let Some(number) = value.as_i64() {
            if self.minimum.is_some_and(|least| number < least) {
                return Some(format!("{number} is less than {}", self.minimum.unwrap_or_default()));
            }
            if self.maximum.is_some_and(|most| number > most) {
                return Some(format!("{number} is more than {}", self.maximum.unwrap_or_default()));
            }
        }
        if let Some(items) = value.as_array()
            && self.min_items.is_some_and(|least| (items.len() as u64) < least)
        {
            return Some("must not be empty".into());
        }
        let pattern = self.key_pattern.as_deref()?;
        let wrong = value.as_object()?.keys().find(|key| !matches(pattern, key))?;
        Some(format!("key `{wrong}` does not match {pattern}"))
    }

    /// The value as an error may show it.
    pub(super) fn shown<'a>(&self, text: &'a str) -> &'a str {
        if self.secret { "<redacted>" } else { text }
    }
}

/// A pattern that does not compile would be a defect of the table; its own tests compile every one, and here it matches nothing.
fn matches(pattern: &str, text: &str) -> bool {
    regex_lite::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
}

fn kind(schema: &Value) -> Kind {
    match schema["type"].as_str() {
        // The schema of a value that may be anything.
        _ if *schema == json!(true) => Kind::Any,
        Some("boolean") => Kind::Bool,
        Some("integer") => Kind::Int,
        Some("array") => Kind::List(Box::new(OptionSpec::read("", &schema["items"]))),
        Some("object") => match &schema["additionalProperties"] {
            values @ (Value::Object(_) | Value::Bool(true)) => Kind::Map(Box::new(OptionSpec::read("", values))),
            _ => Kind::Dict(OptionTable::read(schema)),
        },
        _ if schema["format"] == json!("path") => Kind::Path,
        _ => Kind::Str,
    }
}

/// An optional field's schema allows `null`, as one of two alternatives or as one of two types; the rest describes the value.
fn without_null(schema: &Value) -> Value {
    let mut plain = schema.clone();
    let is_null = |alternative: &Value| alternative["type"] == json!("null");
    if let Some(inner) = schema["anyOf"].as_array().and_then(|all| all.iter().find(|alternative| !is_null(alternative)))
        && let (Some(plain), Some(inner)) = (plain.as_object_mut(), inner.as_object())
    {
        plain.remove("anyOf");
        for (key, value) in inner {
            plain.entry(key).or_insert_with(|| value.clone());
        }
    }
    if let Some(name) = strings(&schema["type"]).find(|name| *name != "null") {
        plain["type"] = json!(name);
    }
    plain
}

/// The named values of an enum, or of a list's elements: Ansible names both at the option.
fn choices(schema: &Value) -> Vec<String> {
    let plain = |schema: &Value| strings(&schema["enum"]).map(str::to_owned).collect::<Vec<_>>();
    let of_alternative = |choice: &Value| match choice["const"].as_str() {
        Some(name) => vec![name.to_owned()],
        None => plain(choice),
    };
    let value = if schema["items"].is_object() { &schema["items"] } else { schema };
    plain(value).into_iter().chain(alternatives(value).flat_map(of_alternative)).collect()
}

fn paragraphs(schema: &Value) -> Vec<String> {
    let own = schema["description"].as_str().unwrap_or_default();
    let of_choices = alternatives(schema).chain(alternatives(&schema["items"])).filter_map(|choice| {
        let (name, text) = (choice["const"].as_str()?, choice["description"].as_str()?);
        Some(format!("V({name}): {}", text.replace('\n', " ")))
    });
    own.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).filter(|text| !text.is_empty()).chain(of_choices).collect()
}

/// What schemars makes of an enum with documentation: a schema for each variant, and one for all that have none.
fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    schema["oneOf"].as_array().into_iter().flatten()
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}
