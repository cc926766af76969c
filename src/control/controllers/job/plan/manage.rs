//! How many pods a running job needs, which ones are too many, and what new ones look like.

use std::collections::BTreeMap;
use std::time::Duration;

use apimachinery::Object;
use controller::Action;
use serde_json::{Value, json};

use super::super::failure_policy::{Meaning, meaning};
use super::super::indexes::Indexes;
use super::super::pods::{COMPLETION_INDEX, FAILURE_COUNT, IGNORED_FAILURE_COUNT, JobPod};
use super::super::{BURST_PODS, FINALIZER, pause_after};
use super::{Turn, Verdict, number};
use crate::pod_template::{create_pod, pod_from};

const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// A generated name's base is cut so that the random part still fits.
const GENERATED_BASE_MAX: usize = 58;

impl Turn<'_> {
    pub(super) fn manage(&mut self, verdict: &mut Verdict) {
        let spec = &self.view.spec;
        if spec.suspend {
            verdict.deletes = self.active.clone();
            return;
        }
        let active = number(self.active.len());
        let wanted = match spec.completions {
            // Once a pod has succeeded no other is started.
            None if self.succeeded > 0 => active,
            None => spec.parallelism(),
            Some(completions) => (completions - self.succeeded)
                .min(spec.parallelism())
                .max(0),
        };
        let surplus = usize::try_from(active - wanted).unwrap_or(0);
        verdict.deletes = self.surplus(surplus);
        verdict.deletes.truncate(BURST_PODS);
        if !verdict.deletes.is_empty() {
            return;
        }
        let leaving = if spec.replaces_only_failed() {
            self.terminating
        } else {
            0
        };
        let missing = usize::try_from(wanted - leaving - active)
            .unwrap_or(0)
            .min(BURST_PODS);
        if missing == 0 {
            return;
        }
        if spec.backoff_limit_per_index.is_none() {
            let pause = self.view.failures.pause(self.now);
            if !pause.is_zero() {
                self.plan.wake_within(pause);
                return;
            }
        }
        verdict.creates = if spec.is_indexed() {
            let indexes = self.due_indexes(missing);
            indexes
                .into_iter()
                .map(|index| self.indexed_pod(index))
                .collect()
        } else {
            (0..missing).map(|_| self.plain_pod()).collect()
        };
    }

    /// At least `count` active pods to remove: all but one of each index, indexes beyond the job's, then the least far on.
    fn surplus(&self, count: usize) -> Vec<JobPod> {
        let mut left = self.active.clone();
        left.sort_by(by_progress);
        let mut surplus = Vec::new();
        if self.view.spec.is_indexed() {
            let completions = self.view.spec.completions.unwrap_or(0);
            let mut best: BTreeMap<i32, usize> = BTreeMap::new();
            for (at, pod) in left.iter().enumerate() {
                if let Some(index) = pod.index.filter(|index| *index < completions) {
                    best.insert(index, at);
                }
            }
            let kept: Vec<usize> = best.into_values().collect();
            let (keep, go): (Vec<_>, Vec<_>) = left
                .into_iter()
                .enumerate()
                .partition(|(at, _)| kept.contains(at));
            surplus = go.into_iter().map(|(_, pod)| pod).collect();
            left = keep.into_iter().map(|(_, pod)| pod).collect();
        }
        let more = count.saturating_sub(surplus.len()).min(left.len());
        surplus.extend(left.drain(..more));
        surplus
    }

    /// The first indexes without a pod whose pause after a failure is over.
    fn due_indexes(&mut self, count: usize) -> Vec<i32> {
        let completions = self.view.spec.completions.unwrap_or(0);
        let mut taken = self.succeeded_indexes.clone();
        let leaving = self.view.spec.replaces_only_failed();
        let busy = self
            .pods
            .iter()
            .filter(|pod| pod.facts.is_active() || (leaving && pod.facts.is_terminating()));
        busy.filter_map(|pod| pod.index)
            .for_each(|index| taken.insert(index));
        let taken = taken.union(self.failed_indexes.as_ref().unwrap_or(&Indexes::default()));
        let mut due = Vec::new();
        let mut shortest: Option<Duration> = None;
        for index in taken.first_missing(count, completions) {
            let pause = self.last_failed_of(index).map_or(Duration::ZERO, |last| {
                let failures = u32::try_from(last.failures_of_index() + 1).unwrap_or(1);
                pause_after(failures, last.finished_at, self.now)
            });
            if pause.is_zero() {
                due.push(index);
            } else {
                shortest = Some(shortest.map_or(pause, |known| known.min(pause)));
            }
        }
        if let Some(pause) = shortest {
            self.plan.wake_within(pause);
        }
        due
    }

    fn plain_pod(&self) -> Action {
        create_pod(self.tracked_pod(&self.view.spec.template), &self.view.owner)
    }

    fn tracked_pod(&self, template: &Value) -> Object {
        let mut pod = pod_from(template, &self.view.owner);
        let mut finalizers: Vec<String> = pod.finalizers().into_iter().map(str::to_owned).collect();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
        pod.set_finalizers(finalizers);
        pod
    }

    fn indexed_pod(&self, index: i32) -> Action {
        let mut template = self.view.spec.template.clone();
        for field in ["initContainers", "containers"] {
            let containers = template
                .pointer_mut(&format!("/spec/{field}"))
                .and_then(Value::as_array_mut);
            containers
                .into_iter()
                .flatten()
                .for_each(add_index_variable);
        }
        let name = &self.view.owner.key.name;
        let mut pod = self.tracked_pod(&template);
        pod.set_at(
            &["metadata", "annotations", COMPLETION_INDEX],
            index.to_string().into(),
        );
        pod.set_at(
            &["metadata", "labels", COMPLETION_INDEX],
            index.to_string().into(),
        );
        pod.set_at(&["spec", "hostname"], format!("{name}-{index}").into());
        let suffix = format!("-{index}-");
        let base = name
            .get(..GENERATED_BASE_MAX - suffix.len())
            .unwrap_or(name);
        pod.set_metadata_text("generateName", format!("{base}{suffix}"));
        if self.view.spec.backoff_limit_per_index.is_some() {
            let (failures, ignored) = self.inherited_failures(index);
            pod.set_at(
                &["metadata", "annotations", FAILURE_COUNT],
                failures.to_string().into(),
            );
            if ignored > 0 {
                pod.set_at(
                    &["metadata", "annotations", IGNORED_FAILURE_COUNT],
                    ignored.to_string().into(),
                );
            }
        }
        create_pod(pod, &self.view.owner)
    }

    /// The failures of an index, with those of the pod that is being replaced.
    fn inherited_failures(&self, index: i32) -> (i32, i32) {
        let Some(last) = self.last_failed_of(index) else {
            return (0, 0);
        };
        match meaning(self.view.spec.pod_failure_policy.as_ref(), last) {
            Meaning::Ignored => (last.failure_count, last.ignored_failure_count + 1),
            _ => (last.failure_count + 1, last.ignored_failure_count),
        }
    }
}

/// Those that achieved least come first.
fn by_progress(one: &JobPod, other: &JobPod) -> std::cmp::Ordering {
    let (one, other) = (&one.facts, &other.facts);
    let assigned = |pod: &crate::pods::PodFacts| !pod.node_name.is_empty();
    assigned(one)
        .cmp(&assigned(other))
        .then_with(|| one.phase.cmp(&other.phase))
        .then_with(|| one.is_ready.cmp(&other.is_ready))
        .then_with(|| other.ready_changed.cmp(&one.ready_changed))
        .then_with(|| other.restarts.cmp(&one.restarts))
        .then_with(|| other.created.cmp(&one.created))
}

fn add_index_variable(container: &mut Value) {
    let path = format!("metadata.labels['{COMPLETION_INDEX}']");
    let variable = json!({"name": INDEX_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let Some(container) = container.as_object_mut() else {
        return;
    };
    let variables = container.entry("env").or_insert_with(|| json!([]));
    if let Some(variables) = variables.as_array_mut()
        && !variables
            .iter()
            .any(|known| known["name"] == INDEX_VARIABLE)
    {
        variables.push(variable);
    }
}
