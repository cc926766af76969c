//! One turn of a daemon set: which nodes lack a pod, which pods are in the wrong place, and how far an update may go.

use std::collections::{BTreeMap, BTreeSet};

use controller::{Action, Event, EventType, Plan};
use env::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use semantics::int_or_percent::{Rounding, scaled};
use semantics::node_affinity::NodeLabels as _;
use serde_json::{Value, json};

use super::nodes::{Belongs, Fit, assign};
use super::{BURST_PODS, DaemonPod, Status, View};
use crate::history::{REVISION_HASH, Revision, expired};
use crate::pod_template::{create_pod, delete_pod, pod_from};
use crate::pods::{Phase, next_availability};
use crate::revisioned::{Beginning, Revisioned};

const GENERATION_LABEL: &str = "pod-template-generation";

pub(super) fn plan(view: &View, now: Timestamp) -> Plan {
    let selector = view.spec.selector();
    if selector.is_everything() {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.";
        return Plan::of(vec![event(
            view,
            EventType::Warning,
            "SelectingAll",
            message.into(),
        )]);
    }
    let revisioned = Revisioned {
        owner: &view.owner,
        selector: &selector,
        adoption: view.adoption,
        history: &view.history,
        template: &view.spec.template,
        collisions: view.status.collision_count.unwrap_or(0),
    };
    let beginning = revisioned.begin(view.candidates.clone(), |pod| &pod.facts.index);
    let (revisions, current, pods, mut actions) = match beginning {
        Beginning::Over(plan) => return plan,
        Beginning::Collision(collisions) => {
            let status = Status {
                collision_count: Some(collisions),
                ..view.status.clone()
            };
            return Plan::of(vec![update_status(view, &status)]);
        }
        Beginning::Known {
            revisions,
            current,
            pods,
            actions,
        } => (revisions, current, pods, actions),
    };
    let mut turn = Turn::new(view, &current, pods, now);
    if !view.owner.is_being_deleted {
        turn.manage();
        if turn.is_settled() && view.spec.update_strategy.kind != "OnDelete" {
            turn.update();
        }
        let mut used = turn.revisions_used();
        used.insert(current.hash());
        actions.extend(expired(&revisions, &used, view.spec.revision_history_limit));
    }
    finish(view, &turn, actions, now)
}

/// The status that a turn comes to, and when to look again.
fn finish(view: &View, turn: &Turn<'_>, mut actions: Vec<Action>, now: Timestamp) -> Plan {
    let status = turn.status();
    actions.extend(turn.actions());
    if status != view.status {
        actions.push(update_status(view, &status));
    }
    let available = next_availability(
        turn.all.iter().map(|pod| &pod.facts),
        view.spec.min_ready_seconds,
        now,
    );
    let paused = view.paused.values().copied();
    Plan {
        actions,
        again_after: available.into_iter().chain(paused).min(),
    }
}

struct Turn<'a> {
    view: &'a View,
    current: &'a Revision,
    fit: Fit,
    now: Timestamp,
    all: Vec<DaemonPod>,
    by_node: BTreeMap<String, Vec<DaemonPod>>,
    /// Nodes to start a pod on.
    starts: Vec<String>,
    deletes: Vec<DaemonPod>,
    events: Vec<Action>,
}

