//! The facts of every kind, and what follows from them alone: strict decoding, pruning, defaults, the canonical form,
//! validation of custom resources, `OpenAPI`.
//!
//! Walkers go over a [`Node`], which is a built-in type or a custom resource's schema alike.

mod canonical;
mod decode;
mod defaults;
mod definition;
mod descriptions;
mod facts;
mod json;
mod node;
mod pattern;
mod prune;
mod quantity;
mod strategic_merge;
mod structural;
mod time;
mod validate;

pub use canonical::{canonicalise, forget_empty_lists, zero_value};
pub use decode::{
    DecodeError, Decoded, STRICT_ERRORS_MAX, decode_check, decode_document, decode_json,
    strict_decoding_error,
};
pub use defaults::apply_defaults;
pub use definition::validate_definition;
pub use descriptions::Descriptions;
pub use facts::{
    BuiltInKind, FieldRef, Fields, ListType, Shape, ShapeRef, TypeRef, built_in, built_in_kinds,
    type_named,
};
pub use json::{BODY_SIZE_BYTES_MAX, Document, JSON_DEPTH_MAX, SyntaxError, read_text};
pub use node::{Node, NodeKind, object_meta};
pub use pattern::Pattern;
pub use prune::{drop_gated_fields, prune, prune_non_nullable_nulls};
pub use quantity::canonical_quantity;
pub use strategic_merge::strategic_merge;
pub use structural::{
    AdditionalProperties, SCHEMA_DEPTH_MAX, Structural, StructuralError, StructuralType, Validation,
};
pub use time::{UnixTime, ZERO_TIME_SECONDS, format_duration, parse_duration};
pub use validate::{validate, validate_list_types, validate_update};
