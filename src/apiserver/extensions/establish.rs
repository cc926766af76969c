//! What a definition's status should say: which names it got, and whether it is served.

use std::collections::BTreeMap;

use env::Timestamp;
use serde_json::{Value, json};

use crate::definition::{Definition, Names, Status};

/// The status that follows from a definition and all others of its group.
pub(crate) fn wanted_status(
    definition: &Definition,
    others: &[Definition],
    now: Timestamp,
) -> Status {
    let conflict = name_conflict(definition, others);
    let mut status = definition.status.clone();
    match &conflict {
        None => {
            status.accepted_names = definition.spec.names.clone();
            set(
                &mut status,
                "NamesAccepted",
                true,
                ("NoConflicts", "no conflicts found"),
                now,
            );
        }
        Some((reason, message)) => set(&mut status, "NamesAccepted", false, (reason, message), now),
    }
    if conflict.is_none() {
        set(
            &mut status,
            "Established",
            true,
            (
                "InitialNamesAccepted",
                "the initial names have been accepted",
            ),
            now,
        );
    } else if !definition.has_condition("Established") {
        set(
            &mut status,
            "Established",
            false,
            ("NotAccepted", "not all names are accepted"),
            now,
        );
    }
    if let Some(storage) = definition.storage_version()
        && !status.stored_versions.contains(&storage.name)
    {
        status.stored_versions.push(storage.name.clone());
    }
    status
}

fn set(
    status: &mut Status,
    kind: &str,
    holds: bool,
    (reason, message): (&str, &str),
    now: Timestamp,
) {
    let value = if holds { "True" } else { "False" };
    let present = status
        .conditions
        .iter_mut()
        .find(|condition| condition.get("type").is_some_and(|found| found == kind));
    if let Some(condition) = &present
        && condition.get("status").is_some_and(|found| found == value)
        && (kind == "Established" || condition.get("reason").is_some_and(|found| found == reason))
    {
        return;
    }
    let condition: BTreeMap<String, Value> = [
        ("type", json!(kind)),
        ("status", json!(value)),
        ("lastTransitionTime", json!(now.to_seconds_string())),
        ("reason", json!(reason)),
        ("message", json!(message)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    match present {
        Some(present) => *present = condition,
        None => status.conditions.push(condition),
    }
}

/// Names are first come, first served within a group.
fn name_conflict(definition: &Definition, others: &[Definition]) -> Option<(&'static str, String)> {
    let taken: Vec<&Names> = others
        .iter()
        .filter(|other| {
            other.metadata.uid != definition.metadata.uid
                && other.spec.group == definition.spec.group
        })
        .filter(|other| other.has_condition("NamesAccepted"))
        .map(|other| &other.status.accepted_names)
        .collect();
    let names = &definition.spec.names;
    let resource_taken = |name: &String| {
        taken.iter().any(|other| {
            other.plural == *name || other.singular == *name || other.short_names.contains(name)
        })
    };
    let kind_taken = |name: &String| {
        taken
            .iter()
            .any(|other| other.kind == *name || other.list_kind == *name)
    };
    let used = |name: &str| format!("{name:?} is already in use");
    if resource_taken(&names.plural) {
        return Some(("PluralConflict", used(&names.plural)));
    }
    if !names.singular.is_empty() && resource_taken(&names.singular) {
        return Some(("SingularConflict", used(&names.singular)));
    }
    if let Some(short) = names.short_names.iter().find(|name| resource_taken(name)) {
        return Some(("ShortNamesConflict", used(short)));
    }
    if kind_taken(&names.kind) {
        return Some(("KindConflict", used(&names.kind)));
    }
    kind_taken(&names.list_kind).then(|| ("ListKindConflict", used(&names.list_kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(uid: &str, plural: &str) -> Definition {
        let mut definition = Definition::default();
        definition.metadata.uid = uid.to_owned();
        definition.spec.group = "g".to_owned();
        definition.spec.names.plural = plural.to_owned();
        definition.spec.names.kind = format!("Kind{plural}");
        definition.spec.names.list_kind = format!("Kind{plural}List");
        definition
    }

    #[test]
    fn who_comes_second_does_not_get_the_name() {
        let now = Timestamp::UNIX_EPOCH;
        let mut first = definition("1", "things");
        first.status = wanted_status(&first, &[], now);
        assert!(first.has_condition("Established"));
        let mut second = definition("2", "things");
        second.status = wanted_status(&second, &[first.clone()], now);
        assert!(!second.has_condition("NamesAccepted") && !second.has_condition("Established"));
        assert_eq!(wanted_status(&first, &[second], now), first.status);
    }
}
