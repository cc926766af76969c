//! Replication Controllers of `v1`.

use std::collections::BTreeMap;

use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{PodTemplateSpec, ReplicationController};
use serde_json::Value;

use crate::DefaultCascade;
use crate::apps::replicas::{Counts, Replicas, Replicated};
use crate::apps::workload;
use crate::cells;
use crate::pod_template::default_template;
use crate::pod_template::validation::template_spec;
use crate::validation::found;
use crate::validation::numbers::non_negative;

/// Objects of kind `ReplicationController`.
pub(crate) type ReplicationControllers = Replicas<ReplicationController>;

impl Replicated for ReplicationController {
    const SHORT_NAMES: &'static [&'static str] = &["rc"];
    const DEFAULT_CASCADE: DefaultCascade = DefaultCascade::Orphan;

    fn desired(&self) -> Option<i32> {
        self.spec.as_ref()?.replicas
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn selector_cell(&self) -> Value {
        cells::labels(self.spec.as_ref().and_then(|spec| spec.selector.as_ref()))
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
                terminating: None,
            })
    }

    fn default(&mut self) {
        let Some(spec) = &mut self.spec else {
            return;
        };
        if let Some(template) = &mut spec.template {
            default_template(template);
            let labels = template
                .metadata
                .as_ref()
                .and_then(|metadata| metadata.labels.clone())
                .unwrap_or_default();
            if !labels.is_empty() {
                if spec.selector.as_ref().is_none_or(BTreeMap::is_empty) {
                    spec.selector = Some(labels.clone());
                }
                if self.metadata.labels.as_ref().is_none_or(BTreeMap::is_empty) {
                    self.metadata.labels = Some(labels);
                }
            }
        }
        spec.replicas.get_or_insert(1);
    }

    fn validate(&self) -> FieldErrors {
        let spec = self.spec.clone().unwrap_or_default();
        found(|errors| {
            let path = FieldPath::new("spec");
            non_negative(
                errors,
                spec.min_ready_seconds.unwrap_or(0),
                &path.child("minReadySeconds"),
            );
            let selector = spec.selector.clone().unwrap_or_default();
            if selector.is_empty() {
                errors.push(FieldError::required(&path.child("selector"), ""));
            }
            match spec.replicas {
                None => errors.push(FieldError::required(&path.child("replicas"), "")),
                Some(replicas) => non_negative(errors, replicas, &path.child("replicas")),
            }
            template_of(
                errors,
                spec.template.as_ref(),
                &selector,
                &path.child("template"),
            );
        })
    }
}

fn template_of(
    errors: &mut FieldErrors,
    template: Option<&PodTemplateSpec>,
    selector: &BTreeMap<String, String>,
    path: &FieldPath,
) {
    let Some(template) = template else {
        errors.push(FieldError::required(path, ""));
        return;
    };
    let labels = workload::template_labels(template);
    let matches = selector
        .iter()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value));
    if !matches {
        workload::does_not_match(errors, template, path);
    }
    template_spec(errors, template, path);
    workload::always_restarted(errors, template, "ReplicationController", path);
}
