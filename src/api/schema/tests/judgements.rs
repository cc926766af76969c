//! Pruning, defaulting and validation against upstream's, on random schemas and values.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.

use std::io::Read as _;

use schema::{Document, Structural};
use serde_json::Value;

/// Schema, value, value after pruning and defaulting, pruned paths, errors.
fn judgements() -> Vec<[String; 5]> {
    let mut data = Vec::new();
    flate2::read::GzDecoder::new(&include_bytes!("data/judgements.gz")[..])
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
    let mut judgements = Vec::new();
    while let Some(schema) = part() {
        judgements.push([
            schema,
            part().unwrap(),
            part().unwrap(),
            part().unwrap(),
            part().unwrap(),
        ]);
    }
    judgements
}

#[test]
fn custom_resources_are_pruned_defaulted_and_judged_as_upstream_does() {
    let mut failures = 0;
    for [schema, value, completed, pruned, errors] in &judgements() {
        let structural = Structural::from_json(&serde_json::from_str(schema).unwrap()).unwrap();
        let mut tree = Document::parse(value.as_bytes())
            .unwrap()
            .into_value()
            .unwrap();
        let our_pruned = schema::prune(&mut tree, &structural).join("\n");
        schema::prune_non_nullable_nulls(&mut tree, &structural);
        schema::apply_defaults(&mut tree, &structural);
        let completed: Value = serde_json::from_str(completed).unwrap();
        let mut texts: Vec<String> = schema::validate(&tree, &structural)
            .into_iter()
            .chain(schema::validate_list_types(&tree, &structural))
            .map(|error| error.to_string())
            .collect();
        texts.sort();
        let texts = texts.join("\n");
        if tree != completed || our_pruned != *pruned || texts != *errors {
            failures += 1;
            println!("schema {schema}\nvalue {value}");
            if tree != completed {
                println!("  ours {tree}\n  go's {completed}");
            }
            if our_pruned != *pruned {
                println!("  pruned ours {our_pruned:?} go's {pruned:?}");
            }
            if texts != *errors {
                println!("  errors ours {texts}\n  errors go's {errors}");
            }
        }
    }
    assert_eq!(failures, 0);
}
