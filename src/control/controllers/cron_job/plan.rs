//! One turn of a cron job: note what its jobs have done, tidy up, and start the next one when it is due.

use std::collections::BTreeSet;
use std::time::Duration;

use apimachinery::Object;
use controller::{Action, Event, EventType, Plan};
use env::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::tz::TimeZone;
use kube_client::{DeleteOptions, Propagation, resource_of};
use semantics::cron_schedule::{self, Schedule};
use semantics::time_zones;
use serde_json::{Value, json};

use super::{End, Made, Spec, Status, View};

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// A start is due this much earlier than it is, so that a timer that fires early does not wait once more.
const EARLY: Duration = Duration::from_millis(100);
/// Missed moments beyond this many are not counted one by one.
const MISSED_MAX: usize = 100;

pub(super) fn plan(view: &View, now: Timestamp) -> Plan {
    let mut turn = Turn {
        view,
        now,
        status: view.status.clone(),
        plan: Plan::nothing(),
        start: None,
    };
    turn.note_jobs();
    turn.tidy();
    if !view.owner.is_being_deleted && !view.spec.suspend {
        turn.start_next();
    }
    if turn.status != view.status {
        let patch = json!({
            "metadata": {"resourceVersion": view.revision.to_string()}, "status": turn.status,
        });
        let write = Action::merge_status::<CronJob>(view.owner.key.clone(), patch);
        // The start is noted only once it has happened: a failure is tried again.
        let steps = turn.start.take().into_iter().chain([write]);
        turn.plan.push(Action::Sequence(steps.collect()));
    }
    turn.plan
}

struct Turn<'a> {
    view: &'a View,
    now: Timestamp,
    status: Status,
    plan: Plan,
    /// Makes the next job.
    start: Option<Action>,
}

/// A schedule, and whose clocks it means.
struct Clock {
    schedule: Schedule,
    zone: TimeZone,
}

/// Why a spec tells no moments, as an event says it.
#[derive(Debug, PartialEq)]
struct Unreadable {
    reason: &'static str,
    message: String,
}

impl Clock {
    fn of(spec: &Spec) -> Result<Self, Unreadable> {
        let schedule = cron_schedule::parse(&spec.schedule).map_err(|why| Unreadable {
            reason: "UnparseableSchedule",
            message: format!("unparseable schedule: {:?} : {why}", spec.schedule),
        })?;
        // Without a zone the clock is the control plane's own, which is UTC.
        let name = Some(spec.time_zone.as_str()).filter(|name| !name.is_empty());
        let zone = time_zones::find(name.unwrap_or("UTC")).ok_or_else(|| Unreadable {
            reason: "UnknownTimeZone",
            message: format!(
                "invalid timeZone: {:?}: unknown time zone {}",
                spec.time_zone, spec.time_zone
            ),
        })?;
        Ok(Self { schedule, zone })
    }

    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.next(after, &self.zone)
    }
}

