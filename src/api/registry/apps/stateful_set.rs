//! Stateful Sets of `apps/v1`.

use k8s_openapi::api::apps::v1::StatefulSet;

use k8s_openapi::api::core::v1::Container;
use crate::{Column, Generation, Strategy, Subresource};
use crate::cells;
use crate::pod_template::{default_claim_spec, default_template, default_text};

/// Objects of kind `StatefulSet`.
#[derive(Debug)]
pub struct StatefulSets;

impl Strategy for StatefulSets {
    type Kind = StatefulSet;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Ready", |object, _| {
            let desired = object.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
            let ready = object.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
            format!("{ready}/{desired}").into()
        }),
        Column::age(),
        Column::wide_text("Containers", |object, _| cells::container_names(containers(object))),
        Column::wide_text("Images", |object, _| cells::container_images(containers(object))),
    ];
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

fn containers(object: &StatefulSet) -> &[Container] {
    let spec = object.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    spec.map(|spec| spec.containers.as_slice()).unwrap_or_default()
}
