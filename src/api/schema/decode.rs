//! Turns what a client wrote into the tree that Go's decoder would have made of it, in the same words when it cannot.
//!
//! Built-in values lose what their type does not name; custom resources keep it until they are pruned. Either way the
//! repeated and unknown fields are told, for `fieldValidation` to refuse, warn about or ignore.

use std::borrow::Cow;
use std::collections::HashSet;

use apimachinery::Quantity;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::facts::{Shape, ShapeRef, TypeRef};
use crate::json::{Document, SyntaxError, number};
use crate::node::{Node, NodeKind};
use crate::time::{UnixTime, parse_duration};

/// How many strict errors are collected before the rest is left out, as upstream does.
pub const STRICT_ERRORS_MAX: usize = 100;

/// A tree together with what a strict reader would object to.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    pub tree: Value,
    /// `unknown field "spec.foo"`, `duplicate field "spec.replicas"`, in the order of the text.
    pub strict_errors: Vec<String>,
}

/// Why a body is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// A value of the wrong type; the text is upstream's.
    #[error("{0}")]
    Type(String),
}

/// The text of a refused strict request.
pub fn strict_decoding_error(errors: &[String]) -> String {
    format!("strict decoding error: {}", errors.join(", "))
}

/// Decodes the bytes of a JSON body.
pub fn decode_json(text: &[u8], node: Node<'_>) -> Result<Decoded, DecodeError> {
    decode_document(Document::parse(text)?, node)
}

/// Checks the types of a tree (as a patch makes it) and drops what a built-in type does not name.
pub fn decode_check(tree: &Value, node: Node<'_>) -> Result<Decoded, DecodeError> {
    decode_document(Document::from(tree), node)
}

/// Decodes a parsed document.
pub fn decode_document(document: Document<'_>, node: Node<'_>) -> Result<Decoded, DecodeError> {
    let mut decoder = Decoder::default();
    let tree = decoder.value(document, node)?;
    Ok(Decoded {
        tree,
        strict_errors: decoder.strict_errors,
    })
}

#[derive(Default)]
struct Decoder {
    strict_errors: Vec<String>,
    seen: HashSet<String>,
    /// Where we are, as strict errors show it: `spec.template.spec.containers[0]`.
    path: String,
    /// The struct fields on the way, as type errors show them: embedded structs named, no indexes and map keys.
    fields: Vec<&'static str>,
    structure: &'static str,
    /// Inside types with a decoder of their own upstream collects no strict errors.
    quiet: bool,
}

impl Decoder {
    fn value(&mut self, document: Document<'_>, node: Node<'_>) -> Result<Value, DecodeError> {
        match node {
            Node::Type(type_ref) => self.structure(document, type_ref, &type_ref.go_type()),
            Node::Custom(_) | Node::CustomResource(_) => self.custom(document, node),
            Node::Field(field) => self.shaped(document, field.shape()),
            Node::Element(shape) => self.shaped(document, shape),
        }
    }

    fn shaped(&mut self, document: Document<'_>, shape: ShapeRef) -> Result<Value, DecodeError> {
        match shape.shape() {
            Shape::Struct(type_ref) => self.structure(document, type_ref, shape.go_name()),
            Shape::List(element) | Shape::ListMessage(element) => {
                self.list(document, shape, element)
            }
            Shape::Map(element) => self.map(document, shape, element),
            Shape::RawExtension | Shape::FieldsV1 | Shape::Json | Shape::Any => {
                self.anything(document)
            }
            Shape::SchemaOrBool(_) | Shape::SchemaOrArray(_) | Shape::SchemaOrStrings(_) => {
                self.schema_union(document, shape.shape())
            }
            scalar => self.scalar(document, scalar, shape.go_name()),
        }
    }

