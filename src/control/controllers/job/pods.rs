//! What a job reads of its pods.

use std::time::Duration;

use apimachinery::StoredObject;
use env::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::{FINALIZER, Spec};
use crate::pods::{Phase, PodFacts};

pub(super) const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub(super) const FAILURE_COUNT: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const IGNORED_FAILURE_COUNT: &str =
    "batch.kubernetes.io/job-index-ignored-failure-count";

#[derive(Clone, Debug)]
pub(crate) struct JobPod {
    pub(super) facts: PodFacts,
    pub(super) has_finalizer: bool,
    /// Which completion it works on, if it says so.
    pub(super) index: Option<i32>,
    /// Earlier failures of its index: those that count, and those that were ignored.
    pub(super) failure_count: i32,
    pub(super) ignored_failure_count: i32,
    pub(super) finished_at: Timestamp,
    /// Restarts of all its containers together.
    pub(super) restarts: i32,
    /// Containers that have ended, with their exit codes; init containers last.
    pub(super) exits: Vec<(String, i32)>,
    /// Type and status.
    pub(super) conditions: Vec<(String, String)>,
}

impl JobPod {
    pub(super) fn of(stored: &StoredObject) -> Option<Self> {
        let facts = PodFacts::of(stored)?;
        let pod: Pod = stored.decode().ok()?;
        let annotations = pod.metadata.annotations.unwrap_or_default();
        let number = |key: &str| {
            annotations
                .get(key)
                .and_then(|text| text.parse::<i32>().ok())
        };
        let grace = pod
            .metadata
            .deletion_grace_period_seconds
            .and_then(|seconds| u64::try_from(seconds).ok());
        let status = pod.status.unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        let init_containers = status.init_container_statuses.unwrap_or_default();
        let all = || containers.iter().chain(&init_containers);
        Some(Self {
            has_finalizer: facts
                .index
                .finalizers
                .iter()
                .any(|finalizer| **finalizer == *FINALIZER),
            index: number(COMPLETION_INDEX).filter(|index| *index >= 0),
            failure_count: number(FAILURE_COUNT).unwrap_or(0),
            ignored_failure_count: number(IGNORED_FAILURE_COUNT).unwrap_or(0),
            finished_at: finished_at(&facts, &containers, grace),
            restarts: all().map(|status| status.restart_count).sum(),
            exits: all()
                .filter_map(|status| Some((status.name.clone(), exit_code(status)?)))
                .collect(),
            conditions: status
                .conditions
                .into_iter()
                .flatten()
                .map(|condition| (condition.type_, condition.status))
                .collect(),
            facts,
        })
    }

    pub(super) fn uid(&self) -> &str {
        &self.facts.index.uid
    }

    pub(super) fn has_succeeded(&self) -> bool {
        self.facts.phase == Phase::Succeeded
    }

    /// Failed, or as good as: told to go before it succeeded, unless only real failures are replaced.
    pub(super) fn is_failed(&self, spec: &Spec) -> bool {
        match self.facts.phase {
            Phase::Failed => true,
            Phase::Succeeded => false,
            _ => !spec.replaces_only_failed() && self.facts.deleted.is_some(),
        }
    }

    pub(super) fn failures_of_index(&self) -> i32 {
        self.failure_count + self.ignored_failure_count
    }
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// When the last container ended; else when the pod stopped being ready, was told to go, or was made.
fn finished_at(facts: &PodFacts, containers: &[ContainerStatus], grace: Option<u64>) -> Timestamp {
    let ends: Option<Vec<Timestamp>> = containers
        .iter()
        .map(|status| {
            let end = status
                .state
                .as_ref()?
                .terminated
                .as_ref()?
                .finished_at
                .as_ref()?;
            Some(Timestamp::from_jiff(end.0))
        })
        .collect();
    let last_end = ends.and_then(|ends| ends.into_iter().max());
    let unready = facts.ready_changed.filter(|_| !facts.is_ready);
    let told = facts
        .deleted
        .map(|at| at.saturating_sub(Duration::from_secs(grace.unwrap_or(0))));
    last_end
        .or(unready)
        .or(told)
        .or(facts.created)
        .unwrap_or(Timestamp::UNIX_EPOCH)
}
