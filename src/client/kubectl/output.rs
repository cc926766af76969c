//! The forms of output: what `-o` names, and how objects are written in each.

use serde_json::{Value, json};

use crate::catalogue::ResourceKind;
use crate::custom_columns::CustomColumns;
use crate::error::{Error, Result};
use crate::json_path::Template;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Output {
    /// What people read: tables of `get`, one line of everything else.
    Human,
    Wide,
    Json,
    Yaml,
    Name,
    JsonPath(Template),
    CustomColumns(CustomColumns),
}

impl Output {
    pub(crate) fn parse(text: Option<&str>) -> Result<Self> {
        let text = text.unwrap_or_default();
        let (form, argument) = match text.split_once('=') {
            Some((form, argument)) => (form, Some(argument)),
            None => (text, None),
        };
        match (form, argument) {
            ("", None) => Ok(Self::Human),
            ("wide", None) => Ok(Self::Wide),
            ("json", None) => Ok(Self::Json),
            ("yaml", None) => Ok(Self::Yaml),
            ("name", None) => Ok(Self::Name),
            ("jsonpath", Some(template)) => jsonpath(template),
            ("jsonpath-file", Some(file)) => jsonpath(read(file)?.trim_end()),
            ("custom-columns", Some(columns)) => {
                CustomColumns::parse(columns).map(Self::CustomColumns)
            }
            ("custom-columns-file", Some(file)) => {
                CustomColumns::parse_file(&read(file)?).map(Self::CustomColumns)
            }
            ("jsonpath" | "custom-columns" | "jsonpath-file" | "custom-columns-file", None) => Err(
                Error::usage(format!("{form} format specified but no template given")),
            ),
            ("go-template" | "go-template-file" | "template" | "templatefile", _) => {
                Err(Error::usage(format!(
                    "{form} is not built in: use jsonpath or custom-columns"
                )))
            }
            _ => Err(Error::usage(format!(
                "unable to match a printer suitable for the output format {text:?}, allowed formats are: \
                 custom-columns,custom-columns-file,json,jsonpath,jsonpath-file,name,wide,yaml"
            ))),
        }
    }

    /// Whether the server's own tables are shown.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self, Self::Human | Self::Wide)
    }
}

fn jsonpath(template: &str) -> Result<Output> {
    let template = if template.contains('{') {
        template.to_owned()
    } else {
        format!("{{{template}}}")
    };
    Template::parse(&template)
        .map(Output::JsonPath)
        .map_err(|why| Error::usage(format!("error parsing jsonpath {template}, {why}")))
}

fn read(file: &str) -> Result<String> {
    std::fs::read_to_string(file)
        .map_err(|error| Error::usage(format!("error reading template {file}, {error}")))
}

/// One object, or a list of them, as text. Only for forms that are no table.
pub(crate) fn render(output: &Output, value: &Value, label: &str) -> String {
    match output {
        Output::Json => json_text(value),
        Output::Yaml => yaml::write(value),
        Output::JsonPath(template) => template.render(value),
        Output::CustomColumns(columns) => columns.render(value),
        Output::Human | Output::Wide | Output::Name => format!("{label}\n"),
    }
}

/// What a command that changed an object says: `deployment.apps/x scaled`, or the object in the form asked for.
pub(crate) fn changed(output: &Output, kind: &ResourceKind, object: &Value, done: &str) -> String {
    let label = kind.label(object["metadata"]["name"].as_str().unwrap_or_default());
    match output {
        Output::Human | Output::Wide => format!("{label} {done}\n"),
        other => render(other, &shown(object.clone()), &label),
    }
}

/// An object without the lines that only server-side apply reads.
pub(crate) fn shown(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

/// Several objects as one.
pub(crate) fn list(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
}

/// JSON with four spaces, and with `<`, `>` and `&` escaped as Go does.
pub(crate) fn json_text(value: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(value, &mut serializer).expect("a tree of JSON can be written");
    let text = String::from_utf8(bytes).expect("JSON is UTF-8");
    let text = text
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026");
    text + "\n"
}
