//! Reads lists and watches off the wire into stored objects, one object at a time, without making trees of them.

use std::sync::Arc;

use apimachinery::{ApiError, StoredObject};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{ClientError, WatchEvent};

/// The longest line of a watch that is read: an event carries one object.
const EVENT_BYTES_MAX: usize = 16 << 20;

pub(super) struct Page {
    pub(super) items: Vec<StoredObject>,
    pub(super) revision: i64,
    /// Empty on the last page.
    pub(super) next: String,
}

#[derive(Deserialize)]
struct RawList<'a> {
    #[serde(default)]
    kind: String,
    #[serde(rename = "apiVersion", default)]
    api_version: String,
    #[serde(default)]
    metadata: ListMeta,
    // A server written in Go says null for an empty list of some kinds.
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
}

pub(super) fn list_page(body: &[u8]) -> Result<Page, ClientError> {
    let list: RawList<'_> = serde_json::from_slice(body).map_err(malformed)?;
    let kind = list.kind.strip_suffix("List").unwrap_or_default();
    let items = list
        .items
        .unwrap_or_default()
        .into_iter()
        .map(|item| stored(item.get(), kind, &list.api_version))
        .collect::<Result<_, _>>()?;
    Ok(Page {
        items,
        revision: list.metadata.resource_version.parse().unwrap_or(0),
        next: list.metadata.next,
    })
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    resource_version: String,
}

/// An object of a list or an event; items of built-in lists carry no kind of their own and get the list's.
fn stored(json: &str, kind: &str, api_version: &str) -> Result<StoredObject, ClientError> {
    let head: Head = serde_json::from_str(json).map_err(malformed)?;
    let revision = head.metadata.resource_version.parse().unwrap_or(0);
    let bytes: Arc<[u8]> = match json.strip_prefix('{') {
        Some(rest) if head.kind.is_empty() && !kind.is_empty() => {
            format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}",{rest}"#)
                .into_bytes()
                .into()
        }
        _ => json.as_bytes().into(),
    };
    StoredObject::new(bytes, revision).map_err(malformed)
}

/// Cuts the stream of a watch into its lines.
#[derive(Default)]
pub(super) struct Frames {
    partial: Vec<u8>,
}

impl Frames {
    /// The events that are complete with `chunk`.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<Vec<WatchEvent>, ClientError> {
        let mut events = Vec::new();
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            rest = &after[1..];
            if self.partial.is_empty() {
                events.extend(event(line)?);
            } else {
                self.partial.extend_from_slice(line);
                events.extend(event(&self.partial)?);
                self.partial = Vec::new();
            }
        }
        if self.partial.len() + rest.len() > EVENT_BYTES_MAX {
            return Err(ClientError::Malformed(format!(
                "an event of more than {EVENT_BYTES_MAX} bytes"
            )));
        }
        self.partial.extend_from_slice(rest);
        Ok(events)
    }
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

fn event(line: &[u8]) -> Result<Option<WatchEvent>, ClientError> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let raw: RawEvent<'_> = serde_json::from_slice(line).map_err(malformed)?;
    let object = || stored(raw.object.get(), "", "");
    Ok(Some(match raw.kind {
        "ADDED" => WatchEvent::Added(object()?),
        "MODIFIED" => WatchEvent::Modified(object()?),
        "DELETED" => WatchEvent::Deleted(object()?),
        "BOOKMARK" => {
            let head: Head = serde_json::from_str(raw.object.get()).map_err(malformed)?;
            WatchEvent::Bookmark(head.metadata.resource_version.parse().map_err(malformed)?)
        }
        "ERROR" => {
            let status = serde_json::from_str(raw.object.get()).map_err(malformed)?;
            let unnamed = || ApiError::internal("the watch ended with an error that is no Status");
            WatchEvent::Error(ApiError::from_status(&status).unwrap_or_else(unnamed))
        }
        other => {
            return Err(ClientError::Malformed(format!(
                "an event of type {other:?}"
            )));
        }
    }))
}

fn malformed(error: impl std::fmt::Display) -> ClientError {
    ClientError::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_a_list_get_the_kind_of_the_list() {
        let page = list_page(
            br#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7","continue":"t"},
            "items":[{"metadata":{"name":"a","namespace":"b","resourceVersion":"5"}}]}"#,
        )
        .expect("a list");
        assert_eq!((page.revision, page.next.as_str()), (7, "t"));
        let pod = page.items[0].to_object().expect("an object");
        assert_eq!(
            (pod.kind(), pod.api_version(), pod.resource_version()),
            ("Pod", "v1", "5")
        );
    }

    #[test]
    fn an_event_may_be_cut_anywhere() {
        let stream = concat!(
            r#"{"type":"ADDED","object":{"kind":"Pod","metadata":{"name":"a","resourceVersion":"5"}}}"#,
            "\n",
            r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"9"}}}"#,
            "\n",
            r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","reason":"Expired","code":410}}"#,
            "\n"
        );
        for cut in 0..stream.len() {
            let mut frames = Frames::default();
            let mut events = frames.push(&stream.as_bytes()[..cut]).expect("good frames");
            events.extend(frames.push(&stream.as_bytes()[cut..]).expect("good frames"));
            assert!(matches!(
                &events[..],
                [WatchEvent::Added(pod), WatchEvent::Bookmark(9), WatchEvent::Error(error)]
                    if pod.revision == 5 && error.is_expired()
            ));
        }
    }
}
