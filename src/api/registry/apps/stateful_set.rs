//! Stateful Sets of `apps/v1`.

use k8s_openapi::api::apps::v1::StatefulSet;

use crate::{Generation, Strategy, Subresource};
use crate::pod_template::{default_claim_spec, default_template, default_text};

/// Objects of kind `StatefulSet`.
#[derive(Debug)]
pub struct StatefulSets;

impl Strategy for StatefulSets {
    type Kind = StatefulSet;
    const SHORT_NAMES: &'static [&'static str] = &["sts"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const GENERATION: Generation = Generation::Spec;

    fn default(set: &mut StatefulSet) {
        let Some(spec) = &mut set.spec else { return };
        default_template(&mut spec.template);
        default_text(&mut spec.pod_management_policy, "OrderedReady");
        let strategy = spec.update_strategy.get_or_insert_default();
        default_text(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            strategy.rolling_update.get_or_insert_default().partition.get_or_insert(0);
        }
        let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
        default_text(&mut retention.when_deleted, "Retain");
        default_text(&mut retention.when_scaled, "Retain");
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        for claim in spec.volume_claim_templates.iter_mut().flatten() {
            claim.spec.iter_mut().for_each(default_claim_spec);
            default_text(&mut claim.status.get_or_insert_default().phase, "Pending");
        }
    }
}
