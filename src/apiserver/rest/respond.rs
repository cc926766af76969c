//! Writes answers in the form the client asked for.

use std::sync::Arc;

use apimachinery::{ApiError, StoredObject};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::{Value, json};
use storage::{List, WatchEvent, with_resource_version};

use crate::answer::Answer;
use crate::body::ResponseBody;
use crate::catalog::{Origin, Served};
use crate::filters::{Incoming, Response};
use crate::request_info::RequestInfo;
use crate::state::State;

/// What the client can read.
#[derive(Clone, Debug)]
pub(crate) struct Accept(String);

impl Accept {
    pub(crate) fn of(request: &Incoming) -> Self {
        Self(request.header("accept").to_owned())
    }
}

pub(crate) fn encode(
    state: &Arc<State>,
    _info: &RequestInfo,
    _accept: &Accept,
    answer: Result<Answer, ApiError>,
    warnings: &[String],
) -> Response {
    let written = answer.and_then(|answer| write(state, answer));
    let mut response = written.unwrap_or_else(|error| failure(&error));
    for warning in warnings {
        let text = format!("299 - \"{}\"", warning.replace('\\', "\\\\").replace('"', "\\\""));
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().append(HeaderName::from_static("warning"), value);
        }
    }
    response
}

fn write(state: &Arc<State>, answer: Answer) -> Result<Response, ApiError> {
    Ok(match answer {
        Answer::Object { code, served, object } => json_response(code, object_json(&served, &object)?),
        Answer::Value { code, value, .. } => json_response(code, value.to_string()),
        Answer::List { served, list } => json_response(200, list_json(&served, &list)?),
        Answer::Watch { served, watch, timeout } => watch_response(state, served, *watch, timeout),
        Answer::Written(response) => response,
    })
}

pub(crate) fn json_response(code: u16, body: impl Into<Bytes>) -> Response {
    response(code, "application/json", ResponseBody::whole(body))
}

pub(crate) fn text_response(code: u16, body: impl Into<Bytes>) -> Response {
    let mut response = response(code, "text/plain; charset=utf-8", ResponseBody::whole(body));
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(http::header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

pub(crate) fn response(code: u16, content_type: &'static str, body: ResponseBody) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
        .headers_mut()
        .insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

pub(crate) fn failure(error: &ApiError) -> Response {
    let mut response = json_response(error.code, error.to_status().to_string());
    let retry = error.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry > 0 {
        response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(retry));
    }
    response
}

fn object_json(served: &Served, object: &StoredObject) -> Result<Vec<u8>, ApiError> {
    let bytes = served.bytes(object)?;
    let mut out = Vec::with_capacity(bytes.len() + 40);
    with_resource_version(&mut out, &bytes, object.revision, false);
    Ok(out)
}

fn list_json(served: &Served, list: &List) -> Result<Vec<u8>, ApiError> {
    let size: usize = list.items.iter().map(|item| item.bytes.len() + 40).sum();
    let mut out = Vec::with_capacity(size + 200);
    let head = json!({"kind": served.description.list_kind, "apiVersion": served.description.kind.api_version()});
    let head = head.to_string();
    out.extend_from_slice(&head.as_bytes()[..head.len() - 1]);
    out.extend_from_slice(b",\"metadata\":");
    out.extend_from_slice(list_metadata(list).to_string().as_bytes());
    out.extend_from_slice(b",\"items\":[");
    let from_metadata = served.origin == Origin::BuiltIn;
    for (at, item) in list.items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        with_resource_version(&mut out, &*served.bytes(item)?, item.revision, from_metadata);
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}

fn list_metadata(list: &List) -> Value {
    let mut metadata = json!({"resourceVersion": list.revision.to_string()});
    if let Some(token) = &list.continue_token {
        metadata["continue"] = token.encode().into();
    }
    if let Some(remaining) = list.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    metadata
}

fn watch_response(
    state: &Arc<State>,
    served: Arc<Served>,
    watch: storage::Watch,
    timeout: std::time::Duration,
) -> Response {
    let clock = state.clock().clone();
    let end = clock.monotonic() + timeout;
    let stream = futures_util::stream::unfold(Some((watch, served)), move |current| {
        let clock = clock.clone();
        async move {
            let (mut watch, served) = current?;
            let left = end.saturating_sub(clock.monotonic());
            let event = env::timeout(left, watch.next()).await.ok().flatten()?;
            let is_last = matches!(event, WatchEvent::Error(_));
            let line = event_json(&served, &event).unwrap_or_else(|error| error_event(&error));
            Some((Bytes::from(line), (!is_last).then_some((watch, served))))
        }
    });
    response(200, "application/json", ResponseBody::stream(stream))
}

fn error_event(error: &ApiError) -> Vec<u8> {
    let mut line = json!({"type": "ERROR", "object": error.to_status()}).to_string().into_bytes();
    line.push(b'\n');
    line
}

fn event_json(served: &Served, event: &WatchEvent) -> Result<Vec<u8>, ApiError> {
    let (kind, object) = match event {
        WatchEvent::Added(object) => ("ADDED", object),
        WatchEvent::Modified(object) => ("MODIFIED", object),
        WatchEvent::Deleted(object) => ("DELETED", object),
        WatchEvent::Bookmark { revision, initial_events_end } => {
            return Ok(bookmark(served, *revision, *initial_events_end));
        }
        WatchEvent::Error(error) => return Ok(error_event(error)),
    };
    let bytes = served.bytes(object)?;
    let mut line = Vec::with_capacity(bytes.len() + 80);
    line.extend_from_slice(format!("{{\"type\":\"{kind}\",\"object\":").as_bytes());
    with_resource_version(&mut line, &bytes, object.revision, false);
    line.extend_from_slice(b"}\n");
    Ok(line)
}

fn bookmark(served: &Served, revision: i64, initial_events_end: bool) -> Vec<u8> {
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if initial_events_end {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    let kind = &served.description.kind;
    let mut object = json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata});
    if let schema::Node::Type(type_ref) = served.resource.schema() {
        // Upstream sends the zero value of the type, which shows what is always there.
        let mut zero = schema::zero_value(type_ref);
        for key in ["kind", "apiVersion", "metadata"] {
            let value = object[key].take();
            match (key, zero.get_mut("metadata").filter(|zero| zero.is_object())) {
                ("metadata", Some(zero)) => json_merge(zero, value),
                _ => zero[key] = value,
            }
        }
        object = zero;
    }
    let mut line = json!({"type": "BOOKMARK", "object": object}).to_string().into_bytes();
    line.push(b'\n');
    line
}

fn json_merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
