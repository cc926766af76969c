//! The lines of a description: names, a tab, values; set in columns at the end.

use std::fmt::Write as _;

use serde_json::Value;

use crate::tab_writer::{DESCRIPTION, align};

const INDENT: &str = "  ";

#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn finish(self) -> String {
        align(&self.0, DESCRIPTION)
    }

    /// A line as it is, `depth` steps in.
    pub(super) fn line(&mut self, depth: usize, line: impl AsRef<str>) {
        for _ in 0..depth {
            self.0.push_str(INDENT);
        }
        self.0.push_str(line.as_ref());
        self.0.push('\n');
    }

    /// `Name:\tvalue`.
    pub(super) fn field(&mut self, depth: usize, name: &str, value: impl AsRef<str>) {
        self.line(depth, format!("{name}:\t{}", value.as_ref()));
    }

    /// A field that is left out when there is nothing to say.
    pub(super) fn field_if(&mut self, depth: usize, name: &str, value: impl AsRef<str>) {
        if !value.as_ref().is_empty() {
            self.field(depth, name, value);
        }
    }

    /// Labels, annotations: one pair a line behind the name.
    pub(super) fn map(&mut self, depth: usize, name: &str, map: &Value, separator: &str) {
        let pairs = pairs(map, separator);
        if pairs.is_empty() {
            return self.field(depth, name, "<none>");
        }
        for (index, pair) in pairs.iter().enumerate() {
            match index {
                0 => self.field(depth, name, pair),
                _ => self.line(depth, format!("\t{pair}")),
            }
        }
    }

    /// A name alone, and values below it.
    pub(super) fn block(&mut self, depth: usize, name: &str, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        self.line(depth, format!("{name}:"));
        for line in lines {
            self.line(depth + 1, line);
        }
    }

    /// Name, namespace, labels and annotations.
    pub(super) fn head(&mut self, object: &Value) {
        let metadata = &object["metadata"];
        self.field(0, "Name", text(&metadata["name"]));
        self.field_if(0, "Namespace", text(&metadata["namespace"]));
        self.labels(object);
    }

    pub(super) fn labels(&mut self, object: &Value) {
        self.map(0, "Labels", &object["metadata"]["labels"], "=");
        self.map(0, "Annotations", &object["metadata"]["annotations"], ": ");
    }

    /// Type and status of each condition.
    pub(super) fn conditions(&mut self, conditions: &Value) {
        if list(conditions).is_empty() {
            return;
        }
        self.line(0, "Conditions:");
        self.line(1, "Type\tStatus");
        for condition in list(conditions) {
            self.line(
                1,
                format!(
                    "{} \t{} ",
                    text(&condition["type"]),
                    text(&condition["status"])
                ),
            );
        }
    }
}

/// The text of a value; empty for nothing.
pub(super) fn text(value: &Value) -> String {
    crate::json_path::text_of(value)
}

/// The text of a value, or `<none>`.
pub(super) fn text_or_none(value: &Value) -> String {
    or_none(text(value))
}

pub(super) fn or_none(text: String) -> String {
    if text.is_empty() {
        "<none>".to_owned()
    } else {
        text
    }
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn pairs(map: &Value, separator: &str) -> Vec<String> {
    let members = map.as_object().into_iter().flatten();
    members
        .map(|(key, value)| {
            let mut pair = String::new();
            write!(pair, "{key}{separator}{}", text(value).replace('\n', "\\n"))
                .expect("writing to a string does not fail");
            pair
        })
        .collect()
}

/// `Kind/name` of the owner that controls an object.
pub(super) fn controller(object: &Value) -> String {
    let owners = list(&object["metadata"]["ownerReferences"]);
    let owner = owners.iter().find(|owner| owner["controller"] == true);
    owner
        .map(|owner| format!("{}/{}", text(&owner["kind"]), text(&owner["name"])))
        .unwrap_or_default()
}
