//! The protobuf form of a version 2 document (`application/com.github.proto-openapi.spec.v2.v1.0+protobuf`), which
//! older clients ask for. The messages are those of `openapi.v2.Document`.

use serde_json::{Map, Value};

use crate::protobuf::Backward;

/// How a member of a JSON object becomes a field.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Flag,
    Integer,
    Number,
    Texts,
    /// Any JSON, as YAML text.
    Any,
    Anys,
    Message(&'static Message),
    Messages(&'static Message),
    /// A map of names to messages, inside a message of its own.
    Named(&'static Message),
    /// A text or a list of texts, inside a message.
    Type,
    /// One schema inside a message.
    Items,
    /// A schema or a flag.
    AdditionalProperties,
    /// One of two messages: a reference, or the thing itself wrapped once more.
    Parameters,
    Responses,
    ResponseSchema,
    Paths,
    Security,
    SecurityDefinitions,
}

/// The fields of a message: JSON key, number, form; and the number that extensions (`x-…`) go under.
struct Message {
    fields: &'static [(&'static str, u32, Form)],
    extensions: Option<u32>,
}

static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Form::Text),
        ("format", 2, Form::Text),
        ("title", 3, Form::Text),
        ("description", 4, Form::Text),
        ("default", 5, Form::Any),
        ("multipleOf", 6, Form::Number),
        ("maximum", 7, Form::Number),
        ("exclusiveMaximum", 8, Form::Flag),
        ("minimum", 9, Form::Number),
        ("exclusiveMinimum", 10, Form::Flag),
        ("maxLength", 11, Form::Integer),
        ("minLength", 12, Form::Integer),
        ("pattern", 13, Form::Text),
        ("maxItems", 14, Form::Integer),
        ("minItems", 15, Form::Integer),
        ("uniqueItems", 16, Form::Flag),
        ("maxProperties", 17, Form::Integer),
        ("minProperties", 18, Form::Integer),
        ("required", 19, Form::Texts),
        ("enum", 20, Form::Anys),
        ("additionalProperties", 21, Form::AdditionalProperties),
        ("type", 22, Form::Type),
        ("items", 23, Form::Items),
        ("allOf", 24, Form::Messages(&SCHEMA)),
        ("properties", 25, Form::Named(&SCHEMA)),
        ("discriminator", 26, Form::Text),
        ("readOnly", 27, Form::Flag),
        ("externalDocs", 29, Form::Message(&EXTERNAL_DOCS)),
        ("example", 30, Form::Any),
    ],
    extensions: Some(31),
};

static EXTERNAL_DOCS: Message = Message {
    fields: &[("description", 1, Form::Text), ("url", 2, Form::Text)],
    extensions: Some(3),
};

static INFO: Message = Message {
    fields: &[
        ("title", 1, Form::Text),
        ("version", 2, Form::Text),
        ("description", 3, Form::Text),
    ],
    extensions: Some(7),
};

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Form::Text),
        ("info", 2, Form::Message(&INFO)),
        ("paths", 8, Form::Paths),
        ("definitions", 9, Form::Named(&SCHEMA)),
        ("security", 12, Form::Security),
        ("securityDefinitions", 13, Form::SecurityDefinitions),
    ],
    extensions: Some(16),
};

static PATH_ITEM: Message = Message {
    fields: &[
        ("get", 2, Form::Message(&OPERATION)),
        ("put", 3, Form::Message(&OPERATION)),
        ("post", 4, Form::Message(&OPERATION)),
        ("delete", 5, Form::Message(&OPERATION)),
        ("options", 6, Form::Message(&OPERATION)),
        ("head", 7, Form::Message(&OPERATION)),
        ("patch", 8, Form::Message(&OPERATION)),
        ("parameters", 9, Form::Parameters),
    ],
    extensions: Some(10),
};

static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Form::Texts),
        ("summary", 2, Form::Text),
        ("description", 3, Form::Text),
        ("operationId", 5, Form::Text),
        ("produces", 6, Form::Texts),
        ("consumes", 7, Form::Texts),
        ("parameters", 8, Form::Parameters),
        ("responses", 9, Form::Responses),
        ("schemes", 10, Form::Texts),
    ],
    extensions: Some(13),
};

static BODY_PARAMETER: Message = Message {
    fields: &[
        ("description", 1, Form::Text),
        ("name", 2, Form::Text),
        ("in", 3, Form::Text),
        ("required", 4, Form::Flag),
        ("schema", 5, Form::Message(&SCHEMA)),
    ],
    extensions: Some(6),
};

static QUERY_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Form::Flag),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 6, Form::Text),
        ("format", 7, Form::Text),
        ("uniqueItems", 20, Form::Flag),
    ],
    extensions: Some(23),
};

static PATH_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Form::Flag),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 5, Form::Text),
        ("format", 6, Form::Text),
        ("uniqueItems", 19, Form::Flag),
    ],
    extensions: Some(22),
};

static RESPONSE: Message = Message {
    fields: &[
        ("description", 1, Form::Text),
        ("schema", 2, Form::ResponseSchema),
    ],
    extensions: Some(5),
};

static API_KEY: Message = Message {
    fields: &[
        ("type", 1, Form::Text),
        ("name", 2, Form::Text),
        ("in", 3, Form::Text),
        ("description", 4, Form::Text),
    ],
    extensions: Some(5),
};

