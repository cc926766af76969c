//! What controllers read of a pod: a small owned projection, made from its bytes for one turn.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{ObjectIndex, ObjectKey, StoredObject};
use env::Timestamp;
use serde::Deserialize;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    // In the order in which pods are given up: those that achieved least first.
    Pending,
    Unknown,
    Running,
    Succeeded,
    Failed,
}

#[derive(Clone, Debug)]
pub(crate) struct PodFacts {
    pub(crate) index: Arc<ObjectIndex>,
    /// Empty while it has none.
    pub(crate) node_name: String,
    pub(crate) phase: Phase,
    pub(crate) created: Option<Timestamp>,
    pub(crate) deleted: Option<Timestamp>,
    pub(crate) is_ready: bool,
    /// When the ready condition became what it is.
    pub(crate) ready_changed: Option<Timestamp>,
    /// The most restarts of a container, and of a sidecar.
    pub(crate) restarts: (i32, i32),
    pub(crate) deletion_cost: i32,
}

impl PodFacts {
    /// `None` if the bytes are no pod, which a server does not store.
    pub(crate) fn of(pod: &StoredObject) -> Option<Self> {
        let raw: RawPod<'_> = pod.view().ok()?;
        let sidecars: Vec<&str> = raw
            .spec
            .init_containers
            .iter()
            .flatten()
            .filter(|container| container.restart_policy.as_deref() == Some("Always"))
            .map(|container| &*container.name)
            .collect();
        let statuses = |list: &Option<Vec<RawStatus<'_>>>, counts: &dyn Fn(&str) -> bool| {
            let counted = list.iter().flatten().filter(|status| counts(&status.name));
            counted
                .map(|status| status.restart_count)
                .max()
                .unwrap_or(0)
        };
        let restarts = (
            statuses(&raw.status.container_statuses, &|_| true),
            statuses(&raw.status.init_container_statuses, &|name| {
                sidecars.contains(&name)
            }),
        );
        let ready = raw
            .status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.kind == "Ready");
        let cost = raw
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(DELETION_COST));
        let time = |text: &Option<Cow<'_, str>>| text.as_deref().and_then(Timestamp::parse);
        Some(Self {
            index: Arc::clone(&pod.index),
            node_name: raw.spec.node_name.as_deref().unwrap_or_default().to_owned(),
            phase: phase(raw.status.phase.as_deref().unwrap_or_default()),
            created: time(&raw.metadata.creation_timestamp),
            deleted: time(&raw.metadata.deletion_timestamp),
            is_ready: ready.is_some_and(|ready| ready.status == "True"),
            ready_changed: ready.and_then(|ready| time(&ready.last_transition_time)),
            restarts,
            deletion_cost: cost.and_then(|cost| cost.parse().ok()).unwrap_or(0),
        })
    }

    pub(crate) fn key(&self) -> &ObjectKey {
        &self.index.key
    }

    /// Neither finished nor being deleted.
    pub(crate) fn is_active(&self) -> bool {
        self.deleted.is_none() && !self.is_finished()
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Being deleted, and not finished yet.
    pub(crate) fn is_terminating(&self) -> bool {
        self.deleted.is_some() && !self.is_finished()
    }

    /// Ready for at least `min_ready_seconds`.
    pub(crate) fn is_available(&self, min_ready_seconds: i32, now: Timestamp) -> bool {
        self.is_ready && self.available_in(min_ready_seconds, now).is_none()
    }

    /// How long a ready pod still has to wait until it counts as available.
    pub(crate) fn available_in(&self, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
        let seconds = u64::try_from(min_ready_seconds)
            .ok()
            .filter(|seconds| *seconds > 0)?;
        let since = self.ready_changed.filter(|_| self.is_ready)?;
        let wanted = since.saturating_add(Duration::from_secs(seconds));
        Some(wanted.saturating_since(now)).filter(|left| !left.is_zero())
    }
}

pub(crate) fn facts(pods: &[StoredObject]) -> Vec<PodFacts> {
    pods.iter().filter_map(PodFacts::of).collect()
}

/// When the next of these pods becomes available by time alone.
pub(crate) fn next_availability<'a>(
    pods: impl IntoIterator<Item = &'a PodFacts>,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Option<Duration> {
    pods.into_iter()
        .filter_map(|pod| pod.available_in(min_ready_seconds, now))
        .min()
}

fn phase(text: &str) -> Phase {
    match text {
        "Running" => Phase::Running,
        "Succeeded" => Phase::Succeeded,
        "Failed" => Phase::Failed,
        "Unknown" => Phase::Unknown,
        // A pod nobody has looked at yet has no phase.
        _ => Phase::Pending,
    }
}

#[derive(Deserialize)]
struct RawPod<'a> {
    #[serde(borrow)]
    metadata: RawMetadata<'a>,
    #[serde(borrow, default)]
    spec: RawSpec<'a>,
    #[serde(borrow, default)]
    status: RawPodStatus<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMetadata<'a> {
    #[serde(borrow)]
    creation_timestamp: Option<Cow<'a, str>>,
    #[serde(borrow)]
    deletion_timestamp: Option<Cow<'a, str>>,
    #[serde(borrow)]
    annotations: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec<'a> {
    #[serde(borrow)]
    node_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    init_containers: Option<Vec<RawContainer<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainer<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    restart_policy: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPodStatus<'a> {
    #[serde(borrow)]
    phase: Option<Cow<'a, str>>,
    #[serde(borrow)]
    conditions: Option<Vec<RawCondition<'a>>>,
    #[serde(borrow)]
    container_statuses: Option<Vec<RawStatus<'a>>>,
    #[serde(borrow)]
    init_container_statuses: Option<Vec<RawStatus<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCondition<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    last_transition_time: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawStatus<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(default)]
    restart_count: i32,
}
