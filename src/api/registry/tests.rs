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
        assert!(
            seen.insert(description.resource()),
            "{:?} is twice in the table",
            description.resource()
        );
    }
}

#[test]
fn the_facts_know_every_kind() {
    for resource in RESOURCES {
        let _known = resource.schema();
        let description = resource.description();
        let list = schema::built_in(
            &description.kind.group,
            &description.kind.version,
            &description.list_kind,
        );
        assert!(
            list.is_some() || !description.verbs.contains("list"),
            "no list type for {}",
            description.kind
        );
    }
}

#[test]
fn two_kinds_share_a_place_in_the_store_only_as_versions_of_one() {
    let mut places = std::collections::BTreeMap::new();
    for resource in RESOURCES {
        let description = resource.description();
        if description.verbs.is_stored() {
            let kept = places
                .entry(description.prefix.clone())
                .or_insert_with(|| description.stored_kind.clone());
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
        let text =
            json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": {"name": "a"}})
                .to_string();
        let row = resource
            .row(text.as_bytes(), env::Timestamp::UNIX_EPOCH)
            .expect("a row");
        assert_eq!(row.len(), resource.columns().len(), "{kind}");
    }
}

/// Heads of tables as a control plane of upstream sends them: resource, then `name,type,format,priority`.
const UPSTREAM_COLUMNS: &str = include_str!("upstream_columns.txt");

#[test]
fn tables_have_the_heads_of_upstream() {
    for line in UPSTREAM_COLUMNS.lines() {
        let (path, heads) = line.split_once(' ').expect("a resource and its heads");
        let resource = RESOURCES
            .iter()
            .find(|resource| {
                let resource = resource.description().resource();
                let prefix = if resource.group.is_empty() {
                    "api".to_owned()
                } else {
                    format!("apis/{}", resource.group)
                };
                format!("{prefix}/{}/{}", resource.version, resource.resource) == path
            })
            .unwrap_or_else(|| panic!("{path} is not in the table of kinds"));
        let ours: Vec<String> = resource
            .columns()
            .iter()
            .map(|column| {
                format!(
                    "{},{},{},{}",
                    column.name, column.kind, column.format, column.priority
                )
            })
            .collect();
        assert_eq!(ours.join(" | "), heads, "{path}");
    }
}
