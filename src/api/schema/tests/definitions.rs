//! The rules for schemas against upstream's, on random schemas of which many are illegal.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.

use std::collections::BTreeSet;
use std::io::Read as _;

use apimachinery::FieldPath;

fn definitions() -> Vec<(String, String)> {
    let mut data = Vec::new();
    flate2::read::GzDecoder::new(&include_bytes!("data/definitions.gz")[..])
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
    let mut definitions = Vec::new();
    while let Some(schema) = part() {
        definitions.push((schema, part().unwrap()));
    }
    definitions
}

#[test]
fn schemas_are_judged_as_upstream_does() {
    let mut failures = 0;
    for (schema, expected) in &definitions() {
        let tree = serde_json::from_str(schema).unwrap();
        let ours: BTreeSet<String> = schema::validate_definition(&tree, &FieldPath::new("schema"))
            .iter()
            .map(ToString::to_string)
            .collect();
        let expected: BTreeSet<String> = expected.lines().map(str::to_owned).collect();
        if ours != expected {
            failures += 1;
            println!("schema {schema}");
            ours.difference(&expected)
                .for_each(|line| println!("  ours only {line}"));
            expected
                .difference(&ours)
                .for_each(|line| println!("  go's only {line}"));
        }
    }
    assert_eq!(failures, 0);
}
