//! JSON to protobuf: what Go's generated code would write for the object that this JSON decodes to, byte for byte.
//!
//! Values that are no pointers in Go are always written, also when they are empty; map entries go by key.

use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schema::{Document, FieldRef, Shape, ShapeRef, TypeRef, UnixTime, parse_duration};

use super::ProtobufError;
use super::wire::Backward;

/// Writes the message of an object that is given as JSON.
pub fn encode_message(json: &[u8], type_ref: TypeRef) -> Result<Vec<u8>, ProtobufError> {
    let document =
        Document::parse(json).map_err(|error| ProtobufError::NoJson(error.to_string()))?;
    let mut out = Encoder {
        out: Backward::with_capacity(json.len()),
    };
    out.message(&document, type_ref)?;
    Ok(out.out.finish())
}

/// Writes the message of a parsed object.
pub fn encode_document(
    document: &Document<'_>,
    type_ref: TypeRef,
) -> Result<Vec<u8>, ProtobufError> {
    let mut out = Encoder {
        out: Backward::with_capacity(512),
    };
    out.message(document, type_ref)?;
    Ok(out.out.finish())
}

/// The fields that are sent, the highest number first: they are written backwards. Sorted once for each type.
fn fields_backwards(type_ref: TypeRef) -> &'static [(u32, FieldRef)] {
    static SORTED: LazyLock<BTreeMap<TypeRef, OnceLock<Vec<(u32, FieldRef)>>>> =
        LazyLock::new(|| TypeRef::all().map(|one| (one, OnceLock::new())).collect());
    SORTED[&type_ref].get_or_init(|| {
        let mut fields: Vec<_> = type_ref
            .declared_fields()
            .filter_map(|field| Some((field.proto_tag()?, field)))
            .collect();
        fields.sort_unstable_by_key(|(tag, _)| std::cmp::Reverse(*tag));
        fields
    })
}

struct Encoder {
    out: Backward,
}

const NULL: &Document<'static> = &Document::Null;

