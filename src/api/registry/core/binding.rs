//! Bindings of `v1`.

use crate::validation::{found, required, text};
use apimachinery::{FieldError, FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::Binding;

use crate::{Strategy, Verbs};

/// Objects of kind `Binding`.
#[derive(Debug)]
pub struct Bindings;

impl Strategy for Bindings {
    type Kind = Binding;
    const VERBS: Verbs = Verbs::Create;

    fn validate(binding: &Binding) -> FieldErrors {
        let path = FieldPath::new("target");
        found(|errors| {
            let kind = text(&binding.target.kind);
            if !matches!(kind, "" | "Node") {
                errors.push(FieldError::not_supported(
                    &path.child("kind"),
                    kind,
                    &["Node", "<empty>"],
                ));
            }
            required(errors, text(&binding.target.name), &path.child("name"));
        })
    }
}
