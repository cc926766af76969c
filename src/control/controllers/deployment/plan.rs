//! One turn of a deployment: find the set of its template, take one step, say how far it is.

use controller::{Action, Event, EventType, Plan};
use env::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube_client::resource_of;
use serde_json::json;

use super::draft::{Drafted, new_set};
use super::proportions::{Limits, scale_in_proportion};
use super::revision::{DESIRED_REPLICAS, REVISION, annotate_new, revision_of};
use super::rollout::{empty_old_sets, expired, move_new_set, move_old_sets, old_pods_run};
use super::status::{
    PROGRESSING, condition, counted, is_complete, next_check, note_pause, note_progress,
};
use super::{CreateError, Status, View};
use crate::conditions;
use crate::ownership::{Claim, claim};
use crate::template_hash::equal_templates;

/// Everything a turn works on: the sets as it would leave them, and the status before counting.
struct Turn<'a> {
    view: &'a View,
    limits: Limits,
    sets: Vec<Drafted>,
    new: Option<usize>,
    /// The status as it stands, with conditions this turn has set already.
    status: Status,
    actions: Vec<Action>,
    now: Timestamp,
}

pub(super) fn plan(view: &View, now: Timestamp) -> Plan {
    if view.spec.selector().is_everything() {
        return selects_everything(view);
    }
    let claimed = claim(
        &view.owner,
        &view.spec.selector(),
        &resource_of::<ReplicaSet>(),
        "",
        view.adoption,
        view.candidates.clone(),
        |set| &set.index,
    );
    let (mut sets, actions) = match claimed {
        Claim::AskFirst(ask) => return Plan::of(vec![ask]),
        Claim::Settled { owned, actions } => (owned, actions),
    };
    sets.sort_by(|one, other| {
        (&one.created, &one.index.key).cmp(&(&other.created, &other.index.key))
    });
    let new = sets
        .iter()
        .position(|set| equal_templates(&set.template, &view.spec.template));
    let turn = Turn {
        view,
        limits: Limits::of(&view.spec),
        sets: sets.into_iter().map(Drafted::of).collect(),
        new,
        status: view.status.clone(),
        actions,
        now,
    };
    turn.run()
}

fn selects_everything(view: &View) -> Plan {
    let mut plan = Plan::of(vec![Action::Emit(Event {
        regarding: view.owner.as_event_object(),
        event_type: EventType::Warning,
        reason: "SelectingAll".into(),
        message: "This deployment is selecting all pods. A non-empty selector is required.".into(),
    })]);
    if view.status.observed_generation < view.generation {
        let status = Status {
            observed_generation: view.generation,
            ..view.status.clone()
        };
        plan.push(update_status(view, &status));
    }
    plan
}