impl<'a> Turn<'a> {
    fn new(view: &'a View, current: &'a Revision, pods: Vec<DaemonPod>, now: Timestamp) -> Self {
        let mut by_node: BTreeMap<String, Vec<DaemonPod>> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| !pod.target.is_empty()) {
            by_node
                .entry(pod.target.clone())
                .or_default()
                .push(pod.clone());
        }
        Self {
            view,
            current,
            fit: Fit::of(&view.spec.template),
            now,
            all: pods,
            by_node,
            starts: Vec::new(),
            deletes: Vec::new(),
            events: Vec::new(),
        }
    }

    fn on(&self, node: &str) -> Vec<DaemonPod> {
        self.by_node.get(node).cloned().unwrap_or_default()
    }

    /// Nothing has to be put right before an update may go on.
    fn is_settled(&self) -> bool {
        self.starts.is_empty() && self.deletes.is_empty()
    }

    fn is_updated(&self, pod: &DaemonPod) -> bool {
        pod.facts.index.label(REVISION_HASH) == Some(self.current.hash())
    }

    fn is_available(&self, pod: &DaemonPod) -> bool {
        pod.facts
            .is_available(self.view.spec.min_ready_seconds, self.now)
    }

    /// One pod on each node that fits, none elsewhere.
    fn manage(&mut self) {
        let surges = self.max_surge() > 0;
        for node in &self.view.nodes {
            let name = node.name();
            let pods = self.on(name);
            match (self.fit.belongs(node), pods.is_empty()) {
                (Belongs::Yes, true) => self.starts.push(name.to_owned()),
                (Belongs::Yes | Belongs::OnlyIfThere, false) => self.sort_out(name, pods, surges),
                (Belongs::No, false) => self
                    .deletes
                    .extend(pods.into_iter().filter(|pod| pod.facts.deleted.is_none())),
                (_, true) => {}
            }
        }
        // Pods that wait for a node that is gone would wait forever.
        let is_known =
            |pod: &DaemonPod| self.view.nodes.iter().any(|node| node.name() == pod.target);
        let lost = self.all.iter().filter(|pod| {
            pod.facts.node_name.is_empty()
                && !pod.target.is_empty()
                && pod.facts.deleted.is_none()
                && !is_known(pod)
        });
        let lost: Vec<DaemonPod> = lost.cloned().collect();
        self.deletes.extend(lost);
        self.starts.truncate(BURST_PODS);
        self.deletes.truncate(BURST_PODS);
    }

    /// Of the pods on a node that it may have, removes those that have ended and those that are too many.
    fn sort_out(&mut self, node: &str, pods: Vec<DaemonPod>, surges: bool) {
        let mut running = Vec::new();
        for pod in pods.into_iter().filter(|pod| pod.facts.deleted.is_none()) {
            let key = pod.facts.key().clone();
            match pod.facts.phase {
                Phase::Failed if self.view.paused.contains_key(node) => {}
                Phase::Failed => {
                    let message = format!(
                        "Found failed daemon pod {key} on node {node}, will try to kill it"
                    );
                    self.events.push(event(
                        self.view,
                        EventType::Warning,
                        "FailedDaemonPod",
                        message,
                    ));
                    self.deletes.push(pod);
                }
                Phase::Succeeded => {
                    let message = format!(
                        "Found succeeded daemon pod {key} on node {node}, will try to delete it"
                    );
                    self.events.push(event(
                        self.view,
                        EventType::Normal,
                        "SucceededDaemonPod",
                        message,
                    ));
                    self.deletes.push(pod);
                }
                _ => running.push(pod),
            }
        }
        running.sort_by(|one, other| {
            (one.facts.created, one.facts.key()).cmp(&(other.facts.created, other.facts.key()))
        });
        if surges {
            // An old and a new one may stand side by side while the new one comes up.
            let (new, old): (Vec<_>, Vec<_>) =
                running.into_iter().partition(|pod| self.is_updated(pod));
            self.deletes.extend(new.into_iter().skip(1));
            self.deletes.extend(old.into_iter().skip(1));
        } else {
            self.deletes.extend(running.into_iter().skip(1));
        }
    }

    fn desired(&self) -> i32 {
        let fitting = self
            .view
            .nodes
            .iter()
            .filter(|node| self.fit.belongs(node) == Belongs::Yes);
        number(fitting.count())
    }

    fn max_surge(&self) -> i32 {
        let rolling = self.view.spec.update_strategy.rolling_update.as_ref();
        scaled(
            rolling.and_then(|rolling| rolling.max_surge.as_ref()),
            self.desired(),
            Rounding::Up,
        )
    }

    fn max_unavailable(&self) -> i32 {
        let rolling = self.view.spec.update_strategy.rolling_update.as_ref();
        let amount = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let max = scaled(amount, self.desired(), Rounding::Up);
        // Both at zero would stand still.
        if max == 0 && self.max_surge() == 0 {
            1
        } else {
            max
        }
    }

    /// The new and the old pod of a node, leaving ones aside.
    fn pair(&self, node: &str) -> (Option<DaemonPod>, Option<DaemonPod>) {
        let staying = || {
            self.on(node)
                .into_iter()
                .filter(|pod| pod.facts.deleted.is_none())
        };
        (
            staying().find(|pod| self.is_updated(pod)),
            staying().find(|pod| !self.is_updated(pod)),
        )
    }

    /// Takes the next step of a rolling update.
    fn update(&mut self) {
        let surge = self.max_surge();
        if surge > 0 {
            self.update_with_surge(surge);
        } else {
            self.update_in_place();
        }
    }

    fn update_in_place(&mut self) {
        let mut unavailable = 0;
        let mut broken = Vec::new();
        let mut working = Vec::new();
        let nodes: Vec<String> = self
            .view
            .nodes
            .iter()
            .map(|node| node.name().to_owned())
            .collect();
        for (node, daemon) in nodes.iter().zip(&self.view.nodes) {
            let is_wanted = self.fit.belongs(daemon) == Belongs::Yes;
            match self.pair(node) {
                (None, None) => unavailable += i32::from(is_wanted),
                (Some(new), _) => unavailable += i32::from(!self.is_available(&new)),
                (None, Some(old)) if self.is_available(&old) => working.push(old),
                (None, Some(old)) => {
                    // It serves nobody: replacing it costs nothing.
                    unavailable += 1;
                    broken.push(old);
                }
            }
        }
        let room = usize::try_from(self.max_unavailable() - unavailable).unwrap_or(0);
        self.deletes.extend(broken);
        self.deletes.extend(working.into_iter().take(room));
    }

    fn update_with_surge(&mut self, surge: i32) {
        let mut surging = 0;
        let mut broken = Vec::new();
        let mut working = Vec::new();
        for node in self.view.nodes.iter().map(|node| node.name().to_owned()) {
            match self.pair(&node) {
                (Some(new), Some(old)) if self.is_available(&new) => self.deletes.push(old),
                (Some(_), Some(_)) => surging += 1,
                (None, Some(old)) if self.is_available(&old) => working.push(node),
                (None, Some(_)) => broken.push(node),
                (_, None) => {}
            }
        }
        let room = usize::try_from(surge - surging).unwrap_or(0);
        self.starts.extend(broken);
        self.starts.extend(working.into_iter().take(room));
    }

    fn revisions_used(&self) -> BTreeSet<&str> {
        let hashes = self
            .all
            .iter()
            .map(|pod| pod.facts.index.label(REVISION_HASH));
        hashes.flatten().collect()
    }

    fn actions(&self) -> Vec<Action> {
        let mut actions = self.events.clone();
        if !self.starts.is_empty() {
            actions.push(Action::SlowStart(
                self.starts.iter().map(|node| self.start(node)).collect(),
            ));
        }
        if !self.deletes.is_empty() {
            let delete = |pod: &DaemonPod| delete_pod(&pod.facts, &self.view.owner);
            actions.push(Action::Together(self.deletes.iter().map(delete).collect()));
        }
        actions
    }

    fn start(&self, node: &str) -> Action {
        let mut pod = pod_from(&self.view.spec.template, &self.view.owner);
        pod.set_at(
            &["metadata", "labels", REVISION_HASH],
            self.current.hash().into(),
        );
        if let Some(generation) = &self.view.template_generation {
            pod.set_at(
                &["metadata", "labels", GENERATION_LABEL],
                Value::String(generation.clone()),
            );
        }
        assign(&mut pod, node);
        create_pod(pod, &self.view.owner)
    }

    fn status(&self) -> Status {
        let mut status = Status {
            observed_generation: self.view.generation,
            collision_count: self.view.status.collision_count,
            conditions: self.view.status.conditions.clone(),
            ..Status::default()
        };
        for node in &self.view.nodes {
            let pods: Vec<DaemonPod> = self
                .on(node.name())
                .into_iter()
                .filter(|pod| pod.facts.deleted.is_none())
                .collect();
            if self.fit.belongs(node) != Belongs::Yes {
                status.number_misscheduled += i32::from(!pods.is_empty());
                continue;
            }
            status.desired_number_scheduled += 1;
            // The oldest is the one that counts.
            let Some(pod) = pods
                .iter()
                .min_by_key(|pod| (pod.facts.created, pod.facts.key().clone()))
            else {
                continue;
            };
            status.current_number_scheduled += 1;
            status.number_ready += i32::from(pod.facts.is_ready);
            status.number_available += i32::from(self.is_available(pod));
            status.updated_number_scheduled +=
                i32::from(pods.iter().any(|pod| self.is_updated(pod)));
        }
        status.number_unavailable = status.desired_number_scheduled - status.number_available;
        status
    }
}

fn event(view: &View, event_type: EventType, reason: &str, message: String) -> Action {
    Action::Emit(Event {
        regarding: view.owner.as_event_object(),
        event_type,
        reason: reason.to_owned(),
        message,
    })
}

fn update_status(view: &View, status: &Status) -> Action {
    let patch =
        json!({"metadata": {"resourceVersion": view.revision.to_string()}, "status": status});
    Action::merge_status::<DaemonSet>(view.owner.key.clone(), patch)
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