impl Encoder {
    fn message(&mut self, object: &Document<'_>, type_ref: TypeRef) -> Result<(), ProtobufError> {
        for &(tag, field) in fields_backwards(type_ref) {
            if field.is_inline() {
                let inner = field
                    .shape()
                    .struct_type()
                    .expect("only structs are embedded");
                let end = self.out.mark();
                self.message(object, inner)?;
                self.out.close(tag, end);
                continue;
            }
            let value = object.get(field.json_name()).unwrap_or(NULL);
            if *value != Document::Null || (!field.is_pointer() && is_always_sent(field.shape())) {
                self.field(tag, value, field.shape(), field.json_name())?;
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        tag: u32,
        value: &Document<'_>,
        shape: ShapeRef,
        name: &'static str,
    ) -> Result<(), ProtobufError> {
        let invalid = |why: &str| ProtobufError::InvalidValue {
            field: name,
            why: why.to_owned(),
        };
        match shape.shape() {
            Shape::String => self.out.text(tag, text(value, name)?),
            Shape::Bool => self
                .out
                .integer(tag, i64::from(*value == Document::Bool(true))),
            Shape::Int32 | Shape::Int64 => self.out.integer(tag, integer(value, name)?),
            Shape::Float64 => self.out.double(tag, float(value, name)?),
            Shape::Bytes => {
                let bytes = STANDARD
                    .decode(text(value, name)?)
                    .map_err(|error| invalid(&error.to_string()))?;
                self.out.field_bytes(tag, &bytes);
            }
            Shape::List(element) => {
                let Document::Array(items) = value else {
                    return Err(invalid("not an array"));
                };
                for item in items.iter().rev() {
                    self.field(tag, item, element, name)?;
                }
            }
            Shape::Map(element) => self.map(tag, value, element, name)?,
            Shape::Any => return Err(invalid("cannot be sent as protobuf")),
            _ => {
                let end = self.out.mark();
                self.content(value, shape, name)?;
                self.out.close(tag, end);
            }
        }
        Ok(())
    }

    fn map(
        &mut self,
        tag: u32,
        value: &Document<'_>,
        element: ShapeRef,
        name: &'static str,
    ) -> Result<(), ProtobufError> {
        let Document::Object(members) = value else {
            let why = "not an object".to_owned();
            return Err(ProtobufError::InvalidValue { field: name, why });
        };
        let sorted: BTreeMap<&str, &Document<'_>> =
            members.iter().map(|(key, value)| (&**key, value)).collect();
        for (key, value) in sorted.into_iter().rev() {
            let end = self.out.mark();
            if *value != Document::Null || is_always_sent(element) {
                self.field(2, value, element, name)?;
            }
            self.out.text(1, key);
            self.out.close(tag, end);
        }
        Ok(())
    }

    /// The inside of what is a message on the wire.
    fn content(
        &mut self,
        value: &Document<'_>,
        shape: ShapeRef,
        name: &'static str,
    ) -> Result<(), ProtobufError> {
        match shape.shape() {
            Shape::Struct(type_ref) => self.message(value, type_ref)?,
            Shape::Quantity => {
                let text = match value {
                    Document::Null => "0",
                    Document::Number(literal) => literal,
                    other => text(other, name)?,
                };
                self.out.text(1, text);
            }
            Shape::Time | Shape::MicroTime => self.time(value, shape.shape(), name)?,
            Shape::Duration => {
                let parsed = match value {
                    Document::Null => Ok(0),
                    other => parse_duration(text(other, name)?),
                };
                let nanoseconds =
                    parsed.map_err(|why| ProtobufError::InvalidValue { field: name, why })?;
                self.out.integer(1, nanoseconds);
            }
            Shape::IntOrString => {
                let (sort, number, text) = match value {
                    Document::String(text) => (1, 0, &**text),
                    other => (0, integer(other, name)?, ""),
                };
                self.out.text(3, text);
                self.out.integer(2, number);
                self.out.integer(1, sort);
            }
            Shape::RawExtension | Shape::FieldsV1 | Shape::Json => {
                if *value != Document::Null {
                    self.out.field_bytes(1, json_text(value).as_bytes());
                }
            }
            Shape::ListMessage(element) => {
                if *value != Document::Null {
                    let Document::Array(items) = value else {
                        let why = "not an array".to_owned();
                        return Err(ProtobufError::InvalidValue { field: name, why });
                    };
                    for item in items.iter().rev() {
                        self.field(1, item, element, name)?;
                    }
                }
            }
            schema => self.schema_union(value, schema, name)?,
        }
        Ok(())
    }

    fn time(
        &mut self,
        value: &Document<'_>,
        shape: Shape,
        name: &'static str,
    ) -> Result<(), ProtobufError> {
        if *value == Document::Null {
            return Ok(());
        }
        let text = text(value, name)?;
        let micro = shape == Shape::MicroTime;
        let parsed = if micro {
            UnixTime::parse_micro(text)
        } else {
            UnixTime::parse(text)
        };
        let time = parsed.map_err(|why| ProtobufError::InvalidValue { field: name, why })?;
        if time.is_zero() {
            return Ok(());
        }
        // A Time is whole seconds in either encoding.
        let nanoseconds = if micro {
            time.nanoseconds / 1000 * 1000
        } else {
            0
        };
        self.out.integer(2, i64::from(nanoseconds));
        self.out.integer(1, time.seconds);
        Ok(())
    }

    fn schema_union(
        &mut self,
        value: &Document<'_>,
        shape: Shape,
        name: &'static str,
    ) -> Result<(), ProtobufError> {
        let nested = |this: &mut Self, tag, value: &Document<'_>, schema| {
            let end = this.out.mark();
            this.message(value, schema)?;
            this.out.close(tag, end);
            Ok::<_, ProtobufError>(())
        };
        match (shape, value) {
            (Shape::SchemaOrBool(schema), value) => {
                let is_schema = matches!(value, Document::Object(_));
                if is_schema {
                    nested(self, 2, value, schema)?;
                }
                let allows = is_schema || *value == Document::Bool(true);
                self.out.integer(1, i64::from(allows));
            }
            (Shape::SchemaOrArray(schema), Document::Array(items)) => {
                for item in items.iter().rev() {
                    nested(self, 2, item, schema)?;
                }
            }
            (Shape::SchemaOrStrings(_), Document::Array(items)) => {
                for item in items.iter().rev() {
                    self.out.text(2, text(item, name)?);
                }
            }
            (
                Shape::SchemaOrArray(schema) | Shape::SchemaOrStrings(schema),
                Document::Object(_),
            ) => {
                nested(self, 1, value, schema)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether Go writes this although it was never set; lists, maps and what can be nil are not.
fn is_always_sent(shape: ShapeRef) -> bool {
    !matches!(
        shape.shape(),
        Shape::List(_) | Shape::Map(_) | Shape::ListMessage(_) | Shape::Bytes | Shape::Any
    )
}

fn text<'a>(value: &'a Document<'_>, name: &'static str) -> Result<&'a str, ProtobufError> {
    match value {
        Document::String(text) => Ok(text),
        Document::Null => Ok(""),
        _ => Err(ProtobufError::InvalidValue {
            field: name,
            why: "not a string".to_owned(),
        }),
    }
}

fn integer(value: &Document<'_>, name: &'static str) -> Result<i64, ProtobufError> {
    match value {
        Document::Number(literal) => literal.parse().ok(),
        Document::Null => Some(0),
        _ => None,
    }
    .ok_or_else(|| ProtobufError::InvalidValue {
        field: name,
        why: "not an integer".to_owned(),
    })
}

fn float(value: &Document<'_>, name: &'static str) -> Result<f64, ProtobufError> {
    match value {
        Document::Number(literal) => literal.parse().ok(),
        Document::Null => Some(0.0),
        _ => None,
    }
    .ok_or_else(|| ProtobufError::InvalidValue {
        field: name,
        why: "not a number".to_owned(),
    })
}

/// The JSON text of a value, in the order it was written in.
fn json_text(value: &Document<'_>) -> String {
    let mut text = String::new();
    write_json(value, &mut text);
    text
}

fn write_json(value: &Document<'_>, out: &mut String) {
    match value {
        Document::Null => out.push_str("null"),
        Document::Bool(true) => out.push_str("true"),
        Document::Bool(false) => out.push_str("false"),
        Document::Number(literal) => out.push_str(literal),
        Document::String(text) => write_text(text, out),
        Document::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Document::Object(members) => {
            out.push('{');
            for (index, (key, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_text(key, out);
                out.push(':');
                write_json(value, out);
            }
            out.push('}');
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::to_string(text).expect("text is always JSON"));
}
