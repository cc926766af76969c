//! The form of objects at rest: JSON that begins with kind, apiVersion and metadata, without a resourceVersion.

use std::sync::Arc;

use apimachinery::Object;
use serde_json::Value;

/// What stands before the first member of metadata is found by this text; nothing before it can contain it, because kind
/// and apiVersion are checked against the resource.
const METADATA: &[u8] = b"\"metadata\":{";

/// The bytes of an object, ready to be stored.
pub fn object_bytes(object: &Object) -> Arc<[u8]> {
    let mut bytes = Vec::with_capacity(512);
    bytes.extend_from_slice(b"{\"kind\":");
    write(&mut bytes, &Value::from(object.kind()));
    bytes.extend_from_slice(b",\"apiVersion\":");
    write(&mut bytes, &Value::from(object.api_version()));
    bytes.extend_from_slice(b",\"metadata\":{");
    let mut first = true;
    for (key, value) in object.metadata().into_iter().flatten().filter(|(key, _)| *key != "resourceVersion") {
        member(&mut bytes, key, value, &mut first);
    }
    bytes.push(b'}');
    let mut first = false;
    for (key, value) in &object.0 {
        if !matches!(key.as_str(), "kind" | "apiVersion" | "metadata") {
            member(&mut bytes, key, value, &mut first);
        }
    }
    bytes.push(b'}');
    bytes.into()
}

fn member(bytes: &mut Vec<u8>, key: &str, value: &Value, first: &mut bool) {
    if !std::mem::take(first) {
        bytes.push(b',');
    }
    write(bytes, &Value::from(key));
    bytes.push(b':');
    write(bytes, value);
}

fn write(bytes: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(bytes, value).expect("a tree is always JSON, and a vector takes all of it");
}

/// Splits stored bytes at the place where the resourceVersion goes.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.windows(METADATA.len()).position(|window| window == METADATA)? + METADATA.len();
    Some(bytes.split_at(at))
}

/// Appends an object with its resourceVersion spliced in. Items of lists of built-in kinds go without kind and apiVersion:
/// `from_metadata` leaves them out.
pub fn with_resource_version(out: &mut Vec<u8>, bytes: &[u8], revision: i64, from_metadata: bool) {
    let Some((head, tail)) = split(bytes) else {
        out.extend_from_slice(bytes);
        return;
    };
    if from_metadata {
        out.push(b'{');
        out.extend_from_slice(METADATA);
    } else {
        out.extend_from_slice(head);
    }
    out.extend_from_slice(b"\"resourceVersion\":\"");
    out.extend_from_slice(revision.to_string().as_bytes());
    out.push(b'"');
    if tail.first() != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(tail);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_begin_with_the_type_and_take_a_resource_version() {
        let object = serde_json::json!({"apiVersion": "v1", "data": {"a": "\"metadata\":{"}, "kind": "ConfigMap",
            "metadata": {"name": "n", "resourceVersion": "3"}});
        let bytes = object_bytes(&Object::from_value(object).expect("an object"));
        assert!(bytes.starts_with(b"{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"n\"}"));
        let mut out = Vec::new();
        with_resource_version(&mut out, &bytes, 9, false);
        let read = Object::from_slice(&out).expect("JSON");
        assert_eq!(read.resource_version(), "9");
        out.clear();
        with_resource_version(&mut out, &bytes, 9, true);
        assert!(Object::from_slice(&out).expect("JSON").kind().is_empty());
    }
}
