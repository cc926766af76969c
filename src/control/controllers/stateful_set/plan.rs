//! One turn of a stateful set: make what is missing in order, remove what is too much from the top, then update from the top.

use std::collections::{BTreeMap, BTreeSet};

use controller::{Action, Event, EventType, Plan};
use env::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube_client::resource_of;
use semantics::int_or_percent::{Rounding, scaled};
use serde_json::json;

use super::identity::{missing_claims, ordinal, own_claims, pod, pod_name};
use super::{Status, View};
use crate::history::{REVISION_HASH, Revision, expired};
use crate::pods::{Phase, PodFacts, next_availability};
use crate::revisioned::{Beginning, Revisioned};

pub(super) fn plan(view: &View, now: Timestamp) -> Plan {
    let selector = view.spec.selector();
    let revisioned = Revisioned {
        owner: &view.owner,
        selector: &selector,
        adoption: view.adoption,
        history: &view.history,
        template: &view.spec.template,
        collisions: view.status.collision_count.unwrap_or(0),
    };
    let beginning = revisioned.begin(view.candidates.clone(), |pod| &pod.index);
    let (revisions, update, pods, mut actions) = match beginning {
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
    let standing = view.status.current_revision.as_deref();
    let current = revisions
        .iter()
        .find(|revision| Some(revision.name()) == standing)
        .unwrap_or(&update);
    let mut turn = Turn::new(view, current, &update, pods, now);
    let status = turn.status();
    if !view.owner.is_being_deleted {
        turn.work();
    }
    actions.append(&mut turn.actions);
    if status != view.status {
        actions.push(update_status(view, &status));
    }
    let labels = turn
        .pods
        .values()
        .filter_map(|pod| pod.index.label(REVISION_HASH));
    let mut used: BTreeSet<&str> = labels.collect();
    used.extend([current.name(), update.name()]);
    actions.extend(expired(&revisions, &used, view.spec.revision_history_limit));
    let again_after = next_availability(turn.pods.values(), view.spec.min_ready_seconds, now);
    Plan {
        actions,
        again_after,
    }
}

struct Turn<'a> {
    view: &'a View,
    /// The revision before the update under way; the same as `update` without one.
    current: &'a Revision,
    update: &'a Revision,
    pods: BTreeMap<i32, PodFacts>,
    now: Timestamp,
    actions: Vec<Action>,
}

impl<'a> Turn<'a> {
    fn new(
        view: &'a View,
        current: &'a Revision,
        update: &'a Revision,
        pods: Vec<PodFacts>,
        now: Timestamp,
    ) -> Self {
        let numbered = pods.into_iter().filter_map(|pod| {
            let number = ordinal(&view.owner.key.name, &pod.key().name)?;
            Some((number, pod))
        });
        Self {
            view,
            current,
            update,
            pods: numbered.collect(),
            now,
            actions: Vec::new(),
        }
    }

    fn range(&self) -> std::ops::Range<i32> {
        let start = self.view.spec.start();
        start..start.saturating_add(self.view.spec.replicas())
    }

    fn is_of(pod: &PodFacts, revision: &Revision) -> bool {
        pod.index.label(REVISION_HASH) == Some(revision.name())
    }

    /// Running, ready for long enough, and not on its way out.
    fn is_healthy(&self, pod: &PodFacts) -> bool {
        pod.deleted.is_none()
            && pod.phase == Phase::Running
            && pod.is_available(self.view.spec.min_ready_seconds, self.now)
    }

    fn status(&self) -> Status {
        let count = |counts: &dyn Fn(&PodFacts) -> bool| {
            i32::try_from(self.pods.values().filter(|pod| counts(pod)).count()).unwrap_or(i32::MAX)
        };
        let runs = |pod: &PodFacts| pod.phase == Phase::Running && pod.is_ready;
        let stays = |pod: &PodFacts| pod.deleted.is_none();
        let mut status = Status {
            observed_generation: self.view.generation,
            replicas: count(&|_| true),
            ready_replicas: count(&runs),
            available_replicas: count(&|pod| {
                runs(pod) && pod.is_available(self.view.spec.min_ready_seconds, self.now)
            }),
            current_replicas: count(&|pod| stays(pod) && Self::is_of(pod, self.current)),
            updated_replicas: count(&|pod| stays(pod) && Self::is_of(pod, self.update)),
            current_revision: Some(self.current.name().to_owned()),
            update_revision: Some(self.update.name().to_owned()),
            collision_count: self.view.status.collision_count,
            conditions: self.view.status.conditions.clone(),
        };
        let is_complete = self.view.spec.update_strategy.kind != "OnDelete"
            && status.updated_replicas == status.replicas
            && status.ready_replicas == status.replicas
            && status.replicas == self.view.spec.replicas();
        if is_complete {
            status.current_replicas = status.updated_replicas;
            status.current_revision = Some(self.update.name().to_owned());
        }
        status
    }

    fn work(&mut self) {
        self.report_failure();
        let in_order = !self.view.spec.is_parallel();
        for number in self.range() {
            if self.bring_up(number) == Step::Wait && in_order {
                return;
            }
        }
        let condemned: Vec<i32> = self
            .pods
            .keys()
            .copied()
            .filter(|number| !self.range().contains(number))
            .rev()
            .collect();
        for number in condemned {
            if self.take_down(number) == Step::Wait && in_order {
                return;
            }
        }
        if self.actions.is_empty() && self.view.spec.update_strategy.kind != "OnDelete" {
            self.update_from_the_top();
        }
    }

