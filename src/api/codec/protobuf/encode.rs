//! JSON to protobuf: what Go's generated code would write for the object that this JSON decodes to, byte for byte.
//!
//! One pass over the text finds where its values stand, one over the facts of the type writes them. Values that are no
//! pointers in Go are always written, also when they are empty; map entries go by key.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schema::{Shape, ShapeRef, TypeRef, UnixTime, parse_duration};

use super::ProtobufError;
use super::index::{At, Index, Json, Sort};
use super::message::{Message, Part, is_always_sent};
use super::wire::Backward;

/// Writes the message of an object that is given as JSON.
pub fn encode_message(json: &[u8], type_ref: TypeRef) -> Result<Vec<u8>, ProtobufError> {
    let mut out = Backward::with_capacity(json.len());
    Encoder::default().message(json, type_ref, &mut out)?;
    Ok(out.finish())
}

/// What encoding needs besides the object; to be kept where many objects are encoded.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    index: Index,
    waiting: Vec<At>,
}

impl Encoder {
    /// Puts the message of an object before what is written already.
    pub(super) fn message(
        &mut self,
        json: &[u8],
        type_ref: TypeRef,
        out: &mut Backward,
    ) -> Result<(), ProtobufError> {
        // What is no UTF-8 becomes U+FFFD, as in Go.
        let text = match std::str::from_utf8(json) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(json),
        };
        let json = self.index.read(&text)?;
        self.waiting.clear();
        let mut writer = Writer {
            json,
            waiting: &mut self.waiting,
            out,
        };
        writer.message(json.root(), type_ref)
    }
}

struct Writer<'a> {
    json: Json<'a>,
    /// Values whose turn has not come: of each object and list that is being written.
    waiting: &'a mut Vec<At>,
    out: &'a mut Backward,
}

impl<'a> Writer<'a> {
    fn message(&mut self, object: At, type_ref: TypeRef) -> Result<(), ProtobufError> {
        let message = Message::of(type_ref);
        let first = self.waiting.len();
        self.waiting.resize(first + message.places(), At::ABSENT);
        if self.json.sort(object) == Sort::Object {
            for key in self.json.keys(object) {
                // Of repeated keys the last counts.
                if let Some(place) = message.place(&self.json.text(key)) {
                    self.waiting[first + place] = self.json.value_of(key);
                }
            }
        }
        self.parts(&message.parts, first)?;
        self.waiting.truncate(first);
        Ok(())
    }

