//! Cluster Roles of `rbac.authorization.k8s.io/v1`.

use super::validation::{self, Reach};
use crate::validation::selectors::label_selector;
use crate::validation::{found, path};
use apimachinery::NameRule;
use apimachinery::{FieldError, FieldErrors};
use k8s_openapi::api::rbac::v1::ClusterRole;

use crate::{Permission, Strategy};

/// Objects of kind `ClusterRole`.
#[derive(Debug)]
pub struct ClusterRoles;

impl Strategy for ClusterRoles {
    type Kind = ClusterRole;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;

    fn validate(role: &ClusterRole) -> FieldErrors {
        found(|errors| {
            validation::rules(errors, role.rules.as_ref(), Reach::Cluster);
            let Some(rule) = &role.aggregation_rule else {
                return;
            };
            let path = path(&["aggregationRule", "clusterRoleSelectors"]);
            let selectors = rule.cluster_role_selectors.as_deref().unwrap_or_default();
            if selectors.is_empty() {
                let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                errors.push(FieldError::required(&path, why));
            }
            for (index, selector) in selectors.iter().enumerate() {
                label_selector(errors, Some(selector), &path.index(index));
            }
        })
    }
}
