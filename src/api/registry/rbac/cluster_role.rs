//! Cluster Roles of `rbac.authorization.k8s.io/v1`.

use apimachinery::NameRule;
use k8s_openapi::api::rbac::v1::ClusterRole;

use crate::{Permission, Strategy};

/// Objects of kind `ClusterRole`.
#[derive(Debug)]
pub struct ClusterRoles;

impl Strategy for ClusterRoles {
    type Kind = ClusterRole;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;
}
