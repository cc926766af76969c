//! Answers from stored bytes without parsing them: what is stored begins `{"kind":…,"apiVersion":…,"metadata":{`,
//! carries no resourceVersion, and gets kind and version put in or left out by copying.

use std::fmt::Write as _;

use serde::Serialize as _;
use serde_json::{Map, Value};

/// Writes a canonical tree in the stored form: kind, apiVersion and metadata first, no resourceVersion.
///
/// A tree without metadata gets an empty one.
pub fn encode_stored(tree: &Value) -> Vec<u8> {
    let empty = Map::new();
    let map = tree.as_object().unwrap_or(&empty);
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    for key in ["kind", "apiVersion"] {
        let text = map.get(key).and_then(Value::as_str).unwrap_or_default();
        write_member(&mut out, key, &Value::from(text));
        out.push(b',');
    }
    out.extend_from_slice(b"\"metadata\":{");
    let metadata = map
        .get("metadata")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    write_members(&mut out, metadata, |key| key != "resourceVersion");
    out.push(b'}');
    let start = out.len();
    out.push(b',');
    write_members(&mut out, map, |key| {
        !matches!(key, "kind" | "apiVersion" | "metadata")
    });
    if out.len() == start + 1 {
        out.pop();
    }
    out.push(b'}');
    out
}

fn write_members(out: &mut Vec<u8>, map: &Map<String, Value>, keep: impl Fn(&str) -> bool) {
    for (index, (key, value)) in map.iter().filter(|(key, _)| keep(key)).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_member(out, key, value);
    }
}

fn write_member(out: &mut Vec<u8>, key: &str, value: &Value) {
    write_json(out, &Value::from(key));
    out.push(b':');
    write_json(out, value);
}

pub(crate) fn write_json(out: &mut Vec<u8>, value: &Value) {
    value
        .serialize(&mut serde_json::Serializer::new(out))
        .expect("a tree is always JSON and memory takes it");
}

const METADATA: &[u8] = b"\"metadata\":{";

/// Where the first member of `metadata` stands. Kinds and versions hold no quotes, so the first match is the one.
fn metadata_start(stored: &[u8]) -> usize {
    let at = stored
        .windows(METADATA.len())
        .position(|window| window == METADATA);
    at.expect("stored objects begin with kind, apiVersion and metadata") + METADATA.len()
}

fn write_with_version(out: &mut Vec<u8>, before: &[u8], after: &[u8], revision: i64) {
    out.reserve(before.len() + after.len() + 40);
    out.extend_from_slice(before);
    if revision == 0 {
        out.extend_from_slice(after);
        return;
    }
    write!(Out(out), "\"resourceVersion\":\"{revision}\"").expect("memory takes it");
    if after.first() != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(after);
}

struct Out<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// The stored object with its resourceVersion: the answer to a get.
pub fn with_resource_version(stored: &[u8], revision: i64) -> Vec<u8> {
    let mut out = Vec::new();
    push_with_resource_version(&mut out, stored, revision);
    out
}

/// Appends the stored object with its resourceVersion.
pub fn push_with_resource_version(out: &mut Vec<u8>, stored: &[u8], revision: i64) {
    let (before, after) = stored.split_at(metadata_start(stored));
    write_with_version(out, before, after, revision);
}

/// Appends the stored object as an item of a built-in list: with its resourceVersion, without kind and apiVersion.
pub fn push_list_item(out: &mut Vec<u8>, stored: &[u8], revision: i64) {
    let after = &stored[metadata_start(stored)..];
    write_with_version(out, b"{\"metadata\":{", after, revision);
}

/// Appends a `PartialObjectMetadata` of the stored object.
pub fn push_partial_metadata(
    out: &mut Vec<u8>,
    stored: &[u8],
    revision: i64,
    version: MetaVersion,
) {
    let start = metadata_start(stored);
    let end = start + object_length(&stored[start..]);
    let before = format!(
        "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/{}\",\"metadata\":{{",
        version.as_str()
    );
    write_with_version(out, before.as_bytes(), &stored[start..end], revision);
    out.push(b'}');
}

/// Length of the rest of an object, its closing brace included.
fn object_length(rest: &[u8]) -> usize {
    let (mut depth, mut in_text, mut escaped) = (1, false, false);
    for (index, byte) in rest.iter().enumerate() {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    rest.len()
}

/// The version of `meta.k8s.io` that a client asked tables and partial metadata in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaVersion {
    V1,
    V1Beta1,
}

impl MetaVersion {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1Beta1 => "v1beta1",
        }
    }
}

/// The metadata of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListMetadata<'a> {
    pub revision: i64,
    /// The token of the next page; `None` on the last.
    pub continue_token: Option<&'a str>,
    pub remaining_item_count: Option<i64>,
}

