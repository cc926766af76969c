//! Config maps, secrets and namespaces.

use serde_json::Value;

use super::Subject;
use super::text::{Text, list, text};

pub(super) fn config_map(subject: &Subject, out: &mut Text) {
    out.head(&subject.object);
    out.line(0, "\nData\n====");
    for (key, value) in members(&subject.object["data"]) {
        out.line(0, format!("{key}:\n----\n{}\n", text(value)));
    }
    out.line(0, "\nBinaryData\n====");
    for (key, value) in members(&subject.object["binaryData"]) {
        out.line(0, format!("{key}: {} bytes", decoded_length(value)));
    }
    out.line(0, "");
}

pub(super) fn secret(subject: &Subject, out: &mut Text) {
    out.head(&subject.object);
    out.line(0, format!("\nType:  {}", text(&subject.object["type"])));
    out.line(0, "\nData\n====");
    for (key, value) in members(&subject.object["data"]) {
        out.field(0, key, format!("{} bytes", decoded_length(value)));
    }
}

pub(super) fn namespace(subject: &Subject, out: &mut Text) {
    let object = &subject.object;
    out.field(0, "Name", text(&object["metadata"]["name"]));
    out.labels(object);
    out.field(0, "Status", text(&object["status"]["phase"]));
    let conditions = list(&object["status"]["conditions"]);
    if !conditions.is_empty() {
        out.line(0, "Conditions:");
        out.line(1, "Type\tStatus\tReason\tMessage");
        for condition in conditions {
            let cell = |field: &str| text(&condition[field]);
            out.line(
                1,
                format!(
                    "{}\t{}\t{}\t{}",
                    cell("type"),
                    cell("status"),
                    cell("reason"),
                    cell("message")
                ),
            );
        }
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// Bytes behind a base64 text.
fn decoded_length(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}