    fn report_failure(&mut self) {
        if let Some((name, error)) = &self.view.create_error {
            let set = &self.view.owner.key.name;
            let message = format!("create Pod {name} in StatefulSet {set} failed error: {error}");
            let event = self.event(EventType::Warning, "FailedCreate", message);
            self.actions.push(event);
        }
    }

    /// One wanted pod: made if it is missing, replaced if it has ended, else waited for.
    fn bring_up(&mut self, number: i32) -> Step {
        let Some(pod) = self.pods.get(&number).cloned() else {
            self.create(number);
            return Step::Wait;
        };
        let has_ended = pod.is_finished();
        if has_ended && pod.deleted.is_none() {
            let (reason, what) = match pod.phase {
                Phase::Failed => ("RecreatingFailedPod", "failed"),
                _ => ("RecreatingTerminatedPod", "terminated"),
            };
            let set = format!(
                "{}/{}",
                self.view.owner.key.namespace, self.view.owner.key.name
            );
            let message = format!(
                "StatefulSet {set} is recreating {what} Pod {}",
                pod.key().name
            );
            let kind = if pod.phase == Phase::Failed {
                EventType::Warning
            } else {
                EventType::Normal
            };
            let event = self.event(kind, reason, message);
            self.actions.push(event);
            self.delete(&pod);
            return Step::Wait;
        }
        let claims = missing_claims(self.view, number);
        self.actions.extend(claims);
        let owned = own_claims(self.view, number, None);
        self.actions.extend(owned);
        if self.is_healthy(&pod) {
            Step::GoOn
        } else {
            Step::Wait
        }
    }

    fn create(&mut self, number: i32) {
        // Below the partition, and while others of the old revision remain in front of it, a pod comes back as it was.
        let spec = &self.view.spec;
        let position = number - spec.start();
        let is_rolling = spec.update_strategy.kind != "OnDelete";
        let partition = spec
            .update_strategy
            .rolling_update
            .as_ref()
            .and_then(|rolling| rolling.partition);
        let keeps_current = is_rolling
            && match partition {
                Some(partition) => position < partition,
                None => position < self.view.status.current_replicas,
            };
        let revision = if keeps_current {
            self.current
        } else {
            self.update
        };
        let mut steps = missing_claims(self.view, number);
        steps.push(Action::Create {
            resource: resource_of::<Pod>(),
            object: Box::new(pod(self.view, number, revision)),
            announcement: None,
        });
        let (name, set) = (pod_name(self.view, number), &self.view.owner.key.name);
        let message = format!("create Pod {name} in StatefulSet {set} successful");
        steps.push(self.event(EventType::Normal, "SuccessfulCreate", message));
        self.actions.push(Action::Sequence(steps));
    }

    /// One pod beyond the wanted number. In order, those below it must be well before it goes.
    fn take_down(&mut self, number: i32) -> Step {
        let Some(pod) = self.pods.get(&number).cloned() else {
            return Step::GoOn;
        };
        if pod.deleted.is_some() {
            return Step::Wait;
        }
        let first_unwell = self
            .pods
            .iter()
            .find(|(_, pod)| !self.is_healthy(pod))
            .map(|(number, _)| *number);
        let is_blocked = !self.view.spec.is_parallel()
            && !self.is_healthy(&pod)
            && first_unwell.is_some_and(|first| first != number);
        if is_blocked {
            return Step::Wait;
        }
        let owned = own_claims(self.view, number, Some(&pod.index.uid));
        self.actions.extend(owned);
        self.delete(&pod);
        Step::Wait
    }

    fn delete(&mut self, pod: &PodFacts) {
        let (name, set) = (&pod.key().name, &self.view.owner.key.name);
        let message = format!("delete Pod {name} in StatefulSet {set} successful");
        let told = self.event(EventType::Normal, "SuccessfulDelete", message);
        let deletion = Action::delete::<Pod>(pod.key().clone(), pod.index.uid.clone());
        self.actions.push(Action::Sequence(vec![deletion, told]));
    }

    /// Removes pods of other revisions, the highest first, as long as enough of the set works.
    fn update_from_the_top(&mut self) {
        let rolling = self.view.spec.update_strategy.rolling_update.as_ref();
        let max = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let max = scaled(max, self.view.spec.replicas(), Rounding::Up).max(1);
        let range = self.range();
        let lowest = range.start.saturating_add(self.view.spec.partition());
        let unwell = |number: &i32| {
            self.pods
                .get(number)
                .is_none_or(|pod| !self.is_healthy(pod))
        };
        let mut unavailable =
            i32::try_from(range.clone().filter(unwell).count()).unwrap_or(i32::MAX);
        for number in (lowest..range.end).rev() {
            let Some(pod) = self.pods.get(&number).cloned() else {
                return;
            };
            let is_healthy = self.is_healthy(&pod);
            if pod.deleted.is_none() && !Self::is_of(&pod, self.update) {
                if is_healthy && unavailable >= max {
                    return;
                }
                unavailable += i32::from(is_healthy);
                self.delete(&pod);
                if max == 1 {
                    return;
                }
            } else if !is_healthy && max == 1 {
                return;
            }
        }
    }

    fn event(&self, event_type: EventType, reason: &str, message: String) -> Action {
        Action::Emit(Event {
            regarding: self.view.owner.as_event_object(),
            event_type,
            reason: reason.to_owned(),
            message,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    GoOn,
    /// Those that follow have to wait, if there is an order.
    Wait,
}

fn update_status(view: &View, status: &Status) -> Action {
    let patch =
        json!({"metadata": {"resourceVersion": view.revision.to_string()}, "status": status});
    Action::merge_status::<StatefulSet>(view.owner.key.clone(), patch)
}