    fn structure(
        &mut self,
        document: Document<'_>,
        type_ref: TypeRef,
        go_name: &str,
    ) -> Result<Value, DecodeError> {
        let members = match document {
            Document::Object(members) => members,
            Document::Null => return Ok(Value::Null),
            other => return Err(self.mismatch(other.sort(), go_name)),
        };
        let mut tree = Map::new();
        for (key, value) in members {
            let depth = self.fields.len();
            let Some(field) = type_ref.field_through(&key, &mut self.fields) else {
                self.strict("unknown field", &key);
                continue;
            };
            if tree.contains_key(&*key) {
                self.strict("duplicate field", &key);
            }
            let outer = std::mem::replace(&mut self.structure, type_ref.go_name());
            self.fields.push(field.json_name());
            let read = self.inside(&key, |this| this.shaped(value, field.shape()))?;
            self.fields.truncate(depth);
            self.structure = outer;
            tree.insert(key.into_owned(), read);
        }
        Ok(Value::Object(tree))
    }

    fn list(
        &mut self,
        document: Document<'_>,
        shape: ShapeRef,
        element: ShapeRef,
    ) -> Result<Value, DecodeError> {
        let items = match document {
            Document::Array(items) => items,
            Document::Null => return Ok(Value::Null),
            other => return Err(self.mismatch(other.sort(), shape.go_name())),
        };
        let mut read = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let value = self.at_index(index, |this| this.shaped(item, element))?;
            read.push(if value.is_null() {
                zero(element)
            } else {
                value
            });
        }
        Ok(Value::Array(read))
    }

    fn map(
        &mut self,
        document: Document<'_>,
        shape: ShapeRef,
        element: ShapeRef,
    ) -> Result<Value, DecodeError> {
        let members = match document {
            Document::Object(members) => members,
            Document::Null => return Ok(Value::Null),
            other => return Err(self.mismatch(other.sort(), shape.go_name())),
        };
        let mut read = Map::new();
        for (key, value) in members {
            if read.contains_key(&*key) {
                self.strict("duplicate field", &key);
            }
            let value = self.inside(&key, |this| this.shaped(value, element))?;
            read.insert(
                key.into_owned(),
                if value.is_null() {
                    zero(element)
                } else {
                    value
                },
            );
        }
        Ok(Value::Object(read))
    }

    /// Free values and custom resources: kept as they are, but repeated keys are told.
    fn anything(&mut self, document: Document<'_>) -> Result<Value, DecodeError> {
        let quiet = std::mem::replace(&mut self.quiet, true);
        let read = self.free(document);
        self.quiet = quiet;
        read
    }

    fn free(&mut self, document: Document<'_>) -> Result<Value, DecodeError> {
        Ok(match document {
            Document::Array(items) => {
                let mut read = Vec::with_capacity(items.len());
                for (index, item) in items.into_iter().enumerate() {
                    read.push(self.at_index(index, |this| this.free(item))?);
                }
                Value::Array(read)
            }
            Document::Object(members) => {
                let mut read = Map::new();
                for (key, value) in members {
                    if read.contains_key(&*key) {
                        self.strict("duplicate field", &key);
                    }
                    let value = self.inside(&key, |this| this.free(value))?;
                    read.insert(key.into_owned(), value);
                }
                Value::Object(read)
            }
            Document::Number(literal) => Value::Number(number(&literal).ok_or_else(|| {
                DecodeError::Type(format!(
                    "json: cannot unmarshal number {literal} into Go value of type float64"
                ))
            })?),
            scalar => scalar.into_value().expect("only numbers can fail"),
        })
    }

    fn custom(&mut self, document: Document<'_>, node: Node<'_>) -> Result<Value, DecodeError> {
        match (document, node.kind()) {
            (Document::Object(members), NodeKind::Struct | NodeKind::Map | NodeKind::Any) => {
                let mut read = Map::new();
                for (key, value) in members {
                    if read.contains_key(&*key) {
                        self.strict("duplicate field", &key);
                    }
                    let child = node.child(&key);
                    let value = self.inside(&key, |this| match child {
                        Some(Node::Type(metadata)) => this.metadata(value, metadata),
                        Some(custom @ (Node::Custom(_) | Node::CustomResource(_))) => {
                            this.custom(value, custom)
                        }
                        _ => this.free(value),
                    })?;
                    read.insert(key.into_owned(), value);
                }
                Ok(Value::Object(read))
            }
            (Document::Array(items), NodeKind::List) if node.element().is_some() => {
                let element = node.element().expect("the guard looked");
                let mut read = Vec::with_capacity(items.len());
                for (index, item) in items.into_iter().enumerate() {
                    read.push(self.at_index(index, |this| this.custom(item, element))?);
                }
                Ok(Value::Array(read))
            }
            (document, _) => self.free(document),
        }
    }

    /// The metadata of a custom or embedded resource is of a built-in type; its type errors name no outer field.
    fn metadata(
        &mut self,
        document: Document<'_>,
        type_ref: TypeRef,
    ) -> Result<Value, DecodeError> {
        let fields = std::mem::take(&mut self.fields);
        let read = self.structure(document, type_ref, "v1.ObjectMeta");
        self.fields = fields;
        read
    }

    fn schema_union(&mut self, document: Document<'_>, shape: Shape) -> Result<Value, DecodeError> {
        let (Shape::SchemaOrBool(schema)
        | Shape::SchemaOrArray(schema)
        | Shape::SchemaOrStrings(schema)) = shape
        else {
            return self.anything(document);
        };
        let quiet = std::mem::replace(&mut self.quiet, true);
        let read = match (document, shape) {
            (object @ Document::Object(_), _) => self.structure(object, schema, schema.go_name()),
            (Document::Null, _) => Ok(Value::Null),
            (Document::Bool(value), Shape::SchemaOrBool(_)) => Ok(Value::Bool(value)),
            (Document::Array(items), Shape::SchemaOrArray(_)) => items
                .into_iter()
                .map(|item| self.structure(item, schema, schema.go_name()))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            (array @ Document::Array(_), Shape::SchemaOrStrings(_)) => self.free(array),
            (_, Shape::SchemaOrBool(_)) => Err(DecodeError::Type(
                "boolean or JSON schema expected".to_owned(),
            )),
            // Upstream reads anything else as nothing.
            _ => Ok(Value::Null),
        };
        self.quiet = quiet;
        read
    }

    fn scalar(
        &self,
        document: Document<'_>,
        shape: Shape,
        go_name: &str,
    ) -> Result<Value, DecodeError> {
        if document == Document::Null {
            return Ok(Value::Null);
        }
        match (shape, document) {
            (Shape::Quantity, document) => quantity(document),
            (Shape::String | Shape::IntOrString, Document::String(text)) => {
                Ok(Value::String(text.into_owned()))
            }
            (Shape::Bool, Document::Bool(value)) => Ok(Value::Bool(value)),
            (Shape::Bytes, Document::String(text)) => bytes(&text),
            (Shape::Bytes, Document::Array(items)) => self.byte_list(items),
            (Shape::Int32 | Shape::Int64 | Shape::Float64, Document::Number(literal)) => {
                self.number(&literal, shape, go_name)
            }
            (Shape::IntOrString, Document::Number(literal)) => {
                self.number(&literal, Shape::Int32, "int32")
            }
            (Shape::IntOrString, other) => Err(self.mismatch(other.sort(), "int32")),
            (Shape::Time | Shape::MicroTime | Shape::Duration, Document::String(text)) => {
                time(&text, shape)?;
                Ok(Value::String(text.into_owned()))
            }
            (Shape::Time | Shape::MicroTime | Shape::Duration, other) => {
                Err(self.mismatch(other.sort(), "string"))
            }
            (_, other) => Err(self.mismatch(other.sort(), go_name)),
        }
    }

    /// Go takes a list of small numbers for bytes too.
    fn byte_list(&self, items: Vec<Document<'_>>) -> Result<Value, DecodeError> {
        let bytes: Result<Vec<u8>, DecodeError> = items
            .into_iter()
            .map(|item| match item {
                Document::Null => Ok(0),
                Document::Number(literal) => literal
                    .parse()
                    .map_err(|_| self.mismatch(&format!("number {literal}"), "uint8")),
                other => Err(self.mismatch(other.sort(), "uint8")),
            })
            .collect();
        Ok(Value::String(STANDARD.encode(bytes?)))
    }

    fn number(&self, literal: &str, shape: Shape, go_name: &str) -> Result<Value, DecodeError> {
        let read = match shape {
            Shape::Int32 => literal.parse::<i32>().ok().map(Value::from),
            Shape::Int64 => literal.parse::<i64>().ok().map(Value::from),
            _ => number(literal).map(Value::Number),
        };
        read.ok_or_else(|| self.mismatch(&format!("number {literal}"), go_name))
    }

    fn mismatch(&self, found: &str, go_name: &str) -> DecodeError {
        DecodeError::Type(if self.fields.is_empty() {
            format!("json: cannot unmarshal {found} into Go value of type {go_name}")
        } else {
            format!(
                "json: cannot unmarshal {found} into Go struct field {}.{} of type {go_name}",
                self.structure,
                self.fields.join(".")
            )
        })
    }

    fn strict(&mut self, what: &str, key: &str) {
        if self.quiet || self.strict_errors.len() >= STRICT_ERRORS_MAX {
            return;
        }
        let dot = if self.path.is_empty() { "" } else { "." };
        let error = format!("{what} \"{}{dot}{key}\"", self.path);
        if self.seen.insert(error.clone()) {
            self.strict_errors.push(error);
        }
    }

    fn inside<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        let value = read(self);
        self.path.truncate(length);
        value
    }

    fn at_index<T>(&mut self, index: usize, read: impl FnOnce(&mut Self) -> T) -> T {
        use std::fmt::Write as _;
        let length = self.path.len();
        write!(self.path, "[{index}]").expect("a string takes all");
        let value = read(self);
        self.path.truncate(length);
        value
    }
}

