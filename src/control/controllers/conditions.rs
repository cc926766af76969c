//! Conditions as all kinds have them, and when a change of one counts as a transition.

use env::Timestamp;
use serde::{Deserialize, Serialize};

/// One condition of any kind. Times a kind does not have stay away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// `True`, `False` or `Unknown`.
    pub(crate) status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) observed_generation: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_probe_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_heartbeat_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_update_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_transition_time: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
}

impl Condition {
    pub(crate) fn new(
        kind: &str,
        status: bool,
        reason: &str,
        message: impl Into<String>,
        now: Timestamp,
    ) -> Self {
        Self {
            kind: kind.to_owned(),
            status: if status { "True" } else { "False" }.to_owned(),
            last_transition_time: Some(now.to_seconds_string()),
            reason: reason.to_owned(),
            message: message.into(),
            ..Self::default()
        }
    }

    pub(crate) fn is_true(&self) -> bool {
        self.status == "True"
    }
}

pub(crate) fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

pub(crate) fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find(conditions, kind).is_some_and(Condition::is_true)
}

/// Sets a condition unless one with this status and reason stands; a status that stays keeps its transition time.
pub(crate) fn set(conditions: &mut Vec<Condition>, mut wanted: Condition) {
    if let Some(standing) = find(conditions, &wanted.kind) {
        if standing.status == wanted.status && standing.reason == wanted.reason {
            return;
        }
        if standing.status == wanted.status {
            wanted
                .last_transition_time
                .clone_from(&standing.last_transition_time);
        }
    }
    remove(conditions, &wanted.kind.clone());
    conditions.push(wanted);
}

pub(crate) fn remove(conditions: &mut Vec<Condition>, kind: &str) {
    conditions.retain(|condition| condition.kind != kind);
}
