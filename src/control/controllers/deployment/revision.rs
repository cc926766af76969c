//! Revisions: which set is of which, and the annotations that say so.

use std::collections::BTreeMap;

use super::draft::Drafted;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// Annotations of a deployment that its sets do not take over.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];
/// A revision history longer than this many characters loses its beginning.
const HISTORY_CHARACTERS_MAX: usize = 2000;

pub(super) fn revision_of(annotations: &BTreeMap<String, String>) -> i64 {
    annotations
        .get(REVISION)
        .and_then(|revision| revision.parse().ok())
        .unwrap_or(0)
}

/// Brings the annotations of the new set up to date: the deployment's own, and its revision.
pub(super) fn annotate_new(
    set: &mut Drafted,
    deployment: &BTreeMap<String, String>,
    revision: i64,
) {
    for (key, value) in deployment {
        if !NOT_COPIED.contains(&key.as_str()) {
            set.annotations.insert(key.clone(), value.clone());
        }
    }
    let old = set.annotations.get(REVISION).cloned();
    let known = match old.as_deref().map(str::parse::<i64>) {
        None => 0,
        Some(Ok(known)) => known,
        // Somebody else's annotation is left alone.
        Some(Err(_)) => return,
    };
    if known >= revision {
        return;
    }
    set.annotations
        .insert(REVISION.into(), revision.to_string());
    if let Some(old) = old {
        let history = set
            .annotations
            .get(REVISION_HISTORY)
            .cloned()
            .unwrap_or_default();
        if let Some(history) = extended(&history, &old) {
            set.annotations.insert(REVISION_HISTORY.into(), history);
        }
    }
}

fn extended(history: &str, revision: &str) -> Option<String> {
    let mut all: Vec<&str> = history
        .split(',')
        .filter(|one| !one.is_empty())
        .chain([revision])
        .collect();
    while all.len() > 1
        && all.iter().map(|one| one.len() + 1).sum::<usize>() - 1 > HISTORY_CHARACTERS_MAX
    {
        all.remove(0);
    }
    (revision.len() <= HISTORY_CHARACTERS_MAX).then(|| all.join(","))
}
