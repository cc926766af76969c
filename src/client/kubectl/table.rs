//! Tables as the server sends them, and how they are set on a screen.

use serde_json::{Value, json};

use crate::catalogue::ResourceKind;
use crate::output::Output;

/// What a client asks for to be sent tables.
pub(crate) const TABLES: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    name: String,
    /// Above 0 only in wide output.
    priority: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    cells: Vec<Value>,
    /// The object or its metadata.
    pub(crate) object: Value,
}

/// What beside the server's cells is shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) is_wide: bool,
    pub(crate) with_headers: bool,
    pub(crate) with_namespace: bool,
    /// Names are `kind/name`.
    pub(crate) with_kind: bool,
    pub(crate) all_labels: bool,
    pub(crate) label_columns: Vec<String>,
}

impl Layout {
    pub(crate) fn new(output: &Output) -> Self {
        Self {
            is_wide: matches!(output, Output::Wide),
            with_headers: true,
            ..Self::default()
        }
    }
}

impl Table {
    /// The table in an answer, or a plain one made of the objects of an answer that is none.
    pub(crate) fn of_answer(answer: &Value) -> Self {
        if answer["kind"] == "Table" {
            return Self {
                columns: list(&answer["columnDefinitions"])
                    .iter()
                    .map(column)
                    .collect(),
                rows: list(&answer["rows"]).iter().map(row).collect(),
            };
        }
        let objects = match answer["items"].as_array() {
            Some(items) => items.iter().collect(),
            None => vec![answer],
        };
        let plain = |name: &str| Column {
            name: name.to_owned(),
            priority: 0,
        };
        Self {
            columns: vec![plain("Name"), plain("Created At")],
            rows: objects.into_iter().map(plain_row).collect(),
        }
    }

    /// The lines with tabs between their cells.
    pub(crate) fn lines(&self, kind: &ResourceKind, layout: &Layout) -> Vec<String> {
        let shown: Vec<bool> = self
            .columns
            .iter()
            .map(|column| column.priority == 0 || layout.is_wide)
            .collect();
        let mut lines = Vec::new();
        if layout.with_headers && !self.columns.is_empty() {
            lines.push(self.header(&shown, layout));
        }
        lines.extend(self.rows.iter().map(|row| row.line(&shown, kind, layout)));
        lines
    }

    fn header(&self, shown: &[bool], layout: &Layout) -> String {
        let mut cells = Vec::new();
        if layout.with_namespace {
            cells.push("NAMESPACE".to_owned());
        }
        let columns = self.columns.iter().zip(shown).filter(|(_, shown)| **shown);
        cells.extend(columns.map(|(column, _)| column.name.to_uppercase()));
        // A label's column is named by the part behind its prefix.
        let labels = layout.label_columns.iter();
        cells.extend(labels.map(|key| key.rsplit('/').next().unwrap_or(key).to_uppercase()));
        if layout.all_labels {
            cells.push("LABELS".to_owned());
        }
        cells.join("\t")
    }
}

impl Row {
    fn line(&self, shown: &[bool], kind: &ResourceKind, layout: &Layout) -> String {
        let metadata = &self.object["metadata"];
        let mut cells = Vec::new();
        if layout.with_namespace {
            cells.push(
                metadata["namespace"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            );
        }
        for (index, cell) in self.cells.iter().enumerate() {
            if shown.get(index) != Some(&true) {
                continue;
            }
            let text = cell_text(cell);
            cells.push(if index == 0 && layout.with_kind {
                kind.label(&text)
            } else {
                text
            });
        }
        let labels = &metadata["labels"];
        for key in &layout.label_columns {
            cells.push(labels[key.as_str()].as_str().unwrap_or_default().to_owned());
        }
        if layout.all_labels {
            cells.push(labels_text(labels));
        }
        cells.join("\t")
    }
}

fn column(definition: &Value) -> Column {
    Column {
        name: definition["name"].as_str().unwrap_or_default().to_owned(),
        priority: definition["priority"].as_i64().unwrap_or(0),
    }
}

fn row(row: &Value) -> Row {
    Row {
        cells: list(&row["cells"]).to_vec(),
        object: row["object"].clone(),
    }
}

fn plain_row(object: &Value) -> Row {
    let metadata = &object["metadata"];
    let cells = vec![
        json!(metadata["name"]),
        json!(metadata["creationTimestamp"]),
    ];
    Row {
        cells,
        object: object.clone(),
    }
}

/// A cell is one line: what follows a line break is cut off.
fn cell_text(cell: &Value) -> String {
    let text = match cell {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let text = match text.find(['\n', '\r', '\u{c}']) {
        Some(at) => format!("{}...", &text[..at]),
        None => text,
    };
    text.replace('\t', "\\t").replace('\u{1b}', "^[")
}

/// `a=1,b=2`, or `<none>`.
pub(crate) fn labels_text(labels: &Value) -> String {
    let labels = labels.as_object().into_iter().flatten();
    let pairs: Vec<String> = labels
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() {
        "<none>".to_owned()
    } else {
        pairs.join(",")
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
