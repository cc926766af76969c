//! How many pods to make or remove, which ones, and what the status says.

use controller::{Action, Plan};
use env::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube_client::{Patch, resource_of};
use serde_json::json;

use super::ranking::by_deletion;
use super::{BURST_REPLICAS, Status, View};
use crate::conditions::{self, Condition};
use crate::ownership::{Claim, claim};
use crate::pod_template::{create_pod, delete_pod, pod_from};
use crate::pods::{PodFacts, next_availability};

const REPLICA_FAILURE: &str = "ReplicaFailure";

pub(super) fn plan(view: &View, now: Timestamp) -> Plan {
    let selector = view.set.selector();
    let (active, rest): (Vec<PodFacts>, Vec<PodFacts>) = view
        .candidates
        .iter()
        .cloned()
        .partition(PodFacts::is_active);
    let claimed = claim(
        &view.owner,
        &selector,
        &resource_of::<Pod>(),
        "",
        view.adoption,
        active,
        |pod| &pod.index,
    );
    let (mut active, mut actions) = match claimed {
        Claim::AskFirst(ask) => return Plan::of(vec![ask]),
        Claim::Settled { owned, actions } => (owned, actions),
    };
    let is_terminating = |pod: &&PodFacts| {
        pod.is_terminating()
            && view.owner.owns(&pod.index)
            && selector.matches_with(|key| pod.index.label(key))
    };
    let terminating = rest.iter().filter(is_terminating).count();
    let status = status(view, &active, terminating, now);
    if !view.owner.is_being_deleted {
        actions.extend(scale(view, &mut active, now));
    }
    if status != view.set.status {
        actions.push(update_status(view, &status));
    }
    let min_ready_seconds = view.set.spec.min_ready_seconds;
    Plan {
        actions,
        again_after: next_availability(&active, min_ready_seconds, now),
    }
}

fn wanted(view: &View) -> usize {
    usize::try_from(view.set.spec.replicas.unwrap_or(1)).unwrap_or(0)
}

fn scale(view: &View, active: &mut [PodFacts], now: Timestamp) -> Option<Action> {
    let wanted = wanted(view);
    let missing = wanted.saturating_sub(active.len()).min(BURST_REPLICAS);
    if missing > 0 {
        let create = || create_pod(pod_from(&view.set.spec.template, &view.owner), &view.owner);
        return Some(Action::SlowStart((0..missing).map(|_| create()).collect()));
    }
    let surplus = active.len().saturating_sub(wanted).min(BURST_REPLICAS);
    if surplus == 0 {
        return None;
    }
    active.sort_by(|one, other| by_deletion(one, other, &view.related_on_node, now));
    let given_up = active[..surplus]
        .iter()
        .map(|pod| delete_pod(pod, &view.owner));
    Some(Action::Together(given_up.collect()))
}

fn status(view: &View, active: &[PodFacts], terminating: usize, now: Timestamp) -> Status {
    let spec = &view.set.spec;
    let labels = spec
        .template
        .pointer("/metadata/labels")
        .and_then(serde_json::Value::as_object);
    let is_fully_labeled = |pod: &&PodFacts| {
        labels
            .into_iter()
            .flatten()
            .all(|(key, value)| pod.index.label(key) == value.as_str())
    };
    let count = |counts: &dyn Fn(&&PodFacts) -> bool| number(active.iter().filter(counts).count());
    Status {
        replicas: number(active.len()),
        fully_labeled_replicas: count(&is_fully_labeled),
        ready_replicas: count(&|pod| pod.is_ready),
        available_replicas: count(&|pod| pod.is_available(spec.min_ready_seconds, now)),
        terminating_replicas: (view.owner.kind == "ReplicaSet").then(|| number(terminating)),
        observed_generation: view.generation,
        conditions: conditions(view, active.len(), now),
    }
}

fn conditions(view: &View, active: usize, now: Timestamp) -> Vec<Condition> {
    let mut conditions = view.set.status.conditions.clone();
    let wanted = wanted(view);
    let failure = match (active.cmp(&wanted), &view.create_error, &view.delete_error) {
        (std::cmp::Ordering::Less, Some(error), _) => Some(("FailedCreate", error.clone())),
        (std::cmp::Ordering::Greater, _, Some(error)) => {
            Some(("FailedDelete", format!("unable to delete pods: {error}")))
        }
        _ => None,
    };
    let standing = conditions::find(&conditions, REPLICA_FAILURE).is_some();
    match failure {
        // The first failure's text stands until a turn succeeds.
        Some((reason, message)) if !standing => {
            conditions::set(
                &mut conditions,
                Condition::new(REPLICA_FAILURE, true, reason, message, now),
            );
        }
        Some(_) => {}
        None => conditions::remove(&mut conditions, REPLICA_FAILURE),
    }
    conditions
}

fn update_status(view: &View, status: &Status) -> Action {
    let patch =
        json!({"metadata": {"resourceVersion": view.revision.to_string()}, "status": status});
    Action::Patch {
        resource: view.owner.resource.clone(),
        key: view.owner.key.clone(),
        subresource: "status",
        patch: Patch::Merge(patch),
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
