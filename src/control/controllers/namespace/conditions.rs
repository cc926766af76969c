//! The five conditions of a namespace that is being deleted, in upstream's words.

use std::collections::BTreeMap;

use apimachinery::Object;
use env::Timestamp;
use serde_json::Value;

use super::content::Content;
use crate::conditions::Condition;

/// Type, and reason and message when all is well.
const WELL: [(&str, &str, &str); 5] = [
    (
        DISCOVERY,
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        PARSING,
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        CONTENT,
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    (
        REMAINING,
        "ContentRemoved",
        "All content successfully removed",
    ),
    (
        FINALIZERS,
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
];
const DISCOVERY: &str = "NamespaceDeletionDiscoveryFailure";
const PARSING: &str = "NamespaceDeletionGroupVersionParsingFailure";
const CONTENT: &str = "NamespaceDeletionContentFailure";
const REMAINING: &str = "NamespaceContentRemaining";
const FINALIZERS: &str = "NamespaceFinalizersRemaining";

/// The namespace's conditions, brought up to date; those of others stay.
pub(super) fn updated(namespace: &Object, content: &Content, now: Timestamp) -> Value {
    let standing = namespace
        .at(&["status", "conditions"])
        .cloned()
        .unwrap_or_default();
    let mut conditions: Vec<Condition> = serde_json::from_value(standing).unwrap_or_default();
    let problems = problems(content);
    for (kind, reason, message) in WELL {
        let wanted = match problems.iter().find(|(problem, ..)| *problem == kind) {
            Some((_, reason, message)) => Condition::new(kind, true, reason, message.clone(), now),
            None => Condition::new(kind, false, reason, message, now),
        };
        replace(&mut conditions, wanted);
    }
    serde_json::to_value(conditions).unwrap_or_default()
}

fn problems(content: &Content) -> Vec<(&'static str, &'static str, String)> {
    let mut problems = Vec::new();
    if !content.undiscovered.is_empty() {
        let groups: Vec<String> = content
            .undiscovered
            .iter()
            .map(|(group, error)| format!("{group}: {error}"))
            .collect();
        let message = format!(
            "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
            groups.len(),
            groups.join(", ")
        );
        problems.push((DISCOVERY, "DiscoveryFailed", message));
    }
    if !content.errors.is_empty() {
        let mut errors = content.errors.clone();
        errors.sort();
        let message = format!(
            "Failed to delete all resource types, {} remaining: {}",
            errors.len(),
            errors.join(", ")
        );
        problems.push((CONTENT, "ContentDeletionFailed", message));
    }
    if content.remaining.is_empty() || content.is_waiting_for_pods {
        return problems;
    }
    let mut remaining: Vec<String> = content
        .remaining
        .iter()
        .map(|left| {
            let resource = &left.resource;
            format!(
                "{}.{} has {} resource instances",
                resource.resource, resource.group, left.count
            )
        })
        .collect();
    remaining.sort();
    problems.push((
        REMAINING,
        "SomeResourcesRemain",
        format!("Some resources are remaining: {}", remaining.join(", ")),
    ));
    let mut by_finalizer: BTreeMap<&str, usize> = BTreeMap::new();
    for (finalizer, count) in content.remaining.iter().flat_map(|left| &left.finalizers) {
        *by_finalizer.entry(finalizer).or_insert(0) += count;
    }
    if !by_finalizer.is_empty() {
        let texts: Vec<String> = by_finalizer
            .iter()
            .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
            .collect();
        let message = format!(
            "Some content in the namespace has finalizers remaining: {}",
            texts.join(", ")
        );
        problems.push((FINALIZERS, "SomeFinalizersRemain", message));
    }
    problems
}

/// A status that stays keeps its transition time; unlike with other kinds, a new message alone is written.
fn replace(conditions: &mut Vec<Condition>, mut wanted: Condition) {
    match conditions
        .iter_mut()
        .find(|standing| standing.kind == wanted.kind)
    {
        Some(standing) => {
            if standing.status == wanted.status {
                wanted
                    .last_transition_time
                    .clone_from(&standing.last_transition_time);
            }
            *standing = wanted;
        }
        None => conditions.push(wanted),
    }
}
