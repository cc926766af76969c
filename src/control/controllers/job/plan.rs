//! One turn of a job: count what has ended, decide whether that is the end, else keep the right number of pods running.

mod count;
mod manage;

use std::time::Duration;

use controller::{Action, Event, EventType, Plan};
use env::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube_client::{Patch, resource_of};
use serde_json::json;

use super::failure_policy::{Meaning, meaning, success};
use super::indexes::Indexes;
use super::pods::JobPod;
use super::status::{
    COMPLETE, FAILED, FAILURE_TARGET, SUCCESS_CRITERIA_MET, SUSPENDED, Status, condition,
};
use super::{FINALIZER, JobView};
use crate::conditions::Condition;
use crate::ownership::{Claim, claim};
use crate::pod_template::delete_pod;

/// Takes the finalizer from pods whose job does not count them any more.
pub(super) fn release(pods: &[JobPod]) -> Vec<Action> {
    let tracked: Vec<&JobPod> = pods.iter().filter(|pod| pod.has_finalizer).collect();
    if tracked.is_empty() {
        return Vec::new();
    }
    vec![Action::Together(
        tracked.into_iter().map(remove_finalizer).collect(),
    )]
}

fn remove_finalizer(pod: &JobPod) -> Action {
    Action::Patch {
        resource: resource_of::<Pod>(),
        key: pod.facts.key().clone(),
        subresource: "",
        patch: Patch::Strategic(json!({"metadata": {
            "uid": pod.uid(), "$deleteFromPrimitiveList/finalizers": [FINALIZER],
        }})),
    }
}

pub(super) fn plan(view: &JobView, now: Timestamp) -> Plan {
    let claimed = claim(
        &view.owner,
        &view.spec.selector(),
        &resource_of::<Pod>(),
        FINALIZER,
        view.adoption,
        view.candidates.clone(),
        |pod| &pod.facts.index,
    );
    let (pods, actions) = match claimed {
        Claim::AskFirst(ask) => return Plan::of(vec![ask]),
        Claim::Settled { owned, actions } => (owned, actions),
    };
    let (active, _): (Vec<JobPod>, Vec<JobPod>) =
        pods.iter().cloned().partition(|pod| pod.facts.is_active());
    let mut turn = Turn {
        view,
        now,
        terminating: number(pods.iter().filter(|pod| pod.facts.is_terminating()).count()),
        pods,
        active,
        status: view.status.clone(),
        plan: Plan::of(actions),
        succeeded: 0,
        failed: 0,
        succeeded_before: Indexes::default(),
        succeeded_indexes: Indexes::default(),
        failed_indexes: None,
    };
    turn.run();
    turn.plan
}

/// Everything a turn works on.
struct Turn<'a> {
    view: &'a JobView,
    now: Timestamp,
    pods: Vec<JobPod>,
    active: Vec<JobPod>,
    terminating: i32,
    status: Status,
    plan: Plan,
    /// With pods that have ended and are not counted yet.
    succeeded: i32,
    failed: i32,
    succeeded_before: Indexes,
    succeeded_indexes: Indexes,
    failed_indexes: Option<Indexes>,
}

/// What the turn has decided about the job's end, and the pods it deletes.
struct Verdict {
    end: Option<Condition>,
    deletes: Vec<JobPod>,
    creates: Vec<Action>,
}