    fn parts(&mut self, parts: &[Part], first: usize) -> Result<(), ProtobufError> {
        for part in parts {
            match part {
                Part::Embedded { tag, parts } => {
                    let end = self.out.mark();
                    self.parts(parts, first)?;
                    self.out.close(*tag, end);
                }
                Part::Field(field) => {
                    let value = self.waiting[first + field.place];
                    if field.is_always_sent || !self.json.is_null(value) {
                        self.field(field.tag, value, field.shape, field.name)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        tag: u32,
        value: At,
        shape: ShapeRef,
        name: &'static str,
    ) -> Result<(), ProtobufError> {
        match shape.shape() {
            Shape::String => self.text(tag, value, name)?,
            Shape::Bool => {
                let is_true = self.json.sort(value) == Sort::True;
                self.out.integer(tag, i64::from(is_true));
            }
            Shape::Int32 | Shape::Int64 => {
                let number = self.integer(value, name)?;
                self.out.integer(tag, number);
            }
            Shape::Float64 => {
                let number = self.number(value, name, "not a number", 0.0)?;
                self.out.double(tag, number);
            }
            Shape::Bytes => {
                let bytes = STANDARD
                    .decode(&*self.text_of(value, name)?)
                    .map_err(|error| invalid(name, error.to_string()))?;
                self.out.field_bytes(tag, &bytes);
            }
            Shape::List(element) => self.list(tag, value, element, name)?,
            Shape::Map(element) => self.map(tag, value, element, name)?,
            Shape::Any => return Err(invalid(name, "cannot be sent as protobuf")),
            shape => {
                let end = self.out.mark();
                self.content(value, shape, name)?;
                self.out.close(tag, end);
            }
        }
        Ok(())
    }

    fn list(
        &mut self,
        tag: u32,
        list: At,
        element: ShapeRef,
        name: &'static str,
    ) -> Result<(), ProtobufError> {
        if self.json.sort(list) != Sort::Array {
            return Err(invalid(name, "not an array"));
        }
        let first = self.waiting.len();
        self.waiting.extend(self.json.items(list));
        while let Some(item) = self.next_waiting(first) {
            self.field(tag, item, element, name)?;
        }
        Ok(())
    }

    /// The last of the values from the `first` on.
    fn next_waiting(&mut self, first: usize) -> Option<At> {
        if self.waiting.len() > first {
            self.waiting.pop()
        } else {
            None
        }
    }

    fn map(
        &mut self,
        tag: u32,
        map: At,
        element: ShapeRef,
        name: &'static str,
    ) -> Result<(), ProtobufError> {
        let json = self.json;
        if json.sort(map) != Sort::Object {
            return Err(invalid(name, "not an object"));
        }
        let first = self.waiting.len();
        self.waiting.extend(json.keys(map));
        let keys = &mut self.waiting[first..];
        if !keys.is_sorted_by(|one, next| json.text(*one) < json.text(*next)) {
            keys.sort_by(|one, other| json.text(*one).cmp(&json.text(*other)));
        }
        let mut written = None;
        while let Some(key) = self.next_waiting(first) {
            let (text, value) = (json.text(key), json.value_of(key));
            // Of repeated keys the last counts.
            if written.as_ref() == Some(&text) {
                continue;
            }
            let end = self.out.mark();
            if !json.is_null(value) || is_always_sent(element) {
                self.field(2, value, element, name)?;
            }
            self.out.text(1, &text);
            self.out.close(tag, end);
            written = Some(text);
        }
        Ok(())
    }

    /// The inside of what is a message on the wire.
    fn content(
        &mut self,
        value: At,
        shape: Shape,
        name: &'static str,
    ) -> Result<(), ProtobufError> {
        match shape {
            Shape::Struct(type_ref) => self.message(value, type_ref)?,
            Shape::Quantity => match self.json.sort(value) {
                Sort::Null => self.out.text(1, "0"),
                Sort::Number => self.out.text(1, self.json.literal(value)),
                _ => self.text(1, value, name)?,
            },
            Shape::Time | Shape::MicroTime => self.time(value, shape, name)?,
            Shape::Duration => {
                let text = self.text_of(value, name)?;
                let parsed = match self.json.sort(value) {
                    Sort::Null => Ok(0),
                    _ => parse_duration(&text),
                };
                self.out
                    .integer(1, parsed.map_err(|why| invalid(name, why))?);
            }
            Shape::IntOrString => {
                let is_text = self.is_text(value);
                let (number, text) = if is_text {
                    (0, self.json.text(value))
                } else {
                    (self.integer(value, name)?, Cow::Borrowed(""))
                };
                self.out.text(3, &text);
                self.out.integer(2, number);
                self.out.integer(1, i64::from(is_text));
            }
            Shape::RawExtension | Shape::FieldsV1 | Shape::Json => {
                if !self.json.is_null(value) {
                    self.out.field_bytes(1, self.json.raw(value).as_bytes());
                }
            }
            Shape::ListMessage(element) => {
                if !self.json.is_null(value) {
                    self.list(1, value, element, name)?;
                }
            }
            schema => self.schema_union(value, schema, name)?,
        }
        Ok(())
    }

    fn time(&mut self, value: At, shape: Shape, name: &'static str) -> Result<(), ProtobufError> {
        if self.json.is_null(value) {
            return Ok(());
        }
        let text = self.text_of(value, name)?;
        let micro = shape == Shape::MicroTime;
        let parsed = if micro {
            UnixTime::parse_micro(&text)
        } else {
            UnixTime::parse(&text)
        };
        let time = parsed.map_err(|why| invalid(name, why))?;
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
        value: At,
        shape: Shape,
        name: &'static str,
    ) -> Result<(), ProtobufError> {
        let first = self.waiting.len();
        match (shape, self.json.sort(value)) {
            (Shape::SchemaOrBool(schema), sort) => {
                if sort == Sort::Object {
                    self.nested(2, value, schema)?;
                }
                let allows = matches!(sort, Sort::Object | Sort::True);
                self.out.integer(1, i64::from(allows));
            }
            (Shape::SchemaOrArray(schema), Sort::Array) => {
                self.waiting.extend(self.json.items(value));
                while let Some(item) = self.next_waiting(first) {
                    self.nested(2, item, schema)?;
                }
            }
            (Shape::SchemaOrStrings(_), Sort::Array) => {
                self.waiting.extend(self.json.items(value));
                while let Some(item) = self.next_waiting(first) {
                    self.text(2, item, name)?;
                }
            }
            (Shape::SchemaOrArray(schema) | Shape::SchemaOrStrings(schema), Sort::Object) => {
                self.nested(1, value, schema)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn nested(&mut self, tag: u32, object: At, type_ref: TypeRef) -> Result<(), ProtobufError> {
        let end = self.out.mark();
        self.message(object, type_ref)?;
        self.out.close(tag, end);
        Ok(())
    }

    fn text(&mut self, tag: u32, value: At, name: &'static str) -> Result<(), ProtobufError> {
        let text = self.text_of(value, name)?;
        self.out.text(tag, &text);
        Ok(())
    }

    fn is_text(&self, value: At) -> bool {
        matches!(self.json.sort(value), Sort::Text | Sort::EscapedText)
    }

    fn text_of(&self, value: At, name: &'static str) -> Result<Cow<'a, str>, ProtobufError> {
        if self.is_text(value) {
            Ok(self.json.text(value))
        } else if self.json.is_null(value) {
            Ok(Cow::Borrowed(""))
        } else {
            Err(invalid(name, "not a string"))
        }
    }

    fn integer(&self, value: At, name: &'static str) -> Result<i64, ProtobufError> {
        self.number(value, name, "not an integer", 0)
    }

    fn number<N: std::str::FromStr>(
        &self,
        value: At,
        name: &'static str,
        why_not: &str,
        zero: N,
    ) -> Result<N, ProtobufError> {
        let found = match self.json.sort(value) {
            Sort::Number => self.json.literal(value).parse().ok(),
            Sort::Null => Some(zero),
            _ => None,
        };
        found.ok_or_else(|| invalid(name, why_not))
    }
}

fn invalid(field: &'static str, why: impl Into<String>) -> ProtobufError {
    let why = why.into();
    ProtobufError::InvalidValue { field, why }
}
