//! Runs pods until enough of them have succeeded, and counts each finished pod exactly once.
//!
//! A pod carries a finalizer until its end is in the job's status: first its uid is noted as uncounted, then the finalizer goes, and only
//! then does the count grow. Whoever deletes pods meanwhile takes no result away.

mod failure_policy;
mod indexes;
mod plan;
mod pods;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{LabelSelector, ObjectKey};
use controller::{Controller, Past, Plan, Wakes};
use env::Timestamp;
use informer::{CONTROLLER_UID, Cache, Factory};
use k8s_openapi::Resource as _;
use k8s_openapi::api::batch::v1::{Job, PodFailurePolicy, SuccessPolicy};
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::Value;

use crate::ownership::{Adoption, Owner, owners_of_orphan};
use pods::JobPod;
use status::Status;

const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const MANAGER: &str = "kubernetes.io/job-controller";
/// Pods made or removed in one turn at most.
const BURST_PODS: usize = 500;
/// The pause after a failure doubles from the first to the longest.
const BACKOFF_FIRST: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_mins(10);

pub(crate) struct Jobs {
    jobs: Arc<Cache>,
    pods: Arc<Cache>,
}

#[derive(Clone, Debug, Deserialize)]
struct Raw {
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    parallelism: Option<i32>,
    completions: Option<i32>,
    active_deadline_seconds: Option<u64>,
    backoff_limit: Option<i32>,
    backoff_limit_per_index: Option<i32>,
    max_failed_indexes: Option<i32>,
    completion_mode: String,
    suspend: bool,
    pod_failure_policy: Option<PodFailurePolicy>,
    pod_replacement_policy: String,
    success_policy: Option<SuccessPolicy>,
    managed_by: String,
    selector: Value,
    template: Value,
}

impl Spec {
    fn is_indexed(&self) -> bool {
        self.completion_mode == "Indexed"
    }

    fn parallelism(&self) -> i32 {
        self.parallelism.unwrap_or(1)
    }

    fn backoff_limit(&self) -> i32 {
        self.backoff_limit.unwrap_or(6)
    }

    /// Are pods replaced only when they have failed, not already when they are told to go?
    fn replaces_only_failed(&self) -> bool {
        self.pod_replacement_policy == "Failed" || self.pod_failure_policy.is_some()
    }

    fn selector(&self) -> LabelSelector {
        LabelSelector::from_object(Some(&self.selector))
            .unwrap_or_else(|_error| LabelSelector::nothing())
    }
}

/// When pods failed since the last success, by uid.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures(BTreeMap<String, Timestamp>);

impl Failures {
    fn note(&mut self, pods: &[JobPod], spec: &Spec) {
        let tracked = || pods.iter().filter(|pod| pod.has_finalizer);
        for pod in tracked().filter(|pod| pod.is_failed(spec)) {
            self.0
                .entry(pod.uid().to_owned())
                .or_insert(pod.finished_at);
        }
        let success = tracked()
            .filter(|pod| pod.has_succeeded())
            .map(|pod| pod.finished_at)
            .max();
        if let Some(success) = success {
            self.0.retain(|_, failed| *failed > success);
        }
    }

    /// How long to wait before the next pod.
    fn pause(&self, now: Timestamp) -> Duration {
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0
            .values()
            .max()
            .map_or(Duration::ZERO, |last| pause_after(count, *last, now))
    }
}

fn pause_after(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let span = BACKOFF_FIRST
        .saturating_mul(1 << (failures - 1).min(10))
        .min(BACKOFF_MAX);
    last.saturating_add(span).saturating_since(now)
}

pub(crate) enum View {
    /// The job is gone, or over; these pods still wait to be counted.
    Released(Vec<JobPod>),
    Running(Box<JobView>),
}

/// What the plan of a running job needs.
pub(crate) struct JobView {
    owner: Owner,
    revision: i64,
    spec: Spec,
    status: Status,
    candidates: Vec<JobPod>,
    adoption: Adoption,
    failures: Failures,
}

impl Jobs {
    pub(crate) fn new(factory: &Factory) -> Self {
        let pods = factory.all::<Pod>();
        pods.add_index(CONTROLLER_UID);
        Self {
            jobs: factory.all::<Job>(),
            pods,
        }
    }

    /// Pods that a job of this name, now gone, has left tracked.
    fn left_behind(&self, key: &ObjectKey, living_uid: &str) -> Vec<JobPod> {
        let pods = self.pods.list_namespace(&key.namespace).into_iter();
        let left = pods.filter(|pod| {
            pod.index
                .finalizers
                .iter()
                .any(|finalizer| **finalizer == *FINALIZER)
                && pod.index.controller().is_some_and(|owner| {
                    owner.kind == Job::KIND && owner.name == key.name && owner.uid != living_uid
                })
        });
        left.filter_map(|pod| JobPod::of(&pod)).collect()
    }
}

impl Controller for Jobs {
    type View = View;
    type Memory = Failures;
    const NAME: &'static str = "job-controller";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.jobs);
        on.owned(&self.pods, Job::KIND);
        let jobs = Arc::clone(&self.jobs);
        on.mapped(&self.pods, move |change| {
            owners_of_orphan(&jobs, change, |job, pod| {
                job.decode::<Raw>()
                    .is_ok_and(|job| job.spec.selector().matches_with(|key| pod.index.label(key)))
            })
        });
    }

    fn observe(&self, key: &ObjectKey, past: &mut Past<'_, Failures>) -> Option<View> {
        let Some(stored) = self.jobs.get(key) else {
            let left = self.left_behind(key, "");
            return (!left.is_empty()).then_some(View::Released(left));
        };
        let raw: Raw = stored.decode().ok()?;
        let owner = Owner::of::<Job>(&stored.index);
        let owned = self.pods.find(&CONTROLLER_UID, &owner.uid).into_iter();
        if raw.status.is_finished() || !matches!(raw.spec.managed_by.as_str(), "" | MANAGER) {
            let pods = owned
                .filter_map(|pod| JobPod::of(&pod))
                .filter(|pod| pod.has_finalizer);
            return raw
                .status
                .is_finished()
                .then(|| View::Released(pods.collect()));
        }
        let orphans = self.pods.find(&CONTROLLER_UID, "").into_iter();
        let orphans = orphans.filter(|pod| pod.key().namespace == key.namespace);
        let candidates: Vec<JobPod> = owned
            .chain(orphans)
            .filter_map(|pod| JobPod::of(&pod))
            .collect();
        let own: Vec<JobPod> = candidates
            .iter()
            .filter(|pod| owner.owns(&pod.facts.index))
            .cloned()
            .collect();
        past.memory.note(&own, &raw.spec);
        Some(View::Running(Box::new(JobView {
            adoption: Adoption::of(&owner, past.outcomes),
            revision: stored.revision,
            spec: raw.spec,
            status: raw.status,
            candidates,
            failures: past.memory.clone(),
            owner,
        })))
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        match view {
            View::Released(pods) => Plan::of(plan::release(pods)),
            View::Running(view) => plan::plan(view, now),
        }
    }
}
