//! Rules that every kind obeys.

use std::collections::BTreeSet;

use apimachinery::Object;
use serde_json::json;

use crate::RESOURCES;

#[test]
fn names_are_unique_in_their_group_version() {
    let mut seen = BTreeSet::new();
    for resource in RESOURCES {
        let description = resource.description();
        assert!(seen.insert(description.resource()), "{:?} is twice in the table", description.resource());
    }
}

#[test]
fn the_facts_know_every_kind() {
    for resource in RESOURCES {
        let _known = resource.schema();
        let description = resource.description();
        let list = schema::built_in(&description.kind.group, &description.kind.version, &description.list_kind);
        assert!(list.is_some() || !description.verbs.contains("list"), "no list type for {}", description.kind);
    }
}

#[test]
fn two_kinds_share_a_place_in_the_store_only_as_versions_of_one() {
    let mut places = std::collections::BTreeMap::new();
    for resource in RESOURCES {
        let description = resource.description();
        if description.verbs.is_stored() {
            let kept = places.entry(description.prefix.clone()).or_insert_with(|| description.stored_kind.clone());
            assert_eq!(*kept, description.stored_kind);
        }
    }
}

#[test]
fn hooks_accept_an_object_with_nothing_but_a_name_and_leave_its_name_alone() {
    for resource in RESOURCES {
        let description = resource.description();
        let mut object = Object::from_value(json!({"metadata": {"name": "a"}})).expect("an object");
        object.set_group_version_kind(&description.kind);
        resource.default(&mut object).expect("defaults");
        let _verdict = resource.check_create(&mut object).expect("a check");
        assert_eq!(object.name(), "a", "{}", description.kind);
        assert_eq!(object.group_version_kind(), description.kind);
    }
}

#[test]
fn a_row_has_a_cell_for_every_column() {
    for resource in RESOURCES {
        let kind = resource.description().kind;
        let text = json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": {"name": "a"}}).to_string();
        let row = resource.row(text.as_bytes(), env::Timestamp::UNIX_EPOCH).expect("a row");
        assert_eq!(row.len(), resource.columns().len(), "{kind}");
    }
}
