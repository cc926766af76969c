//! Cluster Role Bindings of `rbac.authorization.k8s.io/v1`.

use apimachinery::NameRule;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;

use crate::{Permission, Strategy};
use super::default_references;

/// Objects of kind `ClusterRoleBinding`.
#[derive(Debug)]
pub struct ClusterRoleBindings;

impl Strategy for ClusterRoleBindings {
    type Kind = ClusterRoleBinding;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;

    fn default(binding: &mut ClusterRoleBinding) {
        default_references(&mut binding.role_ref, binding.subjects.as_mut());
    }
}
