//! Names for templates: a short hash that is a legal label, and equality that ignores what means nothing.

use serde_json::{Map, Value};

pub(crate) const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// Characters of generated names: no vowels, no look-alikes.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short hash of a template; `collisions` changes it when the name it gave was taken.
pub(crate) fn hash(template: &Value, collisions: i32) -> String {
    let mut text = normal(template).to_string();
    if collisions > 0 {
        text.push_str(&collisions.to_string());
    }
    // FNV-1a: short and stable, as names must be; nothing is protected by it.
    let number = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let digits = number.to_string();
    digits
        .bytes()
        .map(|digit| char::from(SAFE[usize::from(digit) % SAFE.len()]))
        .collect()
}

/// Are two pod templates the same but for the label that carries their hash?
pub(crate) fn equal_templates(one: &Value, other: &Value) -> bool {
    normal(one) == normal(other)
}

/// Without the hash's label and without nulls, empty lists and empty maps, which all mean "not set". Keys come in order.
fn normal(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove(POD_TEMPLATE_HASH);
    }
    significant(&template)
}

pub(crate) fn significant(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut kept: Vec<(&String, Value)> = map
                .iter()
                .map(|(key, value)| (key, significant(value)))
                .filter(|(_, value)| !is_nothing(value))
                .collect();
            kept.sort_by_key(|(key, _)| key.as_str());
            Value::Object(
                kept.into_iter()
                    .map(|(key, value)| (key.clone(), value))
                    .collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(significant).collect()),
        scalar => scalar.clone(),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_differ_by_meaning_only() {
        let one = json!({"metadata": {"creationTimestamp": null, "labels": {"a": "b", "pod-template-hash": "x"}},
            "spec": {"containers": [{"name": "c"}], "volumes": []}});
        let other =
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}});
        assert!(equal_templates(&one, &other));
        assert_eq!(hash(&one, 0), hash(&other, 0));
        assert_ne!(hash(&one, 0), hash(&one, 1));
        let third =
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "d"}]}});
        assert!(!equal_templates(&one, &third));
    }
}
