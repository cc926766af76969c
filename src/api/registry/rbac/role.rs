//! Roles of `rbac.authorization.k8s.io/v1`.

use super::validation::{self, Reach};
use crate::validation::found;
use apimachinery::FieldErrors;
use apimachinery::NameRule;
use k8s_openapi::api::rbac::v1::Role;

use crate::{Permission, Strategy};

/// Objects of kind `Role`.
#[derive(Debug)]
pub struct Roles;

impl Strategy for Roles {
    type Kind = Role;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const CREATE_ON_UPDATE: Permission = Permission::Allowed;

    fn validate(role: &Role) -> FieldErrors {
        found(|errors| validation::rules(errors, role.rules.as_ref(), Reach::Namespace))
    }
}
