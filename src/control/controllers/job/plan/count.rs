//! Counting: which pods have ended since the status was written, and which may be let go.

use std::collections::BTreeSet;

use super::super::failure_policy::{Meaning, meaning};
use super::super::indexes::Indexes;
use super::super::pods::JobPod;
use super::super::status::{SUCCESS_CRITERIA_MET, Uncounted};
use super::{Turn, number};
use crate::conditions::Condition;

/// Ended pods noted in the status at once; more are noted when these are counted.
const UNCOUNTED_MAX: usize = 500;

impl Turn<'_> {
    /// Moves uncounted pods without finalizer into the counts, and works out the totals with those still uncounted.
    pub(super) fn count_ends(&mut self) {
        let tracked: BTreeSet<&str> = self
            .pods
            .iter()
            .filter(|pod| pod.has_finalizer)
            .map(JobPod::uid)
            .collect();
        let mut uncounted = self
            .status
            .uncounted_terminated_pods
            .take()
            .unwrap_or_default();
        let settle = |list: &mut Vec<String>| {
            let before = list.len();
            list.retain(|uid| tracked.contains(uid.as_str()));
            number(before - list.len())
        };
        self.status.succeeded += settle(&mut uncounted.succeeded);
        self.status.failed += settle(&mut uncounted.failed);
        let (new_succeeded, new_failed) = self.new_ends(&uncounted);
        self.succeeded = self.status.succeeded + new_succeeded + number(uncounted.succeeded.len());
        self.failed = self.status.failed + new_failed + number(uncounted.failed.len());
        self.status.uncounted_terminated_pods = Some(uncounted);
        if self.view.spec.is_indexed() {
            self.count_indexes();
        }
    }

    /// Does the pod work on an index of the job, if the job has indexes?
    fn is_valid(&self, pod: &JobPod) -> bool {
        let spec = &self.view.spec;
        !spec.is_indexed()
            || pod
                .index
                .is_some_and(|index| index < spec.completions.unwrap_or(0))
    }

    fn new_ends(&self, uncounted: &Uncounted) -> (i32, i32) {
        let spec = &self.view.spec;
        let tracked = || {
            self.pods
                .iter()
                .filter(|pod| pod.has_finalizer && self.is_valid(pod))
        };
        let knows = |list: &[String], pod: &JobPod| list.iter().any(|uid| uid == pod.uid());
        let succeeded = tracked()
            .filter(|pod| pod.has_succeeded() && !knows(&uncounted.succeeded, pod))
            .count();
        let policy = spec.pod_failure_policy.as_ref();
        let failed = tracked().filter(|pod| {
            pod.is_failed(spec)
                && !knows(&uncounted.failed, pod)
                && meaning(policy, pod) != Meaning::Ignored
        });
        (number(succeeded), number(failed.count()))
    }

    fn count_indexes(&mut self) {
        let spec = &self.view.spec;
        let completions = spec.completions.unwrap_or(0);
        let text = self.status.completed_indexes.clone().unwrap_or_default();
        self.succeeded_before = Indexes::parse(&text, completions);
        self.succeeded_indexes = self.succeeded_before.clone();
        let valid: Vec<JobPod> = self
            .pods
            .iter()
            .filter(|pod| pod.has_finalizer && self.is_valid(pod))
            .cloned()
            .collect();
        for pod in valid.iter().filter(|pod| pod.has_succeeded()) {
            self.succeeded_indexes.insert(pod.index.unwrap_or(0));
        }
        self.succeeded = self.succeeded_indexes.count();
        let Some(limit) = spec.backoff_limit_per_index else {
            return;
        };
        let text = self.status.failed_indexes.clone().unwrap_or_default();
        let mut failed = Indexes::parse(&text, completions);
        for pod in valid.iter().filter(|pod| self.fails_index(pod, limit)) {
            failed.insert(pod.index.unwrap_or(0));
        }
        self.failed_indexes = Some(failed);
    }

    fn fails_index(&self, pod: &JobPod, limit: i32) -> bool {
        if !pod.is_failed(&self.view.spec) {
            return false;
        }
        match meaning(self.view.spec.pod_failure_policy.as_ref(), pod) {
            Meaning::FailsIndex => true,
            Meaning::Ignored => false,
            Meaning::Counts | Meaning::FailsJob(_) => pod.failure_count >= limit,
        }
    }

    /// Notes ended pods in the status and gives back those whose finalizer may go once that is written.
    pub(super) fn note_uncounted(&mut self, end: Option<&Condition>) -> Vec<JobPod> {
        let spec = &self.view.spec;
        let is_failing = end.is_some_and(|end| end.kind != SUCCESS_CRITERIA_MET);
        let mut uncounted = self
            .status
            .uncounted_terminated_pods
            .take()
            .unwrap_or_default();
        let mut untracked = Vec::new();
        let mut completed = self.succeeded_before.clone();
        let mut noted = 0;
        for pod in self.pods.iter().filter(|pod| pod.has_finalizer) {
            if noted + uncounted.succeeded.len() + uncounted.failed.len() >= UNCOUNTED_MAX {
                break;
            }
            let is_failed = pod.is_failed(spec);
            if !self.may_untrack(pod, is_failed, end.is_some()) {
                continue;
            }
            untracked.push(pod.clone());
            let knows = |list: &[String]| list.iter().any(|uid| uid == pod.uid());
            if pod.has_succeeded() && !knows(&uncounted.failed) {
                if spec.is_indexed() {
                    if self.is_valid(pod) {
                        noted += 1;
                        completed.insert(pod.index.unwrap_or(0));
                    }
                } else if !knows(&uncounted.succeeded) {
                    uncounted.succeeded.push(pod.uid().to_owned());
                }
            } else if (is_failed || is_failing) && !knows(&uncounted.failed) && self.is_valid(pod) {
                let counts = meaning(spec.pod_failure_policy.as_ref(), pod) != Meaning::Ignored;
                if counts {
                    uncounted.failed.push(pod.uid().to_owned());
                }
            }
        }
        self.status.uncounted_terminated_pods = Some(uncounted);
        if spec.is_indexed() {
            self.status.succeeded = completed.count();
            let text = completed.to_string();
            self.status.completed_indexes = (!text.is_empty()).then_some(text);
            self.status.failed_indexes = self.failed_indexes.as_ref().map(ToString::to_string);
        }
        untracked
    }

    fn may_untrack(&self, pod: &JobPod, is_failed: bool, is_over: bool) -> bool {
        if self.view.owner.is_being_deleted || is_over || pod.has_succeeded() {
            return true;
        }
        // The last failed pod of an index stays until its successor has taken its count of failures over.
        is_failed && !self.is_last_of_its_index(pod)
    }

    fn is_last_of_its_index(&self, pod: &JobPod) -> bool {
        let Some(index) = pod.index else { return false };
        self.last_failed_of(index)
            .is_some_and(|last| last.uid() == pod.uid())
    }

    /// The failed pod of an index that is to be tried again.
    pub(super) fn last_failed_of(&self, index: i32) -> Option<&JobPod> {
        let spec = &self.view.spec;
        spec.backoff_limit_per_index?;
        let is_settled = self.succeeded_indexes.contains(index)
            || self
                .failed_indexes
                .as_ref()
                .is_some_and(|failed| failed.contains(index))
            || self.active.iter().any(|pod| pod.index == Some(index));
        if is_settled {
            return None;
        }
        let failed = self.pods.iter().filter(|pod| {
            pod.has_finalizer
                && pod.index == Some(index)
                && self.is_valid(pod)
                && pod.is_failed(spec)
        });
        failed.max_by_key(|pod| (pod.failures_of_index(), pod.finished_at))
    }
}
