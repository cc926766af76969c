//! What a job's status may become: ends are final, counters do not shrink (KEP-4368).
//!
//! A rule is applied when what it is about has changed, so that an old mistake does not block every write.

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};

use super::indexes;
use super::job_spec::is_indexed;
use crate::validation::changes::json;
use crate::validation::found;
use crate::validation::numbers::non_negative;

/// Old and new, and what differs.
struct Change<'a> {
    spec: &'a JobSpec,
    new: &'a JobStatus,
    old: &'a JobStatus,
}

pub(super) fn validate_status_update(job: &Job, old: &Job) -> FieldErrors {
    let (empty, none) = (JobSpec::default(), JobStatus::default());
    let change = Change {
        spec: job.spec.as_ref().unwrap_or(&empty),
        new: job.status.as_ref().unwrap_or(&none),
        old: old.status.as_ref().unwrap_or(&none),
    };
    let path = FieldPath::new("status");
    found(|errors| {
        counts(errors, change.new, &path);
        change.conditions(errors, &path);
        change.finished(errors, &path);
        change.indexes(errors, &path);
        change.success(errors, &path.child("conditions"));
        change.never_back(errors, &path);
    })
}

fn holds(status: &JobStatus, kind: &str) -> bool {
    status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == kind && condition.status == "True")
}

fn is_finished(status: &JobStatus) -> bool {
    holds(status, "Complete") || holds(status, "Failed")
}

fn counts(errors: &mut FieldErrors, status: &JobStatus, path: &FieldPath) {
    for (count, field) in [
        (status.active, "active"),
        (status.succeeded, "succeeded"),
        (status.failed, "failed"),
        (status.ready, "ready"),
        (status.terminating, "terminating"),
    ] {
        non_negative(errors, count.unwrap_or(0), &path.child(field));
    }
    let Some(uncounted) = &status.uncounted_terminated_pods else {
        return;
    };
    let mut seen = BTreeSet::new();
    for (list, field) in [
        (&uncounted.succeeded, "succeeded"),
        (&uncounted.failed, "failed"),
    ] {
        for (index, uid) in list.iter().flatten().enumerate() {
            let path = path
                .child("uncountedTerminatedPods")
                .child(field)
                .index(index);
            if uid.is_empty() {
                errors.push(FieldError::invalid(&path, "", "must not be empty"));
            } else if !seen.insert(uid) {
                errors.push(FieldError::duplicate(&path, uid.as_str()));
            }
        }
    }
}

