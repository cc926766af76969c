//! Removes pods nobody will ever run or finish: on nodes that are gone, never scheduled and told to go, and too many finished ones.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::{ObjectKey, StoredObject};
use controller::{Action, Controller, Past, Plan, Wakes};
use env::Timestamp;
use informer::{Cache, Factory, NODE_NAME};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube_client::{DeleteOptions, Patch, resource_of};

use crate::pods::PodFacts;
use crate::taint_eviction::{NodeTaints, disruption};

/// Finished pods kept in the cluster.
const FINISHED_PODS_MAX: usize = 12_500;
/// A node that was seen missing for this long is asked for live, and then taken for gone.
const QUARANTINE: Duration = Duration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

pub(crate) struct PodGarbage {
    pods: Arc<Cache>,
    nodes: Arc<Cache>,
}

pub(crate) enum View {
    Pod(Box<PodView>),
    /// Finished pods beyond the limit, oldest first.
    Surplus(Vec<PodFacts>),
}

pub(crate) struct PodView {
    pod: PodFacts,
    node: NodeState,
    monotonic: Duration,
    missing_since: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NodeState {
    /// The pod has no node.
    None,
    Present,
    /// Not ready, and a person said that it will not come back by itself.
    OutOfService,
    Missing,
    /// Asked live.
    Gone,
}

impl PodGarbage {
    pub(crate) fn new(factory: &Factory) -> Self {
        let pods = factory.all::<Pod>();
        pods.add_index(NODE_NAME);
        Self {
            pods,
            nodes: factory.all::<Node>(),
        }
    }

    fn surplus(&self) -> Vec<PodFacts> {
        if self.pods.len() <= FINISHED_PODS_MAX {
            return Vec::new();
        }
        let all = self.pods.list();
        let mut finished: Vec<PodFacts> = all
            .iter()
            .filter_map(PodFacts::of)
            .filter(PodFacts::is_finished)
            .collect();
        finished.sort_by(|one, other| (one.created, one.key()).cmp(&(other.created, other.key())));
        finished.truncate(finished.len().saturating_sub(FINISHED_PODS_MAX));
        finished
    }

    fn node_state(&self, name: &str, past: &Past<'_, Option<Duration>>) -> NodeState {
        let key = ObjectKey::cluster(name);
        let live = past.outcomes.read(&resource_of::<Node>(), &key);
        match self.nodes.get(&key) {
            _ if name.is_empty() => NodeState::None,
            Some(node) if is_out_of_service(&node) => NodeState::OutOfService,
            Some(_) => NodeState::Present,
            None if live == Some(&None) => NodeState::Gone,
            None => NodeState::Missing,
        }
    }
}

fn is_out_of_service(node: &StoredObject) -> bool {
    let Ok(node) = node.decode::<NodeTaints>() else {
        return false;
    };
    let is_tainted = node
        .spec
        .taints
        .iter()
        .any(|taint| taint.key == OUT_OF_SERVICE);
    let is_ready = node
        .status
        .conditions
        .iter()
        .any(|one| one.kind == "Ready" && one.is_true());
    is_tainted && !is_ready
}

/// The key under which finished pods are counted.
fn surplus_key() -> ObjectKey {
    ObjectKey::default()
}

impl Controller for PodGarbage {
    type View = View;
    /// Since when the pod's node is missing.
    type Memory = Option<Duration>;
    const NAME: &'static str = "pod-garbage-collector";

    fn wakes(&self, on: &mut Wakes) {
        on.mapped(&self.pods, |change| {
            let Some(pod) = &change.new else {
                return Vec::new();
            };
            let is_moved = change.old.is_none()
                || (NODE_NAME.values)(pod)
                    != change.old.as_ref().map_or(Vec::new(), NODE_NAME.values);
            let is_leaving = pod.index.is_being_deleted;
            let own = (is_moved || is_leaving).then(|| pod.key().clone());
            own.into_iter()
                .chain(change.old.is_none().then(surplus_key))
                .collect()
        });
        let pods = Arc::clone(&self.pods);
        on.mapped(&self.nodes, move |change| {
            let is_relevant = match &change.new {
                None => true,
                Some(node) => is_out_of_service(node),
            };
            if !is_relevant {
                return Vec::new();
            }
            let pods = pods.find(&NODE_NAME, &change.key().name).into_iter();
            pods.map(|pod| pod.key().clone()).collect()
        });
    }

    fn observe(&self, key: &ObjectKey, past: &mut Past<'_, Option<Duration>>) -> Option<View> {
        if *key == surplus_key() {
            return Some(View::Surplus(self.surplus()));
        }
        let pod = PodFacts::of(&self.pods.get(key)?)?;
        let node = self.node_state(&pod.node_name, past);
        match node {
            NodeState::Missing | NodeState::Gone => {
                past.memory.get_or_insert(past.monotonic);
            }
            _ => *past.memory = None,
        }
        let missing_since = *past.memory;
        Some(View::Pod(Box::new(PodView {
            pod,
            node,
            monotonic: past.monotonic,
            missing_since,
        })))
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        match view {
            View::Surplus(pods) => Plan::of(vec![Action::Together(
                pods.iter().map(force_delete).collect(),
            )]),
            View::Pod(view) => view.plan(now),
        }
    }
}

impl PodView {
    fn plan(&self, now: Timestamp) -> Plan {
        let is_leaving = self.pod.deleted.is_some();
        match self.node {
            NodeState::None if is_leaving => Plan::of(vec![force_delete(&self.pod)]),
            NodeState::OutOfService if is_leaving => {
                self.fail_and_delete("out-of-service taint", now)
            }
            NodeState::None | NodeState::Present | NodeState::OutOfService => Plan::nothing(),
            NodeState::Gone => self.fail_and_delete("node no longer exists", now),
            NodeState::Missing => {
                let missing = self
                    .monotonic
                    .saturating_sub(self.missing_since.unwrap_or(self.monotonic));
                if let Some(left) = QUARANTINE
                    .checked_sub(missing)
                    .filter(|left| !left.is_zero())
                {
                    Plan {
                        again_after: Some(left),
                        ..Plan::nothing()
                    }
                } else {
                    let node = ObjectKey::cluster(self.pod.node_name.clone());
                    Plan::of(vec![Action::read::<Node>(node)])
                }
            }
        }
    }

    /// The pod must count as failed before it goes: its owner may wait for how it ended.
    fn fail_and_delete(&self, why: &str, now: Timestamp) -> Plan {
        let mut actions = Vec::new();
        if !self.pod.is_finished() {
            let message = format!("PodGC: {why}");
            let mut status = disruption("DeletionByPodGC", &message, now);
            status["status"]["phase"] = "Failed".into();
            actions.push(Action::Patch {
                resource: resource_of::<Pod>(),
                key: self.pod.key().clone(),
                subresource: "status",
                patch: Patch::Strategic(status),
            });
        }
        actions.push(force_delete(&self.pod));
        Plan::of(vec![Action::Sequence(actions)])
    }
}

fn force_delete(pod: &PodFacts) -> Action {
    Action::Delete {
        resource: resource_of::<Pod>(),
        key: pod.key().clone(),
        options: DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::only(pod.index.uid.clone())
        },
        announcement: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn disruption_is_a_strategic_patch_of_one_condition() {
        let patch = disruption("DeletionByPodGC", "PodGC: x", Timestamp::UNIX_EPOCH);
        assert_eq!(
            patch["status"]["conditions"][0]["type"],
            json!("DisruptionTarget")
        );
    }
}
