//! `create configmap`: texts go to `data`, everything else to `binaryData`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Map, Value, json};

use super::sources::Sources;
use crate::error::Result;

#[derive(Args)]
pub(super) struct ConfigMap {
    name: String,
    #[command(flatten)]
    sources: Sources,
}

impl ConfigMap {
    pub(super) fn object(&self) -> Result<Value> {
        let mut object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": self.name}});
        let (mut data, mut binary) = (Map::new(), Map::new());
        for (key, value) in self.sources.read()? {
            match String::from_utf8(value) {
                Ok(text) => data.insert(key, text.into()),
                Err(error) => binary.insert(key, STANDARD.encode(error.as_bytes()).into()),
            };
        }
        for (field, values) in [("data", data), ("binaryData", binary)] {
            if !values.is_empty() {
                object[field] = values.into();
            }
        }
        Ok(object)
    }
}
