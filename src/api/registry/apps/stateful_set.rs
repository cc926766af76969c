//! Stateful Sets of `apps/v1`.

use apimachinery::{FieldError, FieldErrors, FieldPath, NameRule, in_order};
use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume};

use super::workload;
use crate::cells;
use crate::pod_template::validation::{claim_spec, pod_annotations, template_spec};
use crate::pod_template::warnings::template_warnings;
use crate::pod_template::{default_claim_spec, default_template, default_text};
use crate::validation::changes::json;
use crate::validation::numbers::non_negative;
use crate::validation::{amounts, found, names, one_of, path, selectors, text};
use crate::{Column, Generation, Strategy, Subresource};
use k8s_openapi::api::core::v1::Container;

/// Objects of kind `StatefulSet`.
#[derive(Debug)]
pub struct StatefulSets;

impl Strategy for StatefulSets {
    type Kind = StatefulSet;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Ready", |object, _| {
            let desired = object
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .unwrap_or(0);
            let ready = object
                .status
                .as_ref()
                .and_then(|status| status.ready_replicas)
                .unwrap_or(0);
            format!("{ready}/{desired}").into()
        }),
        Column::age(),
        Column::wide_text("Containers", |object, _| {
            cells::container_names(containers(object))
        }),
        Column::wide_text("Images", |object, _| {
            cells::container_images(containers(object))
        }),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["sts"];
    const CATEGORIES: &'static [&'static str] = &["all"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Scale, Subresource::Status];
    const NAME_RULE: NameRule = NameRule::DnsLabel;
    const GENERATION: Generation = Generation::Spec;

    fn default(set: &mut StatefulSet) {
        let Some(spec) = &mut set.spec else { return };
        default_template(&mut spec.template);
        default_text(&mut spec.pod_management_policy, "OrderedReady");
        let strategy = spec.update_strategy.get_or_insert_default();
        default_text(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            strategy
                .rolling_update
                .get_or_insert_default()
                .partition
                .get_or_insert(0);
        }
        let retention = spec
            .persistent_volume_claim_retention_policy
            .get_or_insert_default();
        default_text(&mut retention.when_deleted, "Retain");
        default_text(&mut retention.when_scaled, "Retain");
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        for claim in spec.volume_claim_templates.iter_mut().flatten() {
            claim.spec.iter_mut().for_each(default_claim_spec);
            default_text(&mut claim.status.get_or_insert_default().phase, "Pending");
        }
    }

    fn validate_create(set: &StatefulSet) -> FieldErrors {
        found(|errors| {
            let spec = set.spec.clone().unwrap_or_default();
            spec_errors(errors, &spec, Checks::All, &FieldPath::new("spec"));
        })
    }

    fn validate_update(set: &StatefulSet, old: &StatefulSet) -> FieldErrors {
        let (spec, before) = (
            set.spec.clone().unwrap_or_default(),
            old.spec.clone().unwrap_or_default(),
        );
        let path = FieldPath::new("spec");
        // What was accepted before the rules were as they are stays.
        let was_good =
            found(|errors| spec_errors(errors, &before, Checks::AllButClaims, &path)).is_empty();
        let checks = if was_good {
            Checks::AllButClaims
        } else {
            Checks::NoTemplate
        };
        found(|errors| {
            spec_errors(errors, &spec, checks, &path);
            let kept = StatefulSetSpec {
                replicas: before.replicas,
                template: before.template.clone(),
                update_strategy: before.update_strategy.clone(),
                min_ready_seconds: before.min_ready_seconds,
                ordinals: before.ordinals.clone(),
                revision_history_limit: before.revision_history_limit,
                persistent_volume_claim_retention_policy: before
                    .persistent_volume_claim_retention_policy
                    .clone(),
                ..spec
            };
            if kept != before {
                let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                           'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                           'minReadySeconds' are forbidden";
                errors.push(FieldError::forbidden(&path, why));
            }
        })
    }

    fn validate_status_update(set: &StatefulSet, old: &StatefulSet) -> FieldErrors {
        let status = set.status.clone().unwrap_or_default();
        let path = FieldPath::new("status");
        let count = |count: Option<i32>| count.map(i64::from);
        found(|errors| {
            workload::counts(
                errors,
                &[
                    (Some(i64::from(status.replicas)), "replicas"),
                    (count(status.ready_replicas), "readyReplicas"),
                    (count(status.current_replicas), "currentReplicas"),
                    (count(status.updated_replicas), "updatedReplicas"),
                    (count(status.available_replicas), "availableReplicas"),
                    (status.observed_generation, "observedGeneration"),
                    (count(status.collision_count), "collisionCount"),
                ],
                &path,
            );
            let parts = [
                (status.ready_replicas, "readyReplicas"),
                (status.current_replicas, "currentReplicas"),
                (status.updated_replicas, "updatedReplicas"),
                (status.available_replicas, "availableReplicas"),
            ];
            workload::within_replicas(errors, status.replicas, &parts, &path);
            let ready = status.ready_replicas;
            workload::available_within_ready(
                errors,
                status.available_replicas,
                ready,
                "status.readyReplicas",
                &path,
            );
            let before = old
                .status
                .as_ref()
                .and_then(|status| status.collision_count);
            workload::collisions(errors, status.collision_count, before, &path);
        })
    }

    fn warnings(set: &StatefulSet) -> Vec<String> {
        let spec = set.spec.as_ref();
        let mut warnings = template_warnings(
            spec.map(|spec| &spec.template),
            &path(&["spec", "template"]),
        );
        if spec
            .and_then(|spec| spec.revision_history_limit)
            .is_some_and(|limit| limit < 0)
        {
            let text = "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is \
                        recommended";
            warnings.push(text.to_owned());
        }
        warnings
    }
}

