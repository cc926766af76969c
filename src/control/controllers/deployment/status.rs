//! What a deployment's status says: counts, availability, progress.

use std::time::Duration;

use env::Timestamp;

use super::draft::{Drafted, available, total};
use super::proportions::Limits;
use super::{Status, View};
use crate::conditions::{self, Condition};

pub(super) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

pub(super) fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) -> Condition {
    Condition {
        status: status.to_owned(),
        last_update_time: Some(now.to_seconds_string()),
        ..Condition::new(kind, true, reason, message, now)
    }
}

/// Notes that the deployment was paused or resumed, so that the time meanwhile does not count against its deadline.
pub(super) fn note_pause(view: &View, status: &mut Status, now: Timestamp) {
    if view.spec.progress_deadline().is_none() {
        return;
    }
    let reason =
        conditions::find(&status.conditions, PROGRESSING).map_or("", |condition| &condition.reason);
    if reason == TIMED_OUT {
        return;
    }
    let (reason, message) = match (view.spec.paused, reason == PAUSED) {
        (true, false) => (PAUSED, "Deployment is paused"),
        (false, true) => (RESUMED, "Deployment is resumed"),
        _ => return,
    };
    conditions::set(
        &mut status.conditions,
        condition(PROGRESSING, "Unknown", reason, message, now),
    );
}

/// Counts and availability, with the conditions as `before` has them.
pub(super) fn counted(
    view: &View,
    before: &Status,
    limits: &Limits,
    sets: &[Drafted],
    new: Option<usize>,
    now: Timestamp,
) -> Status {
    let available_replicas = available(sets);
    let sum = |of: &dyn Fn(&Drafted) -> i32| sets.iter().map(of).sum();
    let mut status = Status {
        observed_generation: view.generation,
        replicas: sum(&|set| set.set.status.replicas),
        updated_replicas: new.map_or(0, |new| sets[new].set.status.replicas),
        ready_replicas: sum(&|set| set.set.status.ready_replicas),
        available_replicas,
        unavailable_replicas: (total(sets) - available_replicas).max(0),
        terminating_replicas: terminating(sets),
        conditions: before.conditions.clone(),
        collision_count: before.collision_count,
    };
    let availability = if available_replicas >= limits.min_available() {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    let (truth, reason, message) = availability;
    conditions::set(
        &mut status.conditions,
        condition(AVAILABLE, truth, reason, message, now),
    );
    status
}

/// Unknown as soon as one set does not tell.
fn terminating(sets: &[Drafted]) -> Option<i32> {
    let mut sum = 0;
    for set in sets {
        let status = &set.set.status;
        match status.terminating_replicas {
            Some(count) => sum += count,
            None if status.observed_generation == 0 => {}
            None => return None,
        }
    }
    Some(sum)
}

pub(super) fn is_complete(view: &View, status: &Status) -> bool {
    let wanted = view.spec.replicas();
    status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
        && status.observed_generation >= view.generation
}

fn is_progressing(old: &Status, new: &Status) -> bool {
    new.updated_replicas > old.updated_replicas
        || new.replicas - new.updated_replicas < old.replicas - old.updated_replicas
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

/// Adds what a rollout says beyond the counts: progress, its deadline, failures of replica sets.
pub(super) fn note_progress(
    view: &View,
    before: &Status,
    status: &mut Status,
    sets: &[Drafted],
    new: Option<usize>,
    now: Timestamp,
) {
    let standing = conditions::find(&before.conditions, PROGRESSING).cloned();
    let is_settled = status.replicas == status.updated_replicas
        && standing
            .as_ref()
            .is_some_and(|standing| standing.reason == NEW_SET_AVAILABLE);
    match view.spec.progress_deadline() {
        None => conditions::remove(&mut status.conditions, PROGRESSING),
        Some(deadline) if !is_settled => {
            let subject = match new {
                Some(new) => format!("ReplicaSet {:?}", sets[new].name()),
                None => format!("Deployment {:?}", view.owner.key.name),
            };
            progress(
                view,
                before,
                status,
                standing.as_ref(),
                &subject,
                deadline,
                now,
            );
        }
        Some(_) => {}
    }
    let failure =
        |set: &Drafted| conditions::find(&set.set.status.conditions, REPLICA_FAILURE).cloned();
    let failures = new
        .and_then(|new| failure(&sets[new]))
        .or_else(|| sets.iter().find_map(failure));
    match failures {
        Some(failure) => {
            let update = failure.last_transition_time.clone();
            conditions::set(
                &mut status.conditions,
                Condition {
                    last_update_time: update,
                    ..failure
                },
            );
        }
        None => conditions::remove(&mut status.conditions, REPLICA_FAILURE),
    }
}

fn progress(
    view: &View,
    before: &Status,
    status: &mut Status,
    standing: Option<&Condition>,
    subject: &str,
    deadline: u64,
    now: Timestamp,
) {
    if is_complete(view, status) {
        let message = format!("{subject} has successfully progressed.");
        let done = condition(PROGRESSING, "True", NEW_SET_AVAILABLE, message, now);
        conditions::set(&mut status.conditions, done);
    } else if is_progressing(before, status) {
        let mut going = condition(
            PROGRESSING,
            "True",
            "ReplicaSetUpdated",
            format!("{subject} is progressing."),
            now,
        );
        if let Some(standing) = standing.filter(|standing| standing.is_true()) {
            going
                .last_transition_time
                .clone_from(&standing.last_transition_time);
        }
        // Every step renews the update time, from which the deadline counts.
        conditions::remove(&mut status.conditions, PROGRESSING);
        conditions::set(&mut status.conditions, going);
    } else if is_timed_out(status, deadline, now) {
        let message = format!("{subject} has timed out progressing.");
        let late = condition(PROGRESSING, "False", TIMED_OUT, message, now);
        conditions::set(&mut status.conditions, late);
    }
}

fn is_timed_out(status: &Status, deadline: u64, now: Timestamp) -> bool {
    let Some(standing) = conditions::find(&status.conditions, PROGRESSING) else {
        return false;
    };
    match standing.reason.as_str() {
        NEW_SET_AVAILABLE => false,
        TIMED_OUT => true,
        _ => last_update(standing)
            .is_some_and(|from| from.saturating_add(Duration::from_secs(deadline)) < now),
    }
}

fn last_update(condition: &Condition) -> Option<Timestamp> {
    condition
        .last_update_time
        .as_deref()
        .and_then(Timestamp::parse)
}

/// When the deadline has to be looked at again, if nothing happens before.
pub(super) fn next_check(view: &View, status: &Status, now: Timestamp) -> Option<Duration> {
    let deadline = view.spec.progress_deadline()?;
    let standing = conditions::find(&status.conditions, PROGRESSING)?;
    if is_complete(view, status) || standing.reason == TIMED_OUT || standing.reason == PAUSED {
        return None;
    }
    let at = last_update(standing)?.saturating_add(Duration::from_secs(deadline));
    // Condition times are whole seconds: one more makes sure that the deadline has passed.
    Some(at.saturating_since(now) + Duration::from_secs(1))
}
