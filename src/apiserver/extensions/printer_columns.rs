//! The columns that a definition adds to the table of its resources.

use apimachinery::Object;
use env::Timestamp;
use registry::{ColumnDefinition, human_duration};
use serde_json::Value;

use crate::definition::{PrinterColumn, Version};
use crate::json_path::JsonPath;

#[derive(Debug)]
pub(crate) struct PrintedColumn {
    definition: ColumnDefinition,
    path: Option<JsonPath>,
}

const NAME_TEXT: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const AGE_TEXT: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The columns of a version, behind the name; a version that names none has its age.
pub(crate) fn columns_of(version: &Version) -> Vec<PrintedColumn> {
    let age = [PrinterColumn {
        name: "Age".to_owned(),
        kind: "date".to_owned(),
        description: AGE_TEXT.to_owned(),
        json_path: ".metadata.creationTimestamp".to_owned(),
        ..PrinterColumn::default()
    }];
    let stated = &version.additional_printer_columns;
    let columns = if stated.is_empty() {
        age.as_slice()
    } else {
        stated.as_slice()
    };
    columns
        .iter()
        .map(|column| {
            let description = if column.description.is_empty() {
                format!(
                    "Custom resource definition column (in JSONPath format): {}",
                    column.json_path
                )
            } else {
                column.description.clone()
            };
            PrintedColumn {
                definition: ColumnDefinition {
                    name: column.name.clone().into(),
                    kind: column.kind.clone().into(),
                    format: column.format.clone().into(),
                    description: description.into(),
                    priority: column.priority,
                },
                path: JsonPath::parse(&column.json_path),
            }
        })
        .collect()
}

/// The heads of all columns.
pub(crate) fn definitions(columns: &[PrintedColumn]) -> Vec<ColumnDefinition> {
    let name = ColumnDefinition {
        name: "Name".into(),
        kind: "string".into(),
        format: "name".into(),
        description: NAME_TEXT.into(),
        priority: 0,
    };
    std::iter::once(name)
        .chain(columns.iter().map(|column| column.definition.clone()))
        .collect()
}

/// The cells of one object.
pub(crate) fn row(columns: &[PrintedColumn], object: &Object, now: Timestamp) -> Vec<Value> {
    let tree = Value::Object(object.0.clone());
    let cells = columns.iter().map(|column| {
        let found = column
            .path
            .as_ref()
            .and_then(|path| path.find(&tree).into_iter().next().cloned());
        found.map_or(Value::Null, |value| {
            cell(&column.definition.kind, value, now)
        })
    });
    std::iter::once(Value::String(object.name().to_owned()))
        .chain(cells)
        .collect()
}

fn cell(kind: &str, value: Value, now: Timestamp) -> Value {
    match (kind, value) {
        ("integer", Value::Number(number)) =>
        {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "upstream cuts fractions of integer columns off"
            )]
            number
                .as_i64()
                .or_else(|| number.as_f64().map(|float| float as i64))
                .map_or(Value::Null, Value::from)
        }
        ("number", value @ Value::Number(_))
        | ("boolean", value @ Value::Bool(_))
        | ("string", value @ Value::String(_)) => value,
        (
            "string",
            value @ (Value::Number(_) | Value::Bool(_) | Value::Array(_) | Value::Object(_)),
        ) => value.to_string().into(),
        ("date", Value::String(text)) => match Timestamp::parse(&text) {
            Some(time) => human_duration(now.saturating_since(time).as_secs()).into(),
            None => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}
