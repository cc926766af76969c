//! Replica Sets of `apps/v1`.

use apimachinery::{FieldErrors, FieldPath};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::replicas::{Counts, Replicas, Replicated};
use super::workload;
use crate::DefaultCascade;
use crate::cells;
use crate::pod_template::default_template;
use crate::validation::changes::immutable;
use crate::validation::numbers::non_negative;
use crate::validation::{found, path};

/// Objects of kind `ReplicaSet`.
pub(crate) type ReplicaSets = Replicas<ReplicaSet>;

impl Replicated for ReplicaSet {
    const SHORT_NAMES: &'static [&'static str] = &["rs"];
    const DEFAULT_CASCADE: DefaultCascade = DefaultCascade::Background;

    fn desired(&self) -> Option<i32> {
        self.spec.as_ref()?.replicas
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn selector_cell(&self) -> Value {
        cells::selector(self.spec.as_ref().map(|spec| &spec.selector))
    }

    fn counts(&self) -> Counts {
        self.status
            .as_ref()
            .map_or_else(Counts::default, |status| Counts {
                replicas: status.replicas,
                fully_labeled: status.fully_labeled_replicas,
                ready: status.ready_replicas,
                available: status.available_replicas,
                observed_generation: status.observed_generation,
                terminating: status.terminating_replicas,
            })
    }

    fn default(&mut self) {
        let Some(spec) = &mut self.spec else { return };
        spec.replicas.get_or_insert(1);
        spec.template.iter_mut().for_each(default_template);
    }

    fn validate(&self) -> FieldErrors {
        let spec = self.spec.clone().unwrap_or_default();
        found(|errors| {
            let path = FieldPath::new("spec");
            non_negative(errors, spec.replicas.unwrap_or(0), &path.child("replicas"));
            non_negative(
                errors,
                spec.min_ready_seconds.unwrap_or(0),
                &path.child("minReadySeconds"),
            );
            workload::required_selector(errors, &spec.selector, "deployment", &path);
            workload::replicated_template(
                errors,
                &spec.selector,
                &spec.template.clone().unwrap_or_default(),
                &path,
            );
        })
    }

    fn validate_update(&self, old: &Self) -> FieldErrors {
        let selector = |set: &Self| set.spec.as_ref().map(|spec| spec.selector.clone());
        found(|errors| {
            immutable(
                errors,
                &selector(self),
                &selector(old),
                &path(&["spec", "selector"]),
            );
        })
    }
}