fn quantity(document: Document<'_>) -> Result<Value, DecodeError> {
    let text: Cow<'_, str> = match document {
        Document::String(text) => text,
        Document::Number(literal) => literal,
        Document::Bool(value) => value.to_string().into(),
        // Upstream hands the raw text to the parser, which refuses any bracket.
        _ => "{".into(),
    };
    let trimmed = text.trim();
    Quantity::parse(trimmed).map_err(|error| DecodeError::Type(error.to_string()))?;
    Ok(Value::String(trimmed.to_owned()))
}

/// What Go makes of a `null` element.
fn zero(shape: ShapeRef) -> Value {
    match shape.shape() {
        Shape::String => Value::from(""),
        Shape::Bool => Value::from(false),
        Shape::Int32 | Shape::Int64 | Shape::Float64 | Shape::IntOrString => Value::from(0),
        Shape::Struct(_) => Value::Object(Map::new()),
        Shape::Quantity => Value::from("0"),
        _ => Value::Null,
    }
}

fn bytes(text: &str) -> Result<Value, DecodeError> {
    // Go's decoder passes over line breaks.
    let joined: Cow<'_, str> = if text.contains(['\n', '\r']) {
        text.replace(['\n', '\r'], "").into()
    } else {
        text.into()
    };
    STANDARD.decode(joined.as_bytes()).map_err(|error| {
        let offset = match error {
            base64::DecodeError::InvalidByte(offset, _)
            | base64::DecodeError::InvalidLastSymbol(offset, _) => offset,
            base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => {
                joined.len() / 4 * 4
            }
        };
        DecodeError::Type(format!("illegal base64 data at input byte {offset}"))
    })?;
    Ok(Value::String(joined.into_owned()))
}

