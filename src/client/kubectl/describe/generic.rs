//! Any object: its fields by name, one below the other.

use serde_json::Value;

use super::Subject;
use super::text::{Text, text};

/// Metadata that the head has said, or that says nothing to people.
const METADATA_SAID: [&str; 5] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "managedFields",
];

pub(super) fn describe(subject: &Subject, out: &mut Text) {
    let object = &subject.object;
    out.head(object);
    out.field(0, "API Version", text(&object["apiVersion"]));
    out.field(0, "Kind", text(&object["kind"]));
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                out.line(0, "Metadata:");
                let rest = value.as_object().into_iter().flatten();
                for (key, value) in rest.filter(|(key, _)| !METADATA_SAID.contains(&key.as_str())) {
                    member(key, value, 1, out);
                }
            }
            _ => member(key, value, 0, out),
        }
    }
}

fn member(key: &str, value: &Value, depth: usize, out: &mut Text) {
    let label = label(key);
    match value {
        Value::Object(members) => {
            out.line(depth, format!("{label}:"));
            for (key, value) in members {
                member(key, value, depth + 1, out);
            }
        }
        Value::Array(items) => {
            out.line(depth, format!("{label}:"));
            for item in items {
                match item {
                    Value::Object(members) => {
                        for (key, value) in members {
                            member(key, value, depth + 1, out);
                        }
                    }
                    scalar => out.line(depth + 1, text(scalar)),
                }
            }
        }
        scalar => out.field(depth, &label, text(scalar)),
    }
}

/// `podCIDRs` reads `Pod CID Rs` in no good language: capitals that follow each other stay together.
fn label(key: &str) -> String {
    let characters: Vec<char> = key.chars().collect();
    if !characters.iter().all(char::is_ascii_alphanumeric) {
        return key.to_owned();
    }
    let mut label = String::new();
    for (index, character) in characters.iter().enumerate() {
        let begins_word = character.is_ascii_uppercase()
            && index > 0
            && (!characters[index - 1].is_ascii_uppercase()
                || characters
                    .get(index + 1)
                    .is_some_and(char::is_ascii_lowercase));
        if begins_word {
            label.push(' ');
        }
        label.push(if index == 0 {
            character.to_ascii_uppercase()
        } else {
            *character
        });
    }
    label
}
