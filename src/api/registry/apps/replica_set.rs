//! Replica Sets of `apps/v1`.

use k8s_openapi::api::apps::v1::ReplicaSet;

use crate::{Generation, SelectableField, Strategy, Subresource};
use crate::pod_template::default_template;

/// Objects of kind `ReplicaSet`.
#[derive(Debug)]
pub struct ReplicaSets;

impl Strategy for ReplicaSets {
    type Kind = ReplicaSet;
    const SHORT_NAMES: &'static [&'static str] = &["rs"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const GENERATION: Generation = Generation::Spec;
    const SELECTABLE_FIELDS: &'static [SelectableField] = &[
        SelectableField::with_fallback("status.replicas", &["status.replicas"], "0"),
    ];

    fn default(set: &mut ReplicaSet) {
        let Some(spec) = &mut set.spec else { return };
        spec.replicas.get_or_insert(1);
        spec.template.iter_mut().for_each(default_template);
    }
}
