//! The last few events as they were written for watchers, so that many watchers of one change cost one encoding.

use std::collections::VecDeque;
use std::sync::Arc;

use apimachinery::{ApiError, GroupVersionKind};
use bytes::Bytes;
use codec::{Encoding, Transform};
use parking_lot::Mutex;

/// Encoded events that are kept.
const EVENTS_MAX: usize = 64;
/// Their bytes together.
const BYTES_MAX: usize = 1024 * 1024;

/// Which event in which form.
#[derive(Clone, Debug)]
pub(crate) struct EncodingKey {
    pub(crate) object: Arc<[u8]>,
    pub(crate) revision: i64,
    pub(crate) event: &'static str,
    pub(crate) kind: GroupVersionKind,
    pub(crate) encoding: Encoding,
    pub(crate) transform: Transform,
}

impl EncodingKey {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.object, &other.object)
            && self.revision == other.revision
            && self.event == other.event
            && self.encoding == other.encoding
            && self.transform == other.transform
            && self.kind == other.kind
    }
}

#[derive(Debug, Default)]
pub(crate) struct Encodings(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<(EncodingKey, Bytes)>,
    bytes: usize,
}

impl Encodings {
    pub(crate) fn get_or_make(
        &self,
        key: EncodingKey,
        make: impl FnOnce() -> Result<Bytes, ApiError>,
    ) -> Result<Bytes, ApiError> {
        if let Some((_, bytes)) = self
            .0
            .lock()
            .events
            .iter()
            .rev()
            .find(|(kept, _)| kept.is(&key))
        {
            return Ok(bytes.clone());
        }
        let bytes = make()?;
        self.0.lock().keep(key, bytes.clone());
        Ok(bytes)
    }
}

impl Kept {
    fn keep(&mut self, key: EncodingKey, bytes: Bytes) {
        if bytes.len() > BYTES_MAX {
            return;
        }
        self.bytes += bytes.len();
        self.events.push_back((key, bytes));
        while self.events.len() > EVENTS_MAX || self.bytes > BYTES_MAX {
            let Some((_, oldest)) = self.events.pop_front() else {
                return;
            };
            self.bytes -= oldest.len();
        }
    }
}