fn containers(object: &StatefulSet) -> &[Container] {
    let spec = object
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    spec.map(|spec| spec.containers.as_slice())
        .unwrap_or_default()
}

/// How much of a spec is looked at: what cannot change any more need not obey rules that came later.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Checks {
    All,
    AllButClaims,
    NoTemplate,
}

fn spec_errors(errors: &mut FieldErrors, spec: &StatefulSetSpec, checks: Checks, path: &FieldPath) {
    match text(&spec.pod_management_policy) {
        "" => errors.push(FieldError::required(&path.child("podManagementPolicy"), "")),
        "OrderedReady" | "Parallel" => {}
        other => {
            let why = "must be 'OrderedReady' or 'Parallel'";
            errors.push(FieldError::invalid(
                &path.child("podManagementPolicy"),
                other,
                why,
            ));
        }
    }
    update_strategy(
        errors,
        &spec.update_strategy.clone().unwrap_or_default(),
        &path.child("updateStrategy"),
    );
    if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
        let path = path.child("persistentVolumeClaimRetentionPolicy");
        for (value, field) in [
            (&policy.when_deleted, "whenDeleted"),
            (&policy.when_scaled, "whenScaled"),
        ] {
            one_of(
                errors,
                text(value),
                &["Retain", "Delete"],
                &path.child(field),
            );
        }
    }
    if checks == Checks::All {
        for (index, claim) in spec.volume_claim_templates.iter().flatten().enumerate() {
            let path = path
                .child("volumeClaimTemplates")
                .index(index)
                .child("spec");
            claim_spec(errors, &claim.spec.clone().unwrap_or_default(), &path);
        }
    }
    non_negative(errors, spec.replicas.unwrap_or(0), &path.child("replicas"));
    non_negative(
        errors,
        spec.min_ready_seconds.unwrap_or(0),
        &path.child("minReadySeconds"),
    );
    if let Some(ordinals) = &spec.ordinals {
        non_negative(
            errors,
            ordinals.start.unwrap_or(0),
            &path.child("ordinals.start"),
        );
    }
    let service = text(&spec.service_name);
    if checks == Checks::All && !service.is_empty() {
        names::dns_label(errors, service, &path.child("serviceName"));
    }
    workload::required_selector(errors, &spec.selector, "statefulset", path);
    template(errors, spec, checks, path);
    workload::always_restarted(
        errors,
        &spec.template,
        "StatefulSet",
        &path.child("template"),
    );
}