impl ListMetadata<'_> {
    pub(crate) fn to_json(self) -> String {
        // Lists that are made up on the spot have no revision, and no token or count either.
        if self.revision == 0 {
            return "{}".to_owned();
        }
        let mut text = format!("{{\"resourceVersion\":\"{}\"", self.revision);
        if let Some(token) = self.continue_token {
            write!(text, ",\"continue\":{}", Value::from(token)).expect("a string takes all");
        }
        if let Some(count) = self.remaining_item_count {
            write!(text, ",\"remainingItemCount\":{count}").expect("a string takes all");
        }
        text.push('}');
        text
    }
}

/// How the items of a list look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListItems {
    /// Built-in lists leave out what the list's kind says already.
    BuiltIn,
    /// Custom resources carry kind and apiVersion each.
    Custom,
    /// A `PartialObjectMetadataList`.
    PartialMetadata(MetaVersion),
}

/// A JSON list, put together object by object from stored bytes.
#[derive(Debug)]
pub struct JsonList {
    out: Vec<u8>,
    items: ListItems,
    is_empty: bool,
}

impl JsonList {
    pub fn new(
        kind: &str,
        api_version: &str,
        metadata: &ListMetadata<'_>,
        items: ListItems,
    ) -> Self {
        let head = format!(
            "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[",
            Value::from(kind),
            Value::from(api_version),
            metadata.to_json()
        );
        Self {
            out: head.into_bytes(),
            items,
            is_empty: true,
        }
    }

    /// A list of partial metadata.
    pub fn of_partial_metadata(metadata: &ListMetadata<'_>, version: MetaVersion) -> Self {
        let api_version = format!("meta.k8s.io/{}", version.as_str());
        let items = ListItems::PartialMetadata(version);
        Self::new("PartialObjectMetadataList", &api_version, metadata, items)
    }

    pub fn push(&mut self, stored: &[u8], revision: i64) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        match self.items {
            ListItems::BuiltIn => push_list_item(&mut self.out, stored, revision),
            ListItems::Custom => push_with_resource_version(&mut self.out, stored, revision),
            ListItems::PartialMetadata(version) => {
                push_partial_metadata(&mut self.out, stored, revision, version);
            }
        }
    }

    /// Takes what was written so far, for answers that are sent while they are made.
    pub fn take_written(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.out.extend_from_slice(b"]}\n");
        self.out
    }
}

/// One line of a JSON watch; `object` is a whole object as it is sent.
pub fn json_watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.len() + 40);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object.trim_ascii_end());
    out.extend_from_slice(b"}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stored() -> Vec<u8> {
        encode_stored(&json!({"kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {"name": "a", "annotations": {"b": "}\"{"}, "resourceVersion": "1"},
            "data": {"k": "v"}}))
    }

    #[test]
    fn the_stored_form_begins_as_splicing_needs_it_and_has_no_version() {
        assert_eq!(
            String::from_utf8(stored()).unwrap(),
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"annotations":{"b":"}\"{"},"name":"a"},"data":{"k":"v"}}"#
        );
        assert_eq!(
            encode_stored(&json!({"kind": "A"})),
            br#"{"kind":"A","apiVersion":"","metadata":{}}"#
        );
    }

    #[test]
    fn the_version_is_put_into_the_metadata() {
        let read: Value = serde_json::from_slice(&with_resource_version(&stored(), 7)).unwrap();
        assert_eq!(read["metadata"]["resourceVersion"], "7");
        assert_eq!(
            with_resource_version(br#"{"kind":"A","apiVersion":"v1","metadata":{}}"#, 7),
            br#"{"kind":"A","apiVersion":"v1","metadata":{"resourceVersion":"7"}}"#
        );
    }

    #[test]
    fn a_list_is_its_objects_without_their_kind() {
        let metadata = ListMetadata {
            revision: 9,
            continue_token: Some("x\""),
            remaining_item_count: Some(3),
        };
        let mut list = JsonList::new("ConfigMapList", "v1", &metadata, ListItems::BuiltIn);
        list.push(&stored(), 7);
        list.push(&stored(), 8);
        let item = |revision: &str| {
            json!({"metadata": {"name": "a", "annotations": {"b": "}\"{"},
                                "resourceVersion": revision}, "data": {"k": "v"}})
        };
        assert_eq!(
            serde_json::from_slice::<Value>(&list.finish()).unwrap(),
            json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "9",
                   "continue": "x\"", "remainingItemCount": 3}, "items": [item("7"), item("8")]})
        );
    }

    #[test]
    fn partial_metadata_ends_where_the_metadata_ends() {
        let mut list = JsonList::of_partial_metadata(&ListMetadata::default(), MetaVersion::V1);
        list.push(&stored(), 7);
        let read: Value = serde_json::from_slice(&list.finish()).unwrap();
        assert_eq!(
            read["items"][0],
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                   "metadata": {"name": "a", "annotations": {"b": "}\"{"}, "resourceVersion": "7"}})
        );
    }
}
