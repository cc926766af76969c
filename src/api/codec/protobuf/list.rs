//! A protobuf list, put together object by object.

use schema::{Document, TypeRef};

use super::encode::{encode_document, encode_message};
use super::{ProtobufError, seal};
use crate::splice::ListMetadata;

/// Collects the items of a list: each is turned from stored JSON into protobuf and appended.
#[derive(Debug)]
pub struct ProtobufList {
    item_type: TypeRef,
    message: Vec<u8>,
}

impl ProtobufList {
    /// Begins a list; every list type has its metadata as field 1 and its items as field 2.
    pub fn new(metadata: &ListMetadata<'_>, item_type: TypeRef) -> Result<Self, ProtobufError> {
        let json = metadata.to_json();
        let document = Document::parse(json.as_bytes())
            .map_err(|error| ProtobufError::NoJson(error.to_string()))?;
        let list_meta = schema::built_in("meta.k8s.io", "v1", "ListMeta")
            .expect("every list has this type of metadata");
        let mut list = Self {
            item_type,
            message: Vec::new(),
        };
        list.field(1, &encode_document(&document, list_meta)?);
        Ok(list)
    }

    /// Appends a stored object, whose version goes into its metadata.
    pub fn push(&mut self, stored: &[u8], revision: i64) -> Result<(), ProtobufError> {
        let json = crate::splice::with_resource_version(stored, revision);
        let item = encode_message(&json, self.item_type)?;
        self.field(2, &item);
        Ok(())
    }

    pub fn finish(self, api_version: &str, kind: &str) -> Vec<u8> {
        seal(api_version, kind, &self.message)
    }

    fn field(&mut self, tag: u8, content: &[u8]) {
        self.message.push(tag << 3 | super::wire::LENGTH);
        let mut rest = content.len();
        while rest >= 0x80 {
            self.message
                .push(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
            rest >>= 7;
        }
        self.message.push(u8::try_from(rest).expect("seven bits"));
        self.message.extend_from_slice(content);
    }
}
