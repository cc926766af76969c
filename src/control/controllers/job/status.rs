//! A job's status, and how its conditions change.

use env::Timestamp;
use serde::{Deserialize, Serialize};

use crate::conditions::{self, Condition};

pub(super) const COMPLETE: &str = "Complete";
pub(super) const FAILED: &str = "Failed";
pub(super) const FAILURE_TARGET: &str = "FailureTarget";
pub(super) const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
pub(super) const SUSPENDED: &str = "Suspended";

// Missing values are written as null, which takes a standing one away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub(super) start_time: Option<String>,
    pub(super) completion_time: Option<String>,
    pub(super) active: i32,
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    pub(super) terminating: Option<i32>,
    pub(super) ready: Option<i32>,
    pub(super) completed_indexes: Option<String>,
    pub(super) failed_indexes: Option<String>,
    pub(super) uncounted_terminated_pods: Option<Uncounted>,
    pub(super) conditions: Vec<Condition>,
}

/// Pods that have ended and still carry the finalizer, or did when that was last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Uncounted {
    pub(super) succeeded: Vec<String>,
    pub(super) failed: Vec<String>,
}

impl Status {
    /// Do both say the same? An empty list of uncounted pods may be left out.
    pub(super) fn says_as(&self, other: &Self) -> bool {
        let normal = |status: &Self| {
            let mut status = status.clone();
            status.uncounted_terminated_pods = status
                .uncounted_terminated_pods
                .filter(|uncounted| *uncounted != Uncounted::default());
            status
        };
        normal(self) == normal(other)
    }

    pub(super) fn is_finished(&self) -> bool {
        conditions::is_true(&self.conditions, COMPLETE)
            || conditions::is_true(&self.conditions, FAILED)
    }

    pub(super) fn standing(&self, kind: &str) -> Option<&Condition> {
        conditions::find(&self.conditions, kind).filter(|condition| condition.is_true())
    }

    /// Sets a condition; one that is false from the start says nothing. True if something changed.
    pub(super) fn set(&mut self, wanted: Condition) -> bool {
        match self
            .conditions
            .iter_mut()
            .find(|standing| standing.kind == wanted.kind)
        {
            Some(standing) => {
                let is_same = standing.status == wanted.status
                    && standing.reason == wanted.reason
                    && standing.message == wanted.message;
                if !is_same {
                    *standing = wanted;
                }
                !is_same
            }
            None if wanted.is_true() => {
                self.conditions.push(wanted);
                true
            }
            None => false,
        }
    }
}

pub(super) fn condition(
    kind: &str,
    status: bool,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) -> Condition {
    Condition {
        last_probe_time: Some(now.to_seconds_string()),
        ..Condition::new(kind, status, reason, message, now)
    }
}
