//! The transcoder against what Go writes: every kind, filled in several ways, both directions, byte for byte.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.

use std::io::Read as _;

use codec::ListMetadata;
use codec::protobuf::{
    Envelope, MAGIC, ProtobufError, ProtobufList, decode_message, encode_message, seal,
};
use serde_json::Value;

struct Pair {
    kind: String,
    json: Vec<u8>,
    protobuf: Vec<u8>,
}

fn pairs() -> Vec<Pair> {
    let mut data = Vec::new();
    flate2::read::GzDecoder::new(&include_bytes!("data/pairs.gz")[..])
        .read_to_end(&mut data)
        .unwrap();
    let mut rest = &data[..];
    let mut part = || {
        let (length, after) = rest.split_at_checked(4)?;
        let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
        let (part, after) = after.split_at(length);
        rest = after;
        Some(part.to_vec())
    };
    let mut pairs = Vec::new();
    while let Some(kind) = part() {
        let kind = String::from_utf8(kind).unwrap();
        pairs.push(Pair {
            kind,
            json: part().unwrap(),
            protobuf: part().unwrap(),
        });
    }
    pairs
}

fn type_of(kind: &str) -> schema::TypeRef {
    let parts: Vec<&str> = kind.split('/').collect();
    schema::built_in(parts[0], parts[1], parts[2]).unwrap()
}

#[test]
fn every_kind_is_written_as_go_writes_it() {
    let pairs = pairs();
    assert!(pairs.len() > 300);
    for pair in pairs {
        let type_ref = type_of(&pair.kind);
        let message = encode_message(&pair.json, type_ref).unwrap();
        let written = if pair.protobuf.starts_with(MAGIC) {
            let envelope = Envelope::open(&pair.protobuf).unwrap();
            seal(envelope.api_version, envelope.kind, &message)
        } else {
            message
        };
        assert!(
            written == pair.protobuf,
            "{}: {}\n{:02x?}\n{:02x?}",
            pair.kind,
            String::from_utf8_lossy(&pair.json),
            written,
            pair.protobuf
        );
    }
}

/// The same JSON with spaces wherever they may be, and letters of its texts as escapes.
fn written_otherwise(json: &[u8]) -> Vec<u8> {
    let value: Value = serde_json::from_slice(json).unwrap();
    let spaced = serde_json::to_string_pretty(&value).unwrap();
    spaced
        .replace('e', "\\u0065")
        .replace("tru\\u0065", "true")
        .replace("fals\\u0065", "false")
        .into_bytes()
}

#[test]
fn how_json_is_written_makes_no_difference() {
    for pair in pairs() {
        let type_ref = type_of(&pair.kind);
        // Raw JSON within it is sent in the order of the text: both have to have the same.
        let value: Value = serde_json::from_slice(&pair.json).unwrap();
        let plain = encode_message(value.to_string().as_bytes(), type_ref);
        let other = encode_message(&written_otherwise(&pair.json), type_ref);
        assert!(plain.is_ok() && plain == other, "{}", pair.kind);
    }
}

#[test]
fn a_list_is_what_its_items_make_together() {
    const ITEMS: [&str; 2] = [
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"k":"line\nline"}}"#,
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{}}"#,
    ];
    let list_type = type_of("/v1/ConfigMapList");
    let metadata = ListMetadata {
        revision: 9,
        continue_token: Some("token"),
        remaining_item_count: Some(3),
    };
    let json = br#"{"metadata":{"resourceVersion":"9","continue":"token","remainingItemCount":3},
        "items":[{"metadata":{"name":"a","resourceVersion":"7"},"data":{"k":"line\nline"}},
                 {"metadata":{"resourceVersion":"8"}}]}"#;
    let expected = codec::protobuf::encode(json, list_type, "v1", "ConfigMapList").unwrap();
    for size_guess in [0, 200, 1 << 20] {
        let names = ("v1", "ConfigMapList");
        let item_type = type_of("/v1/ConfigMap");
        let mut list = ProtobufList::new(names, &metadata, item_type, size_guess).unwrap();
        for (item, revision) in ITEMS.iter().zip([7, 8]) {
            list.push(item.as_bytes(), revision).unwrap();
        }
        assert_eq!(list.finish(), expected);
    }
}