impl Turn<'_> {
    fn run(&mut self) {
        self.count_ends();
        let is_suspended = self.view.spec.suspend;
        if self.status.start_time.is_none() && !is_suspended {
            self.status.start_time = Some(self.now.to_seconds_string());
        }
        let end = self.end();
        let verdict = match end {
            Some(end) => Verdict {
                end: Some(end),
                deletes: self.active.clone(),
                creates: Vec::new(),
            },
            None => self.carry_on(),
        };
        let deleted = number(verdict.deletes.len());
        let deleted_ready = number(
            verdict
                .deletes
                .iter()
                .filter(|pod| pod.facts.is_ready)
                .count(),
        );
        self.status.active = number(self.active.len()) - deleted;
        self.status.ready = Some(
            number(self.active.iter().filter(|pod| pod.facts.is_ready).count()) - deleted_ready,
        );
        self.terminating += deleted;
        self.status.terminating = Some(self.terminating);
        self.finish(verdict);
    }

    /// Whether the job is over, for better or worse; its active pods then go.
    fn end(&mut self) -> Option<Condition> {
        let now = self.now;
        if let Some(met) = self.status.standing(SUCCESS_CRITERIA_MET) {
            return Some(met.clone());
        }
        if let Some(target) = self.status.standing(FAILURE_TARGET) {
            return Some(target.clone());
        }
        if let Some(message) = self.failed_by_policy() {
            return Some(condition(
                FAILURE_TARGET,
                true,
                "PodFailurePolicy",
                message,
                now,
            ));
        }
        let fails = |reason: &str, message: &str| {
            Some(condition(FAILURE_TARGET, true, reason, message, now))
        };
        let spec = &self.view.spec;
        if self.failed > spec.backoff_limit() || self.restarts_exceed() {
            return fails(
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            );
        }
        if let (Some(deadline), false) = (spec.active_deadline_seconds, spec.suspend) {
            let start = self
                .status
                .start_time
                .as_deref()
                .and_then(Timestamp::parse)
                .unwrap_or(now);
            let left = start
                .saturating_add(Duration::from_secs(deadline))
                .saturating_since(now);
            if left.is_zero() {
                return fails(
                    "DeadlineExceeded",
                    "Job was active longer than specified deadline",
                );
            }
            self.plan.wake_within(left);
        }
        if spec.is_indexed() {
            self.end_of_indexed()
        } else {
            None
        }
    }

    /// Whether an indexed job is over by what its indexes came to.
    fn end_of_indexed(&self) -> Option<Condition> {
        let spec = &self.view.spec;
        let fails = |reason: &str, message: &str| {
            Some(condition(FAILURE_TARGET, true, reason, message, self.now))
        };
        let completions = spec.completions.unwrap_or(0);
        if let Some(failed) = &self.failed_indexes {
            if spec
                .max_failed_indexes
                .is_some_and(|max| failed.count() > max)
            {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                return fails("MaxFailedIndexesExceeded", message);
            }
            if failed.count() > 0 && failed.count() + self.succeeded_indexes.count() >= completions
            {
                return fails("FailedIndexes", "Job has failed indexes");
            }
        }
        let message = success(
            spec.success_policy.as_ref(),
            &self.succeeded_indexes,
            completions,
        )?;
        Some(condition(
            SUCCESS_CRITERIA_MET,
            true,
            "SuccessPolicy",
            message,
            self.now,
        ))
    }

    fn failed_by_policy(&self) -> Option<String> {
        let policy = self.view.spec.pod_failure_policy.as_ref();
        let failed = self
            .pods
            .iter()
            .filter(|pod| pod.is_failed(&self.view.spec));
        failed
            .map(|pod| meaning(policy, pod))
            .find_map(|meaning| match meaning {
                Meaning::FailsJob(message) => Some(message),
                _ => None,
            })
    }

    /// With containers that restart in place, restarts count as failures do.
    fn restarts_exceed(&self) -> bool {
        let policy = self.view.spec.template.pointer("/spec/restartPolicy");
        if policy.and_then(serde_json::Value::as_str) != Some("OnFailure") {
            return false;
        }
        let restarts: i32 = self
            .pods
            .iter()
            .filter(|pod| !pod.facts.is_finished())
            .map(|pod| pod.restarts)
            .sum();
        let limit = self.view.spec.backoff_limit();
        if limit == 0 {
            restarts > 0
        } else {
            restarts >= limit
        }
    }

    /// The job goes on: pods are made and removed, unless it turns out to be complete or suspended.
    fn carry_on(&mut self) -> Verdict {
        let spec = &self.view.spec;
        let mut verdict = Verdict {
            end: None,
            deletes: Vec::new(),
            creates: Vec::new(),
        };
        if !self.view.owner.is_being_deleted {
            self.manage(&mut verdict);
        }
        let still_active = self.active.len() - verdict.deletes.len() + verdict.creates.len();
        let is_enough = match spec.completions {
            None => self.succeeded > 0,
            Some(completions) => self.succeeded >= completions,
        };
        if is_enough && still_active == 0 {
            let message = "Reached expected number of succeeded pods";
            verdict.end = Some(condition(
                SUCCESS_CRITERIA_MET,
                true,
                "CompletionsReached",
                message,
                self.now,
            ));
        } else if !self.view.owner.is_being_deleted {
            self.note_suspension();
        }
        verdict
    }

    fn note_suspension(&mut self) {
        let now = self.now;
        let (status, reason, message, event) = if self.view.spec.suspend {
            (true, "JobSuspended", "Job suspended", "Suspended")
        } else {
            (false, "JobResumed", "Job resumed", "Resumed")
        };
        if !self
            .status
            .set(condition(SUSPENDED, status, reason, message, now))
        {
            return;
        }
        self.status.start_time = (!status).then(|| now.to_seconds_string());
        self.emit(EventType::Normal, event, message);
    }

    fn emit(&mut self, event_type: EventType, reason: &str, message: &str) {
        self.plan.push(Action::Emit(Event {
            regarding: self.view.owner.as_event_object(),
            event_type,
            reason: reason.to_owned(),
            message: message.to_owned(),
        }));
    }

    /// Writes down the turn's results in the only safe order: deletions, then the status, then finalizers.
    fn finish(&mut self, verdict: Verdict) {
        let is_over = verdict.end.is_some();
        let untracked = self.note_uncounted(verdict.end.as_ref());
        if let Some(end) = &verdict.end {
            self.status.set(end.clone());
            if untracked.is_empty() {
                self.conclude(end);
            }
        }
        let mut steps = Vec::new();
        if !verdict.deletes.is_empty() {
            let delete = |pod: &JobPod| delete_pod(&pod.facts, &self.view.owner);
            // A pod that is not needed any more must not be counted when it ends: it is untracked before it goes.
            let surplus = |pod: &JobPod| match is_over {
                true => delete(pod),
                false if pod.has_finalizer => {
                    Action::Sequence(vec![remove_finalizer(pod), delete(pod)])
                }
                false => delete(pod),
            };
            steps.push(Action::Together(
                verdict.deletes.iter().map(surplus).collect(),
            ));
        }
        if !self.status.says_as(&self.view.status) {
            steps.push(self.write_status());
        }
        if !untracked.is_empty() {
            steps.push(Action::Together(
                untracked.iter().map(remove_finalizer).collect(),
            ));
        }
        if !steps.is_empty() {
            self.plan.push(Action::Sequence(steps));
        }
        if !verdict.creates.is_empty() {
            self.plan.push(Action::SlowStart(verdict.creates));
        }
    }

    /// Adds the last condition once everything is counted and no pod is on its way out.
    fn conclude(&mut self, end: &Condition) {
        let uncounted = self
            .status
            .uncounted_terminated_pods
            .clone()
            .unwrap_or_default();
        let is_counted = uncounted.succeeded.is_empty() && uncounted.failed.is_empty();
        if !is_counted || self.terminating > 0 {
            return;
        }
        let is_success = end.kind == SUCCESS_CRITERIA_MET;
        let kind = if is_success { COMPLETE } else { FAILED };
        self.status.set(condition(
            kind,
            true,
            &end.reason,
            end.message.clone(),
            self.now,
        ));
        if is_success {
            self.status.completion_time = Some(self.now.to_seconds_string());
            let completions = self.view.spec.completions;
            if completions.is_some_and(|completions| self.status.succeeded > completions) {
                let message = "Too many succeeded pods running after completion count reached";
                self.emit(EventType::Warning, "TooManySucceededPods", message);
            }
            self.emit(EventType::Normal, "Completed", "Job completed");
        } else {
            self.emit(
                EventType::Warning,
                &end.reason.clone(),
                &end.message.clone(),
            );
        }
    }

    fn write_status(&self) -> Action {
        let patch = json!({"metadata": {"resourceVersion": self.view.revision.to_string()}, "status": self.status});
        Action::merge_status::<Job>(self.view.owner.key.clone(), patch)
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