impl Turn<'_> {
    fn emit(&mut self, event_type: EventType, reason: &str, message: String) {
        self.plan.push(Action::Emit(Event {
            regarding: self.view.owner.as_event_object(),
            event_type,
            reason: reason.to_owned(),
            message,
        }));
    }

    /// Takes finished and vanished jobs from the active ones, and adds those that are not listed.
    fn note_jobs(&mut self) {
        let view = self.view;
        let uid = |reference: &ObjectReference| reference.uid.clone().unwrap_or_default();
        let listed: BTreeSet<String> = self.status.active.iter().map(uid).collect();
        for job in &view.jobs {
            let is_listed = listed.contains(&job.index.uid);
            match job.end {
                Some(end) if is_listed => {
                    let kind = if end == End::Complete {
                        "Complete"
                    } else {
                        "Failed"
                    };
                    let message = format!(
                        "Saw completed job: {}, condition: {kind}",
                        job.index.key.name
                    );
                    self.emit(EventType::Normal, "SawCompletedJob", message);
                }
                None if !is_listed => self.status.active.push(job.reference()),
                _ => {}
            }
            if job.end == Some(End::Complete) && job.completed > self.status.last_successful_time {
                self.status.last_successful_time.clone_from(&job.completed);
            }
        }
        let is_running = |reference: &ObjectReference| {
            view.jobs
                .iter()
                .any(|job| job.index.uid == uid(reference) && job.end.is_none())
        };
        let gone: Vec<ObjectReference> = self
            .status
            .active
            .iter()
            .filter(|one| !is_running(one))
            .cloned()
            .collect();
        for reference in gone
            .iter()
            .filter(|one| !view.jobs.iter().any(|job| job.index.uid == uid(one)))
        {
            let name = reference.name.clone().unwrap_or_default();
            self.emit(
                EventType::Normal,
                "MissingJob",
                format!("Active job went missing: {name}"),
            );
        }
        self.status.active.retain(is_running);
    }

    /// Deletes finished jobs beyond the history limits, oldest first.
    fn tidy(&mut self) {
        let spec = &self.view.spec;
        for (end, limit) in [
            (
                End::Complete,
                spec.successful_jobs_history_limit.unwrap_or(3),
            ),
            (End::Failed, spec.failed_jobs_history_limit.unwrap_or(1)),
        ] {
            let mut ended: Vec<&Made> = self
                .view
                .jobs
                .iter()
                .filter(|job| job.end == Some(end))
                .collect();
            ended.sort_by_key(|job| {
                (
                    job.started.clone(),
                    job.created.clone(),
                    job.index.key.name.clone(),
                )
            });
            let surplus = ended.len().saturating_sub(limit);
            for job in ended
                .into_iter()
                .take(surplus)
                .filter(|job| !job.index.is_being_deleted)
            {
                self.delete(job);
            }
        }
    }

    fn delete(&mut self, job: &Made) {
        let deletion = Action::Delete {
            resource: resource_of::<Job>(),
            key: job.index.key.clone(),
            options: DeleteOptions {
                propagation: Some(Propagation::Background),
                ..DeleteOptions::only(job.index.uid.clone())
            },
            announcement: Some(Box::new(controller::Announcement {
                regarding: self.view.owner.as_event_object(),
                success: ("SuccessfulDelete", "Deleted job ".into()),
                failure: ("FailedDelete", "Deleted job: ".into()),
            })),
        };
        self.plan.push(deletion);
    }

    fn start_next(&mut self) {
        let spec = &self.view.spec;
        let clock = match Clock::of(spec) {
            Ok(clock) => clock,
            Err(Unreadable { reason, message }) => {
                self.emit(EventType::Warning, reason, message);
                return;
            }
        };
        let due = self.due(&clock);
        if let Some(next) = clock.next(self.now) {
            self.plan
                .wake_within(next.saturating_since(self.now) + EARLY);
        }
        let Some(scheduled) = due else { return };
        let deadline = spec.starting_deadline_seconds.map(Duration::from_secs);
        if deadline.is_some_and(|deadline| scheduled.saturating_add(deadline) < self.now) {
            let message = format!(
                "Missed scheduled time to start a job: {}",
                scheduled.to_seconds_string()
            );
            self.emit(EventType::Warning, "MissSchedule", message);
            return;
        }
        let is_started = self
            .view
            .jobs
            .iter()
            .any(|job| job.index.key.name == job_name(self.view, scheduled));
        if is_started || self.status.last_schedule_time == Some(scheduled.to_seconds_string()) {
            return;
        }
        match spec.concurrency_policy.as_str() {
            "Forbid" if !self.status.active.is_empty() => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.emit(EventType::Normal, "JobAlreadyActive", message.to_owned());
                return;
            }
            "Replace" => {
                let active: Vec<Made> = self
                    .view
                    .jobs
                    .iter()
                    .filter(|job| job.end.is_none() && !job.index.is_being_deleted)
                    .cloned()
                    .collect();
                active.iter().for_each(|job| self.delete(job));
            }
            _ => {}
        }
        self.start = Some(create(self.view, scheduled));
        self.status.last_schedule_time = Some(scheduled.to_seconds_string());
    }

    /// The latest moment that has passed since the last start.
    fn due(&mut self, clock: &Clock) -> Option<Timestamp> {
        let since = self
            .status
            .last_schedule_time
            .as_deref()
            .unwrap_or(&self.view.created);
        let mut earliest = Timestamp::parse(since)?;
        if let Some(deadline) = self.view.spec.starting_deadline_seconds {
            earliest = earliest.max(self.now.saturating_sub(Duration::from_secs(deadline)));
        }
        let horizon = self.now.saturating_add(EARLY);
        let mut due = None;
        let mut at = earliest;
        for count in 0.. {
            match clock.next(at).filter(|next| *next <= horizon) {
                Some(next) => at = next,
                None => return due,
            }
            due = Some(at);
            if count >= MISSED_MAX {
                // After a long sleep it goes on from the last day: older moments are missed for good.
                let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
                self.emit(EventType::Warning, "TooManyMissedTimes", message.to_owned());
                at = at.max(self.now.saturating_sub(Duration::from_hours(1)));
                while let Some(next) = clock.next(at).filter(|next| *next <= horizon) {
                    at = next;
                    due = Some(next);
                }
                return due;
            }
        }
        due
    }
}

