//! The decoder against Go's: broken objects of every kind and the exact words about them; canonical quantities.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.

use std::io::Read as _;

use schema::{Node, canonical_quantity, decode_json};

struct Refusal {
    kind: String,
    input: String,
    error: String,
    outcome: String,
    /// What Go writes of an object that it could read.
    written: String,
}

fn refusals() -> Vec<Refusal> {
    let mut data = Vec::new();
    flate2::read::GzDecoder::new(&include_bytes!("data/refusals.gz")[..])
        .read_to_end(&mut data)
        .unwrap();
    let mut rest = &data[..];
    let mut part = || {
        let (length, after) = rest.split_at_checked(4)?;
        let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
        let (part, after) = after.split_at(length);
        rest = after;
        Some(String::from_utf8(part.to_vec()).unwrap())
    };
    let mut refusals = Vec::new();
    while let Some(kind) = part() {
        refusals.push(Refusal {
            kind,
            input: part().unwrap(),
            error: part().unwrap(),
            outcome: part().unwrap(),
            written: part().unwrap(),
        });
    }
    refusals
}

#[test]
fn broken_objects_are_refused_in_gos_words() {
    let mut failures = 0;
    for refusal in refusals()
        .iter()
        .filter(|refusal| refusal.kind != "quantity")
    {
        let parts: Vec<&str> = refusal.kind.split('/').collect();
        let node = Node::Type(schema::built_in(parts[0], parts[1], parts[2]).unwrap());
        let (error, strict) = match decode_json(refusal.input.as_bytes(), node) {
            Ok(decoded) => (String::new(), decoded.strict_errors.join("\n")),
            Err(error) => (error.to_string(), String::new()),
        };
        if (&error, &strict) != (&refusal.error, &refusal.outcome) {
            failures += 1;
            println!(
                "{}\n  ours: {error:?} {strict:?}\n  go's: {:?} {:?}",
                refusal.kind, refusal.error, refusal.outcome
            );
        }
    }
    assert_eq!(failures, 0);
}

#[test]
fn quantities_have_gos_canonical_form() {
    let mut failures = 0;
    for refusal in refusals()
        .iter()
        .filter(|refusal| refusal.kind == "quantity")
    {
        let (error, canonical) = match canonical_quantity(&refusal.input) {
            Ok(canonical) => (String::new(), canonical),
            Err(error) => (error.to_string(), String::new()),
        };
        if (&error, &canonical) != (&refusal.error, &refusal.outcome) {
            failures += 1;
            println!(
                "{:?}: ours {canonical:?} {error:?}, go's {:?} {:?}",
                refusal.input, refusal.outcome, refusal.error
            );
        }
    }
    assert_eq!(failures, 0);
}

#[test]
fn what_can_be_read_is_written_as_go_writes_it() {
    let mut failures = 0;
    for refusal in refusals()
        .iter()
        .filter(|refusal| !refusal.written.is_empty())
    {
        let parts: Vec<&str> = refusal.kind.split('/').collect();
        let node = Node::Type(schema::built_in(parts[0], parts[1], parts[2]).unwrap());
        let Ok(decoded) = decode_json(refusal.input.as_bytes(), node) else {
            continue;
        };
        let mut tree = decoded.tree;
        schema::canonicalise(&mut tree, node);
        let expected: serde_json::Value = serde_json::from_str(&refusal.written).unwrap();
        if tree != expected {
            failures += 1;
            println!("{}\n  ours {tree}\n  go's {expected}", refusal.kind);
        }
    }
    assert_eq!(failures, 0);
}