fn template(errors: &mut FieldErrors, spec: &StatefulSetSpec, checks: Checks, path: &FieldPath) {
    let own = path.child("template");
    match workload::matches(
        Some(&spec.selector),
        workload::template_labels(&spec.template),
    ) {
        workload::Match::Unknown => {
            errors.push(FieldError::invalid(
                &path.child("selector"),
                json(&spec.selector),
                "",
            ));
            return;
        }
        workload::Match::No if !selectors::is_empty(&spec.selector) => {
            workload::does_not_match(errors, &spec.template, &own);
        }
        _ if selectors::is_empty(&spec.selector) => {
            workload::does_not_match(errors, &spec.template, &own);
        }
        _ => {}
    }
    let template = as_the_controller_makes_it(spec);
    if checks != Checks::NoTemplate {
        template_spec(errors, &template, &own);
    }
    let metadata = template.metadata.unwrap_or_default();
    names::labels(errors, metadata.labels.as_ref(), &own.child("labels"));
    names::annotations(
        errors,
        metadata.annotations.as_ref(),
        &own.child("annotations"),
    );
    let pod = template.spec.unwrap_or_default();
    pod_annotations(
        errors,
        metadata.annotations.as_ref(),
        &pod,
        &own.child("annotations"),
    );
}

/// The controller names the pod's host and brings the volumes of the claims.
fn as_the_controller_makes_it(spec: &StatefulSetSpec) -> PodTemplateSpec {
    let mut template = spec.template.clone();
    let Some(pod) = &mut template.spec else {
        return template;
    };
    pod.subdomain = None;
    pod.hostname = None;
    let claims = spec.volume_claim_templates.as_deref().unwrap_or_default();
    if claims.is_empty() {
        return template;
    }
    let names: std::collections::BTreeSet<String> = claims
        .iter()
        .map(|claim| claim.metadata.name.clone().unwrap_or_default())
        .collect();
    let kept = pod
        .volumes
        .take()
        .unwrap_or_default()
        .into_iter()
        .filter(|volume| !names.contains(&volume.name));
    let made = names.iter().map(|name| Volume {
        name: name.clone(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: name.clone(),
            read_only: None,
        }),
        ..Volume::default()
    });
    pod.volumes = Some(made.chain(kept).collect());
    template
}

fn update_strategy(
    errors: &mut FieldErrors,
    strategy: &StatefulSetUpdateStrategy,
    path: &FieldPath,
) {
    let shown = |rolling: &RollingUpdateStatefulSetStrategy| {
        in_order(&[
            ("Partition", rolling.partition.unwrap_or(0).into()),
            ("MaxUnavailable", json(&rolling.max_unavailable)),
        ])
    };
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("", _) => errors.push(FieldError::required(path, "")),
        ("OnDelete", Some(rolling)) => {
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(
                FieldError::invalid(&path.child("rollingUpdate"), "", why).shown_as(shown(rolling)),
            );
        }
        ("RollingUpdate", Some(rolling)) => {
            rolling_update(errors, rolling, &path.child("rollingUpdate"));
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        (kind, rolling) => {
            let shown =
                serde_json::json!({"Type": kind, "RollingUpdate": rolling.as_ref().map(shown)});
            errors.push(FieldError::invalid(
                path,
                shown,
                "must be 'RollingUpdate' or 'OnDelete'",
            ));
        }
    }
}

fn rolling_update(
    errors: &mut FieldErrors,
    rolling: &RollingUpdateStatefulSetStrategy,
    path: &FieldPath,
) {
    non_negative(
        errors,
        rolling.partition.unwrap_or(0),
        &path.child("partition"),
    );
    let Some(unavailable) = &rolling.max_unavailable else {
        return;
    };
    let path = path.child("maxUnavailable");
    amounts::positive_int_or_percent(errors, unavailable, &path);
    if amounts::number_of(unavailable) == 0 {
        errors.push(FieldError::invalid(&path, json(unavailable), "cannot be 0"));
    }
    amounts::at_most_hundred_percent(errors, unavailable, &path);
}
