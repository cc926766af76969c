//! The body of a watch: one frame per event, in the encoding of the client.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::{ApiError, StoredObject};
use bytes::Bytes;
use codec::{Encoding, Transform};
use serde_json::{Value, json};
use storage::{Watch, WatchEvent};

use crate::body::ResponseBody;
use crate::catalog::Served;
use crate::encodings::EncodingKey;
use crate::respond::{Columns, Form};
use crate::state::State;

struct Running {
    state: Arc<State>,
    served: Arc<Served>,
    watch: Watch,
    form: Form,
    end: Duration,
    columns: Columns,
}

pub(crate) fn stream(
    state: Arc<State>,
    served: Arc<Served>,
    watch: Watch,
    timeout: Duration,
    form: Form,
) -> ResponseBody {
    let end = state.clock().monotonic() + timeout;
    let running = Running {
        state,
        served,
        watch,
        form,
        end,
        columns: Columns::Told,
    };
    ResponseBody::stream(futures_util::stream::unfold(
        Some(running),
        |current| async move {
            let mut running = current?;
            let left = running
                .end
                .saturating_sub(running.state.clock().monotonic());
            let event = env::timeout(left, running.watch.next())
                .await
                .ok()
                .flatten()?;
            let is_last = matches!(event, WatchEvent::Error(_));
            let frame = running
                .frame(&event)
                .unwrap_or_else(|error| running.error(&error));
            running.columns = Columns::Known;
            Some((frame, (!is_last).then_some(running)))
        },
    ))
}

impl Running {
    fn frame(&self, event: &WatchEvent) -> Result<Bytes, ApiError> {
        match event {
            WatchEvent::Added(object) => self.object("ADDED", object),
            WatchEvent::Modified(object) => self.object("MODIFIED", object),
            WatchEvent::Deleted(object) => self.object("DELETED", object),
            WatchEvent::Bookmark {
                revision,
                initial_events_end,
            } => {
                let bookmark = bookmark(&self.served, *revision, *initial_events_end);
                let bytes = if self.form.negotiated.transform == Transform::None {
                    self.form.value_bytes(&bookmark)?
                } else {
                    let bytes = codec::encode_stored(&bookmark);
                    self.form.object_bytes(
                        &self.state,
                        &self.served,
                        &bytes,
                        *revision,
                        self.columns,
                    )?
                };
                Ok(self.envelope("BOOKMARK", &bytes))
            }
            WatchEvent::Error(error) => Ok(self.error(error)),
        }
    }

    /// An object is encoded once for all watchers that want the same form of it.
    fn object(&self, event: &'static str, object: &StoredObject) -> Result<Bytes, ApiError> {
        let encode = || {
            let bytes = self.served.bytes(object)?;
            let encoded = self.form.object_bytes(
                &self.state,
                &self.served,
                &bytes,
                object.revision,
                self.columns,
            )?;
            Ok(self.envelope(event, &encoded))
        };
        // Rows of tables tell ages and columns, which differ between watchers.
        if matches!(self.form.negotiated.transform, Transform::Table(_)) {
            return encode();
        }
        let key = EncodingKey {
            object: object.bytes.clone(),
            revision: object.revision,
            event,
            kind: self.served.description.kind.clone(),
            encoding: self.form.negotiated.encoding,
            transform: self.form.negotiated.transform.clone(),
        };
        self.state.encodings.get_or_make(key, encode)
    }

    fn error(&self, error: &ApiError) -> Bytes {
        let status = error.to_status();
        let form = Form {
            negotiated: codec::Negotiated {
                transform: Transform::None,
                ..self.form.negotiated.clone()
            },
            ..self.form.clone()
        };
        let bytes = form
            .value_bytes(&status)
            .unwrap_or_else(|_unwritable| status.to_string().into_bytes());
        self.envelope("ERROR", &bytes)
    }

    fn envelope(&self, event: &str, object: &[u8]) -> Bytes {
        match self.form.negotiated.encoding {
            Encoding::Protobuf => codec::protobuf::watch_frame(event, object).into(),
            Encoding::Json => codec::json_watch_frame(event, object).into(),
            Encoding::Yaml => {
                let object: Value = codec::parse_yaml(object)
                    .ok()
                    .and_then(|yaml| yaml.document.into_value())
                    .unwrap_or_default();
                let json = json!({"type": event, "object": object}).to_string();
                let mut frame = b"---\n".to_vec();
                frame.extend(codec::json_to_yaml(json.as_bytes()).unwrap_or_default());
                frame.into()
            }
        }
    }
}

/// Upstream sends the zero value of the kind's type, which shows what is always there.
fn bookmark(served: &Served, revision: i64, initial_events_end: bool) -> Value {
    let kind = &served.description.kind;
    let mut object = match served.resource.schema() {
        schema::Node::Type(type_ref) => schema::zero_value(type_ref),
        _ => json!({}),
    };
    object["kind"] = kind.kind.clone().into();
    object["apiVersion"] = kind.api_version().into();
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"]["resourceVersion"] = revision.to_string().into();
    if initial_events_end {
        object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    object
}