impl Turn<'_> {
    fn run(mut self) -> Plan {
        let view = self.view;
        if view.owner.is_being_deleted {
            self.note_new_set();
            return self.finish(Counted::Only);
        }
        note_pause(view, &mut self.status, self.now);
        self.note_new_set();
        if view.spec.paused || self.is_scaling() {
            self.scale();
            if view.spec.paused {
                self.clean_up();
            }
            return self.finish(Counted::Only);
        }
        if view.spec.is_rolling() {
            self.roll()
        } else {
            self.recreate()
        }
    }

    /// Brings the annotations of the new set up to date, if there is one, and learns the deployment's revision.
    fn note_new_set(&mut self) {
        let Some(new) = self.new else { return };
        let revision = self.next_revision();
        annotate_new(&mut self.sets[new], &self.view.annotations, revision);
        self.sets[new].min_ready_seconds = self.view.spec.min_ready_seconds;
        let is_unsaid = conditions::find(&self.status.conditions, PROGRESSING).is_none();
        if is_unsaid && self.view.spec.progress_deadline().is_some() {
            let message = format!("Found new replica set {:?}", self.sets[new].name());
            let found = condition(PROGRESSING, "True", "FoundNewReplicaSet", message, self.now);
            conditions::set(&mut self.status.conditions, found);
        }
    }

    fn next_revision(&self) -> i64 {
        let old = self
            .sets
            .iter()
            .enumerate()
            .filter(|(at, _)| Some(*at) != self.new);
        old.map(|(_, set)| revision_of(&set.set.annotations))
            .max()
            .unwrap_or(0)
            + 1
    }

    /// Was the deployment's size changed since its sets were last scaled?
    fn is_scaling(&self) -> bool {
        let wanted = self.limits.replicas;
        self.sets
            .iter()
            .filter(|set| set.set.replicas > 0)
            .any(|set| {
                let desired = set.set.annotations.get(DESIRED_REPLICAS);
                desired
                    .and_then(|desired| desired.parse::<i32>().ok())
                    .is_some_and(|desired| desired != wanted)
            })
    }

    fn scale(&mut self) {
        let limits = self.limits;
        let active: Vec<usize> = (0..self.sets.len())
            .filter(|at| self.sets[*at].replicas > 0)
            .collect();
        // Sets are in the order of their age: without an active one the latest is scaled.
        let only = match active[..] {
            [] => self.new.or(self.sets.len().checked_sub(1)),
            [only] => Some(only),
            _ => None,
        };
        if self.sets.is_empty() {
            return;
        }
        if let Some(only) = only {
            self.sets[only].scale(limits.replicas, &limits);
            return;
        }
        if self.is_saturated() {
            empty_old_sets(&limits, &mut self.sets, self.new);
        } else if self.view.spec.is_rolling() {
            let mut active: Vec<&mut Drafted> = self
                .sets
                .iter_mut()
                .filter(|set| set.replicas > 0)
                .collect();
            scale_in_proportion(self.view, &limits, &mut active);
        }
    }

    /// Is the new set as large as wanted, and all of it available?
    fn is_saturated(&self) -> bool {
        let wanted = self.limits.replicas;
        self.new.is_some_and(|new| {
            let set = &self.sets[new];
            let desired = set
                .annotations
                .get(DESIRED_REPLICAS)
                .and_then(|desired| desired.parse::<i32>().ok());
            set.replicas == wanted
                && desired == Some(wanted)
                && set.set.status.available_replicas == wanted
        })
    }

    fn roll(mut self) -> Plan {
        let new = match self.require_new_set() {
            Ok(new) => new,
            Err(plan) => return plan,
        };
        let limits = self.limits;
        let is_moved = move_new_set(&self.view.spec, &limits, &mut self.sets, new)
            || move_old_sets(&limits, &mut self.sets, new);
        if !is_moved && is_complete(self.view, &self.view.status) {
            self.clean_up();
        }
        self.finish(Counted::WithProgress)
    }

    fn recreate(mut self) -> Plan {
        let limits = self.limits;
        if empty_old_sets(&limits, &mut self.sets, self.new) || old_pods_run(&self.sets, self.new) {
            return self.finish(Counted::WithProgress);
        }
        let new = match self.require_new_set() {
            Ok(new) => new,
            Err(plan) => return plan,
        };
        self.sets[new].scale(limits.replicas, &limits);
        if is_complete(self.view, &self.view.status) {
            self.clean_up();
        }
        self.finish(Counted::WithProgress)
    }

    /// The new set, drafted if there is none. An error is the plan of a turn that cannot go on.
    fn require_new_set(&mut self) -> Result<usize, Plan> {
        if let Some(new) = self.new {
            return Ok(new);
        }
        if let Some(plan) = self.settle_name() {
            return Err(plan);
        }
        let mut set = new_set(self.view);
        let total = super::draft::total(&self.sets);
        set.replicas = self.limits.new_set_size(&self.view.spec, total, 0);
        set.annotate(&self.limits);
        annotate_new(&mut set, &self.view.annotations, self.next_revision());
        if self.view.spec.progress_deadline().is_some() {
            let said = if let Some(CreateError::Other { name, error }) = &self.view.create_error {
                let message = format!("Failed to create new replica set {name:?}: {error}");
                condition(
                    PROGRESSING,
                    "False",
                    "ReplicaSetCreateError",
                    message,
                    self.now,
                )
            } else {
                let message = format!("Created new replica set {:?}", set.name());
                condition(
                    PROGRESSING,
                    "True",
                    "NewReplicaSetCreated",
                    message,
                    self.now,
                )
            };
            conditions::set(&mut self.status.conditions, said);
        }
        self.report_failure();
        self.sets.push(set);
        self.new = Some(self.sets.len() - 1);
        Ok(self.sets.len() - 1)
    }

    fn report_failure(&mut self) {
        if let Some(CreateError::Other { name, error }) = &self.view.create_error {
            self.actions.push(Action::Emit(Event {
                regarding: self.view.owner.as_event_object(),
                event_type: EventType::Warning,
                reason: "ReplicaSetCreateError".into(),
                message: format!("Failed to create new replica set {name:?}: {error}"),
            }));
        }
    }

    /// The name of the new set was taken: look whose it is, and choose another if it is none of ours.
    fn settle_name(&self) -> Option<Plan> {
        if let Some(CreateError::NameTaken(key)) = &self.view.create_error {
            return Some(Plan::of(vec![Action::read::<ReplicaSet>(key.clone())]));
        }
        let namesake = self.view.namesake.as_ref()?.as_ref()?;
        let is_ours = namesake
            .owner_references()
            .iter()
            .any(|owner| owner.uid == self.view.owner.uid && owner.controller == Some(true));
        let template = namesake.at(&["spec", "template"]);
        if is_ours
            && template.is_some_and(|template| equal_templates(template, &self.view.spec.template))
        {
            // It is the new set; the cache will bring it, and with it the next turn.
            return Some(Plan::nothing());
        }
        let collisions = self.status.collision_count.unwrap_or(0) + 1;
        let status = Status {
            collision_count: Some(collisions),
            ..self.status.clone()
        };
        Some(Plan::of(vec![update_status(self.view, &status)]))
    }

    fn clean_up(&mut self) {
        let gone = expired(self.view, &self.sets, self.new);
        let delete = |set: &&Drafted| {
            Action::delete::<ReplicaSet>(set.set.index.key.clone(), set.set.index.uid.clone())
        };
        let deletions: Vec<Action> = gone.iter().map(delete).collect();
        self.actions.extend(deletions);
    }

    fn finish(self, counted_how: Counted) -> Plan {
        let (view, now) = (self.view, self.now);
        let mut status = counted(view, &self.status, &self.limits, &self.sets, self.new, now);
        if counted_how == Counted::WithProgress {
            note_progress(view, &self.status, &mut status, &self.sets, self.new, now);
        }
        let mut actions = self.actions;
        actions.extend(self.sets.iter().filter_map(|set| set.action(view)));
        let revision = self
            .new
            .and_then(|new| self.sets[new].annotations.get(REVISION));
        let is_creating = self.new.is_some_and(|new| self.sets[new].is_created);
        let revision = revision
            .filter(|revision| !is_creating && view.annotations.get(REVISION) != Some(*revision));
        // Both writes would carry the version they are based on, so that the second could not succeed: it follows next turn.
        match revision {
            Some(revision) => {
                let metadata = json!({"resourceVersion": view.revision.to_string(), "annotations": {REVISION: revision}});
                actions.push(Action::merge::<Deployment>(
                    view.owner.key.clone(),
                    json!({"metadata": metadata}),
                ));
            }
            None if status != view.status => actions.push(update_status(view, &status)),
            None => {}
        }
        let again_after =
            (counted_how == Counted::WithProgress).then(|| next_check(view, &status, now));
        Plan {
            actions,
            again_after: again_after.flatten(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    Only,
    WithProgress,
}

fn update_status(view: &View, status: &Status) -> Action {
    let patch =
        json!({"metadata": {"resourceVersion": view.revision.to_string()}, "status": status});
    Action::merge_status::<Deployment>(view.owner.key.clone(), patch)
}
