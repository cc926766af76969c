//! Updates that say nothing but that somebody was there: they are worthless after a crash, and an idle cluster writes little else.

use apimachinery::Object;
use serde_json::Value;

/// A path into an object, in which [`EVERY`] is every item of a list.
type Path = &'static [&'static str];

const EVERY: &str = "*";

/// Whether `object` differs from `old` in nothing but the fields at `heartbeats`.
pub(crate) fn is_all(object: &Object, old: &Object, heartbeats: &[Path]) -> bool {
    !heartbeats.is_empty() && without(object, heartbeats) == without(old, heartbeats)
}

fn without(object: &Object, paths: &[Path]) -> Value {
    let mut value = object.clone().into_value();
    for path in paths {
        remove(&mut value, path);
    }
    value
}

fn remove(value: &mut Value, path: &[&str]) {
    match (path, value) {
        ([field], Value::Object(fields)) => drop(fields.remove(*field)),
        ([EVERY, rest @ ..], Value::Array(items)) => {
            items.iter_mut().for_each(|item| remove(item, rest));
        }
        ([field, rest @ ..], Value::Object(fields)) => {
            if let Some(inner) = fields.get_mut(*field) {
                remove(inner, rest);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PATHS: &[Path] = &[&["status", "conditions", "*", "at"]];

    fn node(conditions: &Value, images: &Value) -> Object {
        let status = json!({"conditions": conditions, "images": images});
        Object::from_value(json!({"kind": "Node", "status": status})).expect("an object")
    }

    #[test]
    fn only_what_stands_at_the_paths_may_differ() {
        let (nothing, one) = (json!([]), json!([{"type": "Ready", "at": 1}]));
        let old = node(&one, &nothing);
        let later = node(&json!([{"type": "Ready", "at": 2}]), &nothing);
        assert!(is_all(&later, &old, PATHS));
        assert!(!is_all(&later, &old, &[]), "of a kind without heartbeats");
        for other in [
            node(
                &json!([{"type": "Ready", "at": 2, "status": "True"}]),
                &nothing,
            ),
            node(
                &json!([{"type": "Ready", "at": 1}, {"type": "Disk"}]),
                &nothing,
            ),
            node(&one, &json!([{"at": 1}])),
        ] {
            assert!(!is_all(&other, &old, PATHS), "{other:?}");
        }
    }
}
