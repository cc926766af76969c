//! Deletes finished jobs when their time to live is over.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::ObjectKey;
use controller::{Action, Controller, Past, Plan, Wakes};
use env::Timestamp;
use informer::{Cache, Factory};
use k8s_openapi::api::batch::v1::Job;
use kube_client::{DeleteOptions, Propagation, resource_of};
use serde::Deserialize;

use crate::conditions::Condition;

pub(crate) struct TtlAfterFinished {
    jobs: Arc<Cache>,
}

#[derive(Deserialize)]
struct RawJob {
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    ttl_seconds_after_finished: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
}

pub(crate) struct View {
    key: ObjectKey,
    uid: String,
    revision: i64,
    expires: Timestamp,
}

impl TtlAfterFinished {
    pub(crate) fn new(factory: &Factory) -> Self {
        Self {
            jobs: factory.all::<Job>(),
        }
    }
}

impl Controller for TtlAfterFinished {
    type View = View;
    type Memory = ();
    const NAME: &'static str = "ttl-after-finished-controller";

    fn wakes(&self, on: &mut Wakes) {
        on.primary(&self.jobs);
    }

    /// Only jobs that will go by themselves are looked at.
    fn observe(&self, key: &ObjectKey, _past: &mut Past<'_, ()>) -> Option<View> {
        let stored = self
            .jobs
            .get(key)
            .filter(|job| !job.index.is_being_deleted)?;
        let job: RawJob = stored.decode().ok()?;
        let seconds = job.spec.ttl_seconds_after_finished?;
        let is_end =
            |one: &&Condition| matches!(one.kind.as_str(), "Complete" | "Failed") && one.is_true();
        let end = job.status.conditions.iter().find(is_end)?;
        let finished = end
            .last_transition_time
            .as_deref()
            .and_then(Timestamp::parse)?;
        Some(View {
            key: key.clone(),
            uid: stored.index.uid.clone(),
            revision: stored.revision,
            expires: finished.saturating_add(Duration::from_secs(seconds)),
        })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        let left = view.expires.saturating_since(now);
        if !left.is_zero() {
            return Plan {
                again_after: Some(left),
                ..Plan::nothing()
            };
        }
        Plan::of(vec![Action::Delete {
            resource: resource_of::<Job>(),
            key: view.key.clone(),
            options: DeleteOptions {
                propagation: Some(Propagation::Foreground),
                resource_version: Some(view.revision.to_string()),
                ..DeleteOptions::only(view.uid.clone())
            },
            announcement: None,
        }])
    }
}
