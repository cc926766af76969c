//! The descriptions of the built-in kinds: texts for people, unpacked when a document is made and dropped with it.

use std::collections::HashMap;
use std::io::Read as _;

#[cfg(feature = "descriptions")]
static BLOB: &[u8] = include_bytes!("descriptions.gz");
/// A developer's build does without.
#[cfg(not(feature = "descriptions"))]
static BLOB: &[u8] = &[];

/// The descriptions of models and of their fields.
#[derive(Debug, Default)]
pub struct Descriptions(HashMap<String, HashMap<String, String>>);

impl Descriptions {
    /// Unpacks the descriptions that were built in; `None` if there are none.
    pub fn read() -> Option<Self> {
        if BLOB.is_empty() {
            return None;
        }
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(BLOB)
            .read_to_end(&mut text)
            .ok()?;
        serde_json::from_slice(&text).ok().map(Self)
    }

    /// The description of a field of a model such as `io.k8s.api.core.v1.PodSpec`; "" asks for the model's own.
    pub fn describe(&self, model: &str, field: &str) -> Option<&str> {
        self.0.get(model)?.get(field).map(String::as_str)
    }
}
