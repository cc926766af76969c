//! Protobuf to JSON: the canonical tree of the object that these bytes are. Every length, depth and wire type is checked.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schema::{
    Document, FieldRef, Node, Shape, ShapeRef, TypeRef, UnixTime, canonicalise, format_duration,
};
use serde_json::{Map, Value};

use super::wire::Reader;
use super::{Envelope, MAGIC, MESSAGE_DEPTH_MAX, ProtobufError};

/// Reads a message of this type into its canonical tree.
pub fn decode_message(message: &[u8], type_ref: TypeRef) -> Result<Value, ProtobufError> {
    if message.len() > schema::BODY_SIZE_BYTES_MAX {
        return Err(ProtobufError::TooLarge);
    }
    let mut tree = Map::new();
    Decoder { depth: 0 }.message(message, type_ref, &mut tree)?;
    let mut tree = Value::Object(tree);
    canonicalise(&mut tree, Node::Type(type_ref));
    Ok(tree)
}

struct Decoder {
    depth: usize,
}

impl Decoder {
    fn message(
        &mut self,
        message: &[u8],
        type_ref: TypeRef,
        tree: &mut Map<String, Value>,
    ) -> Result<(), ProtobufError> {
        self.depth += 1;
        if self.depth > MESSAGE_DEPTH_MAX {
            return Err(ProtobufError::TooDeep);
        }
        let mut reader = Reader::new(message);
        while let Some((tag, wire_type)) = reader.tag()? {
            match type_ref
                .declared_fields()
                .find(|field| field.proto_tag() == Some(tag))
            {
                Some(field) => self.field(&mut reader, wire_type, field, tree)?,
                None => reader.skip(wire_type)?,
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn field(
        &mut self,
        reader: &mut Reader<'_>,
        wire_type: u8,
        field: FieldRef,
        tree: &mut Map<String, Value>,
    ) -> Result<(), ProtobufError> {
        let (name, shape) = (field.json_name(), field.shape());
        match shape.shape() {
            Shape::Struct(inner) if field.is_inline() => {
                let bytes = reader.bytes(wire_type, inner.go_name())?;
                self.message(bytes, inner, tree)
            }
            Shape::List(element) => {
                let value = self.value(reader, wire_type, element, name)?;
                let list = tree.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                list.as_array_mut()
                    .expect("only lists are put here")
                    .push(value);
                Ok(())
            }
            Shape::Map(element) => {
                let (key, value) = self.entry(reader.bytes(wire_type, name)?, element, name)?;
                let map = tree
                    .entry(name)
                    .or_insert_with(|| Value::Object(Map::new()));
                map.as_object_mut()
                    .expect("only maps are put here")
                    .insert(key, value);
                Ok(())
            }
            _ => {
                let value = self.value(reader, wire_type, shape, name)?;
                tree.insert(name.to_owned(), value);
                Ok(())
            }
        }
    }

    fn entry(
        &mut self,
        entry: &[u8],
        element: ShapeRef,
        name: &'static str,
    ) -> Result<(String, Value), ProtobufError> {
        let (mut key, mut value) = (String::new(), Value::Null);
        let mut reader = Reader::new(entry);
        while let Some((tag, wire_type)) = reader.tag()? {
            match tag {
                1 => reader.text(wire_type, name)?.clone_into(&mut key),
                2 => value = self.value(&mut reader, wire_type, element, name)?,
                _ => reader.skip(wire_type)?,
            }
        }
        Ok((key, value))
    }

    fn value(
        &mut self,
        reader: &mut Reader<'_>,
        wire_type: u8,
        shape: ShapeRef,
        name: &'static str,
    ) -> Result<Value, ProtobufError> {
        Ok(match shape.shape() {
            Shape::String => Value::from(reader.text(wire_type, name)?),
            Shape::Bool => Value::from(reader.integer(wire_type, name)? != 0),
            // Go keeps the low half, whatever the sender wrote above it.
            Shape::Int32 => Value::from(low_half(reader.integer(wire_type, name)?)),
            Shape::Int64 => Value::from(reader.integer(wire_type, name)?),
            Shape::Float64 => float(reader.double(wire_type, name)?, name)?,
            Shape::Bytes => Value::from(STANDARD.encode(reader.bytes(wire_type, name)?)),
            _ => {
                let bytes = reader.bytes(wire_type, name)?;
                self.content(bytes, shape, name)?
            }
        })
    }

    fn content(
        &mut self,
        bytes: &[u8],
        shape: ShapeRef,
        name: &'static str,
    ) -> Result<Value, ProtobufError> {
        match shape.shape() {
            Shape::Struct(type_ref) => {
                let mut tree = Map::new();
                self.message(bytes, type_ref, &mut tree)?;
                Ok(Value::Object(tree))
            }
            Shape::Quantity => quantity(bytes, name),
            Shape::Time | Shape::MicroTime => time(bytes, shape.shape(), name),
            Shape::Duration => Ok(Value::from(format_duration(numbers(bytes, name)?[0]))),
            Shape::IntOrString => int_or_string(bytes, name),
            Shape::RawExtension | Shape::FieldsV1 | Shape::Json => self.raw(bytes, name),
            Shape::ListMessage(element) => {
                let mut items = Vec::new();
                let mut reader = Reader::new(bytes);
                while let Some((tag, wire_type)) = reader.tag()? {
                    match tag {
                        1 => items.push(self.value(&mut reader, wire_type, element, name)?),
                        _ => reader.skip(wire_type)?,
                    }
                }
                Ok(Value::Array(items))
            }
            Shape::SchemaOrBool(schema)
            | Shape::SchemaOrArray(schema)
            | Shape::SchemaOrStrings(schema) => {
                self.schema_union(bytes, shape.shape(), schema, name)
            }
            _ => Err(ProtobufError::InvalidValue {
                field: name,
                why: "cannot be sent as protobuf".to_owned(),
            }),
        }
    }

    /// Raw JSON, or (from clients that nest objects) another protobuf body.
    fn raw(&mut self, bytes: &[u8], name: &'static str) -> Result<Value, ProtobufError> {
        let mut raw: &[u8] = &[];
        let mut reader = Reader::new(bytes);
        while let Some((tag, wire_type)) = reader.tag()? {
            match tag {
                1 => raw = reader.bytes(wire_type, name)?,
                _ => reader.skip(wire_type)?,
            }
        }
        let invalid = |why: String| ProtobufError::InvalidValue { field: name, why };
        if raw.is_empty() {
            return Ok(Value::Null);
        }
        if raw.starts_with(MAGIC) {
            return self.nested_body(raw, name);
        }
        let document = Document::parse(raw).map_err(|error| invalid(error.to_string()))?;
        document
            .into_value()
            .ok_or_else(|| invalid("number out of range".to_owned()))
    }

    fn nested_body(&mut self, raw: &[u8], name: &'static str) -> Result<Value, ProtobufError> {
        let envelope = Envelope::open(raw)?;
        let (group, version) = envelope
            .api_version
            .rsplit_once('/')
            .unwrap_or(("", envelope.api_version));
        let type_ref = schema::built_in(group, version, envelope.kind).ok_or_else(|| {
            let why = format!(
                "no kind {:?} is registered for version {:?}",
                envelope.kind, envelope.api_version
            );
            ProtobufError::InvalidValue { field: name, why }
        })?;
        let mut tree = Map::new();
        self.message(envelope.message, type_ref, &mut tree)?;
        let mut tree = Value::Object(tree);
        canonicalise(&mut tree, Node::Type(type_ref));
        tree["kind"] = Value::from(envelope.kind);
        tree["apiVersion"] = Value::from(envelope.api_version);
        Ok(tree)
    }

    fn schema_union(
        &mut self,
        bytes: &[u8],
        shape: Shape,
        schema: TypeRef,
        name: &'static str,
    ) -> Result<Value, ProtobufError> {
        let schema_tag = if matches!(shape, Shape::SchemaOrBool(_)) {
            2
        } else {
            1
        };
        let (mut allows, mut nested, mut list) = (false, None, Vec::new());
        let mut reader = Reader::new(bytes);
        while let Some((tag, wire_type)) = reader.tag()? {
            match (tag, shape) {
                (1, Shape::SchemaOrBool(_)) => allows = reader.integer(wire_type, name)? != 0,
                (2, Shape::SchemaOrStrings(_)) => {
                    list.push(Value::from(reader.text(wire_type, name)?));
                }
                (1 | 2, _) => {
                    let mut tree = Map::new();
                    self.message(reader.bytes(wire_type, name)?, schema, &mut tree)?;
                    if tag == schema_tag {
                        nested = Some(Value::Object(tree));
                    } else {
                        list.push(Value::Object(tree));
                    }
                }
                _ => reader.skip(wire_type)?,
            }
        }
        Ok(match (nested, shape) {
            (Some(schema), _) => schema,
            (None, Shape::SchemaOrBool(_)) => Value::from(allows),
            (None, _) if list.is_empty() => Value::Null,
            (None, _) => Value::Array(list),
        })
    }
}

#[allow(clippy::cast_possible_truncation)] // It is the point.
fn low_half(value: i64) -> i32 {
    value as i32
}

fn float(value: f64, name: &'static str) -> Result<Value, ProtobufError> {
    // Through the text, so that 1.0 is the number 1 in either encoding.
    let document = Document::Number(value.to_string().into());
    document
        .into_value()
        .ok_or_else(|| ProtobufError::InvalidValue {
            field: name,
            why: "not a finite number".to_owned(),
        })
}

/// The varints of fields 1 and 2, 0 where missing.
fn numbers(bytes: &[u8], name: &'static str) -> Result<[i64; 2], ProtobufError> {
    let mut numbers = [0; 2];
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire_type)) = reader.tag()? {
        match tag {
            1 => numbers[0] = reader.integer(wire_type, name)?,
            2 => numbers[1] = reader.integer(wire_type, name)?,
            _ => reader.skip(wire_type)?,
        }
    }
    Ok(numbers)
}

fn quantity(bytes: &[u8], name: &'static str) -> Result<Value, ProtobufError> {
    let mut text = "";
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire_type)) = reader.tag()? {
        match tag {
            1 => text = reader.text(wire_type, name)?,
            _ => reader.skip(wire_type)?,
        }
    }
    if text.is_empty() {
        return Ok(Value::from("0"));
    }
    match apimachinery::Quantity::parse(text) {
        Ok(_) => Ok(Value::from(text)),
        Err(error) => Err(ProtobufError::InvalidValue {
            field: name,
            why: error.to_string(),
        }),
    }
}

