//! The encodings of the API: JSON, YAML and protobuf, tables and partial metadata, and which of them a client gets.
//!
//! Objects go from stored bytes to answers by copying; protobuf is made on the wire from the same bytes.

pub mod openapi;
pub mod protobuf;

mod body;
mod negotiate;
mod pretty;
mod splice;
mod table;
mod yaml;

pub use body::{Body, BodyError};
pub use negotiate::{
    BUILT_IN_ENCODINGS, CUSTOM_ENCODINGS, DiscoveryVersion, Encoding, Negotiated, Offers,
    Transform, body_encoding, negotiate, negotiate_watch,
};
pub use pretty::pretty_json;
pub use splice::{
    JsonList, ListItems, ListMetadata, MetaVersion, encode_stored, json_watch_frame,
    push_list_item, push_partial_metadata, push_with_resource_version, with_resource_version,
};
pub use table::{ColumnDefinition, IncludeObject, Table};
pub use yaml::{YamlDocument, YamlError, json_to_yaml, parse_yaml};