impl Change<'_> {
    fn has_changed(&self, kind: &str) -> bool {
        holds(self.new, kind) != holds(self.old, kind)
    }

    fn finish_has_changed(&self) -> bool {
        is_finished(self.new) != is_finished(self.old)
    }

    fn conditions(&self, errors: &mut FieldErrors, path: &FieldPath) {
        let own = path.child("conditions");
        let complete = self.has_changed("Complete");
        let now = |kind: &str| holds(self.new, kind);
        if (complete || self.has_changed("Failed")) && now("Complete") && now("Failed") {
            errors.push(FieldError::invalid_whole(
                &own,
                "cannot set Complete=True and Failed=true conditions",
            ));
        }
        if (complete || self.has_changed("FailureTarget"))
            && now("Complete")
            && now("FailureTarget")
        {
            errors.push(FieldError::invalid_whole(
                &own,
                "cannot set Complete=True and FailureTarget=true conditions",
            ));
        }
        self.completion_time(errors, complete, &path.child("completionTime"));
        let failed_indexes_changed = self.new.failed_indexes != self.old.failed_indexes;
        if (self.has_changed("Failed") || failed_indexes_changed)
            && now("Failed")
            && !now("FailureTarget")
        {
            let why = "cannot set Failed=True condition without the FailureTarget=true condition";
            errors.push(FieldError::invalid_whole(&own, why));
        }
        if (complete || self.has_changed("SuccessCriteriaMet"))
            && now("Complete")
            && !now("SuccessCriteriaMet")
        {
            let why =
                "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
            errors.push(FieldError::invalid_whole(&own, why));
        }
    }

    fn completion_time(&self, errors: &mut FieldErrors, complete_changed: bool, path: &FieldPath) {
        let (new, start) = (&self.new.completion_time, &self.new.start_time);
        let is_complete = holds(self.new, "Complete");
        let time_changed = *new != self.old.completion_time;
        if (complete_changed || time_changed) && new.is_some() && !is_complete {
            let why = "cannot set completionTime when there is no Complete=True condition";
            errors.push(FieldError::invalid(path, json(new), why));
        }
        if (complete_changed || time_changed) && new.is_none() && is_complete {
            errors.push(FieldError::required(
                path,
                "completionTime is required for Complete jobs",
            ));
        }
        let start_changed = *start != self.old.start_time;
        if let (Some(end), Some(start)) = (new, start)
            && (start_changed || time_changed)
            && end.0 < start.0
        {
            errors.push(FieldError::invalid(
                path,
                json(new),
                "must be equal to or after `startTime`",
            ));
        }
    }

    fn finished(&self, errors: &mut FieldErrors, path: &FieldPath) {
        let (new, old) = (self.new, self.old);
        let finished = is_finished(new);
        let changed = self.finish_has_changed();
        let active = new.active.unwrap_or(0);
        if (changed || active != old.active.unwrap_or(0)) && finished && active > 0 {
            let why = "active>0 is invalid for finished job";
            errors.push(FieldError::invalid(&path.child("active"), active, why));
        }
        let never_ran = self.spec.suspend == Some(true) && self.spec.completions == Some(0);
        let start_changed = new.start_time != old.start_time;
        if (changed || start_changed) && !never_ran && finished && new.start_time.is_none() {
            errors.push(FieldError::required(
                &path.child("startTime"),
                "startTime is required for finished job",
            ));
        }
        let uncounted_changed = new.uncounted_terminated_pods != old.uncounted_terminated_pods;
        let has_uncounted = new.uncounted_terminated_pods.as_ref().is_some_and(|pods| {
            [&pods.failed, &pods.succeeded]
                .iter()
                .any(|list| list.as_ref().is_some_and(|list| !list.is_empty()))
        });
        if (changed || uncounted_changed) && finished && has_uncounted {
            let path = path.child("uncountedTerminatedPods");
            let shown = json(&new.uncounted_terminated_pods);
            errors.push(FieldError::invalid(
                &path,
                shown,
                "must be empty for finished job",
            ));
        }
    }

    fn indexes(&self, errors: &mut FieldErrors, path: &FieldPath) {
        let (new, old, spec) = (self.new, self.old, self.spec);
        let (completed_path, failed_path) =
            (path.child("completedIndexes"), path.child("failedIndexes"));
        let completed = new.completed_indexes.as_deref().unwrap_or_default();
        let completed_changed = completed != old.completed_indexes.as_deref().unwrap_or_default();
        let failed_changed = new.failed_indexes != old.failed_indexes;
        if let Some(completions) = spec.completions {
            if completed_changed && let Err(why) = indexes::count(completed, completions) {
                let why = format!("error parsing completedIndexes: {why}");
                errors.push(FieldError::invalid(&completed_path, completed, why));
            }
            if let Some(failed) = new.failed_indexes.as_ref().filter(|_| failed_changed)
                && let (Err(why), true) = (
                    indexes::count(failed, completions),
                    spec.backoff_limit_per_index.is_some(),
                )
            {
                let why = format!("error parsing failedIndexes: {why}");
                errors.push(FieldError::invalid(&failed_path, failed.as_str(), why));
            }
        }
        if completed_changed && !completed.is_empty() && !is_indexed(spec) {
            let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
            errors.push(FieldError::invalid(&completed_path, completed, why));
        }
        let Some(failed) = &new.failed_indexes else {
            return;
        };
        if failed_changed && spec.backoff_limit_per_index.is_none() {
            let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            errors.push(FieldError::invalid(&failed_path, failed.as_str(), why));
        }
        let both = spec
            .completions
            .filter(|_| completed_changed || failed_changed);
        if let Some(index) =
            both.and_then(|completions| indexes::overlap(completed, failed, completions))
        {
            let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
            errors.push(FieldError::invalid(&failed_path, failed.as_str(), why));
        }
    }

    fn success(&self, errors: &mut FieldErrors, path: &FieldPath) {
        let (new, old) = (self.new, self.old);
        let terminating_path = FieldPath::new("status").child("terminating");
        let terminating = new.terminating.unwrap_or(0);
        let terminating_changed = new.terminating != old.terminating;
        if (self.finish_has_changed() || terminating_changed) && is_finished(new) && terminating > 0
        {
            let why = "terminating>0 is invalid for finished job";
            errors.push(FieldError::invalid(&terminating_path, terminating, why));
        }
        let active_changed = new.active.unwrap_or(0) != old.active.unwrap_or(0);
        if let Some(ready) = new
            .ready
            .filter(|_| new.ready != old.ready || active_changed)
            && ready > new.active.unwrap_or(0)
        {
            let path = FieldPath::new("status").child("ready");
            errors.push(FieldError::invalid(
                &path,
                ready,
                "cannot set more ready pods than active",
            ));
        }
        let met = holds(new, "SuccessCriteriaMet");
        if met && holds(new, "Failed") {
            errors.push(FieldError::invalid_whole(
                path,
                "cannot set SuccessCriteriaMet=True and Failed=true conditions",
            ));
        }
        if met && holds(new, "FailureTarget") {
            errors.push(FieldError::invalid_whole(
                path,
                "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
            ));
        }
        if self.spec.success_policy.is_some() && !met && holds(new, "Complete") {
            let why = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
            errors.push(FieldError::invalid_whole(path, why));
        }
    }

    fn never_back(&self, errors: &mut FieldErrors, path: &FieldPath) {
        let (new, old) = (self.new, self.old);
        let conditions = path.child("conditions");
        for kind in ["Failed", "Complete", "FailureTarget"] {
            if holds(old, kind) && !holds(new, kind) {
                let why = format!("cannot disable the terminal {kind}=True condition");
                errors.push(FieldError::invalid_whole(&conditions, why));
            }
        }
        if new.failed.unwrap_or(0) < old.failed.unwrap_or(0) {
            let why = "cannot decrease the failed counter";
            errors.push(FieldError::invalid(
                &path.child("failed"),
                new.failed.unwrap_or(0),
                why,
            ));
        }
        // A job that is as parallel as it is long can shrink.
        let can_shrink = is_indexed(self.spec) && self.spec.completions == self.spec.parallelism;
        if !can_shrink && new.succeeded.unwrap_or(0) < old.succeeded.unwrap_or(0) {
            let why = "cannot decrease the succeeded counter";
            errors.push(FieldError::invalid(
                &path.child("succeeded"),
                new.succeeded.unwrap_or(0),
                why,
            ));
        }
        let both = new.completion_time.is_some() && old.completion_time.is_some();
        if both && new.completion_time != old.completion_time {
            let shown = json(&new.completion_time);
            errors.push(FieldError::invalid(
                &path.child("completionTime"),
                shown,
                "field is immutable",
            ));
        }
        let is_false = |kind: &str| {
            new.conditions
                .iter()
                .flatten()
                .any(|condition| condition.type_ == kind && condition.status == "False")
        };
        let resumes = holds(old, "Suspended") && is_false("Suspended");
        let restarted = old.start_time.is_some() && new.start_time != old.start_time;
        if restarted && !resumes && self.spec.suspend != Some(true) {
            let why = "field is immutable for unsuspended job once set";
            errors.push(FieldError::invalid(
                &path.child("startTime"),
                json(&new.start_time),
                why,
            ));
        }
        let (met, was_met) = (
            holds(new, "SuccessCriteriaMet"),
            holds(old, "SuccessCriteriaMet"),
        );
        if was_met && !met {
            errors.push(FieldError::invalid_whole(
                &conditions,
                "cannot disable the SuccessCriteriaMet=True condition",
            ));
        }
        if holds(old, "Complete") && !was_met && met {
            let why =
                "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
            errors.push(FieldError::invalid_whole(&conditions, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(status: serde_json::Value) -> Job {
        serde_json::from_value(json!({"spec": {"completions": 3}, "status": status}))
            .expect("a job")
    }

    #[test]
    fn an_end_is_final_and_counters_do_not_shrink() {
        let old =
            job(json!({"failed": 2, "conditions": [{"type": "FailureTarget", "status": "True"}]}));
        let texts: Vec<String> = validate_status_update(&job(json!({"failed": 1})), &old)
            .iter()
            .map(std::string::ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "status.conditions: Invalid value: cannot disable the terminal FailureTarget=True condition",
                "status.failed: Invalid value: 1: cannot decrease the failed counter",
            ]
        );
    }
}
