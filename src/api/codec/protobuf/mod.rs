//! Protobuf as Kubernetes writes it, driven by the facts: no generated message types, no typed structs.
//!
//! A body is `k8s\0` and an envelope that names kind and version; its content is the message of that kind.

mod decode;
mod encode;
mod index;
mod list;
mod message;
mod wire;

use schema::TypeRef;
use serde_json::Value;

pub use decode::decode_message;
pub use encode::encode_message;
pub use list::ProtobufList;

pub(crate) use wire::Backward;
use wire::{Reader, Varint};

/// What every protobuf body begins with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// How deep messages may nest; the trees made of them are as deep.
pub const MESSAGE_DEPTH_MAX: usize = schema::JSON_DEPTH_MAX;

/// Why bytes are no message, or JSON cannot become one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    #[error("empty data")]
    Empty,
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    NoMagic,
    #[error("empty body")]
    EmptyBody,
    #[error(
        "request body too large: limit is {} bytes",
        schema::BODY_SIZE_BYTES_MAX
    )]
    TooLarge,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: integer overflow")]
    IntegerOverflow,
    #[error("proto: illegal tag {0}")]
    IllegalTag(u64),
    #[error("proto: illegal wireType {0}")]
    IllegalWireType(u8),
    #[error("proto: wrong wireType = {wire_type} for field {field}")]
    WrongWireType { wire_type: u8, field: &'static str },
    #[error("proto: field {field} contains invalid UTF-8")]
    InvalidUtf8 { field: &'static str },
    #[error("proto: field {field}: {why}")]
    InvalidValue { field: &'static str, why: String },
    #[error("proto: exceeded max depth")]
    TooDeep,
    #[error("object to be sent as protobuf is no valid JSON: {0}")]
    NoJson(String),
}

/// The outside of a body: what kind it says it is, and the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// "" where the client left it to the request.
    pub api_version: &'a str,
    pub kind: &'a str,
    pub message: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Opens a body without looking into its message.
    pub fn open(body: &'a [u8]) -> Result<Self, ProtobufError> {
        if body.is_empty() {
            return Err(ProtobufError::Empty);
        }
        if body.len() > schema::BODY_SIZE_BYTES_MAX {
            return Err(ProtobufError::TooLarge);
        }
        let content = body.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?;
        if content.is_empty() {
            return Err(ProtobufError::EmptyBody);
        }
        let mut envelope = Self {
            api_version: "",
            kind: "",
            message: &[],
        };
        let mut reader = Reader::new(content);
        while let Some((tag, wire_type)) = reader.tag()? {
            match tag {
                1 => envelope.type_meta(reader.bytes(wire_type, "TypeMeta")?)?,
                2 => envelope.message = reader.bytes(wire_type, "Raw")?,
                _ => reader.skip(wire_type)?,
            }
        }
        Ok(envelope)
    }

    fn type_meta(&mut self, bytes: &'a [u8]) -> Result<(), ProtobufError> {
        let mut reader = Reader::new(bytes);
        while let Some((tag, wire_type)) = reader.tag()? {
            match tag {
                1 => self.api_version = reader.text(wire_type, "APIVersion")?,
                2 => self.kind = reader.text(wire_type, "Kind")?,
                _ => reader.skip(wire_type)?,
            }
        }
        Ok(())
    }

    /// Reads the message as an object of this type, in canonical form, with kind and version where they were given.
    pub fn decode(&self, type_ref: TypeRef) -> Result<Value, ProtobufError> {
        let mut tree = decode_message(self.message, type_ref)?;
        if let Some(map) = tree.as_object_mut() {
            for (key, text) in [("kind", self.kind), ("apiVersion", self.api_version)] {
                if !text.is_empty() && type_ref.field(key).is_some() {
                    map.insert(key.to_owned(), Value::from(text));
                }
            }
        }
        Ok(tree)
    }
}

/// What follows the message in an envelope: an encoding and a media type, both empty.
const ENVELOPE_END: &[u8] = &[3 << 3 | wire::LENGTH, 0, 4 << 3 | wire::LENGTH, 0];

/// A body up to the length of its message.
fn envelope_start(api_version: &str, kind: &str) -> Vec<u8> {
    let mut out = Backward::with_capacity(MAGIC.len() + api_version.len() + kind.len() + 16);
    out.key(2, wire::LENGTH);
    let end = out.mark();
    out.text(2, kind);
    out.text(1, api_version);
    out.close(1, end);
    out.bytes(MAGIC);
    out.finish()
}

/// Puts a message into its envelope.
pub fn seal(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut out = envelope_start(api_version, kind);
    out.reserve_exact(message.len() + 10 + ENVELOPE_END.len());
    out.extend_from_slice(Varint::new(message.len() as u64).as_bytes());
    out.extend_from_slice(message);
    out.extend_from_slice(ENVELOPE_END);
    out
}

/// Writes an object that is given as JSON as a whole protobuf body.
pub fn encode(
    json: &[u8],
    type_ref: TypeRef,
    api_version: &str,
    kind: &str,
) -> Result<Vec<u8>, ProtobufError> {
    Ok(seal(api_version, kind, &encode_message(json, type_ref)?))
}

/// One frame of a protobuf watch: four bytes of length, then a `WatchEvent` with the object's whole body in it.
pub fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Backward::with_capacity(event.len() + object.len() + 24);
    let end = out.mark();
    out.field_bytes(1, object);
    out.close(2, end);
    out.text(1, event);
    let length = u32::try_from(out.mark()).expect("objects are far below 4 GiB");
    out.bytes(&length.to_be_bytes());
    out.finish()
}
