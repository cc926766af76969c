//! Role Bindings of `rbac.authorization.k8s.io/v1`.

use apimachinery::NameRule;
use k8s_openapi::api::rbac::v1::RoleBinding;

use crate::{Permission, Strategy};
use super::default_references;

/// Objects of kind `RoleBinding`.
#[derive(Debug)]
pub struct RoleBindings;

impl Strategy for RoleBindings {
    type Kind = RoleBinding;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;

    fn default(binding: &mut RoleBinding) {
        default_references(&mut binding.role_ref, binding.subjects.as_mut());
    }
}
