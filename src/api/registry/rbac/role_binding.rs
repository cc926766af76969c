//! Role Bindings of `rbac.authorization.k8s.io/v1`.

use super::validation::{self, Reach};
use crate::validation::found;
use apimachinery::FieldErrors;
use apimachinery::NameRule;
use k8s_openapi::api::rbac::v1::RoleBinding;

use super::{default_references, subjects};
use crate::{Column, Permission, Strategy};

/// Objects of kind `RoleBinding`.
#[derive(Debug)]
pub struct RoleBindings;

impl Strategy for RoleBindings {
    type Kind = RoleBinding;
    const COLUMNS: &'static [Column<Self::Kind>] = &[
        Column::name(),
        Column::text("Role", |binding, _| {
            format!("{}/{}", binding.role_ref.kind, binding.role_ref.name).into()
        }),
        Column::age(),
        Column::wide_text("Users", |binding, _| {
            subjects(binding.subjects.as_deref(), "User").into()
        }),
        Column::wide_text("Groups", |binding, _| {
            subjects(binding.subjects.as_deref(), "Group").into()
        }),
        Column::wide_text("ServiceAccounts", |binding, _| {
            subjects(binding.subjects.as_deref(), "ServiceAccount").into()
        }),
    ];
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;

    fn default(binding: &mut RoleBinding) {
        default_references(&mut binding.role_ref, binding.subjects.as_mut());
    }

    fn validate(binding: &RoleBinding) -> FieldErrors {
        found(|errors| {
            validation::binding(
                errors,
                &binding.role_ref,
                binding.subjects.as_ref(),
                Reach::Namespace,
            )
        })
    }

    fn validate_update(binding: &RoleBinding, old: &RoleBinding) -> FieldErrors {
        found(|errors| validation::same_role(errors, &binding.role_ref, &old.role_ref))
    }
}