fn job_name(view: &View, scheduled: Timestamp) -> String {
    format!("{}-{}", view.owner.key.name, scheduled.unix_seconds() / 60)
}

fn create(view: &View, scheduled: Timestamp) -> Action {
    let template = &view.spec.job_template;
    let part = |path: &str| {
        template
            .pointer(path)
            .filter(|part| !part.is_null())
            .cloned()
            .unwrap_or_else(|| json!({}))
    };
    let mut annotations = part("/metadata/annotations");
    annotations[SCHEDULED_AT] = Value::String(scheduled.to_seconds_string());
    let object = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": job_name(view, scheduled), "namespace": view.owner.key.namespace,
            "labels": part("/metadata/labels"), "annotations": annotations,
            "ownerReferences": [view.owner.reference()],
        },
        "spec": part("/spec"),
    });
    Action::Create {
        resource: resource_of::<Job>(),
        object: Box::new(Object::from_value(object).expect("it is an object")),
        announcement: Some(Box::new(controller::Announcement {
            regarding: view.owner.as_event_object(),
            success: ("SuccessfulCreate", "Created job ".into()),
            failure: ("FailedCreate", "Error creating job: ".into()),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ownership::Owner;
    use apimachinery::{ObjectIndex, ObjectKey};

    fn view(policy: &str, last: Option<&str>) -> View {
        let key = ObjectKey::namespaced("a", "c");
        let index = ObjectIndex {
            key,
            uid: "u".into(),
            ..ObjectIndex::default()
        };
        let spec = json!({"schedule": "*/5 * * * *", "concurrencyPolicy": policy, "jobTemplate": {"spec": {}}});
        View {
            owner: Owner::of::<CronJob>(&index),
            revision: 1,
            created: "2026-01-01T00:00:00Z".into(),
            spec: serde_json::from_value(spec).expect("a spec"),
            status: Status {
                last_schedule_time: last.map(str::to_owned),
                ..Status::default()
            },
            jobs: Vec::new(),
        }
    }

    fn created(plan: &Plan) -> Option<String> {
        plan.actions.iter().find_map(|action| match action {
            Action::Sequence(steps) => match &steps[0] {
                Action::Create { object, .. } => Some(object.name().to_owned()),
                _ => None,
            },
            _ => None,
        })
    }

    #[test]
    fn a_job_is_made_when_its_moment_has_passed_and_only_once() {
        let now = Timestamp::parse("2026-01-01T00:10:02Z").expect("a time");
        let minutes = now.unix_seconds() / 60;
        assert_eq!(
            created(&plan(&view("Allow", None), now)),
            Some(format!("c-{minutes}"))
        );
        let done = plan(&view("Allow", Some("2026-01-01T00:10:00Z")), now);
        assert_eq!(created(&done), None);
        assert_eq!(done.again_after, Some(Duration::from_secs(298) + EARLY));
    }

    #[test]
    fn a_start_that_is_too_late_is_missed() {
        let now = Timestamp::parse("2026-01-01T00:13:00Z").expect("a time");
        let mut late = view("Allow", Some("2026-01-01T00:05:00Z"));
        late.spec.starting_deadline_seconds = Some(60);
        assert_eq!(created(&plan(&late, now)), None);
    }

    #[test]
    fn a_schedule_is_read_by_the_clocks_of_its_zone() {
        let now = Timestamp::parse("2026-01-01T15:00:01Z").expect("a time");
        let mut midnight = view("Allow", Some("2026-01-01T14:00:00Z"));
        midnight.spec.schedule = "0 0 * * *".to_owned();
        assert_eq!(created(&plan(&midnight, now)), None);
        midnight.spec.time_zone = "Asia/Tokyo".to_owned();
        assert!(created(&plan(&midnight, now)).is_some());
    }

    #[test]
    fn a_zone_that_nobody_knows_is_told() {
        let mut lost = view("Allow", None);
        lost.spec.time_zone = "Mars/Olympus".to_owned();
        let plan = plan(
            &lost,
            Timestamp::parse("2026-01-02T00:00:00Z").expect("a time"),
        );
        assert!(matches!(
            plan.actions.as_slice(),
            [Action::Emit(event)] if event.reason == "UnknownTimeZone"
        ));
    }
}