#[test]
fn every_kind_is_read_as_go_reads_it() {
    for pair in pairs() {
        let type_ref = type_of(&pair.kind);
        let read = if pair.protobuf.starts_with(MAGIC) {
            Envelope::open(&pair.protobuf)
                .unwrap()
                .decode(type_ref)
                .unwrap()
        } else {
            decode_message(&pair.protobuf, type_ref).unwrap()
        };
        let expected: Value = serde_json::from_slice(&pair.json).unwrap();
        assert!(read == expected, "{}:\n{read}\n{expected}", pair.kind);
    }
}

#[test]
fn gos_json_is_a_fixed_point_of_the_canonical_form() {
    for pair in pairs() {
        let node = schema::Node::Type(type_of(&pair.kind));
        let decoded = schema::decode_json(&pair.json, node).unwrap();
        assert_eq!(decoded.strict_errors, [""; 0], "{}", pair.kind);
        let mut tree = decoded.tree;
        schema::canonicalise(&mut tree, node);
        let expected: Value = serde_json::from_slice(&pair.json).unwrap();
        assert!(tree == expected, "{}:\n{tree}\n{expected}", pair.kind);
    }
}

/// A small generator, so that every run breaks the same bytes.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

#[test]
fn broken_bytes_are_an_error_or_an_object_and_never_a_panic() {
    let mut chance = Chance(1);
    for pair in pairs() {
        let type_ref = type_of(&pair.kind);
        for _ in 0..20 {
            let mut protobuf = pair.protobuf.clone();
            let mut json = pair.json.clone();
            for bytes in [&mut protobuf, &mut json] {
                if bytes.is_empty() {
                    continue;
                }
                let place = chance.below(bytes.len());
                bytes[place] = u8::try_from(chance.below(256)).unwrap();
                bytes.truncate(bytes.len() - chance.below(2) * chance.below(bytes.len()));
            }
            if let Ok(envelope) = Envelope::open(&protobuf) {
                let _ = envelope.decode(type_ref);
            }
            let _ = decode_message(&protobuf, type_ref);
            let _ = schema::decode_json(&json, schema::Node::Type(type_ref));
            let _ = encode_message(&json, type_ref);
            let _ = codec::parse_yaml(&json[..json.len().min(2000)]);
        }
    }
}

#[test]
fn hostile_bytes_are_refused_with_the_reason() {
    let pod = type_of("/v1/Pod");
    assert_eq!(Envelope::open(b""), Err(ProtobufError::Empty));
    assert_eq!(Envelope::open(b"{}"), Err(ProtobufError::NoMagic));
    assert_eq!(Envelope::open(b"k8s\0"), Err(ProtobufError::EmptyBody));
    assert_eq!(
        decode_message(&[0x0a, 5, 1], pod),
        Err(ProtobufError::Truncated)
    );
    assert_eq!(
        decode_message(&[0xff; 11], pod),
        Err(ProtobufError::IntegerOverflow)
    );
    assert_eq!(
        decode_message(&[0x00], pod),
        Err(ProtobufError::IllegalTag(0))
    );
    assert_eq!(
        decode_message(&[0x08, 1], pod),
        Err(ProtobufError::WrongWireType {
            wire_type: 0,
            field: "metadata"
        })
    );
    assert_eq!(
        decode_message(&[0x0a, 3, 0x0a, 1, 0xff], pod),
        Err(ProtobufError::InvalidUtf8 { field: "name" })
    );
    // A schema inside a schema inside a schema …
    let schema = schema::type_named(
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps",
    )
    .unwrap();
    let not = schema.field("not").unwrap().proto_tag().unwrap();
    let mut message = Vec::new();
    for _ in 0..500 {
        let mut outer = Vec::new();
        push_varint(&mut outer, u64::from(not) << 3 | 2);
        push_varint(&mut outer, message.len() as u64);
        outer.extend(message);
        message = outer;
    }
    assert_eq!(
        decode_message(&message, schema),
        Err(ProtobufError::TooDeep)
    );
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}