/// Writes a version 2 document as `openapi.v2.Document`.
pub fn to_protobuf(document: &Value) -> Vec<u8> {
    let mut out = Backward::with_capacity(1 << 20);
    if let Some(map) = document.as_object() {
        message(&mut out, map, &DOCUMENT);
    }
    out.finish()
}

fn message(out: &mut Backward, map: &Map<String, Value>, shape: &Message) {
    if let Some(tag) = shape.extensions {
        for (name, value) in map.iter().rev().filter(|(name, _)| name.starts_with("x-")) {
            nested(out, tag, |out| {
                nested(out, 2, |out| any(out, value));
                out.text(1, name);
            });
        }
    }
    for (key, tag, form) in shape.fields.iter().rev() {
        if let Some(value) = map.get(*key) {
            field(out, *tag, value, *form);
        }
    }
}

fn nested(out: &mut Backward, tag: u32, write: impl FnOnce(&mut Backward)) {
    let end = out.mark();
    write(out);
    out.close(tag, end);
}

fn any(out: &mut Backward, value: &Value) {
    // JSON is YAML.
    out.text(2, &format!("{value}\n"));
}

fn submessage(out: &mut Backward, tag: u32, value: &Value, shape: &Message) {
    let empty = Map::new();
    let map = value.as_object().unwrap_or(&empty);
    nested(out, tag, |out| message(out, map, shape));
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn texts(out: &mut Backward, tag: u32, value: &Value) {
    for text in items(value).iter().rev().filter_map(Value::as_str) {
        out.text(tag, text);
    }
}

fn named(out: &mut Backward, tag: u32, value: &Value, write: impl Fn(&mut Backward, &Value)) {
    for (name, value) in value.as_object().into_iter().flatten().rev() {
        nested(out, tag, |out| {
            write(out, value);
            out.text(1, name);
        });
    }
}

/// Scalars at their zero value are not sent, as proto3 has it.
fn field(out: &mut Backward, tag: u32, value: &Value, form: Form) {
    match form {
        Form::Text => {
            if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
                out.text(tag, text);
            }
        }
        Form::Flag => {
            if value == &Value::Bool(true) {
                out.integer(tag, 1);
            }
        }
        Form::Integer => {
            if let Some(number) = value.as_i64().filter(|number| *number != 0) {
                out.integer(tag, number);
            }
        }
        Form::Number => {
            if let Some(number) = value.as_f64().filter(|number| *number != 0.0) {
                out.double(tag, number);
            }
        }
        Form::Texts => texts(out, tag, value),
        Form::Any => nested(out, tag, |out| any(out, value)),
        Form::Anys => {
            for value in items(value).iter().rev() {
                nested(out, tag, |out| any(out, value));
            }
        }
        Form::Message(shape) => submessage(out, tag, value, shape),
        Form::Messages(shape) => {
            for value in items(value).iter().rev() {
                submessage(out, tag, value, shape);
            }
        }
        Form::Named(shape) => nested(out, tag, |out| {
            named(out, 1, value, |out, value| submessage(out, 2, value, shape));
        }),
        Form::Type => nested(out, tag, |out| match value.as_str() {
            Some(text) => out.text(1, text),
            None => texts(out, 1, value),
        }),
        Form::Items => nested(out, tag, |out| submessage(out, 1, value, &SCHEMA)),
        Form::AdditionalProperties => nested(out, tag, |out| match value.as_bool() {
            Some(flag) => out.integer(2, i64::from(flag)),
            None => submessage(out, 1, value, &SCHEMA),
        }),
        other => wrapped(out, tag, value, other),
    }
}

/// The forms that wrap what they hold in messages of their own.
fn wrapped(out: &mut Backward, tag: u32, value: &Value, form: Form) {
    match form {
        Form::Parameters => {
            for value in items(value).iter().rev() {
                nested(out, tag, |out| nested(out, 1, |out| parameter(out, value)));
            }
        }
        Form::Responses => nested(out, tag, |out| {
            named(out, 1, value, |out, value| {
                nested(out, 2, |out| submessage(out, 1, value, &RESPONSE));
            });
        }),
        Form::ResponseSchema => nested(out, tag, |out| submessage(out, 1, value, &SCHEMA)),
        Form::Paths => nested(out, tag, |out| {
            named(out, 2, value, |out, value| {
                submessage(out, 2, value, &PATH_ITEM);
            });
        }),
        Form::Security => {
            for value in items(value).iter().rev() {
                nested(out, tag, |out| {
                    named(out, 1, value, |out, value| {
                        nested(out, 2, |out| texts(out, 1, value));
                    });
                });
            }
        }
        Form::SecurityDefinitions => nested(out, tag, |out| {
            named(out, 1, value, |out, value| {
                nested(out, 2, |out| submessage(out, 2, value, &API_KEY));
            });
        }),
        _ => {}
    }
}

fn parameter(out: &mut Backward, value: &Value) {
    match value.get("in").and_then(Value::as_str) {
        Some("body") => submessage(out, 1, value, &BODY_PARAMETER),
        Some("path") => nested(out, 2, |out| submessage(out, 4, value, &PATH_PARAMETER)),
        _ => nested(out, 2, |out| submessage(out, 3, value, &QUERY_PARAMETER)),
    }
}
