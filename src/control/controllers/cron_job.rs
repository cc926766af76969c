//! Makes jobs at the moments a schedule names.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::{ObjectIndex, ObjectKey};
use controller::{Controller, Past, Plan, Wakes};
use env::Timestamp;
use informer::{CONTROLLER_UID, Cache, Factory};
use k8s_openapi::Resource as _;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conditions::{self, Condition};
use crate::ownership::Owner;

pub(crate) struct CronJobs {
    cron_jobs: Arc<Cache>,
    jobs: Arc<Cache>,
}

#[derive(Deserialize)]
struct Raw {
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    creation_timestamp: String,
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    schedule: String,
    time_zone: String,
    starting_deadline_seconds: Option<u64>,
    concurrency_policy: String,
    suspend: bool,
    job_template: Value,
    successful_jobs_history_limit: Option<usize>,
    failed_jobs_history_limit: Option<usize>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    active: Vec<ObjectReference>,
    last_schedule_time: Option<String>,
    last_successful_time: Option<String>,
}

/// A job the cron job made.
#[derive(Clone, Debug)]
struct Made {
    index: Arc<ObjectIndex>,
    revision: i64,
    started: String,
    created: String,
    end: Option<End>,
    completed: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Complete,
    Failed,
}

#[derive(Deserialize)]
struct RawJob {
    metadata: Metadata,
    #[serde(default)]
    status: JobStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JobStatus {
    start_time: String,
    completion_time: Option<String>,
    conditions: Vec<Condition>,
}

pub(crate) struct View {
    owner: Owner,
    revision: i64,
    created: String,
    spec: Spec,
    status: Status,
    jobs: Vec<Made>,
}

impl CronJobs {
    pub(crate) fn new(factory: &Factory) -> Self {
        let jobs = factory.all::<Job>();
        jobs.add_index(CONTROLLER_UID);
        Self {
            cron_jobs: factory.all::<CronJob>(),
            jobs,
        }
    }
}

impl Made {
    fn of(stored: &apimachinery::StoredObject) -> Option<Self> {
        let raw: RawJob = stored.decode().ok()?;
        let is = |kind: &str| conditions::is_true(&raw.status.conditions, kind);
        let end = match (is("Complete"), is("Failed")) {
            (true, _) => Some(End::Complete),
            (false, true) => Some(End::Failed),
            (false, false) => None,
        };
        Some(Self {
            index: Arc::clone(&stored.index),
            revision: stored.revision,
            started: raw.status.start_time,
            created: raw.metadata.creation_timestamp,
            end,
            completed: raw.status.completion_time,
        })
    }

    fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(Job::API_VERSION.to_owned()),
            kind: Some(Job::KIND.to_owned()),
            namespace: Some(self.index.key.namespace.clone()),
            name: Some(self.index.key.name.clone()),
            uid: Some(self.index.uid.clone()),
            resource_version: Some(self.revision.to_string()),
            field_path: None,
        }
    }
}

impl Controller for CronJobs {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "cronjob-controller";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.cron_jobs);
        on.owned(&self.jobs, CronJob::KIND);
    }

    fn observe(&self, key: &ObjectKey, _past: &mut Past<'_, ()>) -> Option<View> {
        let stored = self.cron_jobs.get(key)?;
        let raw: Raw = stored.decode().ok()?;
        let owner = Owner::of::<CronJob>(&stored.index);
        let jobs = self.jobs.find(&CONTROLLER_UID, &owner.uid);
        Some(View {
            revision: stored.revision,
            created: raw.metadata.creation_timestamp,
            spec: raw.spec,
            status: raw.status,
            jobs: jobs.iter().filter_map(Made::of).collect(),
            owner,
        })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan::plan(view, now)
    }
}
