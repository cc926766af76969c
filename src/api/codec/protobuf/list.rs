//! A protobuf list, put together object by object.

use std::ops::Range;

use schema::TypeRef;

use super::encode::{Encoder, encode_message};
use super::wire::{LENGTH, Varint};
use super::{Backward, ENVELOPE_END, ProtobufError, envelope_start};
use crate::splice::{ListMetadata, push_with_resource_version};

/// Collects the items of a list: each is turned from stored JSON into protobuf and appended.
#[derive(Debug)]
pub struct ProtobufList {
    item_type: TypeRef,
    body: Vec<u8>,
    /// Where the length of the message goes: as many bytes as the guess at it needs.
    length: Range<usize>,
    // What every item needs again.
    encoder: Encoder,
    json: Vec<u8>,
    item: Backward,
}

impl ProtobufList {
    /// Begins a list; every list type has its metadata as field 1 and its items as field 2.
    ///
    /// A good guess at its size saves copying it.
    pub fn new(
        (api_version, list_kind): (&str, &str),
        metadata: &ListMetadata<'_>,
        item_type: TypeRef,
        size_guess: usize,
    ) -> Result<Self, ProtobufError> {
        let list_meta = schema::built_in("meta.k8s.io", "v1", "ListMeta")
            .expect("every list has this type of metadata");
        let metadata = encode_message(metadata.to_json().as_bytes(), list_meta)?;
        let mut body = envelope_start(api_version, list_kind);
        body.reserve(size_guess);
        let length = body.len()..body.len() + Varint::new(size_guess as u64).as_bytes().len();
        body.resize(length.end, 0);
        push_field(&mut body, 1, &metadata);
        Ok(Self {
            item_type,
            body,
            length,
            encoder: Encoder::default(),
            json: Vec::new(),
            item: Backward::with_capacity(0),
        })
    }

    /// Appends a stored object, whose version goes into its metadata.
    pub fn push(&mut self, stored: &[u8], revision: i64) -> Result<(), ProtobufError> {
        self.json.clear();
        push_with_resource_version(&mut self.json, stored, revision);
        self.item.clear();
        self.encoder
            .message(&self.json, self.item_type, &mut self.item)?;
        push_field(&mut self.body, 2, self.item.written());
        Ok(())
    }

    /// The whole body.
    pub fn finish(mut self) -> Vec<u8> {
        let length = Varint::new((self.body.len() - self.length.end) as u64);
        self.body
            .splice(self.length, length.as_bytes().iter().copied());
        self.body.extend_from_slice(ENVELOPE_END);
        self.body
    }
}

fn push_field(out: &mut Vec<u8>, tag: u32, content: &[u8]) {
    out.extend_from_slice(Varint::key(tag, LENGTH).as_bytes());
    out.extend_from_slice(Varint::new(content.len() as u64).as_bytes());
    out.extend_from_slice(content);
}