/// Seconds of 9999-12-31T23:59:59Z: no later time has a text.
const LAST_TIME_SECONDS: i64 = 253_402_300_799;

fn time(bytes: &[u8], shape: Shape, name: &'static str) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let [seconds, nanoseconds] = numbers(bytes, name)?;
    let nanoseconds = u32::try_from(nanoseconds)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000);
    let in_range = (schema::ZERO_TIME_SECONDS..=LAST_TIME_SECONDS).contains(&seconds);
    let (true, Some(nanoseconds)) = (in_range, nanoseconds) else {
        let why = "time out of range".to_owned();
        return Err(ProtobufError::InvalidValue { field: name, why });
    };
    let time = UnixTime {
        seconds,
        nanoseconds,
    };
    if time.is_zero() {
        return Ok(Value::Null);
    }
    Ok(Value::from(match shape {
        Shape::MicroTime => time.to_micros_text(),
        _ => time.to_seconds_text(),
    }))
}

fn int_or_string(bytes: &[u8], name: &'static str) -> Result<Value, ProtobufError> {
    let (mut sort, mut number, mut text) = (0, 0, "");
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire_type)) = reader.tag()? {
        match tag {
            1 => sort = reader.integer(wire_type, name)?,
            2 => number = reader.integer(wire_type, name)?,
            3 => text = reader.text(wire_type, name)?,
            _ => reader.skip(wire_type)?,
        }
    }
    match sort {
        0 => Ok(Value::from(low_half(number))),
        1 => Ok(Value::from(text)),
        _ => Err(ProtobufError::InvalidValue {
            field: name,
            why: "impossible IntOrString.Type".to_owned(),
        }),
    }
}
