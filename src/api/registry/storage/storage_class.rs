//! Storage Classes of `storage.k8s.io/v1`.

use super::{MayBeEmpty, parameters};
use crate::pod_template::warnings::deprecated_label;
use crate::validation::changes::immutable;
use crate::validation::selectors::topology_term;
use crate::validation::{found, names, one_of};
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::TopologySelectorLabelRequirement;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;

use crate::cells;
use crate::{Column, DeleteAnswer, Strategy};

/// Objects of kind `StorageClass`.
#[derive(Debug)]
pub struct StorageClasses;

impl Strategy for StorageClasses {
    type Kind = StorageClass;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column {
            cell: |class, _| default_marked_name(class),
            ..Column::name()
        },
        Column::text("Provisioner", |class, _| class.provisioner.clone().into()),
        Column::text("ReclaimPolicy", |class, _| {
            class.reclaim_policy.as_deref().unwrap_or("Delete").into()
        }),
        Column::text("VolumeBindingMode", |class, _| {
            class
                .volume_binding_mode
                .as_deref()
                .unwrap_or("Immediate")
                .into()
        }),
        Column::text("AllowVolumeExpansion", |class, _| {
            class.allow_volume_expansion.unwrap_or(false).into()
        }),
        Column::age(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["sc"];
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;

    fn default(class: &mut StorageClass) {
        class
            .reclaim_policy
            .get_or_insert_with(|| "Delete".to_owned());
        class
            .volume_binding_mode
            .get_or_insert_with(|| "Immediate".to_owned());
    }

    fn validate(class: &StorageClass) -> FieldErrors {
        found(|errors| {
            let path = FieldPath::new("provisioner");
            match class.provisioner.to_lowercase() {
                name if name.is_empty() => errors.push(FieldError::required(&path, "")),
                name => names::qualified_name(errors, &name, &path),
            }
            parameters(
                errors,
                class.parameters.as_ref(),
                MayBeEmpty::Yes,
                &FieldPath::new("parameters"),
            );
            if let Some(policy) = class
                .reclaim_policy
                .as_deref()
                .filter(|policy| !policy.is_empty())
            {
                one_of(
                    errors,
                    policy,
                    &["Delete", "Retain"],
                    &FieldPath::new("reclaimPolicy"),
                );
            }
            let path = FieldPath::new("volumeBindingMode");
            match &class.volume_binding_mode {
                None => errors.push(FieldError::required(&path, "")),
                Some(mode) => one_of(errors, mode, &["Immediate", "WaitForFirstConsumer"], &path),
            }
            for (index, term) in class.allowed_topologies.iter().flatten().enumerate() {
                topology_term(
                    errors,
                    term,
                    &FieldPath::new("allowedTopologies").index(index),
                );
            }
        })
    }

    fn validate_update(class: &StorageClass, old: &StorageClass) -> FieldErrors {
        found(|errors| {
            immutable(
                errors,
                &class.parameters,
                &old.parameters,
                &FieldPath::new("parameters"),
            );
            immutable(
                errors,
                &class.provisioner,
                &old.provisioner,
                &FieldPath::new("provisioner"),
            );
            immutable(
                errors,
                &class.reclaim_policy,
                &old.reclaim_policy,
                &FieldPath::new("reclaimPolicy"),
            );
            let path = FieldPath::new("volumeBindingMode");
            immutable(
                errors,
                &class.volume_binding_mode,
                &old.volume_binding_mode,
                &path,
            );
        })
    }

    fn warnings(class: &StorageClass) -> Vec<String> {
        let terms = class.allowed_topologies.iter().flatten().enumerate();
        let expressions = terms.flat_map(|(index, term)| {
            let path = FieldPath::new("allowedTopologies")
                .index(index)
                .child("matchLabelExpressions");
            let expressions = term.match_label_expressions.iter().flatten().enumerate();
            expressions.map(move |(index, expression)| (path.index(index).child("key"), expression))
        });
        let deprecated = |(path, expression): (FieldPath, &TopologySelectorLabelRequirement)| {
            deprecated_label(&expression.key)
                .map(|why| format!("{path}: {} is {why}", expression.key))
        };
        expressions.filter_map(deprecated).collect()
    }
}

const IS_DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const IS_DEFAULT_BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";

fn default_marked_name(class: &StorageClass) -> Value {
    let beta = class
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(IS_DEFAULT_BETA));
    let key = if beta.is_some_and(|value| value == "true") {
        IS_DEFAULT_BETA
    } else {
        IS_DEFAULT
    };
    cells::name_of_default(&class.metadata, key)
}
