//! Custom Resource Definitions of `apiextensions.k8s.io/v1`.

use super::validation;
use apimachinery::FieldErrors;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition,
};

use crate::{Generation, Permission, StatusMetadata, Strategy, Subresource};

/// Objects of kind `CustomResourceDefinition`.
#[derive(Debug)]
pub struct CustomResourceDefinitions;

impl Strategy for CustomResourceDefinitions {
    type Kind = CustomResourceDefinition;
    const SHORT_NAMES: &'static [&'static str] = &["crd", "crds"];
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const STATUS_METADATA: StatusMetadata = StatusMetadata::Fixed;
    const GENERATION: Generation = Generation::Spec;
    const UNCONDITIONAL_UPDATE: Permission = Permission::Refused;

    fn default(object: &mut CustomResourceDefinition) {
        let names = &mut object.spec.names;
        if names.singular.as_deref().unwrap_or_default().is_empty() {
            names.singular = Some(names.kind.to_lowercase());
        }
        if names.list_kind.as_deref().unwrap_or_default().is_empty() && !names.kind.is_empty() {
            names.list_kind = Some(format!("{}List", names.kind));
        }
        object
            .spec
            .conversion
            .get_or_insert_with(|| CustomResourceConversion {
                strategy: "None".to_owned(),
                webhook: None,
            });
    }

    fn prepare_for_create(object: &mut CustomResourceDefinition) {
        record_stored_version(object);
    }

    fn prepare_for_update(object: &mut CustomResourceDefinition, _old: &CustomResourceDefinition) {
        record_stored_version(object);
    }

    fn validate(definition: &CustomResourceDefinition) -> FieldErrors {
        validation::validate(definition)
    }

    fn validate_create(definition: &CustomResourceDefinition) -> FieldErrors {
        validation::validate_new(definition)
    }

    fn validate_update(
        definition: &CustomResourceDefinition,
        old: &CustomResourceDefinition,
    ) -> FieldErrors {
        validation::validate_change(definition, old)
    }
}

/// Objects may be stored in this version from now on, so the status names it from the first moment.
fn record_stored_version(object: &mut CustomResourceDefinition) {
    let Some(storage) = object.spec.versions.iter().find(|version| version.storage) else {
        return;
    };
    let stored = object
        .status
        .get_or_insert_default()
        .stored_versions
        .get_or_insert_default();
    if !stored.contains(&storage.name) {
        stored.push(storage.name.clone());
    }
}