fn time(text: &str, shape: Shape) -> Result<(), DecodeError> {
    match shape {
        Shape::Time => UnixTime::parse(text).map(drop),
        Shape::MicroTime => UnixTime::parse_micro(text).map(drop),
        _ => parse_duration(text).map(drop),
    }
    .map_err(DecodeError::Type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::built_in;
    use crate::structural::Structural;
    use serde_json::json;

    fn decode(kind: &str, text: &str) -> Result<Decoded, DecodeError> {
        let (group, kind) = kind.split_once('/').unwrap_or(("", kind));
        decode_json(
            text.as_bytes(),
            Node::Type(built_in(group, "v1", kind).unwrap()),
        )
    }

    fn type_error(kind: &str, text: &str) -> String {
        decode(kind, text).unwrap_err().to_string()
    }

    #[test]
    fn type_errors_have_the_words_of_gos_decoder() {
        assert_eq!(
            type_error("apps/Deployment", r#"{"spec":{"replicas":"3"}}"#),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
        );
        assert_eq!(
            type_error("apps/Deployment", r#"{"spec":{"replicas":1.5}}"#),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"
        );
        assert_eq!(
            type_error("Pod", r#"{"spec":{"containers":[{"image":5}]}}"#),
            "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string"
        );
        assert_eq!(
            type_error("ConfigMap", r#"{"data":{"a":true}}"#),
            "json: cannot unmarshal bool into Go struct field ConfigMap.data of type string"
        );
        assert_eq!(
            type_error("Pod", r#"{"spec":{"containers":{}}}"#),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"
        );
        assert_eq!(
            type_error("Pod", r#"{"metadata":{"creationTimestamp":5}}"#),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string"
        );
        assert_eq!(
            type_error("Pod", r#"{"spec":{"volumes":[{"csi":{"driver":1}}]}}"#),
            "json: cannot unmarshal number into Go struct field CSIVolumeSource.spec.volumes.VolumeSource.csi.driver of type string"
        );
        assert_eq!(
            type_error("Pod", "[]"),
            "json: cannot unmarshal array into Go value of type v1.Pod"
        );
    }

    #[test]
    fn strict_errors_come_in_the_order_of_the_text_with_full_paths() {
        let decoded = decode(
            "apps/Deployment",
            r#"{"foo":1,"spec":{"replicas":1,"bar":{},"replicas":2,"template":{"spec":{"containers":
               [{"name":"a","imagee":"x"}]}}}}"#,
        )
        .unwrap();
        assert_eq!(
            strict_decoding_error(&decoded.strict_errors),
            "strict decoding error: unknown field \"foo\", unknown field \"spec.bar\", \
             duplicate field \"spec.replicas\", \
             unknown field \"spec.template.spec.containers[0].imagee\""
        );
        assert_eq!(
            decoded.tree,
            json!({"spec":{"replicas":2,"template":{"spec":{"containers":[{"name":"a"}]}}}})
        );
    }

    #[test]
    fn a_custom_resource_keeps_unknown_fields_but_not_in_its_metadata() {
        let schema = Structural::from_json(&json!({"type":"object"})).unwrap();
        let decoded = decode_json(
            br#"{"metadata":{"name":"a","foo":1},"spec":{"x":1,"x":2}}"#,
            Node::CustomResource(&schema),
        )
        .unwrap();
        assert_eq!(
            decoded.strict_errors,
            [
                "unknown field \"metadata.foo\"",
                "duplicate field \"spec.x\""
            ]
        );
        assert_eq!(
            decoded.tree,
            json!({"metadata":{"name":"a"},"spec":{"x":2}})
        );
    }

    #[test]
    fn broken_quantities_and_base64_are_refused() {
        let text = r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"1x"}}}]}}"#;
        assert!(
            type_error("Pod", text).starts_with("quantities must match the regular expression")
        );
        assert_eq!(
            type_error("Secret", r#"{"data":{"a":"no base64"}}"#),
            "illegal base64 data at input byte 2"
        );
    }
}
