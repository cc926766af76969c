//! Namespaces of `v1`.

use crate::validation::{found, names, path};
use apimachinery::NameRule;
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};

use crate::pod_template::default_text;
use crate::{Column, DeleteAnswer, SelectableField, Strategy, Subresource, Verbs};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Stands until the namespace's content is gone.
const FINALIZER: &str = "kubernetes";

/// Objects of kind `Namespace`.
#[derive(Debug)]
pub struct Namespaces;

impl Strategy for Namespaces {
    type Kind = Namespace;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Status", |namespace, _| {
            namespace
                .status
                .as_ref()
                .and_then(|status| status.phase.clone())
                .unwrap_or_default()
                .into()
        }),
        Column::age(),
    ];
    const SHORT_NAMES: &'static [&'static str] = &["ns"];
    const VERBS: Verbs = Verbs::AllButDeleteCollection;
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Finalize, Subresource::Status];
    const NAME_RULE: NameRule = NameRule::DnsLabel;
    const DELETE_ANSWER: DeleteAnswer = DeleteAnswer::Object;
    const SELECTABLE_FIELDS: &'static [SelectableField] =
        &[SelectableField::text("status.phase", &["status.phase"])];

    fn default(namespace: &mut Namespace) {
        default_text(
            &mut namespace.status.get_or_insert_default().phase,
            "Active",
        );
        // The label lets selectors name a namespace; nobody can take it away.
        if let Some(name) = namespace.metadata.name.clone() {
            namespace
                .metadata
                .labels
                .get_or_insert_default()
                .insert(NAME_LABEL.to_owned(), name);
        }
    }

    fn prepare_for_create(namespace: &mut Namespace) {
        namespace.status = Some(NamespaceStatus {
            phase: Some("Active".to_owned()),
            ..NamespaceStatus::default()
        });
        let finalizers = namespace
            .spec
            .get_or_insert_default()
            .finalizers
            .get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
    }

    fn prepare_for_update(namespace: &mut Namespace, old: &Namespace) {
        namespace.spec.clone_from(&old.spec);
        namespace.status.clone_from(&old.status);
    }

    fn validate(namespace: &Namespace) -> FieldErrors {
        let path = path(&["spec", "finalizers"]);
        let finalizers = namespace
            .spec
            .as_ref()
            .and_then(|spec| spec.finalizers.as_deref())
            .unwrap_or_default();
        found(|errors| {
            finalizers
                .iter()
                .for_each(|name| finalizer(errors, name, &path));
        })
    }

    fn validate_status_update(namespace: &Namespace, _old: &Namespace) -> FieldErrors {
        let phase = namespace
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            .unwrap_or_default();
        let (expected, state) = match &namespace.metadata.deletion_timestamp {
            None => ("Active", "empty"),
            Some(_) => ("Terminating", "not empty"),
        };
        found(|errors| {
            if phase != expected {
                let why = format!("may only be '{expected}' if `deletionTimestamp` is {state}");
                errors.push(FieldError::invalid(&path(&["status", "Phase"]), phase, why));
            }
        })
    }

    fn validate_subresource_update(
        subresource: Subresource,
        namespace: &Namespace,
        _old: &Namespace,
    ) -> FieldErrors {
        let path = path(&["spec", "finalizers"]);
        let finalizers = namespace
            .spec
            .as_ref()
            .and_then(|spec| spec.finalizers.as_deref())
            .unwrap_or_default();
        found(|errors| {
            if subresource == Subresource::Finalize {
                for (index, name) in finalizers.iter().enumerate() {
                    finalizer(errors, name, &path.index(index));
                }
            }
        })
    }
}

/// Names without a slash are Kubernetes' own.
fn finalizer(errors: &mut FieldErrors, name: &str, path: &FieldPath) {
    names::qualified_name(errors, name, path);
    if !name.contains('/') && !matches!(name, FINALIZER | "orphan" | "foregroundDeletion") {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(FieldError::invalid(path, name, why));
    }
}
